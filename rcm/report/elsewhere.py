"""Other domains, and what is left of accuracy there and under attack, as sections of the page."""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.statistics import PipelineInfo
from rcm.report.layout import CellText, number
from rcm.report.sections import Section, apart, margin_text, plain, section

DOMAINS = (
    "Accuracy on images from elsewhere, percent, and what is lost against the clean test images of "
    "the same classes, points; ± half of the 95 % interval over seeds."
)
RELATIVE = (
    "The share of its own accuracy that a member keeps, over the same share of its parent, paired "
    "by seed; ± half of the 95 % interval. Below 1 compression costs robustness beyond accuracy; "
    "bold: the interval leaves out 1."
)


def elsewhere_sections(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> list[Section]:
    """Sections of the table `robustness` that have any rows."""
    domains = table[(table["severity"] == 0) & table["quantity"].isin(("shifted_accuracy", "drop"))]
    relative = table[table["quantity"] == "relative_robustness"]
    made = [
        section("Other domains", DOMAINS, domains, pipelines, _head, plain),
        section("Robustness relative to the parent", RELATIVE, relative, pipelines, _head, _share),
    ]
    return [one for one in made if one.rows]


def _head(shift: str, severity: float, quantity: str) -> str:
    name = f"{shift}, {severity:g}" if severity else shift
    return f"{name}: drop" if quantity == "drop" else name


def _share(estimate: pd.Series) -> CellText:
    value = number(estimate["mean"], 2)
    return CellText(value, margin_text(estimate, 2), apart(estimate, 1))
