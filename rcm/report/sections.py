"""Tables of the page beside the main one: a row per pipeline, a column per shift and quantity."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd

from rcm.analysis.statistics import BLOCK, PipelineInfo
from rcm.report.layout import NONE, CellText, number
from rcm.report.printed import Printed, plain_table

PLACE = ("shift", "severity", "quantity")  # what a column of such a table usually is


class Section(NamedTuple):
    """A table of the page: title, guide, heads of its columns, (label, cells) of its rows, and what
    a row is."""

    title: str
    guide: str
    heads: list[str]
    rows: list[tuple[str, list[CellText]]]
    word: str = "pipeline"

    @property
    def anchor(self) -> str:
        """What links on the page call it."""
        return self.title.lower().replace(" ", "-")

    @property
    def printed(self) -> Printed:
        """The table by itself."""
        return plain_table(self.title, self.guide, self.word, self.heads, self.rows)


def section(
    title: str,
    guide: str,
    table: pd.DataFrame,
    pipelines: Sequence[PipelineInfo],
    head: Callable[..., str],
    cell: Callable[[pd.Series], CellText],
    place: Sequence[str] = PLACE,
) -> Section:
    """Long estimates as a section: a column for each value of the columns `place`, of which those
    that differ in the last alone stand side by side; pipelines in their order, block by block where
    there are several.

    head(*place) names a column, cell(estimate) says what stands in it.
    """
    keys = list(place)
    found = list(dict.fromkeys(table[keys].itertuples(index=False, name=None)))
    first = list(dict.fromkeys(one[:-1] for one in found))
    order = sorted(found, key=lambda one: first.index(one[:-1]))
    rows, usual = [], table["n"].max()
    for block, part in table.groupby([*BLOCK, "ratio"], sort=False):
        for pipeline in pipelines:
            own = part[part["pipeline"] == pipeline.name].set_index(keys)
            if not own.empty:
                here = [own.loc[one] if one in own.index else None for one in order]
                cells = [CellText(NONE) if e is None else _counted(cell(e), e, usual) for e in here]
                rows.append((pipeline.label + told_apart(table, block), cells))
    return Section(title, guide, [head(*one) for one in order], rows)


def told_apart(table: pd.DataFrame, block: Sequence) -> str:
    """What tells a row of this block and ratio from the table's others, to follow its name."""
    parts = [
        f"ratio {value:g}" if name == "ratio" else str(value)
        for name, value in zip((*BLOCK, "ratio"), block, strict=True)
        if table[name].nunique() > 1
    ]
    return "".join(f", {part}" for part in parts)


def plain(estimate: pd.Series) -> CellText:
    """An estimate with its margin."""
    return CellText(number(estimate["mean"]), margin_text(estimate))


def apart(estimate: pd.Series, from_: float) -> bool:
    """Whether an interval, if there is any, leaves out a number."""
    spread = estimate["hi"] - estimate["lo"] > 1e-9
    return bool(spread and (estimate["lo"] > from_ or estimate["hi"] < from_))


def _counted(text: CellText, estimate: pd.Series, usual: int) -> CellText:
    """With n where fewer seeds than elsewhere in the table stand behind the estimate."""
    notes = [text.note, f"n = {estimate['n']:.0f}" if estimate["n"] < usual else ""]
    return text._replace(note="; ".join(filter(None, notes)))


def margin_text(estimate: pd.Series, digits: int = 1) -> str:
    """Half of an estimate's interval, "" where there is none."""
    half = (estimate["hi"] - estimate["lo"]) / 2
    return "" if pd.isna(half) or half < 1e-9 else f"±{number(half, digits)}"
