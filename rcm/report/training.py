"""Training curves of the dense members: loss and accuracy on their training batches by step."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from rcm.analysis.statistics import PipelineInfo, records
from rcm.report.style import (
    INK,
    KIND_COLOURS,
    Figure,
    finish,
    new_figure,
)

MANY = 40  # seeds whose lines would be one black area
MIDDLE = np.array([0.05, 0.5, 0.95])  # what is shown of them
PANELS = {"loss": "loss", "accuracy": "accuracy, %"}  # rows of panels and their axes' names


def training_figures(
    table: pd.DataFrame, pipelines: Sequence[PipelineInfo], measured: int = 0
) -> list[Figure]:
    """A column of panels per network that others were made of and ratio, a line per seed, or the
    range of most where there are over `MANY`; diverged members in colour and by name. None where
    no round kept its training (see `curves.training_table`).

    measured: of how many seeds the study has results of dense networks, for the caption.
    """
    parents = {"dense", *(pipeline.parent for pipeline in pipelines)} - {""}
    dense = table[table["pipeline"].isin(parents)] if len(table) else table
    if dense.empty:
        return []
    networks = [p for p in pipelines if p.name in set(dense["pipeline"])]
    columns = [(p, ratio) for p in networks for ratio in sorted(dense["ratio"].unique())]
    canvas = new_figure(9.2, 3.8)
    grid = canvas.subplots(len(PANELS), len(columns), sharex="col", sharey="row", squeeze=False)
    for row, (quantity, name) in zip(grid, PANELS.items(), strict=True):
        for axes, (network, ratio) in zip(row, columns, strict=True):
            own = (dense["pipeline"] == network.name) & (dense["ratio"] == ratio)
            _panel(axes, dense[own], quantity)
        row[0].set_ylabel(name)
    for axes, (network, ratio) in zip(grid[0], columns, strict=True):
        which = f"{network.label}, " if len(networks) > 1 else ""
        axes.set_title(f"{which}imbalance ratio {ratio:g}")
    canvas.supxlabel("training step", fontsize=8.5)
    caption = (
        "Loss and accuracy of the dense networks on their (augmented) training batches, means "
        f"over spans of steps, {_drawn(dense)} ({_seeds(dense, measured)}), so without intervals "
        f"of a mean. {_diverged(table)}"
    )
    return [finish("training", "Training of the dense networks", caption, canvas)]


def _drawn(dense: pd.DataFrame) -> str:
    if dense["seed"].nunique() <= MANY:
        return "a line per seed"
    return "the median and, shaded, the middle 90 % of the seeds that did not diverge"


def _seeds(dense: pd.DataFrame, measured: int) -> str:
    """How many seeds are drawn, and why not all that have results."""
    drawn = dense["seed"].nunique()
    without = measured - dense.loc[dense["status"] == "ok", "seed"].nunique()
    if without <= 0:
        return f"n = {drawn} seeds"
    return (
        f"n = {drawn} seeds; of {without} more there are results, but they were trained in rounds "
        "that kept no training curve, as those of earlier versions did not"
    )


def _panel(axes: Axes, rows: pd.DataFrame, quantity: str) -> None:
    axes.grid(axis="y")
    factor = 100.0 if quantity == "accuracy" else 1.0
    member = ["seed", "status"]
    known = rows.dropna(subset=[quantity]).sort_values([*member, "step"])
    if rows["seed"].nunique() > MANY:
        whole = known["status"] == "ok"
        spread = known[whole].groupby("step")[quantity].quantile(MIDDLE).unstack()
        low, middle, high = (factor * spread[share] for share in spread)
        axes.fill_between(spread.index, low, high, color=INK, alpha=0.2, linewidth=0)
        axes.plot(spread.index, middle, color=INK)
        known = known[~whole]
    starts = np.flatnonzero(~known.duplicated(member))
    curves = np.split(known[["step", quantity]].to_numpy(float) * (1.0, factor), starts[1:])
    colours = [INK] * len(starts)
    for i, (seed, status) in enumerate(known[member].iloc[starts].itertuples(index=False)):
        if status == "diverged":
            colours[i] = KIND_COLOURS["post_training"]
            x, y = curves[i][-1]
            axes.text(x, y, f" seed {seed} diverged", color=colours[i], fontsize=7)
    lines = LineCollection(curves, colors=colours, linewidths=0.9, alpha=0.8)
    lines.set(capstyle="projecting", joinstyle="round")  # as single lines have
    axes.add_collection(lines)
    axes.autoscale_view()


def _diverged(table: pd.DataFrame) -> str:
    """Every member that diverged, in whichever stage, in a sentence."""
    lost = table[table["status"] == "diverged"][["stage", "ratio", "seed"]].drop_duplicates()
    if lost.empty:
        return "No member with a curve diverged, in this or in a later stage."
    names = [f"{row.stage} (ratio {row.ratio:g}, seed {row.seed})" for row in records(lost)]
    return f"Diverged: {'; '.join(names)}."
