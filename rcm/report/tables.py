"""The numbers of a report as long tables of estimates, and their layout for page and terminal."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.table import Table

from rcm.analysis.claims import Verdict
from rcm.analysis.corruption import corruption_summary
from rcm.analysis.statistics import (
    BLOCK,
    ESTIMATE_COLUMNS,
    PipelineInfo,
    check_pipelines,
    difference,
    gap_table,
    over_seeds,
    stacked,
    usable,
    wide,
)


class Column(NamedTuple):
    """One column of the main table: a quantity, against which baseline, and how to print it."""

    quantity: str
    head: str
    unit: str
    digits: int = 1
    against: str = ""  # "", "baseline" or "parent"
    signed: bool = False


COLUMN_GROUPS: tuple[tuple[str, tuple[Column, ...]], ...] = (
    (
        "Clean test images",
        (
            Column("accuracy", "Top-1", "%"),
            Column("balanced_accuracy", "Balanced", "%"),
            Column("macro_f1", "Macro-F1", "%"),
            Column("g_mean", "G-mean", "%"),
        ),
    ),
    (
        "Recall by class frequency",
        (
            Column("recall_head", "Head", "%"),
            Column("recall_medium", "Medium", "%"),
            Column("recall_tail", "Tail", "%"),
        ),
    ),
    (
        "Cost of imbalance",
        (
            Column("gap", "Gap", "points"),
            Column("did", "DiD, base", "points", against="baseline", signed=True),
            Column("did", "DiD, parent", "points", against="parent", signed=True),
        ),
    ),
    ("Calibration", (Column("ece", "ECE", "%"),)),
    (
        "Corrupted images",
        (
            Column("corrupted_accuracy", "Top-1", "%"),
            Column("mce", "mCE", "%"),
            Column("excess_error", "Excess", "points", signed=True),
        ),
    ),
    (
        "Stored size",
        (Column("bytes", "KiB", "KiB"), Column("compression_ratio", "Smaller", "times")),
    ),
)
SCALES = {"bytes": (1 / 1024, "KiB"), "compression_ratio": (1.0, "times")}
SIMPLE = tuple(
    column.quantity
    for _, columns in COLUMN_GROUPS
    for column in columns
    if column.quantity not in ("gap", "did", "corrupted_accuracy", "mce", "excess_error")
)
MORE = ("nll", "brier", "posthoc_balanced_accuracy")


class CellText(NamedTuple):
    """A printed estimate: value and margin ("" if there is none), and whether 0 is outside."""

    value: str
    margin: str = ""
    strong: bool = False
    note: str = ""


class Row(NamedTuple):
    """A printed pipeline: its label, kind, the label of its baseline, n and one cell per column."""

    label: str
    kind: str
    baseline: str
    n: str
    cells: list[CellText]


def main_table(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """Every estimate of the main table, long: block, ratio, pipeline, quantity, baseline, unit,
    mean, lo, hi, n, note. Fractions become percent, bytes KiB; baselines are named per row."""
    check_pipelines(pipelines, frame)
    parts = [_simple(frame, name) for name in (*SIMPLE, *MORE)]
    parts += [gap_table(frame, pipelines), corruption_summary(frame, pipelines)[1]]
    return stacked(parts)[ESTIMATE_COLUMNS]


def all_tables(
    frame: pd.DataFrame, pipelines: Sequence[PipelineInfo], claims: Sequence[Verdict] = ()
) -> dict[str, pd.DataFrame]:
    """The report's tables by name: main, corruptions, recall_change and, if any, claims."""
    tables = {
        "main": main_table(frame, pipelines),
        "corruptions": corruption_summary(frame, pipelines)[0],
        "recall_change": recall_change(frame, pipelines),
    }
    if claims:
        tables["claims"] = claims_table(claims)
    return tables


def recall_change(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """Recall of each class minus the parent's, points, paired by seed; long, with `cls` and the
    class's `train_count` (mean over members)."""
    usable_frame = usable(frame)
    recall = wide(usable_frame, "recall", by=("cls",))
    parts = []
    for pipeline in pipelines:
        if pipeline.parent and pipeline.name in recall and pipeline.parent in recall:
            change = over_seeds(100 * difference(recall, pipeline.name, pipeline.parent))
            change = change.reset_index().assign(pipeline=pipeline.name, baseline=pipeline.parent)
            parts.append(change.assign(quantity="recall_change", unit="points"))
    table = stacked(parts)
    if table.empty:
        return table.assign(cls=[], train_count=[])
    counts = usable_frame[usable_frame["metric"] == "train_count"]
    by_class = counts.groupby([*BLOCK, "ratio", "cls"])["value"].mean().rename("train_count")
    return table.merge(by_class, how="left", on=[*BLOCK, "ratio", "cls"])


def claims_table(claims: Sequence[Verdict]) -> pd.DataFrame:
    """One row per claim: id, text, estimand, answer, reason, unit, mean, lo, hi, n, p, p_holm."""
    return pd.DataFrame(
        [
            {
                "id": verdict.claim.id,
                "text": verdict.claim.text,
                "source": verdict.claim.source,
                "estimand": verdict.claim.estimand,
                "answer": verdict.answer,
                "reason": verdict.reason,
                "unit": verdict.claim.unit,
                **verdict.effect._asdict(),
                "p": verdict.p,
                "p_holm": verdict.p_holm,
            }
            for verdict in claims
        ]
    )


def columns_with_data(table: pd.DataFrame) -> list[tuple[str, list[Column]]]:
    """The column groups of the main table, without columns that this study has no numbers for."""
    present = set(table["quantity"])
    kept = [(head, [c for c in columns if c.quantity in present]) for head, columns in COLUMN_GROUPS]
    return [(head, columns) for head, columns in kept if columns]


def rows_at(
    table: pd.DataFrame, pipelines: Sequence[PipelineInfo], columns: Sequence[Column]
) -> list[Row]:
    """Printed rows of `table`, which holds one block and one ratio of `main_table`."""
    in_percent = table["quantity"].isin(("gap", "did")) & (table["unit"] == "percent")
    found = {
        (row.pipeline, row.quantity, row.baseline): row for row in table[~in_percent].itertuples()
    }
    labels = {pipeline.name: pipeline.label for pipeline in pipelines}
    rows = []
    for pipeline in pipelines:
        cells = [_lookup(found, pipeline, column) for column in columns]
        if all(cell is None for cell in cells):
            continue
        counts = [cell.n for cell in cells if cell is not None]
        pairs = zip(cells, columns, strict=True)
        texts = [cell_text(cell, column, max(counts)) for cell, column in pairs]
        baseline = labels.get(pipeline.baseline, "")
        rows.append(Row(pipeline.label, pipeline.kind, baseline, str(max(counts)), texts))
    return rows


def _lookup(found: dict, pipeline: PipelineInfo, column: Column):
    baseline = {"baseline": pipeline.baseline, "parent": pipeline.parent, "": ""}[column.against]
    if column.against and not baseline:
        return None
    if column.quantity in ("mce", "excess_error"):
        baseline = pipeline.parent
    return found.get((pipeline.name, column.quantity, baseline))


def cell_text(estimate, column: Column, usual_n: int) -> CellText:
    """`estimate` (with mean, lo, hi, n, note; or None) as printed, a true minus sign included."""
    if estimate is None or np.isnan(estimate.mean):
        return CellText("–")
    value = number(estimate.mean, column.digits, column.signed)
    half = (estimate.hi - estimate.lo) / 2
    if np.isnan(half) or half < 1e-9:
        return CellText(value, note=estimate.note)
    note = f"n = {estimate.n}" if estimate.n != usual_n else ""
    strong = column.signed and (estimate.lo > 0 or estimate.hi < 0)
    return CellText(value, f"±{half:,.{column.digits}f}", bool(strong), note)


def number(value: float, digits: int = 1, signed: bool = False) -> str:
    """A number for people: fixed digits, thousands separators, "−" and, if asked, "+"."""
    text = f"{abs(value):,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        return text
    return ("−" if value < 0 else "+" if signed else "") + text


def terminal_table(
    frame: pd.DataFrame, pipelines: Sequence[PipelineInfo], title: str = "Results"
) -> Table:
    """A short table for the end of a run: each block at its largest ratio, mean ± half of the
    95 % interval."""
    table = main_table(frame, pipelines)
    wanted = ("accuracy", "recall_tail", "gap", "did", "mce", "bytes")
    columns = [
        column
        for _, group in columns_with_data(table)
        for column in group
        if column.quantity in wanted and column.against != "parent" and column.head != "Medium"
    ]
    shown = Table(title=title, title_justify="left", caption="mean ± half of the 95 % interval")
    shown.add_column("pipeline")
    shown.add_column("n", justify="right")
    for column in columns:
        shown.add_column(f"{column.head}, {column.unit}" if column.unit != column.head else "KiB")
        shown.columns[-1].justify = "right"
    for block, part in table.groupby(BLOCK, sort=False):
        ratio = part["ratio"].max()
        shown.add_section()
        shown.add_row(f"[dim]{' · '.join(map(str, _escaped(block)))}, ratio {ratio:g}[/dim]")
        for row in rows_at(part[part["ratio"] == ratio], pipelines, columns):
            cells = [f"{cell.value} {cell.margin}".strip() for cell in row.cells]
            shown.add_row(*_escaped((row.label,)), row.n, *cells)
    return shown


def _escaped(words: Sequence) -> list[str]:
    return [str(word).replace("[", r"\[") for word in words]


def _simple(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Means over seeds of a clean metric of every pipeline, scaled for people."""
    values = wide(usable(frame), metric)
    raw = metric in ("nll", "brier")
    factor, unit = (1.0, "nats" if metric == "nll" else "score") if raw else (100.0, "percent")
    factor, unit = SCALES.get(metric, (factor, unit))
    parts = [
        over_seeds(factor * values[name])
        .reset_index()
        .assign(pipeline=name, quantity=metric, baseline="", unit=unit)
        for name in values.columns
    ]
    return stacked(parts)
