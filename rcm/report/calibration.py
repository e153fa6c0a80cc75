"""Reliability diagrams: how often a network is right when it is that sure."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from rcm.analysis.statistics import PipelineInfo
from rcm.report.layout import number
from rcm.report.style import (
    KIND_COLOURS,
    MUTED,
    Figure,
    close_grid,
    cut_words,
    extremes,
    finish,
    new_figure,
    percent_arms,
    seeds_in_words,
    shorten,
)

Pipelines = Sequence[PipelineInfo]

ACROSS = 4  # panels in a row
LEAST = 0.5  # percent of the images that a bin must hold to be shown
SIZES = (4.0, 60.0)  # areas of the smallest and the largest dot, square points


def calibration_figures(table: pd.DataFrame, main: pd.DataFrame, pipelines: Pipelines) -> list:
    """At the smallest and the largest ratio a panel for every pipeline but the dense parent, over
    its own parent, dashed."""
    return [
        _figure(table[table["ratio"] == ratio], main[main["ratio"] == ratio], pipelines, ratio)
        for ratio in extremes(table)
    ]


def _figure(table: pd.DataFrame, main: pd.DataFrame, pipelines: Pipelines, ratio: float) -> Figure:
    errors = main[main["quantity"] == "ece"].set_index("pipeline")["mean"].to_dict()
    curves = {p.name: _curve(table[table["pipeline"] == p.name]) for p in pipelines}
    shown = [p for p in pipelines if len(curves[p.name]) and p.kind != "dense"]
    drawn = pd.concat([curves[p.name] for p in pipelines])
    shown = shown or [p for p in pipelines if len(curves[p.name])]
    across = min(ACROSS, len(shown))
    down = -(-len(shown) // across)
    canvas = new_figure(2.2 * across + 0.3, 2.05 * down + 0.45)
    grid = canvas.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, pipeline in zip(grid.flat, shown, strict=False):
        if pipeline.parent in curves:
            own = curves[pipeline.parent]
            dashed = {"color": KIND_COLOURS["dense"], "linestyle": "--", "linewidth": 0.9}
            axes.plot(own["confidence"], own["mean"], **dashed)
        _panel(axes, curves[pipeline.name], pipeline)
        _tell(axes, errors, pipeline)
    close_grid(grid, len(shown))
    canvas.supxlabel("confidence, % (mean of a bin)", fontsize=8.5)
    canvas.supylabel("accuracy, %", fontsize=8.5)
    caption = (
        "Accuracy against confidence on clean test images, in bins of equal width; dots are means "
        f"over {seeds_in_words(drawn)}, their areas the bins' shares of the images, bars 95 % t "
        "intervals of the accuracy; dashed: the uncompressed network that it was made of. On the "
        "thin line a network is as often right as it is sure, below it too sure. Bins with under "
        f"{LEAST:g} % of the images are left out."
    )
    caption += cut_words(drawn)
    title = f"Calibration at imbalance ratio {ratio:g}"
    return finish(f"calibration_ratio_{ratio:g}", title, caption, canvas)


def _curve(rows: pd.DataFrame) -> pd.DataFrame:
    """One pipeline's bins that hold enough images: mean accuracy, its interval, n, confidence,
    share."""
    kept = rows.assign(bin=rows["cls"].astype(int)).set_index("bin")
    bins = kept[kept["quantity"] == "bin_accuracy"][["mean", "lo", "hi", "n"]]
    bins = bins.assign(
        confidence=kept[kept["quantity"] == "bin_confidence"]["mean"],
        share=kept[kept["quantity"] == "bin_share"]["mean"],
    )
    return bins[bins["share"] >= LEAST].sort_index()


def _panel(axes: Axes, bins: pd.DataFrame, pipeline: PipelineInfo) -> None:
    colour = KIND_COLOURS[pipeline.kind]
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.6)
    axes.errorbar(
        bins["confidence"], bins["mean"], yerr=percent_arms(bins), color=colour,
        elinewidth=0.9, linewidth=0.9,
    )  # fmt: skip
    areas = SIZES[0] + (SIZES[1] - SIZES[0]) * bins["share"] / 100
    dots = {"s": areas, "color": colour, "zorder": 3, "clip_on": False}
    axes.scatter(bins["confidence"], bins["mean"], **dots)
    axes.set(xlim=(0, 102), ylim=(0, 102), xticks=range(0, 101, 25), yticks=range(0, 101, 25))


def _tell(axes: Axes, errors: dict, pipeline: PipelineInfo) -> None:
    """The pipeline's name and, where there is one, its error beside that of its parent."""
    axes.set_title(shorten(pipeline.label, 30), pad=14, fontsize=7.6)
    own = errors.get(pipeline.name)
    if own is not None:
        theirs = errors.get(pipeline.parent)
        beside = "" if theirs is None else f", parent {number(theirs)} %"
        told = f"ECE {number(own)} %{beside}"
        axes.text(0, 1.03, told, transform=axes.transAxes, fontsize=7, color=MUTED)
