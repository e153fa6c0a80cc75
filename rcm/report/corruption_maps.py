"""Heat maps by corruption: error against the parent, and in excess of clean error, by severity."""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.statistics import PipelineInfo
from rcm.report.heatmaps import Scale, both_ways, colour_bar, heat_map, judged, label_cells
from rcm.report.style import Figure, extremes, finish, new_figure, seeds_in_words, shorten

Pipelines = Sequence[PipelineInfo]


def corruption_figures(table: pd.DataFrame, pipelines: Pipelines) -> list[Figure]:
    """Per ratio a pair of heat maps, corruption x pipeline: CE against the parent, and the error
    in excess of clean error."""
    shown = _shown(table, pipelines)
    return [
        _corruption_figure(table[table["ratio"] == ratio], shown, ratio)
        for ratio in (sorted(table["ratio"].unique()) if shown else ())
    ]


def severity_figures(table: pd.DataFrame, pipelines: Pipelines) -> list[Figure]:
    """At the smallest and the largest ratio of the table `severities` a heat map per severity,
    corruption x pipeline, of the error in excess of clean error; none where there is but one
    severity, of which the other figures tell."""
    shown = _shown(table, pipelines)
    if not shown or table["severity"].nunique() < 2:
        return []
    parts = ((table[table["ratio"] == ratio], ratio) for ratio in extremes(table))
    return [_severity_figure(part, shown, ratio) for part, ratio in parts]


def _shown(table: pd.DataFrame, pipelines: Pipelines) -> list[PipelineInfo]:
    return [p for p in pipelines if p.parent and p.name in set(table["pipeline"])]


def _labels(pipelines: Pipelines, shifts: Sequence[str]) -> tuple[list[str], list[str]]:
    """What rows and columns are called."""
    words = [shift.replace("_", "\n", 1).replace("_", " ") for shift in shifts]
    return [shorten(p.label, 32) for p in pipelines], words


def _scale(table: pd.DataFrame, pipelines: Pipelines, centre: float) -> Scale:
    spread = (judged(table, pipelines)["mean"] - centre).abs()
    limit = max(1.0, float(spread.max())) if spread.notna().any() else 1.0
    return both_ways("RdBu_r", limit, centre)


def _corruption_figure(table: pd.DataFrame, pipelines: Pipelines, ratio: float) -> Figure:
    names, shifts = [p.name for p in pipelines], list(dict.fromkeys(table["shift"]))
    canvas = new_figure(9.2, 2 * (0.25 * len(names) + 0.75) + 0.5)
    halves = (
        ("ce", 100.0, "CE, % of the parent's error", "corruption error against the parent"),
        ("excess_error", 0.0, "excess error, points", "corruption error in excess of clean error"),
    )
    grid = canvas.subplots(2, 1, squeeze=False)[:, 0]
    table = table[table["quantity"].isin([quantity for quantity, *_ in halves])]
    beyond = set()
    for axes, (quantity, centre, unit, title) in zip(grid, halves, strict=True):
        part = table[(table["quantity"] == quantity) & table["pipeline"].isin(names)]
        scale = _scale(part, pipelines, centre)
        heat_map(axes, part, "shift", names, shifts, scale)
        label_cells(axes, *_labels(pipelines, shifts))
        axes.set_title(title)
        beyond.add(colour_bar(canvas, scale, [axes], unit))
    caption = (
        "Above, CE: error summed over severities in percent of the parent's (100 = like the "
        "parent; it mostly restates clean error). Below, the error that corruption adds to clean "
        f"error, minus the same of the parent. Means over {seeds_in_words(table)}; a dot marks a "
        "95 % paired t interval that leaves out 100 or 0. Red is worse than the parent."
    ) + max(beyond)
    title = f"Corruptions at imbalance ratio {ratio:g}"
    return finish(f"corruptions_ratio_{ratio:g}", title, caption, canvas)


def _severity_figure(table: pd.DataFrame, pipelines: Pipelines, ratio: float) -> Figure:
    names, shifts = [p.name for p in pipelines], list(dict.fromkeys(table["shift"]))
    severities = sorted(table["severity"].unique())
    canvas = new_figure(9.2, len(severities) * (0.25 * len(names) + 0.75) + 0.5)
    grid = canvas.subplots(len(severities), 1, squeeze=False)[:, 0]
    scale = _scale(table, pipelines, 0.0)
    for axes, severity in zip(grid, severities, strict=True):
        part = table[table["severity"] == severity]
        heat_map(axes, part, "shift", names, shifts, scale)
        label_cells(axes, *_labels(pipelines, shifts))
        axes.set_title(f"severity {severity:g}")
    beyond = colour_bar(canvas, scale, list(grid), "excess error, points")
    caption = (
        "A panel per severity, all in one scale of colours. A cell is the error that this "
        "corruption at this severity adds to a pipeline's clean error, minus the same of the dense "
        f"parent of the same seed, in points: means over {seeds_in_words(table)}. A dot marks a "
        "95 % paired t interval that leaves out 0, not corrected for the number of cells. Red is "
        f"worse than the parent.{beyond}"
    )
    title = f"Corruption by severity at imbalance ratio {ratio:g}"
    return finish(f"severities_ratio_{ratio:g}", title, caption, canvas)
