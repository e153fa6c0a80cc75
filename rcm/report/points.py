"""Panels of a row per pipeline: an estimate as a mark with its interval, named at the left."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from rcm.analysis.statistics import PipelineInfo
from rcm.report.style import (
    INK,
    KIND_COLOURS,
    KIND_LABELS,
    KIND_MARKERS,
    OTHERS,
    half_interval,
    percent_arms,
    shorten,
)

Pipelines = Sequence[PipelineInfo]

KEY, LINE = 0.25, 5  # of `kind_key`: inches that a line takes, and kinds that fit on one


def kind_key(canvas: Canvas, pipelines: Pipelines, more: Sequence[Line2D] = ()) -> None:
    """What colours and marks mean, of the kinds that these pipelines are of, above all panels."""
    present = {pipeline.kind for pipeline in pipelines}
    handles = [
        Line2D([], [], color=KIND_COLOURS[kind], marker=KIND_MARKERS[kind], ls="", label=label)
        for kind, label in KIND_LABELS.items()
        if kind in present
    ]
    canvas.legend(
        handles=[*handles, *more],
        loc="outside upper left",
        ncols=len(handles) if len(handles) <= LINE and not more else 4,
        fontsize=8,
        handletextpad=0.4,
        columnspacing=1.2,
    )


def name_rows(axes: Axes, pipelines: Pipelines, letters: int) -> None:
    """Rows from the top, named with at most so many letters."""
    axes.set_yticks(range(len(pipelines)), [shorten(one.label, letters) for one in pipelines])
    axes.set_ylim(len(pipelines) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def mark_rows(
    axes: Axes,
    rows: pd.DataFrame,
    pipelines: Pipelines,
    filled: bool = True,
    below: float = 0.0,
    percent: bool = False,
) -> None:
    """The estimates (columns pipeline, mean, lo, hi; at most one per pipeline) in the colours and
    markers of their kinds; hollow marks with grey intervals where two share a panel, so far
    `below` the middle of their rows as is needed to see both. percent: intervals end where
    percentages do."""
    axes.grid(visible=True, axis="x")  # which a second bare call would take away
    found, arms = rows.set_index("pipeline"), percent_arms if percent else half_interval
    for place, pipeline in enumerate(pipelines):
        if pipeline.name not in found.index:
            continue
        own, colour = found.loc[[pipeline.name]], KIND_COLOURS[pipeline.kind]
        axes.errorbar(
            own["mean"], [place + below], xerr=arms(own), fmt=KIND_MARKERS[pipeline.kind],
            color=colour, markerfacecolor=colour if filled else "none", elinewidth=1.1,
            ecolor=colour if filled else OTHERS,
        )  # fmt: skip
