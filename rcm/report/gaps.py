"""What class imbalance costs, and what compression adds to it: gaps and their differences."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rcm.analysis.statistics import PipelineInfo
from rcm.report.points import KEY, Pipelines, kind_key, mark_rows, name_rows
from rcm.report.style import (
    INK,
    KIND_COLOURS,
    KIND_MARKERS,
    MUTED,
    Figure,
    close_grid,
    finish,
    half_interval,
    new_figure,
    seeds_in_words,
    shorten,
)

GREY = "#8a8f94"
ASIDE = 1.1  # times a ratio, where bars of the baseline stand, lest those of the pipeline hide them
TITLE = "Accuracy lost to class imbalance"
GAP = "Accuracy of the balanced member (ratio 1) minus that of the imbalanced one, paired by seed"


def gap_figures(main: pd.DataFrame, pipelines: Pipelines) -> list[Figure]:
    """The figures `did` and `gap` of one block of the table `main`, as far as it has such rows:
    differences first, since claims are about them. Gaps of several ratios are curves."""
    points = main[main["unit"] == "points"]
    gaps = points[points["quantity"] == "gap"]
    curves = gaps["ratio"].nunique() > 1
    drawn = [
        did_figure(points[points["quantity"] == "did"], pipelines),
        (_gap_curves if curves else _gap_rows)(gaps, pipelines),
    ]
    return [figure for figure in drawn if figure]


def did_figure(differences: pd.DataFrame, pipelines: Pipelines) -> Figure | None:
    """A panel per ratio, in it a row per pipeline: its gap minus that of its primary baseline,
    below that, hollow, minus that of its parent where this is another one."""
    shown = _shown(differences, pipelines)
    if not shown:
        return None
    first = _against(differences, {p.name: p.baseline or p.parent for p in shown})
    parents = {p.name: p.parent for p in shown if p.baseline not in ("", p.parent)}
    second = _against(differences, parents)
    ratios = sorted(differences["ratio"].unique())
    canvas = new_figure(9.2, 0.24 * len(shown) + 1.1 + KEY)
    grid = canvas.subplots(1, len(ratios), sharex=True, sharey=True, squeeze=False)[0]
    for axes, ratio in zip(grid, ratios, strict=True):
        axes.axvline(0, color=MUTED, linewidth=0.8)
        mark_rows(axes, first[first["ratio"] == ratio], shown)
        mark_rows(axes, second[second["ratio"] == ratio], shown, filled=False, below=0.3)
        axes.set_title(f"imbalance ratio {ratio:g}")
    name_rows(grid[0], shown, 34)
    words = "its primary baseline, which the main table names"
    hollow = Line2D([], [], color=INK, marker="o", mfc="none", ls="", label="minus the parent's")
    kind_key(canvas, shown, [hollow] if len(second) else [])
    if len(second):
        words += "; hollow, below: minus that of its parent, where this is another one (of students"
        words += " the teacher, with which claims about the cost of compression compare them)"
    canvas.supxlabel("difference in differences (DiD), points of accuracy", fontsize=8.5)
    caption = (
        "The gap of a pipeline (accuracy at ratio 1 minus accuracy at this ratio) minus that of "
        f"{words}. Means over {seeds_in_words(differences)} with 95 % paired t intervals, not "
        "corrected for their number. To the right of 0 imbalance costs the pipeline more."
    )
    title = "What compression adds to the cost of imbalance"
    return finish("did", title, caption, canvas)


def _shown(rows: pd.DataFrame, pipelines: Pipelines) -> list[PipelineInfo]:
    return [pipeline for pipeline in pipelines if pipeline.name in set(rows["pipeline"])]


def _against(differences: pd.DataFrame, others: Mapping[str, str]) -> pd.DataFrame:
    """The differences between pipelines and those that `others` names for them."""
    pairs = zip(differences["pipeline"], differences["baseline"], strict=True)
    return differences[[other == others.get(name, "") for name, other in pairs]]


def _gap_rows(gaps: pd.DataFrame, pipelines: Pipelines) -> Figure | None:
    """Gaps of a single ratio: a row per pipeline, in it a stroke where its parent's is."""
    shown = _shown(gaps, pipelines)
    if not shown:
        return None
    canvas = new_figure(9.2, 0.2 * len(shown) + 0.9 + KEY)
    kind_key(canvas, shown)
    axes = canvas.subplots()
    means = gaps.set_index("pipeline")["mean"]
    for place, pipeline in enumerate(shown):
        if pipeline.parent in means.index:
            axes.plot(means[pipeline.parent], place, "|", color=GREY, markersize=9)
    mark_rows(axes, gaps, shown)
    name_rows(axes, shown, 34)
    axes.set_title(f"imbalance ratio {gaps.iloc[0].ratio:g}")
    axes.set_xlabel("gap, points of accuracy")
    caption = (
        f"{GAP}. Means over {seeds_in_words(gaps)} with 95 % paired t intervals; grey strokes: "
        "the dense parent's. To the left is better."
    )
    return finish("gap", TITLE, caption, canvas)


def _gap_curves(gaps: pd.DataFrame, pipelines: Pipelines) -> Figure | None:
    """Gap against the imbalance ratio: one small panel per pipeline, over its primary baseline in
    grey; the same scale everywhere."""
    shown = _shown(gaps, pipelines)
    if not shown:
        return None
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    canvas = new_figure(2.2 * across + 0.3, 1.75 * down + 0.45)
    grid = canvas.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    ratios = sorted(gaps["ratio"].unique())
    grid[0, 0].set_xscale("log")
    grid[0, 0].set_xlim(ratios[0] / 1.5, ratios[-1] * 1.5)
    for axes, pipeline in zip(grid.flat, shown, strict=False):
        _gap_panel(axes, gaps, pipeline, {p.name: p.label for p in pipelines})
    grid[0, 0].set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    close_grid(grid, len(shown))
    canvas.supylabel("gap, points of accuracy", fontsize=8.5)
    canvas.supxlabel("imbalance ratio (log scale)", fontsize=8.5)
    caption = (
        f"{GAP}. Marks are means over {seeds_in_words(gaps)}, bars 95 % paired t intervals; in "
        "grey, its bars a little to the right, the primary baseline named in each panel. Bars that "
        "overlap do not say that the two are alike: seeds are paired, see DiD. Lower is better."
    )
    return finish("gap", TITLE, caption, canvas)


def _gap_panel(
    axes: Axes, gaps: pd.DataFrame, pipeline: PipelineInfo, labels: Mapping[str, str]
) -> None:
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.axhline(0, color=MUTED, linewidth=0.6)
    if pipeline.baseline:
        grey = {"color": GREY, "marker": "_", "linestyle": "--", "linewidth": 1.0}
        _curve(axes, gaps[gaps["pipeline"] == pipeline.baseline], ASIDE, 0.7, **grey)
        text = f"- -  {shorten(labels[pipeline.baseline], 28)}"
        axes.text(0, 1.03, text, transform=axes.transAxes, fontsize=7, color=MUTED)
    own = {"color": KIND_COLOURS[pipeline.kind], "marker": KIND_MARKERS[pipeline.kind]}
    _curve(axes, gaps[gaps["pipeline"] == pipeline.name], 1.0, 1.2, **own)
    axes.set_title(
        shorten(pipeline.label, 30), pad=14 if pipeline.baseline else 6, color=INK, fontsize=7.6
    )


def _curve(axes: Axes, own: pd.DataFrame, aside: float, thick: float, **style) -> None:
    """One pipeline's means by ratio, and their intervals at so many times the ratio."""
    own = own.sort_values("ratio")
    bars = {"fmt": "none", "ecolor": style["color"], "elinewidth": thick}
    axes.errorbar(aside * own["ratio"], own["mean"], yerr=half_interval(own), **bars)
    axes.plot(own["ratio"], own["mean"], **style)
