"""How the long main table is printed: columns, rows and numbers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rcm.analysis.corruption import BASELINE
from rcm.analysis.statistics import BLOCK, MEMBER, PipelineInfo, records
from rcm.report.tables import LEDGER

MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"


def class_word(cls: str, names: Sequence[str]) -> str:
    """What a class is called: its name, or its id where there are no names."""
    return names[int(cls)] if names else cls


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
        "Recall by frequency",
        (
            Column("recall_head", "Head", "%"),
            Column("recall_medium", "Medium", "%"),
            Column("recall_tail", "Tail", "%"),
        ),
    ),
    (
        "Change by compression, points",
        (
            Column("accuracy_change", "Top-1", "vs base", against="baseline", signed=True),
            Column("accuracy_change", "Top-1", "vs parent", against="parent", signed=True),
            Column("tail_change", "Tail", "vs base", against="baseline", signed=True),
        ),
    ),
    (
        "Cost of imbalance, points",
        (
            Column("gap", "Gap", "of top-1"),
            Column("did", "DiD", "vs base", against="baseline", signed=True),
            Column("did", "DiD", "vs parent", against="parent", signed=True),
        ),
    ),
    ("Calibration", (Column("ece", "ECE", "%"),)),
    (
        "Images answered otherwise than by the parent",
        (
            Column("churn", "All", "%"),
            Column("negative_flips", "Right to wrong", "%"),
            Column("positive_flips", "Wrong to right", "%"),
        ),
    ),
    (
        "Corrupted images",
        (
            Column("corrupted_accuracy", "Top-1", "%"),
            Column("mce", "mCE", "% of parent"),
            Column("mce", "mCE", "% of base", against="baseline"),
            Column("relative_mce", "Relative mCE", "% of parent"),
            Column("mce_15", "mCE of 15", "% of parent"),
            Column("mce_15", "mCE of 15", "% of base", against="baseline"),
            Column("relative_mce_15", "Relative mCE of 15", "% of parent"),
            Column("mce_19", "mCE of 19", "% of parent"),
            Column("mce_19", "mCE of 19", "% of base", against="baseline"),
            Column("relative_mce_19", "Relative mCE of 19", "% of parent"),
            Column("excess_error", "Excess", "pts", signed=True),
            Column("effective_robustness", "Effective", "pts", signed=True),
        ),
    ),
    (
        "Stored size",
        (
            Column("bytes", "Size", "KiB"),
            Column("compression_ratio", "Ratio", "\N{MULTIPLICATION SIGN}"),
        ),
    ),
    ("Computed", (Column("macs", "MACs", "millions", digits=2),)),
)


EXPORT_HEADS = {"stablehlo": "StableHLO", "tflite": "TFLite", "int8": "TFLite int8"}
MCE = ("mce", "mce_15", "mce_19")
RELATIVE = tuple(f"relative_{name}" for name in MCE)
PARENTS = (*MCE, *RELATIVE, "excess_error")  # the parent's, unless they are against the baseline
LEDGER_HEADS = ("Float32", "Packed", "Deflated", "Zstandard", "Packed file")


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


def columns_with_data(table: pd.DataFrame, rare: bool = True) -> list[tuple[str, list[Column]]]:
    """The column groups of the main table that this study has numbers for. On a class-balanced test
    set balanced accuracy is accuracy and not printed twice; multiply-accumulates are printed where
    pipelines differ in them, mCE against the baseline where any has another one than its parent.
    rare: whether any classes are (`by_class.rare_classes`); else none are head or tail."""
    present = set(table["quantity"])
    if not rare:
        present -= {"recall_head", "recall_medium", "recall_tail", "tail_change"}
    if balanced_test_set(table):
        present -= {"balanced_accuracy"}
    if table.loc[table["quantity"] == "macs", "mean"].nunique() < 2:
        present -= {"macs"}
    twice = set(table.loc[table["unit"].str.startswith(BASELINE), "quantity"])
    hidden = {(name, "baseline") for name in MCE if name not in twice}
    kept = [
        (
            head,
            [c for c in columns if c.quantity in present and (c.quantity, c.against) not in hidden],
        )
        for head, columns in COLUMN_GROUPS
    ]
    return [(head, columns) for head, columns in kept if columns]


def corruption_note(table: pd.DataFrame) -> str:
    """What mCE in the table `main` is against, whether rounded, and of what; "" without any."""
    rows = table[table["quantity"].isin(MCE)]
    means = [unit.partition(", ")[2] for unit in dict.fromkeys(rows["unit"])]
    if not means:
        return ""
    base = ", or what each is compared with" if rows["unit"].str.startswith(BASELINE).any() else ""
    kinds = " and ".join(dict.fromkeys(means))
    return f"mCE against the parent{base}: {kinds}."


def balanced_test_set(table: pd.DataFrame) -> bool:
    """True if accuracy and balanced accuracy are equal in every row of the table `main`."""
    keys = [*BLOCK, "ratio", "pipeline"]
    top, balanced = (
        table[table["quantity"] == name].set_index(keys)["mean"]
        for name in ("accuracy", "balanced_accuracy")
    )
    return bool(len(top)) and bool(np.allclose(top, balanced.reindex(top.index), atol=1e-9))


def rows_at(
    table: pd.DataFrame, pipelines: Sequence[PipelineInfo], columns: Sequence[Column]
) -> list[Row]:
    """Printed rows of `table`, which holds one block and one ratio of the table `main`."""
    in_percent = table["quantity"].isin(("gap", "did")) & (table["unit"] == "percent")
    found = {(row.pipeline, row.quantity, row.baseline): row for row in records(table[~in_percent])}
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
    if column.quantity in PARENTS and not column.against:
        baseline = pipeline.parent
    return found.get((pipeline.name, column.quantity, baseline))


def cell_text(estimate, column: Column, usual_n: int) -> CellText:
    """`estimate` (with mean, lo, hi, n, note; or None) as printed, a true minus sign included."""
    if estimate is None or np.isnan(estimate.mean):
        return CellText(NONE)
    value = number(estimate.mean, column.digits, column.signed)
    half = (estimate.hi - estimate.lo) / 2
    if np.isnan(half) or half < 1e-9:
        return CellText(value, note=estimate.note)
    note = f"n = {estimate.n}" if estimate.n != usual_n else ""
    strong = column.signed and (estimate.lo > 0 or estimate.hi < 0)
    return CellText(value, f"±{half:,.{column.digits}f}", bool(strong), note)


def number(value: float, digits: int = 1, signed: bool = False) -> str:
    """A number for people: fixed digits, thousands separators, a true minus and, if asked, "+"."""
    text = f"{abs(value):,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def exported_rows(
    table: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> tuple[list[str], list[tuple[str, list[CellText]]]]:
    """(heads, rows) of `exports_table`, a row per member: its label, then KiB of its ledger and of
    its file in every format that any has, with the share of labels that differ."""
    labels = {pipeline.name: pipeline.label for pipeline in pipelines}
    formats = [name for name in EXPORT_HEADS if name in set(table["format"])]
    rows = []
    for member, part in table.groupby([*MEMBER, "pipeline"], sort=False):
        *_, ratio, seed, pipeline = member
        cells = [_kib(part[name].iloc[0]) for name in LEDGER]
        files = {file.format: file for file in records(part)}
        for name in formats:
            cell = _kib(files[name].bytes_exported) if name in files else CellText(NONE)
            differ = f"{files[name].disagreement:.2%} of labels differ" if name in files else ""
            cells.append(cell._replace(note=differ))
        rows.append((f"{labels[str(pipeline)]}, ratio {ratio:g}, seed {seed}", cells))
    return [*LEDGER_HEADS, *(EXPORT_HEADS[name] for name in formats)], rows


def _kib(size: float) -> CellText:
    return CellText(NONE if np.isnan(size) else number(size / 1024))
