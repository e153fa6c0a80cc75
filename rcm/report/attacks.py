"""What is left of accuracy under attack, as rows of the page."""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.statistics import BLOCK, PipelineInfo
from rcm.report.layout import NONE, CellText, number
from rcm.report.tables import ATTACK, WARNINGS


def attacked_rows(
    table: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> tuple[list[str], list[tuple[str, list[CellText]]]]:
    """(heads, rows) of `attacks_table`: a row per pipeline, block and ratio, a column per attack
    and eps, with half of the 95 % interval and the warnings."""
    if table.empty:
        return [], []
    order = list(dict.fromkeys(zip(table["shift"], table["severity"], strict=True)))
    several = len(table[[*BLOCK, "ratio"]].drop_duplicates()) > 1
    rows = []
    for key, part in table.groupby([*BLOCK, "ratio"], sort=False):
        where = f", {key[1]}, ratio {key[-1]:g}" if several else ""
        for pipeline in pipelines:
            own = part[part["pipeline"] == pipeline.name].set_index(ATTACK)
            if not own.empty:
                rows.append((pipeline.label + where, [_cell(own, cell) for cell in order]))
    return [f"{attack}, {eps:g}" for attack, eps in order], rows


def _cell(table: pd.DataFrame, cell: tuple) -> CellText:
    if cell not in table.index:
        return CellText(NONE)
    estimate: pd.Series = table.loc[cell]
    half = (estimate["hi"] - estimate["lo"]) / 2
    text = number(estimate["mean"]) + ("" if pd.isna(half) else f" ±{number(half)}")
    notes = [
        f"{sentence} ({estimate[metric]:.0f} of {estimate['n']:.0f})"
        for metric, sentence in WARNINGS.items()
        if estimate[metric] > 0
    ]
    return CellText(text, note="; ".join(notes))
