"""Intervals, pairing, gaps and corrections, with planted effects and scipy as oracle."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rcm.analysis import statistics
from rcm.analysis.statistics import PipelineInfo, difference, gap, holm, over_seeds, wide

LOST = {"dense": 0.10, "finetune": 0.08, "prune": 0.15, "int8": 0.10}


def planted(pipeline: str, ratio: float, seed: int, metric: str) -> float:
    """Seed luck is shared by all pipelines of a seed, so that pairing removes it exactly."""
    return 0.9 + 0.01 * seed**2 - LOST[pipeline] * np.log10(ratio)


def test_interval_equals_scipys_paired_t():
    a, b = np.array([0.71, 0.74, 0.69, 0.8]), np.array([0.66, 0.73, 0.67, 0.72])
    estimate = statistics.summarise(a - b)
    oracle = stats.ttest_rel(a, b)
    low, high = oracle.confidence_interval(0.95)
    assert (estimate.lo, estimate.hi) == pytest.approx((low, high))
    assert statistics.paired_t(a - b) == pytest.approx(oracle.pvalue)
    assert estimate.n == 4
    assert estimate.note == ""


def test_one_seed_has_no_interval_and_two_are_marked():
    one, two = statistics.summarise([0.5]), statistics.summarise([0.5, 0.7, np.nan])
    assert one.mean == 0.5
    assert np.isnan([one.lo, one.hi]).all()
    assert "n = 1" in one.note
    assert two.n == 2
    assert "unreliable" in two.note
    # t quantile 12.706, sd .1414: half = 12.706 * .1414 / sqrt 2 = 1.2706
    assert two.hi - two.mean == pytest.approx(1.2706, abs=1e-4)
    assert statistics.summarise([]).n == 0


def test_table_form_equals_the_scalar_form():
    rng = np.random.default_rng(1)
    index = pd.MultiIndex.from_product([["a", "b"], range(4)], names=["pipeline", "seed"])
    values = pd.Series(rng.normal(size=8), index=index)
    values["b", 3] = np.nan
    table = over_seeds(values)
    for name in ("a", "b"):
        expected = statistics.summarise(values[name])
        assert tuple(table.loc[name][:4]) == pytest.approx(expected[:4])
        assert table.loc[name, "note"] == expected.note


def test_paired_t_of_equal_differences():
    assert statistics.paired_t([0.0, 0.0, 0.0]) == 1.0
    assert np.isnan(statistics.paired_t([0.1, 0.1 + 1e-17, 0.1]))
    assert np.isnan(statistics.paired_t([0.1]))


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 -> 4*.01, max(.04, 3*.02), max(.06, 2*.03), max(.06, .04)
    adjusted = holm([0.04, 0.01, np.nan, 0.03, 0.02])
    np.testing.assert_allclose(adjusted, [0.06, 0.04, np.nan, 0.06, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).size == 0


def test_planted_gap_and_did_are_recovered(make_frame, four_pipelines):
    frame = make_frame(planted, LOST, (1, 10, 100), 3)
    table = statistics.gap_table(frame, four_pipelines)
    points = table[table["unit"] == "points"].set_index(
        ["quantity", "baseline", "pipeline", "ratio"]
    )
    assert points.loc[("gap", "", "prune", 100.0), "mean"] == pytest.approx(30)
    assert points.loc[("gap", "", "dense", 10.0), "mean"] == pytest.approx(10)
    assert points.loc[("did", "finetune", "prune", 100.0), "mean"] == pytest.approx(14)
    assert points.loc[("did", "dense", "prune", 100.0), "mean"] == pytest.approx(10)
    assert points.loc[("did", "dense", "int8", 10.0), "mean"] == pytest.approx(0, abs=1e-9)
    did = points.loc[("did", "finetune", "prune", 10.0)]
    assert did["hi"] - did["lo"] == pytest.approx(0, abs=1e-9)  # pairing removed the seeds' luck


def test_gap_in_percent_is_relative_to_the_balanced_member(make_frame):
    frame = make_frame(planted, LOST, (1, 10), 1)
    percent = gap(wide(frame, "accuracy"), "percent")
    assert percent["dense"].item() == pytest.approx(100 * 0.10 / 0.9)


def test_without_a_balanced_member_gaps_are_absent(make_frame, four_pipelines):
    frame = make_frame(planted, LOST, (10, 100), 3)
    assert statistics.gap_table(frame, four_pipelines).empty


def test_pairs_need_the_same_seed(make_frame):
    def value(pipeline, ratio, seed, metric):
        return None if (pipeline, seed) == ("prune", 1) else planted(pipeline, ratio, seed, metric)

    frame = make_frame(value, LOST, (1, 10), 3)
    table = over_seeds(difference(gap(wide(frame, "accuracy")), "prune", "finetune"))
    assert table["n"].item() == 2
    assert table["note"].item() == "unreliable (n = 2)"
    assert table["mean"].item() == pytest.approx(7)


def test_contrast_is_paired(make_frame):
    frame = make_frame(planted, LOST, (1, 10), 4)
    table = statistics.contrast(frame, "accuracy", "prune", "dense")
    assert table["mean"].tolist() == pytest.approx([0.0, -0.05])


def test_diverged_members_are_named_and_left_out(make_frame, four_pipelines):
    frame = make_frame(planted, LOST, (1, 10), 3)
    lost = (frame["pipeline"] == "prune") & (frame["seed"] == 2) & (frame["ratio"] == 10)
    frame.loc[lost, ["status", "value"]] = ["diverged", -50.0]
    table = statistics.gap_table(frame, four_pipelines).set_index(["pipeline", "quantity", "unit"])
    assert table.loc[("prune", "gap", "points"), "n"].item() == 2
    assert table.loc[("prune", "gap", "points"), "mean"].item() == pytest.approx(15)
    assert statistics.diverged_names(frame) == ["digits, tiny, exp 10, prune, seed 2"]


def test_doubled_rows_and_missing_columns_are_refused(make_frame):
    frame = make_frame(planted, LOST, (1, 10), 2)
    with pytest.raises(ValueError, match="holds each member once"):
        wide(pd.concat([frame, frame]), "accuracy")
    with pytest.raises(ValueError, match="lack the columns seed"):
        statistics.usable(frame.drop(columns="seed"))


def test_descriptions_are_checked(make_frame, four_pipelines):
    with pytest.raises(ValueError, match="expected one of dense"):
        statistics.check_pipelines([PipelineInfo("a", "a", "fast")])
    with pytest.raises(ValueError, match="which is not listed"):
        statistics.check_pipelines([PipelineInfo("a", "a", "trained", "finetune")])
    frame = make_frame(planted, LOST, (1,), 1)
    with pytest.raises(ValueError, match="not described: int8"):
        statistics.check_pipelines(four_pipelines[:3], frame)
