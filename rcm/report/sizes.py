"""Accuracy, clean and shifted, against stored size; by family where there are many pipelines."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from rcm.analysis.attacks import WORST
from rcm.analysis.statistics import PipelineInfo, records
from rcm.report.families import by_family
from rcm.report.fronts import LINE, front_key, front_steps, front_words, with_front
from rcm.report.labels import place_labels
from rcm.report.points import kind_key
from rcm.report.style import (
    GRID,
    KIND_COLOURS,
    KIND_MARKERS,
    OTHERS,
    Figure,
    cut_words,
    finish,
    fix_layout,
    new_figure,
    percent_arms,
    seeds_in_words,
    shorten,
)

Pipelines = Sequence[PipelineInfo]

SQUEEZED = 2  # times the range of what is compared, from which on the scale leaves references out
SMALL = 3.2  # points across, a mark in a panel without a front, which says nothing of one
CROWDED = 16  # pipelines, more than whose labels find no room in one panel
REPEATED = 2  # panels of one family, more than which write numbers instead of names
TALL = 3  # panels, more than which stand in two columns


def size_figure(main: pd.DataFrame, fronts: pd.DataFrame, pipelines: Pipelines) -> Figure | None:
    """Clean accuracy against stored size with their front, a panel per ratio, see `_drawn`."""
    points = _with_sizes(main[main["quantity"] == "accuracy"], main)
    points["panel"] = [f"imbalance ratio {ratio:g}" for ratio in points["ratio"]]
    points["objectives"] = "accuracy"
    about = ("accuracy_vs_size", "Accuracy against stored size", "Clean test accuracy")
    return _drawn(points, fronts, pipelines, *about, alike=True)


def robustness_figure(
    main: pd.DataFrame, robustness: pd.DataFrame, fronts: pd.DataFrame, pipelines: Pipelines
) -> Figure | None:
    """Accuracy in other domains and in the worst case over attacks, at the middle one of their
    radii, against stored size, a panel per ratio, domain and norm, see `_drawn`; with the front of
    those objectives that the table `fronts` has, which is the worst case of the first norm."""
    rows = robustness[robustness["quantity"] == "shifted_accuracy"]
    worst = rows[rows["shift"].str.startswith(WORST).astype(bool)]
    radii = {shift: sorted(part.unique()) for shift, part in worst.groupby("shift")["severity"]}
    middle = {(shift, found[(len(found) - 1) // 2]) for shift, found in radii.items()}
    wanted = [
        e == 0 or (s, e) in middle for s, e in zip(rows["shift"], rows["severity"], strict=True)
    ]
    points = _with_sizes(rows[np.array(wanted, bool)], main)
    several = points["ratio"].nunique() > 1
    points["panel"] = [
        (f"{row.shift}, eps {row.severity:g}/255" if row.severity else row.shift)
        + (f", imbalance ratio {row.ratio:g}" if several else "")
        for row in records(points)
    ]
    what = "Accuracy on shifted images"
    if not worst.empty:
        what += " (worst: an image counts only if every attack of that radius fails)"
    about = ("robustness_vs_size", "Robustness against stored size", what)
    worst = points["shift"] == WORST
    points["objectives"] = ["robust_accuracy" if one else "" for one in worst]
    return _drawn(points, fronts, pipelines, *about, alike=False)


def _drawn(
    points: pd.DataFrame,
    fronts: pd.DataFrame,
    pipelines: Pipelines,
    name: str,
    title: str,
    what: str,
    alike: bool,
) -> Figure | None:
    """A labelled point per pipeline in every panel of `points` and, where one could not hold all
    labels, in one per family of techniques, over all others as grey dots, with numbers for names
    that would be written again and again; with the front of size and the points' `objectives`;
    without what lies far `_below`; alike: panels share the scale of accuracy."""
    if points.empty:
        return None
    replicas = [p.name for p in pipelines if p.kind == "replica"]  # which compete for no front
    points = points[~points["pipeline"].isin(replicas)]
    points, fronts = with_front(points, fronts)
    below = _below(points, pipelines, alike)
    points, left_out = points[~below], points[below]
    shown = [pipeline for pipeline in pipelines if pipeline.name in set(points["pipeline"])]
    panels = _panels(points, shown)
    columns = 2 if len(panels) > TALL else 1
    canvas, used = _grid(panels, columns, alike)
    used[0].set(xscale="log", xlim=_range(points["size"]))  # of all panels
    for axes, (heading, part, own) in zip(used, panels, strict=True):
        _panel(axes, part, own)
        axes.set_title(heading)
    everywhere = bool(points["fill"].notna().all())
    key = [front_key(everywhere)] if points["on_front"].any() else []
    kind_key(canvas, shown, key)
    labels = {p.name: shorten(p.label, 30 if columns == 1 else 22) for p in shown}
    if numbered := _crowded(shown) and points["panel"].nunique() > REPEATED:
        labels = _number_key(canvas, shown)
    fix_layout(canvas)
    stacked = [
        _labelled(axes, part, own, labels)
        for axes, (_, part, own) in zip(used, panels, strict=True)
    ]
    caption = (
        f"{what}, mean over {seeds_in_words(points)} with 95 % t interval, against "
        f"the stored size (methods). Up and to the left is better.{cut_words(points)}"
    )
    if len(fronts):
        caption += f" {front_words(fronts, everywhere)}"
    if numbered:
        caption += " Whose marks the numbers are is said below the panels."
    if any(stacked):
        caption += " Marks that cover one another share one label, the topmost first."
    if _crowded(shown):
        caption += " Grey dots: what the other panels of the same images name."
    if len(left_out):
        caption += f" Left out, far below: {_named(left_out, pipelines)}."
    return finish(name, title, caption, canvas)


def _grid(panels: Sequence, columns: int, alike: bool) -> tuple[Canvas, list[Axes]]:
    """A figure with axes for so many panels, row by row."""
    rows = -(-len(panels) // columns)
    canvas = new_figure(9.2, (3.1 if columns == 1 else 2.6) * rows + 0.5)
    grid = canvas.subplots(rows, columns, sharex=True, sharey=alike, squeeze=False)
    used = list(grid.flat[: len(panels)])
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy, %")
    for axes in used[-columns:]:
        axes.set_xlabel("stored size, KiB (log scale)")
        axes.tick_params(which="both", labelbottom=True)  # also above a place that is left empty
    return canvas, used


def _labelled(axes: Axes, points: pd.DataFrame, own: Pipelines, labels: Mapping[str, str]) -> bool:
    """Write the labels of a panel's own pipelines; returns whether any share one."""
    named = points["pipeline"].isin([pipeline.name for pipeline in own])
    texts = points["pipeline"].map(labels).where(named, "").tolist()
    half = percent_arms(points) * named.to_numpy()
    return place_labels(axes, points["size"], points["mean"], half, texts, front_steps(points))


def _number_key(canvas: Canvas, shown: Pipelines) -> dict[str, str]:
    """The number of each pipeline, by its name, and below all panels the label of each number."""
    numbers = {p.name: str(number) for number, p in enumerate(shown, start=1)}
    canvas.legend(
        handles=[Line2D([], [], ls="", label=f"{numbers[p.name]}  {p.label}") for p in shown],
        loc="outside lower left",
        ncols=3,
        fontsize=8,
        handlelength=0,
        handletextpad=0,
    )
    return numbers


def _below(points: pd.DataFrame, pipelines: Pipelines, alike: bool) -> np.ndarray:
    """Whether a point [N] is of a control that nothing is compared with, such as a dense network of
    a small budget, and so far below all others that these would be squeezed."""
    compared = {p.baseline for p in pipelines}
    names = [p.name for p in pipelines if p.kind == "control" and p.name not in compared]
    spare = points["pipeline"].isin(names) & ~points["on_front"]
    below, above = percent_arms(points)
    lows, highs = (points["mean"] - below).mask(spare), (points["mean"] + above).mask(spare)
    scales = pd.Series("", points.index) if alike else points["panel"]
    low, high = (lows.groupby(scales).transform("min"), highs.groupby(scales).transform("max"))
    least = points["mean"].groupby(scales).transform("min")
    squeezed = high - least > SQUEEZED * (high - low).clip(lower=1.0)
    return (spare & squeezed & (points["mean"] < low)).to_numpy()


def _named(points: pd.DataFrame, pipelines: Pipelines) -> str:
    """Pipelines with their accuracies, over all panels, in words."""
    labels = {p.name: p.label for p in pipelines}
    words = []
    for name, part in points.groupby("pipeline", sort=False):
        ends = sorted({f"{part['mean'].min():.1f}", f"{part['mean'].max():.1f}"}, key=float)
        words.append(f"{labels[str(name)]} ({' to '.join(ends)} %)")
    return ", ".join(words)


def _crowded(pipelines: Pipelines) -> bool:
    return len(pipelines) > CROWDED


def _panels(
    points: pd.DataFrame, pipelines: Pipelines
) -> list[tuple[str, pd.DataFrame, Pipelines]]:
    """(title, points, the pipelines that are labelled in it) of every panel."""
    families = (by_family(pipelines) if _crowded(pipelines) else {}) or {"": pipelines}
    return [
        (f"{title}: {family}" if family else title, points[points["panel"] == title], own)
        for family, own in families.items()
        for title in points.sort_values("ratio", kind="stable")["panel"].unique()
    ]


def _with_sizes(rows: pd.DataFrame, main: pd.DataFrame) -> pd.DataFrame:
    """Estimates with the mean stored size of their pipeline and ratio, where there is one."""
    stored = main[main["quantity"] == "bytes"]
    sizes = {(row.ratio, row.pipeline): row.mean for row in records(stored)}
    found = [sizes.get((row.ratio, row.pipeline), 0) for row in records(rows)]
    points = rows.assign(size=np.array(found, float))
    return points[points["size"] > 0].copy()


def _panel(axes: Axes, points: pd.DataFrame, own: Pipelines) -> None:
    kinds = {pipeline.name: pipeline.kind for pipeline in own}
    axes.grid(color=GRID)
    others = points[~points["pipeline"].isin(kinds)]
    axes.plot(others["size"], others["mean"], ".", color=OTHERS, markersize=5)
    for row, arms in zip(records(points), percent_arms(points).T, strict=True):
        if kind := kinds.get(row.pipeline):
            colour, marker = KIND_COLOURS[kind], KIND_MARKERS[kind]
            plain = np.isnan(row.fill)
            axes.errorbar(
                row.size, row.mean, yerr=arms[:, None], color=colour, marker=marker, elinewidth=1.0,
                markeredgecolor=colour, markerfacecolor=to_rgba(colour, 1 if plain else row.fill),
                markersize=SMALL if plain else None,
            )  # fmt: skip
    axes.plot(*front_steps(points).T, zorder=1, **LINE)
    axes.margins(y=0.12)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _leads_with(value) else "")


def _range(sizes: pd.Series) -> tuple[float, float]:
    """Limits with a margin on a log scale, which equal sizes have, too, and those that differ by
    rounding alone."""
    low, high = sizes.min(), sizes.max()
    margin = max(high / low, 10.0) ** 0.18
    return low / margin, high * margin


def _leads_with(value: float) -> bool:
    """True for 2 and 5 times a power of ten: the minor ticks of a log axis worth a number."""
    return round(value / 10 ** np.floor(np.log10(value))) in (2, 5)
