"""Forgotten images as pictures, and how far populations forget the same ones."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rcm.analysis.statistics import PipelineInfo
from rcm.report.exemplar_rates import rates_figure
from rcm.report.heatmaps import CELL_INK, CELL_PAPER, Scale, colour_bar
from rcm.report.style import (
    INK,
    MUTED,
    Figure,
    figure_style,
    finish,
    new_figure,
    quiet,
    seeds_in_words,
    shorten,
)

ACROSS = 8  # pictures of a pipeline


class Picture(NamedTuple):
    """One exemplar: uint8 [H, W, 3] or [H, W], its true class, and of the dense and the compressed
    population the modal label, the share of members that give it and their mean confidence in it,
    NaN if that is not known."""

    image: np.ndarray
    truth: str
    dense: tuple[str, float, float]
    own: tuple[str, float, float]


def exemplar_figures(
    tables: Mapping[str, pd.DataFrame],
    pipelines: Sequence[PipelineInfo],
    pictures: Mapping[str, Sequence[Picture]],
) -> list[Figure]:
    """The figures of a study's populations: rates and overlap of their exemplars at the largest
    ratio, and pictures."""
    ratios = tables["exemplars"]["ratio"] if len(tables["exemplars"]) else pd.Series(dtype=float)
    where = f" at imbalance ratio {ratios.max():g}" if ratios.nunique() > 1 else ""
    rates, means, overlap = (
        table[table["ratio"] == table["ratio"].max()] if len(table) else table
        for table in (tables["exemplars"], tables["exemplar_means"], tables["exemplar_overlap"])
    )
    with figure_style():
        drawn = [
            rates_figure(rates, means, pipelines),
            overlap_figure(overlap, rates, pipelines),
            gallery_figure(pictures, rates),
        ]
    return [figure._replace(title=figure.title + where) for figure in drawn if figure]


def _measured(rates: pd.DataFrame) -> str:
    """How many seeds and images stand behind both figures, in words."""
    images = int(rates["images"].max())
    return f"Populations of {seeds_in_words(rates)}, {images:,} test images"


def gallery_figure(pictures: Mapping[str, Sequence[Picture]], rates: pd.DataFrame) -> Figure | None:
    """A row of at most `ACROSS` pictures for each label of a pipeline; rates: of the table
    `exemplars` what its caption counts."""
    shown = {label: found[:ACROSS] for label, found in pictures.items() if found}
    if not shown:
        return None
    canvas = new_figure(9.2, 1.78 * len(shown) + 0.2)
    grid = canvas.subplots(len(shown), ACROSS, squeeze=False)
    for of_row, (label, found) in zip(grid, shown.items(), strict=True):
        for axes, picture in zip(of_row, found, strict=False):
            _picture(axes, picture)
        for axes in of_row[len(found) :]:
            axes.set_visible(False)
        of_row[0].set_ylabel(shorten(label, 24), fontsize=7.5, color=INK)
    told = [said[2] for found in shown.values() for one in found for said in (one.dense, one.own)]
    numbers = "the share of members that give it"
    if not np.isnan(told).all():
        known = "" if np.isfinite(told).all() else ", where it is known,"
        numbers = f"two numbers: {numbers}, and{known} their mean confidence in it, from 0 to 1"
    caption = (
        "Exemplars on clean test images, those first on which a population differs most from its "
        "dense parents, by the distance of their label histograms, of equal ones those of which "
        "dense members are surest; where places are empty there are no more. Above each the true "
        "class; below, the modal labels of the dense and of the compressed population (own), "
        f"under each {numbers}. A row of dense members of other seeds shows what differs by "
        f"chance. {_measured(rates)}; these are single ones, the most extreme, and no estimates, "
        "so there are no intervals."
    )
    return finish("forgotten", "What is forgotten", caption, canvas)


def _picture(axes: Axes, picture: Picture) -> None:
    axes.imshow(picture.image, interpolation="nearest", cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    quiet(axes)
    axes.set_title(shorten(picture.truth, 14), fontsize=7, loc="center", pad=3)
    for line, (who, (label, share, confidence)) in enumerate(
        (("dense", picture.dense), ("own", picture.own))
    ):
        sure = "" if np.isnan(confidence) else f", {confidence:.2f}"
        axes.text(
            0.5, -0.06 - 0.26 * line, f"{who}: {shorten(label, 12)}\n{share:.0%}{sure}",
            transform=axes.transAxes, ha="center", va="top", fontsize=5.8,
            color=MUTED if who == "dense" else INK,
        )  # fmt: skip


def overlap_figure(
    table: pd.DataFrame, rates: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> Figure | None:
    """Jaccard index of the exemplars of every two pipelines of one block and ratio, percent; rates:
    of the table `exemplars` what its caption counts."""
    names = [p.name for p in pipelines if len(table) and p.name in set(table["pipeline"])]
    if len(names) < 2:
        return None
    labels = {p.name: shorten(p.label, 24) for p in pipelines}
    values, low, high = (
        100 * table.pivot(index="pipeline", columns="other", values=name).loc[names, names]
        for name in ("jaccard", "lo", "hi")
    )
    values, half = values.to_numpy(float), (high - low).to_numpy(float) / 2
    below = np.tril(np.ones(values.shape, bool), -1)
    canvas = new_figure(0.62 * len(names) + 2.6, 0.34 * len(names) + 1.0)
    axes = canvas.subplots()
    shown = np.ma.masked_where(~below | ~np.isfinite(values), values)
    largest = max(float(shown.max() or 0), 1e-9)
    scale = Scale("Blues", 0.0, largest)
    cells = {"cmap": scale.colours, "vmin": scale.low, "vmax": scale.high}
    axes.pcolormesh(shown[1:, :-1], edgecolors=CELL_PAPER, **cells)
    axes.invert_yaxis()
    for i, j in zip(*np.nonzero(below & np.isfinite(values)), strict=True):
        ink = CELL_PAPER if values[i, j] > 0.62 * largest else CELL_INK
        where = {"ha": "center", "va": "center", "fontsize": 7, "color": ink}
        margin = f" ±{half[i, j]:.0f}" if np.isfinite(half[i, j]) else ""
        axes.text(j + 0.5, i - 0.5, f"{values[i, j]:.0f}{margin}", **where)
    axes.set_yticks(np.arange(len(names) - 1) + 0.5, [labels[n] for n in names[1:]])
    axes.set_xticks(np.arange(len(names) - 1) + 0.5, [labels[n] for n in names[:-1]])
    axes.tick_params(axis="x", labelrotation=30, labelsize=7, rotation_mode="xtick")
    quiet(axes)
    colour_bar(canvas, scale, [axes], "Jaccard index, percent")
    caption = (
        "Exemplars that two pipelines have in common, in percent of those of either. All are "
        "held against the same dense parents and so share hard images; what a pipeline has in "
        "common with dense members of other seeds is what chance shares. Sets of these sizes drawn "
        f"at random would share {_by_chance(table)}. {_measured(rates)}; ± half of a 95 % interval "
        "over draws of members."
    )
    return finish("overlap", "Which images techniques forget together", caption, canvas)


def _by_chance(table: pd.DataFrame) -> str:
    others = table[table["pipeline"] != table["other"]]["by_chance"].dropna()
    low, high = 100 * others.min(), 100 * others.max()
    return f"{low:.1f} to {high:.1f} %" if len(others) else "nothing"
