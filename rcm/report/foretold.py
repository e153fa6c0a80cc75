"""What foretells which classes compression harms, as a section and a figure of the page."""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.statistics import PipelineInfo
from rcm.report.layout import CellText, number
from rcm.report.points import KEY, kind_key, mark_rows, name_rows
from rcm.report.sections import Section, apart, margin_text, section
from rcm.report.style import (
    MUTED,
    Figure,
    finish,
    new_figure,
    seeds_in_words,
)

GUIDE = (
    "Spearman's correlation, over the classes, of harm (loss of recall beyond that of accuracy) "
    "with what was known before of the dense parent's training images: how many the class has "
    "(size), p of the class minus the largest other p (margin), and of the class's loss the norm "
    "of the gradient and the largest eigenvalue of the Hessian. Mean over seeds ± half of its 95 % "
    "interval, which is about these classes; bold: it leaves out 0. p: how often classes matched "
    "at random correlate as much (means over seeds; Benjamini and Hochberg's correction). Dense "
    "members of other seeds show what regression to the mean does."
)
NAMES = {
    "size": "size of the class",
    "margin": "margin",
    "gradient": "gradient's norm",
    "eigenvalue": "largest eigenvalue",
}


def foretold_sections(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> list[Section]:
    """The section of the table `foretold`, if it has predictors beside the size of the class."""
    table = _measured(table)
    if table.empty:
        return []
    made = section("What foretells harm", GUIDE, table, pipelines, _head, _cell,
                   ("classes", "predictor"))  # fmt: skip
    return [made]


def _measured(table: pd.DataFrame) -> pd.DataFrame:
    """The correlations that there are, of studies that measured predictors."""
    known = table.dropna(subset="mean")
    return known if set(known["predictor"]) - {"size"} else known.head(0)


def _head(classes: int, predictor: str) -> str:
    return NAMES[predictor]


def _cell(row: pd.Series) -> CellText:
    text = CellText(number(row["mean"], 2, signed=True), margin_text(row, 2), apart(row, 0))
    return text if pd.isna(row["p_bh"]) else text._replace(note=f"p = {row['p_bh']:.2g}")


def foretold_figure(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> Figure | None:
    """At the largest ratio a panel per predictor, in it a correlation per pipeline."""
    table = _measured(table)
    if table.empty:
        return None
    table = table[table["ratio"] == table["ratio"].max()]
    shown = [pipeline for pipeline in pipelines if pipeline.name in set(table["pipeline"])]
    names = [name for name in NAMES if name in set(table["predictor"])]
    canvas = new_figure(9.2, 0.2 * len(shown) + 1.0 + KEY)
    kind_key(canvas, shown)
    grid = canvas.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
    grid[0].set_xlim(-1.05, 1.05)
    for axes, name in zip(grid, names, strict=True):
        axes.axvline(0, color=MUTED, linewidth=0.8)
        mark_rows(axes, table[table["predictor"] == name], shown)
        axes.set_title(NAMES[name])
    name_rows(grid[0], shown, 30)
    canvas.supxlabel("rank correlation with harm, over the classes", fontsize=8.5)
    caption = (
        "Spearman's correlation of a class's harm (loss of recall beyond that of accuracy) with "
        f"what is known of its training images before compression, at ratio {table.iloc[0].ratio:g}"
        f"; {table['classes'].max()} classes, means over {seeds_in_words(table)} with 95 % "
        "intervals, which are about these classes. To the right of 0 more of it foretells more "
        "harm."
    )
    return finish("foretold", "What foretells which classes are harmed", caption, canvas)
