"""Accuracy under attack against its radius, a small panel per attack."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as Canvas

from rcm.analysis.attacks import WORST
from rcm.analysis.elsewhere import SOURCE
from rcm.analysis.statistics import PipelineInfo
from rcm.report.families import by_family
from rcm.report.style import (
    KIND_COLOURS,
    KIND_MARKERS,
    OTHERS,
    Figure,
    cut_words,
    finish,
    new_figure,
    percent_arms,
    seeds_in_words,
    shorten,
)

Pipelines = Sequence[PipelineInfo]

# by turns within a kind: dashes, then marks that are filled in another way
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
FILLS = ("full", "none", "left", "bottom")
SPREAD = 0.3  # of the room between two radii, over which pipelines stand side by side
ACROSS = 3  # panels in a row, of one family
CROWDED = 8  # pipelines, more than whose lines cannot be told apart in one panel
MOST = 5  # attacks beside one another; of more the worst cases alone are drawn by family


def curve_figures(robustness: pd.DataFrame, pipelines: Pipelines) -> list[Figure]:
    """Per ratio accuracy against radius, a line per pipeline with its intervals, many by family;
    none where there is but one radius, of which `attack_maps` tells all."""
    rows = robustness[robustness["severity"] > 0]
    radii = rows.groupby("shift")["severity"].nunique()
    rows = rows[rows["shift"].isin(radii.index[radii > 1])]
    several = rows["ratio"].nunique() > 1
    return [
        _figure(rows[rows["ratio"] == ratio], pipelines, ratio, several)
        for ratio in sorted(rows["ratio"].unique())
    ]


def _figure(rows: pd.DataFrame, pipelines: Pipelines, ratio: float, several: bool) -> Figure:
    shown = [pipeline for pipeline in pipelines if pipeline.name in set(rows["pipeline"])]
    families = by_family(shown) if len(shown) > CROWDED else {}
    canvas = _by_family(rows, shown, families) if families else _together(rows, shown)
    canvas.supylabel("accuracy, %", fontsize=8.5)
    canvas.supxlabel("radius, 255ths (0: the same images, not attacked)", fontsize=8.5)
    caption = (
        "Accuracy on attacked test images against the radius; means over "
        f"{seeds_in_words(rows)} with 95 % t intervals, these and their marks side by side for "
        "each radius. Worst: an image counts only if every attack of that radius fails. The key is "
        "in the order of the accuracies at 0."
    )
    caption += cut_words(rows[rows["quantity"].isin((SOURCE, "shifted_accuracy"))])
    if families:
        caption += (
            " A row is a family of techniques with what it is compared with; grey: all others."
        )
    name = f"attack_curves_ratio_{ratio:g}" if several else "attack_curves"
    title = "Accuracy under attack" + (f" at imbalance ratio {ratio:g}" if several else "")
    return finish(name, title, caption, canvas)


def _together(rows: pd.DataFrame, pipelines: Pipelines) -> Canvas:
    """A panel per attack, the key beside them."""
    attacks = list(dict.fromkeys(rows["shift"]))
    across = min(ACROSS, len(attacks))
    down = -(-len(attacks) // across)
    canvas = new_figure(9.2, max(2.3 * down, 0.17 * len(pipelines)) + 0.5)
    grid = canvas.subplots(down, across, sharey=True, squeeze=False)
    for axes, attack in zip(grid.flat, attacks, strict=False):
        _panel(axes, rows[rows["shift"] == attack], pipelines)
        axes.set_title(attack)
    for axes in grid.flat[len(attacks) :]:
        axes.set_visible(False)
    grid[0, 0].set_ylim(bottom=-1)  # a mark at 0 is seen whole
    _key(canvas, grid[0, 0], rows, pipelines, loc="outside right upper", fontsize=7.5)
    return canvas


def _by_family(rows: pd.DataFrame, pipelines: Pipelines, families: dict[str, Pipelines]) -> Canvas:
    """A row of panels per family and a column per attack, the row's key beside its last panel."""
    attacks = list(dict.fromkeys(rows["shift"]))
    if len(attacks) > MOST:
        attacks = [attack for attack in attacks if attack.startswith(WORST)]
    canvas = new_figure(9.2, 1.9 * len(families) + 0.5)
    grid = canvas.subplots(len(families), len(attacks), sharey=True, sharex="col", squeeze=False)
    for of_row, (family, own) in zip(grid, families.items(), strict=True):
        for axes, attack in zip(of_row, attacks, strict=True):
            part = rows[rows["shift"] == attack]
            _panel(axes, part, own, [p for p in pipelines if p not in own])
            axes.set_title(attack, fontsize=7.5)
        of_row[0].set_ylabel(family, fontweight="bold")
        beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.04), "borderaxespad": 0.0}
        _key(of_row[-1], of_row[-1], rows, own, fontsize=6.2, labelspacing=0.3, **beside)
    grid[0, 0].set_ylim(bottom=-1)
    return canvas


def _panel(axes: Axes, rows: pd.DataFrame, pipelines: Pipelines, others: Pipelines = ()) -> None:
    radii = [0.0, *sorted(rows["severity"].unique())]
    axes.grid(axis="y")
    axes.set_xticks(range(len(radii)), [f"{radius:g}" for radius in radii])
    axes.set_xlim(-0.5, len(radii) - 0.5)
    for pipeline in others:
        own = _curve(rows[rows["pipeline"] == pipeline.name])
        x = [radii.index(radius) for radius in own["severity"]]
        axes.plot(x, own["mean"], color=OTHERS, linewidth=0.5)
    turns = dict.fromkeys(KIND_COLOURS, 0)
    for place, pipeline in zip(_places(len(pipelines)), pipelines, strict=True):
        own = _curve(rows[rows["pipeline"] == pipeline.name])
        turn, dash = divmod(turns[pipeline.kind], len(DASHES))
        turns[pipeline.kind] += 1
        x = np.array([radii.index(radius) for radius in own["severity"]])
        colour, marker = KIND_COLOURS[pipeline.kind], KIND_MARKERS[pipeline.kind]
        line = {"color": colour, "linestyle": DASHES[dash], "linewidth": 1.0}
        mark = {"marker": marker, "markersize": 3.4, "fillstyle": FILLS[turn % len(FILLS)]}
        mark |= {"markeredgewidth": 0.6, "markerfacecoloralt": "white"}
        bars = {"yerr": percent_arms(own), "ecolor": to_rgba(colour, 0.45), "elinewidth": 0.8}
        axes.plot(x, own["mean"], **line)
        axes.errorbar(x + place, own["mean"], **bars, **mark, color=colour, linestyle="")
        axes.plot([], [], **line, **mark, label=pipeline.name)


def _places(count: int) -> np.ndarray:
    """Where pipelines stand beside the tick of a radius."""
    return SPREAD * (np.arange(count) - (count - 1) / 2) / max(count, 2)


def _curve(rows: pd.DataFrame) -> pd.DataFrame:
    """One pipeline's accuracies by radius, the first one at 0 on images as they were."""
    home = rows[rows["quantity"] == SOURCE].head(1).assign(severity=0.0)
    under = rows[rows["quantity"] == "shifted_accuracy"]
    return pd.concat([home, under]).sort_values("severity")


def _key(
    where: Canvas | Axes, axes: Axes, rows: pd.DataFrame, pipelines: Pipelines, **style
) -> None:
    """Names of the lines, in the order of what the images are answered without an attack."""
    starts = {p.name: _curve(rows[rows["pipeline"] == p.name])["mean"].iloc[0] for p in pipelines}
    labels = {pipeline.name: pipeline.label for pipeline in pipelines}
    lines, names = axes.get_legend_handles_labels()
    drawn = dict(zip(names, lines, strict=True))
    order = sorted(drawn, key=starts.__getitem__, reverse=True)
    where.legend(
        [drawn[name] for name in order],
        [shorten(labels[name], 24) for name in order],
        handlelength=3.2,
        **style,
    )
