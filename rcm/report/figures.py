"""The report's figures, drawn from the long tables of `rcm.report.tables`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rcm.analysis.statistics import BLOCK, PipelineInfo
from rcm.report.attack_maps import attack_figures
from rcm.report.calibration import calibration_figures
from rcm.report.class_maps import excess_figure, recall_figure
from rcm.report.corruption_maps import corruption_figures, severity_figures
from rcm.report.curves import curve_figures
from rcm.report.effective import effective_figure
from rcm.report.foretold import foretold_figure
from rcm.report.mislabelled import mislabelled_figure
from rcm.report.ranks import rank_figures
from rcm.report.sizes import robustness_figure, size_figure
from rcm.report.style import (
    INK,
    KIND_COLOURS,
    KIND_MARKERS,
    MUTED,
    Figure,
    close_grid,
    figure_style,
    finish,
    half_interval,
    new_figure,
    seeds_in_words,
    shorten,
)
from rcm.report.training import training_figures

Pipelines = Sequence[PipelineInfo]


def all_figures(
    tables: dict[str, pd.DataFrame], pipelines: Pipelines, class_names: Sequence[str] = ()
) -> list[Figure]:
    """Every figure that the tables of `all_tables` have numbers for, block by block; class_names:
    what classes are called, by id."""
    blocks = list(dict.fromkeys(tables["main"][BLOCK].itertuples(index=False, name=None)))
    figures = []
    with figure_style():
        for block in blocks:
            parts = {name: _of_block(tables[name], block) for name in _DRAWN}
            drawn = [
                gap_figure(parts["main"], pipelines),
                recall_figure(
                    parts["recall_change"], parts["class_recall"], pipelines, class_names
                ),
                foretold_figure(parts["foretold"], pipelines),
                excess_figure(parts["class_excess"], pipelines, class_names),
                *corruption_figures(parts["corruptions"], pipelines),
                *severity_figures(parts["severities"], pipelines),
                *calibration_figures(parts["calibration"], parts["main"], pipelines),
                effective_figure(parts["main"], parts["dense_lines"], pipelines),
                size_figure(parts["main"], parts["fronts"], pipelines),
                robustness_figure(parts["main"], parts["robustness"], parts["fronts"], pipelines),
                *attack_figures(parts["robustness"], pipelines),
                *curve_figures(parts["robustness"], pipelines),
                *rank_figures(parts["ranks"], pipelines),
                mislabelled_figure(parts["mislabelled"], pipelines),
            ]
            figures += [_named(figure, block, len(blocks)) for figure in drawn if figure]
        return figures + training_figures(tables["training"], _dense_seeds(tables["main"]))


_DRAWN = (
    "main",
    "calibration",
    "corruptions",
    "dense_lines",
    "severities",
    "class_recall",
    "recall_change",
    "class_excess",
    "foretold",
    "fronts",
    "mislabelled",
    "ranks",
    "robustness",
)


def _dense_seeds(main: pd.DataFrame) -> int:
    """From how many seeds dense networks were measured, where that is most."""
    own = main[(main["pipeline"] == "dense") & (main["quantity"] == "accuracy")]
    return int(own["n"].max()) if len(own) else 0


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
    close_grid(grid, len(shown))
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
    axes.errorbar(
        x, y, yerr=half_interval(table), fmt="none", ecolor=colour, elinewidth=1.2, alpha=0.75
    )
