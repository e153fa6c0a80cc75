"""Critical-difference diagrams (Demšar 2006, section 3.2.2): mean ranks over seeds on one line."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from rcm.analysis.claims import ALPHA, UNDECIDED_FOR_FEW
from rcm.analysis.ranks import not_told_apart
from rcm.analysis.statistics import PipelineInfo
from rcm.report.points import KEY, kind_key
from rcm.report.rendering import p_value
from rcm.report.style import (
    INK,
    KIND_COLOURS,
    MUTED,
    Figure,
    extremes,
    finish,
    new_figure,
    shorten,
)

Pipelines = Sequence[PipelineInfo]

WORDS = {
    "accuracy": "accuracy on clean images",
    "recall_tail": "recall of the rare classes",
    "robust_accuracy": "accuracy in the worst case over attacks",
    "mce": "mCE, the error on corrupted images against the parent's",
    "relative_mce": "relative mCE, what corruption adds to clean error, against the parent",
}
ROW, BAR = 0.165, 0.07  # inches between names, and between bars


class Place(NamedTuple):
    """A pipeline on the diagram: its name for people, its mean rank and its colour."""

    label: str
    rank: float
    colour: str


def rank_figures(table: pd.DataFrame, pipelines: Pipelines) -> list[Figure]:
    """At the smallest and the largest ratio a diagram for each objective in
    `analysis.ranks.rank_table`."""
    ratios = extremes(table)
    return [_figure(table[table["ratio"] == ratio], pipelines, ratio) for ratio in ratios]


def _figure(table: pd.DataFrame, pipelines: Pipelines, ratio: float) -> Figure:
    labels = {pipeline.name: pipeline.label for pipeline in pipelines}
    colours = {pipeline.name: KIND_COLOURS[pipeline.kind] for pipeline in pipelines}
    parts = [part for _, part in table.groupby("objective", sort=False)]
    heights = [_height(part) for part in parts]
    canvas = new_figure(9.2, sum(heights) + KEY)
    canvas.set_layout_engine("constrained", w_pad=0.18)  # other renderers set names wider
    grid = canvas.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    kind_key(canvas, [p for p in pipelines if p.name in set(table["pipeline"])])
    for axes, part in zip(grid, parts, strict=True):
        first = part.iloc[0]
        rows = zip(part["pipeline"], part["rank"], strict=True)
        places = [Place(shorten(labels[name], 26), rank, colours[name]) for name, rank in rows]
        bars = _bars(part)
        critical_difference_diagram(axes, places, first["difference"], bars)
        told = f"Friedman p = {p_value(first['p'])}".replace("= <", "< ")
        told = f"Friedman {UNDECIDED_FOR_FEW}" if first["smallest_p"] > ALPHA else told
        counts = f"k = {len(part)}, n = {first['n']} seeds"
        axes.set_title(f"{WORDS[first['objective']]} ({told}, {counts})")
    caption = (
        f"Mean ranks of the dense parent and the compressed pipelines over n = {_seeds(table)} "
        "seeds as blocks, the best on the left; networks trained for more or less are not ranked. "
        "Two pipelines differ at the 5 % level if their ranks are further apart than the critical "
        "difference (CD) of Nemenyi's test; thick bars join those that are not told apart. There "
        "are no intervals: seeds of one data set answer for that data set alone."
    )
    shown = set(table["pipeline"])
    if any(pipeline.repair for pipeline in pipelines if pipeline.name in shown):
        caption += " Pipelines that repair a long tail compete here; claims leave them out."
    title = f"Ranks at imbalance ratio {ratio:g}"
    return finish(f"ranks_ratio_{ratio:g}", title, caption, canvas)


def _seeds(table: pd.DataFrame) -> str:
    low, high = table["n"].min(), table["n"].max()
    return str(high) if low == high else f"{low} to {high}"


def _bars(part: pd.DataFrame) -> list[tuple[float, float]]:
    """First and last rank of every set of pipelines that are not told apart."""
    ranks = part.set_index("pipeline")["rank"]
    groups = not_told_apart(ranks, float(part["difference"].iloc[0]))
    return [(float(ranks[group[0]]), float(ranks[group[-1]])) for group in groups]


def _height(part: pd.DataFrame) -> float:
    """Inches that a diagram takes: its names on one side, its bars, and what stands above."""
    return ROW * -(-len(part) // 2) + BAR * len(_bars(part)) + 0.95


def critical_difference_diagram(
    axes: Axes,
    places: Sequence[Place],
    difference: float,
    bars: Sequence[tuple[float, float]],
) -> None:
    """Draw mean ranks on a line, best on the left, the better half named on that side.

    places: the best first; bars: first and last rank of those that are not told apart. y is in
    rows of names below the line.
    """
    k = len(places)
    axes.set_axis_off()
    first = 0.9 + BAR / ROW * len(bars)  # the row of the first name, below the bars
    left, right = 1 - 0.02 * (k - 1), k + 0.02 * (k - 1)
    axes.set(xlim=(left, right), ylim=(first + (k + 1) // 2 - 0.5, -2.4))
    axes.plot([1, k], [0, 0], color=MUTED, linewidth=0.8)
    for rank in _ticks(k):
        axes.plot([rank, rank], [0, -0.25], color=MUTED, linewidth=0.8)
        axes.text(rank, -0.4, str(rank), ha="center", va="bottom", fontsize=7, color=MUTED)
    end = min(1 + difference, k)
    axes.plot([1, end], [-1.6, -1.6], color=INK, linewidth=1.2, marker="|")
    wide = "" if 1 + difference <= k else ", wider than the line"
    text = f"CD = {difference:.2f}{wide}"
    axes.text(1 + (end - 1) / 2, -1.75, text, ha="center", va="bottom", fontsize=7)
    for i, (low, high) in enumerate(bars):
        y = 0.5 + BAR / ROW * i
        axes.plot([low, high], [y, y], color=INK, linewidth=2.4, solid_capstyle="round")
    half = (k + 1) // 2
    for i, place in enumerate(places):
        best = i < half
        row = first + (i if best else k - 1 - i)
        line = {"color": place.colour, "linewidth": 0.8}
        axes.plot([place.rank, place.rank, left if best else right], [0, row, row], **line)
        axes.plot(place.rank, 0, "o", color=place.colour, markersize=3.5)
        words = (place.label, f"{place.rank:.2f}")
        axes.annotate(
            "  ".join(words if best else words[::-1]), (0 if best else 1, row),
            (-4 if best else 4, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
            ha="right" if best else "left", va="center", fontsize=7.5,
        )  # fmt: skip


def _ticks(k: int) -> list[int]:
    step = 1 if k <= 15 else 5
    return [1, *(rank for rank in range(2, k) if rank % step == 0), k]
