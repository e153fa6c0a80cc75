"""Heat maps under attack: what is left to the dense parent, and who keeps more than that."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rcm.analysis.statistics import PipelineInfo
from rcm.report.heatmaps import (
    LEVELS,
    Scale,
    both_ways,
    colour_bar,
    heat_map,
    judged,
    label_cells,
)
from rcm.report.style import Figure, extremes, finish, new_figure, quiet, seeds_in_words, shorten

Pipelines = Sequence[PipelineInfo]

ACROSS = 3  # attacks in a row


def attack_figures(robustness: pd.DataFrame, pipelines: Pipelines) -> list[Figure]:
    """At the smallest and the largest ratio a heat map per attack, pipeline x radius, of accuracy
    minus that of the primary baseline, below that of the dense parent; none without attacks."""
    rows = robustness[robustness["severity"] > 0]
    rows = rows.assign(radius=rows["severity"].map("{:g}".format))
    changes = rows[rows["quantity"] == "shifted_change"]
    several = changes["ratio"].nunique() > 1
    return [
        _figure(rows[rows["ratio"] == ratio], pipelines, ratio, several)
        for ratio in extremes(changes)
    ]


def _figure(rows: pd.DataFrame, pipelines: Pipelines, ratio: float, several: bool) -> Figure:
    levels, changes = (
        rows[rows["quantity"] == name] for name in ("shifted_accuracy", "shifted_change")
    )
    dense = [p for p in pipelines if p.kind == "dense" and p.name in set(levels["pipeline"])]
    names = [p for p in pipelines if p.name in set(changes["pipeline"])]
    attacks = list(dict.fromkeys(changes["shift"]))
    across = min(ACROSS, len(attacks))
    heights = [max(1, len(dense)), len(names)] * -(-len(attacks) // across)
    canvas = new_figure(9.2, 0.24 * sum(heights) + 0.45 * len(heights) + 0.5)
    grid = canvas.subplots(len(heights), across, squeeze=False, height_ratios=heights)
    limit = max(1.0, float(np.nanquantile(judged(changes, pipelines)["mean"].abs(), 0.98)))
    scale = both_ways("RdBu", limit, 0.0)
    pairs = grid.reshape(-1, 2, across).transpose(0, 2, 1).reshape(-1, 2)
    for i, (attack, (upper, lower)) in enumerate(zip(attacks, pairs, strict=False)):
        above, below = (table[table["shift"] == attack] for table in (levels, changes))
        if dense:
            _map(upper, above, dense, "{}: accuracy, %", LEVELS, i % across == 0)
        upper.set_xticks([])
        upper.set_title(attack)
        _map(lower, below, names, "{}", scale, i % across == 0)
    for axes in pairs[len(attacks) :].flat:
        axes.set_visible(False)
    canvas.supxlabel("radius, 255ths", fontsize=8.5)
    beyond = colour_bar(canvas, scale, list(grid.flat), "change, points")
    caption = (
        "First row of each part: accuracy of the dense parent on attacked test images, percent, "
        "from white (0) to black (100). Below: accuracy minus that of the pipeline's primary "
        "baseline of the same seed, each attacked for itself, in points; means over "
        f"{seeds_in_words(changes)}. A dot marks a 95 % paired t interval that leaves out 0, not "
        "corrected for the number of cells. Red is worse than the baseline. Worst: an image counts "
        f"only if every attack of that radius fails.{beyond}"
    )
    title = "Who withstands attacks" + (f" at imbalance ratio {ratio:g}" if several else "")
    return finish(f"attacks_ratio_{ratio:g}" if several else "attacks", title, caption, canvas)


def _map(
    axes: Axes, rows: pd.DataFrame, pipelines: Pipelines, label: str, scale: Scale, first: bool
):
    """One attack's cells, pipeline x radius; rows are named in the first column."""
    radii = list(dict.fromkeys(rows.sort_values("severity")["radius"]))
    heat_map(axes, rows, "radius", [p.name for p in pipelines], radii, scale)
    label_cells(axes, [label.format(shorten(p.label, 32)) for p in pipelines], radii)
    if not first:
        axes.set_yticks([])
    quiet(axes)
