"""Heat maps by class: recall of the parent and its change, and what corruption takes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rcm.analysis.by_class import rare_classes
from rcm.analysis.statistics import PipelineInfo, records
from rcm.report.heatmaps import (
    LEVELS,
    MANY,
    both_ways,
    colour_bar,
    heat_map,
    judged,
    label_cells,
)
from rcm.report.layout import class_word
from rcm.report.style import Figure, finish, new_figure, seeds_in_words, shorten

Pipelines = Sequence[PipelineInfo]

DOTS = (
    "A dot marks a 95 % paired t interval that leaves out 0, not corrected for the number of cells."
)
TAIL = " Hard and rare classes coincide in a standard tail: compare a class with itself at ratio 1."


class _Words(NamedTuple):
    """File name, headline, label of the colour bar, caption, and name of the colour map."""

    name: str
    title: str
    unit: str
    caption: str
    colours: str


def recall_figure(
    change: pd.DataFrame,
    levels: pd.DataFrame,
    pipelines: Pipelines,
    class_names: Sequence[str] = (),
) -> Figure | None:
    """Recall of each class of the parents, of the tables `class_recall`, and below it that of the
    others minus it, by `_class_figure`."""
    if change.empty:
        return None
    parents = levels[levels["pipeline"].isin(change["baseline"])]
    caption = (
        "First in each part: recall by class of the dense parent, percent, from white (0) to black "
        "(100). Below: recall minus that of the parent of the same seed, in points; means over "
        f"{seeds_in_words(change)}. {_dots(change)}"
    )
    if parents["pipeline"].nunique() > 1:
        caption += " Of several parents each pipeline is held against the one that it was made of."
    title, unit = "Which classes change", "recall change, points"
    words = _Words("recall_change", title, unit, caption, "RdBu")
    return _class_figure(change, parents, pipelines, words, class_names)


def excess_figure(
    excess: pd.DataFrame, pipelines: Pipelines, class_names: Sequence[str] = ()
) -> Figure | None:
    """What corruption takes from each class beyond the parent's loss, by `_class_figure`."""
    if excess.empty:
        return None
    caption = (
        "Recall that corruption takes from each class minus what it takes from the dense parent of "
        "the same seed, in points, mean over all corruptions; means over "
        f"{seeds_in_words(excess)}. Red is worse than the parent. {_dots(excess)}"
    )
    title, unit = "Which classes corruption takes more from", "excess, points"
    words = _Words("class_excess", title, unit, caption, "RdBu_r")
    return _class_figure(excess, excess[:0], pipelines, words, class_names)


def _class_figure(
    change: pd.DataFrame,
    levels: pd.DataFrame,
    pipelines: Pipelines,
    words: _Words,
    class_names: Sequence[str],
) -> Figure:
    """A heat map per ratio, classes from most to least training images; a dot marks an interval
    without 0. Where there are levels they stand above it, with a scale of their own."""
    ratios = sorted(change["ratio"].unique())
    names, above = (
        [p for p in pipelines if p.name in set(table["pipeline"])] for table in (change, levels)
    )
    rows = [len(above), len(names)] if above else [len(names)]
    canvas = new_figure(9.2, len(ratios) * (0.24 * sum(rows) + 0.75 + 0.1 * len(rows)) + 0.4)
    shares = rows * len(ratios)
    grid = canvas.subplots(len(shares), 1, squeeze=False, height_ratios=shares)[:, 0]
    grid = grid.reshape(len(ratios), len(rows))
    limit = max(1.0, float(np.nanquantile(judged(change, pipelines)["mean"].abs(), 0.98)))
    scale = both_ways(words.colours, limit, 0.0)
    for panels, ratio in zip(grid, ratios, strict=True):
        own = change[change["ratio"] == ratio]
        order = _order(own)
        few = change["cls"].nunique() <= MANY
        columns = [_class_label(row, class_names) for row in order] if few else []
        classes = [row.cls for row in order]
        if above:
            part = levels[levels["ratio"] == ratio]
            heat_map(panels[0], part, "cls", [p.name for p in above], classes, LEVELS)
            label_cells(panels[0], [f"{shorten(p.label, 22)}: recall, %" for p in above], [])
        heat_map(panels[-1], own, "cls", [p.name for p in names], classes, scale)
        label_cells(panels[-1], [shorten(p.label, 32) for p in names], columns)
        panels[0].set_title(f"imbalance ratio {ratio:g}")
    what = "class" if class_names else "class id"
    order = ", most frequent first" if rare_classes(change) else ""
    grid[-1, -1].set_xlabel(f"{what} (training images){order}")
    caption = words.caption + colour_bar(canvas, scale, list(grid.flat), words.unit)
    return finish(words.name, words.title, caption, canvas)


def _dots(change: pd.DataFrame) -> str:
    return DOTS + (TAIL if rare_classes(change) and change["ratio"].min() == 1 else "")


def _order(part: pd.DataFrame) -> list:
    """Classes (cls, train_count) from most to least training images, then by their ids."""
    order = part.groupby("cls")["train_count"].mean()
    order = order.reset_index().assign(id=lambda table: table["cls"].astype(int))
    return list(records(order.sort_values(["train_count", "id"], ascending=[False, True])))


def _class_label(row, names: Sequence[str]) -> str:
    count = "" if np.isnan(row.train_count) else f"\n({row.train_count:.0f})"
    return f"{shorten(class_word(row.cls, names), 24)}{count}"
