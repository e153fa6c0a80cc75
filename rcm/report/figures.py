"""The report's figures, drawn from the long tables of `rcm.report.tables`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from rcm.analysis.statistics import BLOCK, PipelineInfo
from rcm.report.labels import place_labels
from rcm.report.style import (
    GRID,
    INK,
    KIND_COLOURS,
    KIND_LABELS,
    KIND_MARKERS,
    MUTED,
    figure_style,
    new_figure,
    quiet,
    render,
)

CELL_INK, CELL_PAPER = "#101418", "#fcfcfc"  # not themed: they stand on the cell's own colour
Pipelines = Sequence[PipelineInfo]


class Figure(NamedTuple):
    """A figure: a file name without ending, a headline, a caption, and its two renderings."""

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes


def all_figures(tables: dict[str, pd.DataFrame], pipelines: Pipelines) -> list[Figure]:
    """Every figure that the tables of `all_tables` have numbers for, block by block."""
    blocks = list(dict.fromkeys(tables["main"][BLOCK].itertuples(index=False, name=None)))
    figures = []
    with figure_style():
        for block in blocks:
            parts = {name: _of_block(tables[name], block) for name in _DRAWN}
            drawn = [
                gap_figure(parts["main"], pipelines),
                recall_figure(parts["recall_change"], pipelines),
                *corruption_figures(parts["corruptions"], pipelines),
                size_figure(parts["main"], pipelines),
            ]
            figures += [_named(figure, block, len(blocks)) for figure in drawn if figure]
    return figures


_DRAWN = ("main", "corruptions", "recall_change")


def _of_block(table: pd.DataFrame, block: tuple) -> pd.DataFrame:
    keep = np.ones(len(table), bool)
    for name, value in zip(BLOCK, block, strict=True):
        keep &= (table[name] == value).to_numpy()
    return table[keep]


def _named(figure: Figure, block: tuple, blocks: int) -> Figure:
    if blocks == 1:
        return figure
    words = "-".join(str(word) for word in block)
    slug = "".join(letter if letter.isalnum() else "-" for letter in words)
    return figure._replace(
        name=f"{figure.name}_{slug}", title=f"{figure.title}: {', '.join(map(str, block))}"
    )


def gap_figure(main: pd.DataFrame, pipelines: Pipelines) -> Figure | None:
    """Performance gap against the imbalance ratio: one small panel per pipeline, with 95 %
    intervals, over its primary baseline in grey; the same scale everywhere."""
    gaps = main[(main["quantity"] == "gap") & (main["unit"] == "points")]
    shown = [pipeline for pipeline in pipelines if pipeline.name in set(gaps["pipeline"])]
    if not shown:
        return None
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    canvas = new_figure(2.2 * across + 0.3, 1.75 * down + 0.45)
    grid = canvas.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, pipeline in zip(grid.flat, shown, strict=False):
        _gap_panel(axes, gaps, pipeline, {p.name: p.label for p in pipelines})
    ratios = sorted(gaps["ratio"].unique())
    grid[0, 0].set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(shown) - across) : len(shown)]:
        axes.tick_params(labelbottom=True)
    canvas.supylabel("gap, points of accuracy", fontsize=8.5)
    canvas.supxlabel("imbalance ratio (log scale)", fontsize=8.5)
    caption = (
        "Accuracy of the balanced member (ratio 1) minus that of the imbalanced one, paired by "
        f"seed. Dots are means over {_n(gaps)}, bars 95 % paired t intervals; in grey, the "
        "primary baseline named in each panel. Lower is better."
    )
    return _figure("gap", "Accuracy lost to class imbalance", caption, canvas)


def _gap_panel(axes: Axes, gaps: pd.DataFrame, pipeline: PipelineInfo, labels: dict) -> None:
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.axhline(0, color=MUTED, linewidth=0.6)
    if pipeline.baseline:
        baseline = gaps[gaps["pipeline"] == pipeline.baseline].sort_values("ratio")
        axes.plot(baseline["ratio"], baseline["mean"], color="#8a8f94", linestyle="--", lw=1.2)
    own = gaps[gaps["pipeline"] == pipeline.name].sort_values("ratio")
    colour = KIND_COLOURS[pipeline.kind]
    _bars(axes, own["ratio"], own["mean"], own, colour)
    axes.plot(own["ratio"], own["mean"], color=colour, marker=KIND_MARKERS[pipeline.kind])
    axes.margins(x=0.12)
    axes.set_title(_short(pipeline.label, 26), pad=14 if pipeline.baseline else 6, color=INK)
    if pipeline.baseline:
        text = f"- -  {_short(labels[pipeline.baseline], 28)}"
        axes.text(0, 1.03, text, transform=axes.transAxes, fontsize=7, color=MUTED)


def _bars(axes: Axes, x, y, table: pd.DataFrame, colour: str) -> None:
    half = ((table["hi"] - table["lo"]) / 2).fillna(0)
    axes.errorbar(x, y, yerr=half, fmt="none", ecolor=colour, elinewidth=1.2, alpha=0.75)


def recall_figure(change: pd.DataFrame, pipelines: Pipelines) -> Figure | None:
    """Recall of each class minus the parent's: a heat map per ratio, classes from most to least
    training images; a dot marks an interval without 0."""
    if change.empty:
        return None
    ratios = sorted(change["ratio"].unique())
    names = [p.name for p in pipelines if p.name in set(change["pipeline"])]
    labels = {p.name: _short(p.label, 28) for p in pipelines}
    classes = change["cls"].nunique()
    canvas = new_figure(9.2, len(ratios) * (0.24 * len(names) + 0.85) + 0.4)
    grid = canvas.subplots(len(ratios), 1, squeeze=False)[:, 0]
    limit = max(1.0, float(np.nanquantile(change["mean"].abs(), 0.98)))
    mesh = None
    for axes, ratio in zip(grid, ratios, strict=True):
        part = change[change["ratio"] == ratio]
        order = part.groupby("cls")["train_count"].mean()
        order = order.reset_index().assign(id=lambda table: table["cls"].astype(int))
        order = order.sort_values(["train_count", "id"], ascending=[False, True])
        columns = [_class_label(row) for row in order.itertuples()]
        mesh = _heat_map(axes, part, "cls", names, list(order["cls"]), limit, "RdBu", 0.0)
        _label_cells(axes, [labels[name] for name in names], columns if classes <= 20 else [])
        axes.set_title(f"imbalance ratio {ratio:g}")
    grid[-1].set_xlabel("class id (training images), most frequent first")
    _colour_bar(canvas, mesh, list(grid), "recall change, points")
    caption = (
        "Recall of each class minus that of the dense parent of the same seed, in points; means "
        f"over {_n(change)}. A dot marks a 95 % paired t interval that leaves out 0, not corrected "
        "for the number of cells. Hard and rare classes coincide in a standard tail: compare a "
        "class with itself at ratio 1."
    )
    return _figure("recall_change", "Which classes change", caption, canvas)


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
    labels = [_short(p.label, 28) for p in pipelines]
    words = [shift.replace("_", "\n", 1).replace("_", " ") for shift in shifts]
    canvas = new_figure(9.2, 2 * (0.25 * len(names) + 0.75) + 0.5)
    halves = (
        ("ce", 100.0, "CE, % of the parent's error", "corruption error against the parent"),
        ("excess_error", 0.0, "excess error, points", "corruption error in excess of clean error"),
    )
    grid = canvas.subplots(2, 1, squeeze=False)[:, 0]
    for axes, (quantity, centre, unit, title) in zip(grid, halves, strict=True):
        part = table[(table["quantity"] == quantity) & table["pipeline"].isin(names)]
        spread = (part["mean"] - centre).abs()
        limit = max(1.0, float(spread.max())) if spread.notna().any() else 1.0
        mesh = _heat_map(axes, part, "shift", names, shifts, limit, "RdBu_r", centre)
        _label_cells(axes, labels, words)
        axes.set_title(title)
        _colour_bar(canvas, mesh, [axes], unit)
    caption = (
        "Above, CE: error summed over severities in percent of the parent's (100 = like the "
        "parent; it mostly restates clean error). Below, the error that corruption adds to clean "
        f"error, minus the same of the parent. Means over {_n(table)}; a dot marks a 95 % paired t "
        "interval that leaves out 100 or 0. Red is worse than the parent."
    )
    title = f"Corruptions at imbalance ratio {ratio:g}"
    return _figure(f"corruptions_ratio_{ratio:g}", title, caption, canvas)


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
    places = {(row.pipeline, getattr(row, across)): row for row in table.itertuples()}
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
            _cell(axes, i, j, value, abs(value - centre) / limit, outside, len(columns), centre)
    return mesh


def _cell(
    axes: Axes, i: int, j: int, value: float, depth: float, dot: bool, columns: int, centre: float
) -> None:
    ink = CELL_PAPER if depth > 0.62 else CELL_INK
    if columns > 20:
        text = "·" if dot else ""
    else:
        number = f"{value:.0f}" if centre else f"{value:+.1f}".replace("-", "−")
        text = f"{number} •" if dot else number
    axes.text(j + 0.5, i + 0.52, text, ha="center", va="center", fontsize=7, color=ink)


def _label_cells(axes: Axes, rows: list[str], columns: list[str]) -> None:
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes.tick_params(axis="x", labelsize=7.5)
    quiet(axes)


def _colour_bar(canvas: Canvas, mesh, axes: list[Axes], label: str) -> None:
    bar = canvas.colorbar(mesh, ax=axes, pad=0.01, aspect=30, shrink=0.9)
    bar.outline.set_visible(False)
    bar.set_label(label)
    bar.ax.tick_params(length=0)


def size_figure(main: pd.DataFrame, pipelines: Pipelines) -> Figure | None:
    """Accuracy against stored size: a panel per ratio, a labelled point per pipeline."""
    points = _size_and_accuracy(main)
    if points.empty:
        return None
    ratios = sorted(points["ratio"].unique())
    canvas = new_figure(9.2, 3.1 * len(ratios) + 0.5)
    grid = canvas.subplots(len(ratios), 1, sharex=True, squeeze=False)[:, 0]
    for axes, ratio in zip(grid, ratios, strict=True):
        _size_panel(axes, points[points["ratio"] == ratio], pipelines)
        axes.set_title(f"imbalance ratio {ratio:g}")
        axes.set_ylabel("accuracy, %")
    grid[-1].set_xlabel("stored size, KiB (log scale)")
    kinds = [kind for kind in KIND_COLOURS if kind in {p.kind for p in pipelines}]
    canvas.legend(
        handles=[
            Line2D([], [], color=KIND_COLOURS[kind], marker=KIND_MARKERS[kind], ls="", label=label)
            for kind, label in ((kind, KIND_LABELS[kind]) for kind in kinds)
        ],
        loc="outside upper left",
        ncols=len(kinds),
        fontsize=8,
        handletextpad=0.1,
        columnspacing=1.2,
    )
    canvas.draw_without_rendering()
    for axes, ratio in zip(grid, ratios, strict=True):
        part = points[points["ratio"] == ratio]
        labels = {p.name: _short(p.label, 30) for p in pipelines}
        place_labels(axes, part["size"], part["mean"], [labels[name] for name in part["pipeline"]])
    caption = (
        f"Clean test accuracy, mean over {_n(points)} with 95 % t interval, against the stored "
        "size: deflated bytes of the packed weights. Up and to the left is better."
    )
    return _figure("accuracy_vs_size", "Accuracy against stored size", caption, canvas)


def _size_and_accuracy(main: pd.DataFrame) -> pd.DataFrame:
    keys = ["ratio", "pipeline"]
    sizes = main[main["quantity"] == "bytes"][[*keys, "mean"]].rename(columns={"mean": "size"})
    points = main[main["quantity"] == "accuracy"].merge(sizes, on=keys)
    return points[points["size"] > 0]


def _size_panel(axes: Axes, points: pd.DataFrame, pipelines: Pipelines) -> None:
    kinds = {pipeline.name: pipeline.kind for pipeline in pipelines}
    axes.set_xscale("log")
    axes.grid(color=GRID)
    for row in points.itertuples():
        kind = kinds[row.pipeline]
        half = (row.hi - row.lo) / 2
        axes.errorbar(
            row.size,
            row.mean,
            yerr=0.0 if np.isnan(half) else half,
            color=KIND_COLOURS[kind],
            marker=KIND_MARKERS[kind],
            elinewidth=1.0,
        )
    axes.margins(x=0.18, y=0.12)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _leads_with(value) else "")


def _leads_with(value: float) -> bool:
    """True for 2 and 5 times a power of ten: the minor ticks of a log axis worth a number."""
    return round(value / 10 ** np.floor(np.log10(value))) in (2, 5)


def _figure(name: str, title: str, caption: str, canvas: Canvas) -> Figure:
    return Figure(name, title, caption, *render(canvas))


def _n(table: pd.DataFrame) -> str:
    low, high = int(table["n"].min()), int(table["n"].max())
    if high == 1:
        return "n = 1 seed, so without intervals"
    return f"n = {high} seeds" if low == high else f"n = {low} to {high} seeds"


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
