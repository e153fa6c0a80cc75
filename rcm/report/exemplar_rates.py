"""How much is forgotten, beside what chance makes: a row per pipeline."""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.metrics import CLEAN
from rcm.analysis.statistics import PipelineInfo
from rcm.report.points import KEY, kind_key, mark_rows, name_rows
from rcm.report.style import MUTED, Figure, cut_words, finish, new_figure, seeds_in_words

Pipelines = Sequence[PipelineInfo]


def rates_figure(rates: pd.DataFrame, means: pd.DataFrame, pipelines: Pipelines) -> Figure | None:
    """Of the tables `exemplars` and `exemplar_means` of one ratio: rates of exemplars with those of
    swapped populations and, where there is a second dense population, the excess over its own."""
    clean = means[means["shift"] == CLEAN] if len(means) else means
    if clean.empty or rates.empty:
        return None
    own, beyond = (clean[clean["quantity"] == name] for name in ("rate", "excess"))
    shown = [p for p in pipelines if p.name in set(own["pipeline"])]
    panels = 2 if len(beyond) else 1
    canvas = new_figure(9.2, 0.22 * len(shown) + 1.0 + KEY)
    kind_key(canvas, shown)
    grid = canvas.subplots(1, panels, sharey=True, squeeze=False)[0]
    name_rows(grid[0], shown, 32)
    mark_rows(grid[0], own, shown, percent=True)
    swapped = rates.set_index("pipeline")["null"]
    for place, pipeline in enumerate(shown):
        grid[0].plot(100 * swapped[pipeline.name], place, "|", color=MUTED, markersize=9)
    grid[0].set_title("against the parents")
    caption = (
        "Exemplars on clean test images: those whose modal label in a population differs from that "
        "of its dense parents. Left: their share; grey strokes: of populations whose members were "
        "swapped with their parents at random."
    )
    if panels == 2:
        mark_rows(grid[1], beyond, shown)
        grid[1].tick_params(axis="y", length=0)
        grid[1].axvline(0, color=MUTED, linewidth=0.8)
        grid[1].set_title("against other seeds, beyond dense")
        caption += (
            " Right: the share against dense members of other seeds minus the same of the dense "
            "parents, which is what compression adds to the luck of seeds; of these members "
            "themselves there is none."
        )
    canvas.supxlabel("percent of the images", fontsize=8.5)
    images = int(rates["images"].max())
    caption += (
        f" Populations of {seeds_in_words(own)}, {images:,} images; 95 % intervals over draws of "
        f"members.{cut_words(own)}"
    )
    return finish("exemplar_rates", "How much is forgotten beyond chance", caption, canvas)
