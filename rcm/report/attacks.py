"""What is left of accuracy under attack, as sections of the page."""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.attacks import TO_PARENT
from rcm.analysis.statistics import PipelineInfo
from rcm.report.layout import CellText, number
from rcm.report.sections import Section, margin_text, section
from rcm.report.tables import WARNINGS

ATTACKS = (
    "Robust accuracy, percent, ± half of the 95 % interval over seeds; columns are attacks and "
    "their eps in 255ths. Worst: an image counts only if every attack of that norm and eps fails. "
    "Attacks follow straight-through gradients; where a warning stands, they prove nothing."
)
TRANSFER = (
    "Accuracy, percent, ± half of the 95 % interval over seeds, on images that were attacked for "
    "another network of the same seed: of the pipeline on its parent's images, and of the parent "
    "on the pipeline's. Compare with the accuracy of each on images attacked for itself, above."
)


def attack_sections(
    attacks: pd.DataFrame, transfer: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> list[Section]:
    """Sections of `attacks_table` and of `analysis.attacks.transfer` that have any rows."""
    made = [
        section("Attacks", ATTACKS, attacks, pipelines, _head, _cell),
        section("Transfer of attacks", TRANSFER, transfer, pipelines, _direction, _cell),
    ]
    return [one for one in made if one.rows]


def _head(attack: str, eps: float, quantity: str) -> str:
    del quantity
    return f"{attack}, {eps:g}"


def _direction(attack: str, eps: float, quantity: str) -> str:
    return f"{attack}, {eps:g}: {'to' if quantity == TO_PARENT else 'from'} parent"


def _cell(estimate: pd.Series) -> CellText:
    notes = [
        f"{sentence} ({estimate[metric]:.0f} of {estimate['n']:.0f})"
        for metric, sentence in WARNINGS.items()
        if estimate.get(metric, 0) > 0
    ]
    return CellText(number(estimate["mean"]), margin_text(estimate), note="; ".join(notes))
