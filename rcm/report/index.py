"""The page that lists every study of a workdir, with links to their reports. Pure: returns text."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import pandas as pd

from rcm.report.layout import NONE, CellText, number
from rcm.report.rendering import template
from rcm.report.sections import margin_text

SMALLER = 4.0  # times smaller than the dense parent, of the pipeline that stands for a study
ANSWERS = ("supported", "not supported", "undecided", "not tested")


class Headline(NamedTuple):
    """What a study found, at its smallest imbalance ratio: the accuracy of the dense parent, and
    that of the best pipeline at least `SMALLER` times smaller, with its name ("" if none)."""

    dense: CellText
    best: CellText
    pipeline: str


class Entry(NamedTuple):
    """A study's folder by name, and what is known of it; "" or {} for what is not. Paths of the
    report and of the first figure are relative to the workdir."""

    folder: str
    title: str
    data: str = ""
    network: str = ""
    ratios: str = ""
    seeds: str = ""
    pipelines: str = ""
    finished: str = ""
    claims: Mapping[str, int] = {}
    headline: Headline | None = None
    report: str = ""
    figure: str = ""


def index_page(entries: Sequence[Entry]) -> str:
    """The page, what was finished last first."""
    ordered = sorted(entries, key=lambda entry: entry.finished, reverse=True)
    contents = {"entries": ordered, "answers": ANSWERS, "missing": NONE, "smaller": f"{SMALLER:g}"}
    page = template("index.html")
    return page.render(contents, url=quote)


def headline(main: pd.DataFrame) -> Headline | None:
    """Of a table `main` (see `tables.all_tables`); None if it has no dense parent."""
    first = main[main["ratio"] == main["ratio"].min()]
    first = first[first["dataset"] == first["dataset"].iloc[0]] if len(first) else first
    accuracy = first[first["quantity"] == "accuracy"].set_index("pipeline")
    sizes = first[first["quantity"] == "bytes"].set_index("pipeline")["mean"]
    if "dense" not in accuracy.index or not accuracy.index.is_unique:
        return None
    sizes = sizes.reindex(accuracy.index)  # of other networks, too: all are held against one
    small = accuracy[SMALLER * sizes <= sizes["dense"]]["mean"]
    name = str(small.idxmax()) if len(small) else ""
    best = _estimate(accuracy.loc[name]) if name else CellText(NONE)
    return Headline(_estimate(accuracy.loc["dense"]), best, name)


def _estimate(row: pd.Series) -> CellText:
    return CellText(number(row["mean"]), margin_text(row))
