"""Wrongly labelled training images on the page: the section and the figure."""

import pandas as pd

from rcm.analysis.mislabelled import ORDER, mislabelled
from rcm.analysis.statistics import PipelineInfo
from rcm.report.layout import NONE
from rcm.report.mislabelled import mislabelled_figure, mislabelled_sections
from rcm.report.style import figure_style

PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("again", "other seeds", "replica", "dense", "dense"),
    PipelineInfo("prune", "prune 90 %", "trained", "dense", "dense"),
]
RATES = {
    "dense": {"mislabelled_memorised": 0.9, "mislabelled_accuracy": 0.1},
    "again": {"mislabelled_exemplar_rate": 0.1, "well_labelled_exemplar_rate": 0.02,
              "mislabelled_memorised": 0.85, "mislabelled_accuracy": 0.1},
    "prune": {"mislabelled_exemplar_rate": 0.7, "well_labelled_exemplar_rate": 0.05,
              "mislabelled_exemplar_excess": 0.6, "well_labelled_exemplar_excess": 0.01,
              "mislabelled_memorised": 0.2, "mislabelled_accuracy": 0.75},
}  # fmt: skip


def table_of(kinds=("planted",), ratios=(1.0,), seeds=6) -> pd.DataFrame:
    rows = [
        {"dataset": "d", "model": "m", "imbalance": "exp", "ratio": ratio, "seed": seed,
         "pipeline": name, "shift": "clean_train", "severity": 0.0, "metric": metric, "cls": kind,
         "value": value + 0.01 * (seed - (seeds - 1) / 2), "status": "ok"}
        for kind in kinds
        for ratio in ratios
        for seed in range(seeds)
        for name, metrics in RATES.items()
        for metric, value in metrics.items()
    ]  # fmt: skip
    return mislabelled(pd.DataFrame(rows))


def test_the_section_says_both_rates_and_what_differs():
    (made,) = mislabelled_sections(table_of(), PIPELINES)
    assert made.anchor == "wrongly-labelled-images"  # what claims C6d and C6e refer to
    assert made.heads == [*ORDER[:6]]  # no member was asked about the rightly labelled
    rows = {label: dict(zip(made.heads, cells, strict=True)) for label, cells in made.rows}
    assert rows["dense"]["exemplars among wrong"].value == NONE
    assert rows["dense"]["wrong label learned"].value == "90.0"
    own = rows["prune 90 %"]
    assert own["exemplars among wrong"].value == "70.0"
    assert own["exemplars among wrong"].margin == "±2.0"
    assert own["difference"].value == "+65.0"
    assert own["difference of excess"].value == "+59.0"
    assert rows["other seeds"]["difference of excess"].value == NONE


def test_kinds_of_wrong_labels_are_told_apart_where_there_are_several():
    (made,) = mislabelled_sections(table_of(("planted", "human")), PIPELINES)
    assert "human: difference" in made.heads
    assert "planted: difference" in made.heads
    assert mislabelled_sections(table_of().iloc[:0], PIPELINES) == []


def test_the_figure_has_a_row_for_every_pipeline():
    with figure_style():
        drawn = mislabelled_figure(table_of(ratios=(1.0, 10.0), seeds=1), PIPELINES)
        assert mislabelled_figure(table_of().iloc[:0], PIPELINES) is None
    assert drawn is not None
    text = drawn.svg.decode()
    for label in ("dense", "other seeds", "prune 90 %", "by the true label"):
        assert label in text
    assert "n = 1 seed" in drawn.caption


def test_bars_of_rates_end_where_percentages_do():
    """Here those of t would reach from -3 to 101."""
    few = table_of(seeds=2)
    quantities = few["quantity"].isin(("exemplars among wrong", "wrong label learned"))
    wide = few.assign(lo=few["lo"].mask(quantities, -3.0), hi=few["hi"].mask(quantities, 101.0))
    with figure_style():
        drawn = mislabelled_figure(wide, PIPELINES)
        inside = mislabelled_figure(table_of(seeds=6), PIPELINES)
    assert "end where percentages do" in drawn.caption
    assert "end where percentages do" not in inside.caption
