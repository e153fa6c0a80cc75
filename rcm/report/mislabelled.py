"""Wrongly labelled training images: a section of the page, and the figure that shows it."""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.mislabelled import DIFFERENCES, KINDS
from rcm.analysis.statistics import PipelineInfo
from rcm.report.layout import CellText, number
from rcm.report.points import mark_rows, name_rows
from rcm.report.sections import Section, apart, margin_text, section
from rcm.report.style import (
    INK,
    Figure,
    cut_words,
    finish,
    new_figure,
    seeds_in_words,
)

GUIDE = (
    "Training images with a wrong label, planted before training or (human) named otherwise by "
    "most of three people (CIFAR-10N), and those rightly labelled, percent, ± half of the 95 % "
    "interval over members: how many of each are exemplars, whose modal label is not the dense "
    "parents'; the difference; the difference of the excess, which is the rate against dense "
    "members of other seeds minus the dense parents' own. Then how members answer: the wrongly "
    "labelled by their wrong label (learned by heart) or by the true one, the others by their own. "
    "Bold: the interval of a difference leaves out 0. How many of each group are tested is our "
    "choice, so the two are never pooled."
)
PANELS = (
    ("Exemplars, %", "exemplars among wrong", "exemplars among right"),
    ("Answers to wrongly labelled images, %", "wrong label learned", "true label, wrong"),
)
WORDS = (
    ("wrongly labelled images", "rightly labelled ones"),
    ("by the wrong label they were taught", "by the true label"),
)


def mislabelled_sections(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> list[Section]:
    """The section of the table `mislabelled`, if it has any rows."""
    several = table["cls"].nunique() > 1

    def head(kind: str, quantity: str) -> str:
        return f"{kind}: {quantity}" if several else quantity

    table = table.assign(signed=table["quantity"].isin(DIFFERENCES.values()))
    place = ("cls", "quantity")
    made = section("Wrongly labelled images", GUIDE, table, pipelines, head, _cell, place)
    return [made] if made.rows else []


def _cell(estimate: pd.Series) -> CellText:
    signed = bool(estimate["signed"])
    value = number(estimate["mean"], signed=signed)
    return CellText(value, margin_text(estimate), signed and apart(estimate, 0))


def mislabelled_figure(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> Figure | None:
    """Rates of exemplars among wrongly and rightly labelled images, and by which label the first
    are answered: a row per pipeline, at the largest ratio, planted labels before people's."""
    kinds = [kind for kind in KINDS if kind in set(table["cls"])]
    if not kinds:
        return None
    shown = table[(table["cls"] == kinds[0]) & (table["ratio"] == table["ratio"].max())]
    rows = [pipeline for pipeline in pipelines if pipeline.name in set(shown["pipeline"])]
    canvas = new_figure(9.2, 0.3 * len(rows) + 1.5)
    grid = canvas.subplots(1, 2, sharey=True)
    for axes, (unit, *quantities), words in zip(grid, PANELS, WORDS, strict=True):
        for quantity, word, filled in zip(quantities, words, (True, False), strict=True):
            axes.plot([], [], "o", color=INK, mfc=INK if filled else "none", label=word)
            mark_rows(axes, shown[shown["quantity"] == quantity], rows, filled, percent=True)
        axes.set_xlabel(unit)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=7.5)
    name_rows(grid[0], rows, 34)
    caption = (
        "Left: how many training images are exemplars, whose modal label in the population differs "
        "from that of the dense parents; what dense members of other seeds show is chance. Right: "
        f"how members answer the wrongly labelled ones, in the mean. {seeds_in_words(shown)}; bars "
        "95 % intervals, left over draws of members, right over seeds."
    ) + cut_words(shown[shown["quantity"].isin([q for _, *own in PANELS for q in own])])
    return finish("mislabelled", "What becomes of wrong labels", caption, canvas)
