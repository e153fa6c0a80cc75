"""Other domains, and what is left of accuracy there and under attack, as rows of the page."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from rcm.analysis.elsewhere import BY
from rcm.analysis.statistics import BLOCK, PipelineInfo
from rcm.report.layout import NONE, CellText, number


class Section(NamedTuple):
    """A table of the page: title, guide, heads of its columns, and (label, cells) of its rows."""

    title: str
    guide: str
    heads: list[str]
    rows: list[tuple[str, list[CellText]]]


DOMAINS = (
    "Accuracy on images from elsewhere, percent, and what is lost against the clean test images of "
    "the same classes, points; ± half of the 95 % interval over seeds."
)
RELATIVE = (
    "The share of its own accuracy that a member keeps, over the same share of its parent, paired "
    "by seed; ± half of the 95 % interval. Below 1 compression costs robustness beyond accuracy; "
    "bold: the interval leaves out 1."
)


def elsewhere_sections(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> list[Section]:
    """Sections of the table `robustness` that have any rows."""
    domains = table[(table["severity"] == 0) & table["quantity"].isin(("shifted_accuracy", "drop"))]
    relative = table[table["quantity"] == "relative_robustness"]
    made = [
        Section("Other domains", DOMAINS, *_rows(domains, pipelines)),
        Section("Robustness relative to the parent", RELATIVE, *_rows(relative, pipelines)),
    ]
    return [section for section in made if section.rows]


def _rows(
    table: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> tuple[list[str], list[tuple[str, list[CellText]]]]:
    keys = [*BY, "quantity"]
    found = list(dict.fromkeys(table[keys].itertuples(index=False, name=None)))
    shifts = list(dict.fromkeys(place[:2] for place in found))
    order = sorted(found, key=lambda place: shifts.index(place[:2]))  # of one shift side by side
    several = len(table[[*BLOCK, "ratio"]].drop_duplicates()) > 1
    rows = []
    for block, part in table.groupby([*BLOCK, "ratio"], sort=False):
        where = f", {block[1]}, ratio {block[-1]:g}" if several else ""
        for pipeline in pipelines:
            own = part[part["pipeline"] == pipeline.name].set_index(keys)
            if not own.empty:
                rows.append((pipeline.label + where, [_cell(own, place) for place in order]))
    return [_head(*place) for place in order], rows


def _head(shift: str, severity: float, quantity: str) -> str:
    name = f"{shift}, {severity:g}" if severity else shift
    return f"{name}: drop" if quantity == "drop" else name


def _cell(table: pd.DataFrame, place: tuple) -> CellText:
    if place not in table.index:
        return CellText(NONE)
    estimate: pd.Series = table.loc[place]
    relative = place[-1] == "relative_robustness"
    digits, centre = (2, 1.0) if relative else (1, 0.0)
    half = (estimate["hi"] - estimate["lo"]) / 2
    margin = "" if pd.isna(half) or half < 1e-9 else f"±{number(half, digits)}"
    outside = estimate["lo"] > centre or estimate["hi"] < centre
    return CellText(number(estimate["mean"], digits), margin, bool(relative and outside))
