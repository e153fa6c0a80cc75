"""Heat maps: recall change by class, and corruption error by corruption."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas

from rcm.analysis.statistics import COMPRESSED, PipelineInfo, records
from rcm.report.layout import number
from rcm.report.style import Figure, finish, new_figure, quiet, seeds_in_words, shorten

CELL_INK, CELL_PAPER = "#101418", "#fcfcfc"  # not themed: they stand on the cell's own colour
Pipelines = Sequence[PipelineInfo]


def recall_figure(change: pd.DataFrame, pipelines: Pipelines) -> Figure | None:
    """Recall of each class minus the parent's, by `_class_figure`."""
    caption = (
        "Recall of each class minus that of the dense parent of the same seed, in points; means "
        f"over {seeds_in_words(change)}. {DOTS}"
        if len(change)
        else ""
    )
    words = ("recall_change", "Which classes change", "recall change, points", caption)
    return _class_figure(change, pipelines, *words, "RdBu")


def excess_figure(excess: pd.DataFrame, pipelines: Pipelines) -> Figure | None:
    """What corruption takes from each class beyond the parent's loss, by `_class_figure`."""
    caption = (
        "Recall that corruption takes from each class minus what it takes from the dense parent of "
        "the same seed, in points, mean over all corruptions; means over "
        f"{seeds_in_words(excess)}. Red is worse than the parent. {DOTS}"
        if len(excess)
        else ""
    )
    words = ("class_excess", "Which classes corruption takes more from", "excess, points", caption)
    return _class_figure(excess, pipelines, *words, "RdBu_r")


DOTS = (
    "A dot marks a 95 % paired t interval that leaves out 0, not corrected for the number of "
    "cells. Hard and rare classes coincide in a standard tail: compare a class with itself at "
    "ratio 1."
)


def _class_figure(
    change: pd.DataFrame,
    pipelines: Pipelines,
    name: str,
    title: str,
    unit: str,
    caption: str,
    colours: str,
) -> Figure | None:
    """A heat map per ratio, classes from most to least training images; a dot marks an interval
    without 0."""
    if change.empty:
        return None
    ratios = sorted(change["ratio"].unique())
    names = [p.name for p in pipelines if p.name in set(change["pipeline"])]
    labels = {p.name: shorten(p.label, 32) for p in pipelines}
    classes = change["cls"].nunique()
    canvas = new_figure(9.2, len(ratios) * (0.24 * len(names) + 0.85) + 0.4)
    grid = canvas.subplots(len(ratios), 1, squeeze=False)[:, 0]
    judged = _judged(change, pipelines)
    limit = max(1.0, float(np.nanquantile(judged["mean"].abs(), 0.98)))
    mesh = None
    for axes, ratio in zip(grid, ratios, strict=True):
        part = change[change["ratio"] == ratio]
        order = part.groupby("cls")["train_count"].mean()
        order = order.reset_index().assign(id=lambda table: table["cls"].astype(int))
        order = order.sort_values(["train_count", "id"], ascending=[False, True])
        columns = [_class_label(row) for row in records(order)]
        mesh = _heat_map(axes, part, "cls", names, list(order["cls"]), limit, colours, 0.0)
        _label_cells(axes, [labels[name] for name in names], columns if classes <= 20 else [])
        axes.set_title(f"imbalance ratio {ratio:g}")
    grid[-1].set_xlabel("class id (training images), most frequent first")
    colour_bar(canvas, mesh, list(grid), unit)
    return finish(name, title, caption, canvas)


def _class_label(row) -> str:
    count = "" if np.isnan(row.train_count) else f"\n({row.train_count:.0f})"
    return f"{row.cls}{count}"


def corruption_figures(table: pd.DataFrame, pipelines: Pipelines) -> list[Figure]:
    """Per ratio a pair of heat maps, corruption x pipeline: CE against the parent, and the error
    in excess of clean error."""
    shown = [p for p in pipelines if p.parent and p.name in set(table["pipeline"])]
    if table.empty or not shown:
        return []
    return [
        _corruption_figure(table[table["ratio"] == ratio], shown, ratio)
        for ratio in sorted(table["ratio"].unique())
    ]


def _corruption_figure(table: pd.DataFrame, pipelines: Pipelines, ratio: float) -> Figure:
    names, shifts = [p.name for p in pipelines], list(dict.fromkeys(table["shift"]))
    labels = [shorten(p.label, 32) for p in pipelines]
    words = [shift.replace("_", "\n", 1).replace("_", " ") for shift in shifts]
    canvas = new_figure(9.2, 2 * (0.25 * len(names) + 0.75) + 0.5)
    halves = (
        ("ce", 100.0, "CE, % of the parent's error", "corruption error against the parent"),
        ("excess_error", 0.0, "excess error, points", "corruption error in excess of clean error"),
    )
    grid = canvas.subplots(2, 1, squeeze=False)[:, 0]
    for axes, (quantity, centre, unit, title) in zip(grid, halves, strict=True):
        part = table[(table["quantity"] == quantity) & table["pipeline"].isin(names)]
        spread = (_judged(part, pipelines)["mean"] - centre).abs()
        limit = max(1.0, float(spread.max())) if spread.notna().any() else 1.0
        mesh = _heat_map(axes, part, "shift", names, shifts, limit, "RdBu_r", centre)
        _label_cells(axes, labels, words)
        axes.set_title(title)
        colour_bar(canvas, mesh, [axes], unit)
    caption = (
        "Above, CE: error summed over severities in percent of the parent's (100 = like the "
        "parent; it mostly restates clean error). Below, the error that corruption adds to clean "
        f"error, minus the same of the parent. Means over {seeds_in_words(table)}; a dot marks a "
        "95 % paired t interval that leaves out 100 or 0. Red is worse than the parent."
    )
    title = f"Corruptions at imbalance ratio {ratio:g}"
    return finish(f"corruptions_ratio_{ratio:g}", title, caption, canvas)


def _judged(table: pd.DataFrame, pipelines: Pipelines) -> pd.DataFrame:
    """The rows that the colours are scaled to: those of compressed pipelines, if there are any,
    beside which dense networks of tiny budgets would pale all others."""
    compressed = {p.name for p in pipelines if p.kind in COMPRESSED}
    rows = table[table["pipeline"].isin(compressed)]
    return rows if len(rows) else table


def _heat_map(
    axes: Axes,
    table: pd.DataFrame,
    across: str,
    names: list[str],
    columns: list[str],
    limit: float,
    colours: str,
    centre: float,
):
    """Means as coloured cells [names, columns], with numbers if they fit; dots for intervals
    without `centre`."""
    places = {(row.pipeline, getattr(row, across)): row for row in records(table)}
    values = np.full((len(names), len(columns)), np.nan)
    for i, name in enumerate(names):
        for j, column in enumerate(columns):
            if (name, column) in places:
                values[i, j] = places[name, column].mean
    norm = Normalize(centre - limit, centre + limit)
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=colours, norm=norm, edgecolors=CELL_PAPER, linewidth=0.6
    )
    axes.invert_yaxis()
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            row = places[names[i], columns[j]]
            outside = row.lo > centre or row.hi < centre
            _cell(
                axes,
                i,
                j,
                value,
                min(abs(value - centre) / limit, 1),
                outside,
                len(columns),
                centre,
            )
    return mesh


def _cell(
    axes: Axes, i: int, j: int, value: float, depth: float, dot: bool, columns: int, centre: float
) -> None:
    ink = CELL_PAPER if depth > 0.62 else CELL_INK
    if columns > 20:
        text = "·" if dot else ""
    else:
        text = number(value, 0) if centre else number(value, 1, signed=True)
        text = f"{text} •" if dot else text
    mark = axes.text(j + 0.5, i + 0.52, text, ha="center", va="center", fontsize=7, color=ink)
    mark.set_in_layout(False)


def _label_cells(axes: Axes, rows: list[str], columns: list[str]) -> None:
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes.tick_params(axis="x", labelsize=7.5 if len(columns) <= 10 else 6.2)
    quiet(axes)


def colour_bar(canvas: Canvas, mesh, axes: list[Axes], label: str) -> None:
    bar = canvas.colorbar(mesh, ax=axes, pad=0.01, aspect=30, shrink=0.9)
    bar.outline.set_visible(False)
    bar.set_label(label)
    bar.ax.tick_params(length=0)
