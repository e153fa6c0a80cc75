"""Corrupted against clean accuracy, and what a pipeline has beyond the line of dense networks."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rcm.analysis.effective import Line, expected
from rcm.analysis.statistics import records
from rcm.report.points import KEY, Pipelines, kind_key, mark_rows, name_rows
from rcm.report.style import (
    KIND_COLOURS,
    KIND_MARKERS,
    MUTED,
    Figure,
    finish,
    new_figure,
    seeds_in_words,
)


def effective_figure(
    main: pd.DataFrame, lines: pd.DataFrame, pipelines: Pipelines
) -> Figure | None:
    """Per ratio two panels: every pipeline's mean accuracies with the line through the dense
    networks, and each one's distance from it with its interval."""
    found = main[main["quantity"] == "effective_robustness"]
    if found.empty:
        return None
    shown = [pipeline for pipeline in pipelines if pipeline.name in set(found["pipeline"])]
    rows = list(records(lines))
    canvas = new_figure(9.2, len(rows) * (0.19 * len(shown) + 0.9) + 0.2 + KEY)
    kind_key(canvas, shown)
    grid = canvas.subplots(len(rows), 2, squeeze=False, width_ratios=(1, 1.1))
    for (left, right), row in zip(grid, rows, strict=True):
        at_ratio = main[main["ratio"] == row.ratio]
        _accuracies(left, at_ratio, Line(*(getattr(row, name) for name in Line._fields)), shown)
        _distances(right, at_ratio, shown)
        left.set_title(f"imbalance ratio {row.ratio:g}, r² of the line {row.r2:.3f}")
    apart = any(pipeline.repair for pipeline in shown)
    but = ", but for those with a repair of the tail" if apart else ""
    caption = (
        "Left: accuracy on corrupted (by all corruptions) against clean test images, means over "
        f"{seeds_in_words(found)}; the line, straight in logits, goes through the dense networks "
        f"(square and diamonds), which differ in budget or width{but}. Right: corrupted accuracy "
        "minus what the line has for a member's clean accuracy, with 95 % t intervals over seeds "
        "and over dense networks, others of which would have drawn the line elsewhere. To the "
        "right of 0 a pipeline is more robust than its clean accuracy lets expect."
    )
    return finish("effective_robustness", "Robustness beyond clean accuracy", caption, canvas)


def _accuracies(axes: Axes, main: pd.DataFrame, line: Line, pipelines: Pipelines) -> None:
    clean, corrupted = (
        main[main["quantity"] == quantity].set_index("pipeline")["mean"]
        for quantity in ("accuracy", "corrupted_accuracy")
    )
    axes.grid()
    points = np.linspace(clean.min() - 2, clean.max() + 2, 100).clip(0.5, 99.5)
    axes.plot(points, 100 * expected(line, points / 100), color=MUTED, linewidth=0.9)
    for pipeline in pipelines:
        colour, marker = KIND_COLOURS[pipeline.kind], KIND_MARKERS[pipeline.kind]
        point = (clean[pipeline.name], corrupted[pipeline.name])
        axes.plot(*point, color=colour, marker=marker, alpha=0.8)
    axes.set_xlabel("accuracy on clean images, %")
    axes.set_ylabel("accuracy on corrupted images, %")


def _distances(axes: Axes, main: pd.DataFrame, pipelines: Pipelines) -> None:
    axes.axvline(0, color=MUTED, linewidth=0.9)
    mark_rows(axes, main[main["quantity"] == "effective_robustness"], pipelines)
    name_rows(axes, pipelines, 28)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("effective robustness, points")
