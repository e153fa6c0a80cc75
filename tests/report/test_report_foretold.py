"""What foretells harm, on the page."""

import pandas as pd
import pytest

from rcm.analysis.statistics import PipelineInfo
from rcm.report.foretold import foretold_figure, foretold_sections
from rcm.report.layout import MINUS
from rcm.report.style import figure_style

PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("again", "other seeds", "replica", "dense", "dense"),
    PipelineInfo("prune", "prune 90 %", "trained", "dense", "dense"),
]


@pytest.fixture
def table() -> pd.DataFrame:
    row = {"dataset": "d", "model": "m", "imbalance": "exp", "ratio": 10.0, "n": 5, "classes": 10}
    found = {
        ("again", "size"): (0.1, 0.3, 0.9),
        ("again", "gradient"): (0.0, 0.3, 0.8),
        ("prune", "size"): (-0.7, 0.1, 0.004),
        ("prune", "gradient"): (0.6, 0.2, float("nan")),
    }
    return pd.DataFrame([
        row | {"pipeline": pipeline, "predictor": predictor, "mean": mean, "lo": mean - half,
               "hi": mean + half, "rho": mean, "p": p, "p_bh": p}
        for (pipeline, predictor), (mean, half, p) in found.items()
    ])  # fmt: skip


def test_correlations_stand_with_their_intervals_and_p(table):
    (section,) = foretold_sections(table, PIPELINES)
    assert section.heads == ["size of the class", "gradient's norm"]
    rows = dict(section.rows)
    size, gradient = rows["prune 90 %"]
    assert (size.value, size.margin, size.note, size.strong) == (
        f"{MINUS}0.70",
        "±0.10",
        "p = 0.004",
        True,
    )
    assert (gradient.value, gradient.note) == ("+0.60", "")  # no p, no word about it
    assert not rows["other seeds"][0].strong


def test_the_figure_has_a_panel_per_predictor_and_a_row_per_pipeline(table):
    with figure_style():
        figure = foretold_figure(table, PIPELINES)
    assert figure is not None
    svg = figure.svg.decode()
    for text in ("size of the class", "gradient's norm", "other seeds", "prune 90 %"):
        assert text in svg
    assert "n = 5 seeds" in figure.caption
    assert "ratio 10" in figure.caption


@pytest.mark.parametrize("kept", ["size", "nothing"])
def test_a_study_without_predictors_shows_nothing(table, kept):
    """The size alone is known of every study; it is not worth a section."""
    table = table[table["predictor"] == kept]
    assert foretold_sections(table, PIPELINES) == []
    assert foretold_figure(table, PIPELINES) is None
