"""Errors by subgroup, as sections of the page."""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.statistics import PipelineInfo
from rcm.report.layout import CellText, number
from rcm.report.sections import Section, apart, margin_text, plain, section

RATES = (
    "Share of wrong answers to clean test images of a subgroup, percent, ± half of the 95 % "
    "interval over seeds; false positives among images of the first of two classes, false "
    "negatives among those of the second."
)
CHANGES = (
    "Change of these shares against the parent, in percent of the parent's, paired by seed; bold: "
    "the interval leaves out 0. Without the seeds whose parent makes no such error, which lifts "
    "the mean; shares of few images move in large steps."
)
WORDS = {"error": "errors", "false_positive": "false pos.", "false_negative": "false neg."}


def subgroup_sections(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> list[Section]:
    """Sections of the table `subgroups` that have any rows."""
    changes = table["quantity"].str.endswith("_change").astype(bool)
    place = ("cls", "quantity")
    made = [
        section("Subgroups", RATES, table[~changes], pipelines, _head, plain, place),
        section("Change by subgroup", CHANGES, table[changes], pipelines, _head, _change, place),
    ]
    return [one for one in made if one.rows]


def _head(group: str, quantity: str) -> str:
    return f"{group}: {WORDS[quantity.removesuffix('_change')]}"


def _change(estimate: pd.Series) -> CellText:
    value = number(estimate["mean"], signed=True)
    return CellText(value, margin_text(estimate), apart(estimate, 0))
