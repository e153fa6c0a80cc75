"""The report's figures, drawn from the long tables of `rcm.report.tables`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from rcm.analysis.statistics import BLOCK, PipelineInfo, records
from rcm.report.heatmaps import corruption_figures, recall_figure
from rcm.report.labels import place_labels
from rcm.report.style import (
    GRID,
    INK,
    KIND_COLOURS,
    KIND_LABELS,
    KIND_MARKERS,
    MUTED,
    OTHERS,
    Figure,
    figure_style,
    finish,
    fix_layout,
    new_figure,
    seeds_in_words,
    shorten,
)

Pipelines = Sequence[PipelineInfo]


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
    ratios = sorted(gaps["ratio"].unique())
    grid[0, 0].set_xscale("log")
    # before anything is drawn: a single ratio has no range of its own, of which matplotlib warns
    grid[0, 0].set_xlim(ratios[0] / 1.5, ratios[-1] * 1.5)
    for axes, pipeline in zip(grid.flat, shown, strict=False):
        _gap_panel(axes, gaps, pipeline, {p.name: p.label for p in pipelines})
    grid[0, 0].set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(shown) - across) : len(shown)]:
        axes.tick_params(labelbottom=True)
    canvas.supylabel("gap, points of accuracy", fontsize=8.5)
    canvas.supxlabel("imbalance ratio (log scale)", fontsize=8.5)
    caption = (
        "Accuracy of the balanced member (ratio 1) minus that of the imbalanced one, paired by "
        f"seed. Dots are means over {seeds_in_words(gaps)}, bars 95 % paired t intervals; in grey, "
        "the primary baseline named in each panel. Lower is better."
    )
    return finish("gap", "Accuracy lost to class imbalance", caption, canvas)


def _gap_panel(axes: Axes, gaps: pd.DataFrame, pipeline: PipelineInfo, labels: dict) -> None:
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.axhline(0, color=MUTED, linewidth=0.6)
    if pipeline.baseline:
        baseline = gaps[gaps["pipeline"] == pipeline.baseline].sort_values("ratio")
        grey = {"color": "#8a8f94", "linestyle": "--", "linewidth": 1.2}
        axes.plot(baseline["ratio"], baseline["mean"], marker="_", **grey)
    own = gaps[gaps["pipeline"] == pipeline.name].sort_values("ratio")
    colour = KIND_COLOURS[pipeline.kind]
    _bars(axes, own["ratio"], own["mean"], own, colour)
    axes.plot(own["ratio"], own["mean"], color=colour, marker=KIND_MARKERS[pipeline.kind])
    axes.set_title(
        shorten(pipeline.label, 30), pad=14 if pipeline.baseline else 6, color=INK, fontsize=7.6
    )
    if pipeline.baseline:
        text = f"- -  {shorten(labels[pipeline.baseline], 28)}"
        axes.text(0, 1.03, text, transform=axes.transAxes, fontsize=7, color=MUTED)


def _bars(axes: Axes, x, y, table: pd.DataFrame, colour: str) -> None:
    half = ((table["hi"] - table["lo"]) / 2).fillna(0)
    axes.errorbar(x, y, yerr=half, fmt="none", ecolor=colour, elinewidth=1.2, alpha=0.75)


def size_figure(main: pd.DataFrame, pipelines: Pipelines) -> Figure | None:
    """Accuracy against stored size, a labelled point per pipeline: a panel per ratio and, where one
    panel could not hold all labels, per family of techniques, over all others as grey dots."""
    points = _size_and_accuracy(main)
    if points.empty:
        return None
    shown = [pipeline for pipeline in pipelines if pipeline.name in set(points["pipeline"])]
    panels = _size_panels(points, shown)
    canvas = new_figure(9.2, 3.1 * len(panels) + 0.5)
    grid = canvas.subplots(len(panels), 1, sharex=True, sharey=len(panels) > 1, squeeze=False)[:, 0]
    for axes, (title, part, own) in zip(grid, panels, strict=True):
        _size_panel(axes, part, own)
        axes.set_title(title)
        axes.set_ylabel("accuracy, %")
    grid[-1].set_xlabel("stored size, KiB (log scale)")
    _kind_legend(canvas, shown)
    fix_layout(canvas)
    for axes, (_, part, own) in zip(grid, panels, strict=True):
        labels = {p.name: shorten(p.label, 30) for p in own}
        texts = [labels.get(name, "") for name in part["pipeline"]]
        half = _half(part).where(np.array(texts) != "", 0.0)
        place_labels(axes, part["size"], part["mean"], half, texts)
    caption = (
        f"Clean test accuracy, mean over {seeds_in_words(points)} with 95 % t interval, against "
        "the stored size: deflated bytes of the packed weights. Up and to the left is better."
    )
    if _crowded(shown):
        caption += " Grey dots: what the other panels of the ratio name."
    return finish("accuracy_vs_size", "Accuracy against stored size", caption, canvas)


CROWDED = 16  # pipelines, more than whose labels find no room in one panel
SEVERAL = "several techniques"
FAMILIES = {
    **dict.fromkeys(("prune", "prune_filters", "dynamic_sparse"), "pruning"),
    **dict.fromkeys(("quantize", "qat", "cast"), "quantization"),
    "cluster": "clustering",
}  # of techniques; another one is a family of its own


def _crowded(pipelines: Pipelines) -> bool:
    return len(pipelines) > CROWDED


def _size_panels(
    points: pd.DataFrame, pipelines: Pipelines
) -> list[tuple[str, pd.DataFrame, Pipelines]]:
    """(title, points, the pipelines that are labelled in it) of every panel."""
    panels = []
    for family, own in _by_family(pipelines).items() if _crowded(pipelines) else [("", pipelines)]:
        for ratio in sorted(points["ratio"].unique()):
            title = f"imbalance ratio {ratio:g}" + (f": {family}" if family else "")
            panels.append((title, points[points["ratio"] == ratio], own))
    return panels


def _by_family(pipelines: Pipelines) -> dict[str, list[PipelineInfo]]:
    """Pipelines by what they are made of, each family with the references it is compared with."""
    members: dict[str, list[PipelineInfo]] = {}
    for pipeline in pipelines:
        kinds = {FAMILIES.get(name, name) for name in pipeline.techniques}
        if kinds or pipeline.kind == "student":
            family = "distillation" if not kinds else SEVERAL if len(kinds) > 1 else kinds.pop()
            members.setdefault(family, []).append(pipeline)
    for family, own in members.items():
        needed = {"dense", *(pipeline.baseline for pipeline in own)}
        members[family] = [p for p in pipelines if p.name in needed or p in own]
    return members


def _kind_legend(canvas: Canvas, pipelines: Pipelines) -> None:
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


def _half(table: pd.DataFrame) -> pd.Series:
    """Half of each interval, 0 where there is none."""
    return ((table["hi"] - table["lo"]) / 2).fillna(0)


def _size_and_accuracy(main: pd.DataFrame) -> pd.DataFrame:
    keys = ["ratio", "pipeline"]
    sizes = main[main["quantity"] == "bytes"][[*keys, "mean"]].rename(columns={"mean": "size"})
    points = main[main["quantity"] == "accuracy"].merge(sizes, on=keys)
    return points[points["size"] > 0]


def _size_panel(axes: Axes, points: pd.DataFrame, own: Pipelines) -> None:
    kinds = {pipeline.name: pipeline.kind for pipeline in own}
    axes.set_xscale("log")
    axes.grid(color=GRID)
    others = points[~points["pipeline"].isin(kinds)]
    axes.plot(others["size"], others["mean"], ".", color=OTHERS, markersize=5)
    for row, half in zip(records(points), _half(points), strict=True):
        if kind := kinds.get(row.pipeline):
            colour, marker = KIND_COLOURS[kind], KIND_MARKERS[kind]
            axes.errorbar(
                row.size, row.mean, yerr=half, color=colour, marker=marker, elinewidth=1.0
            )
    axes.margins(x=0.18, y=0.12)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _leads_with(value) else "")


def _leads_with(value: float) -> bool:
    """True for 2 and 5 times a power of ten: the minor ticks of a log axis worth a number."""
    return round(value / 10 ** np.floor(np.log10(value))) in (2, 5)
