"""Corruption error, relative and in excess, by hand."""

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.corruption import corruption_errors, corruption_summary, excess_by_severity
from rcm.analysis.statistics import PipelineInfo

PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("prune", "prune", "trained", "dense", "dense"),
]
# accuracy by pipeline and (shift, severity); seed 1 is 2 points worse everywhere
ACCURACY = {
    "dense": {("clean", 0): 0.9, ("fog", 1): 0.8, ("fog", 2): 0.6, ("blur", 1): 0.895,
              ("blur", 2): 0.895},
    "prune": {("clean", 0): 0.85, ("fog", 1): 0.7, ("fog", 2): 0.5, ("blur", 1): 0.8,
              ("blur", 2): 0.8},
}  # fmt: skip


def frame(skip=()) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "dataset": "d", "model": "m", "imbalance": "exp", "ratio": 1.0, "seed": seed,
                "pipeline": pipeline, "shift": shift, "severity": float(severity),
                "metric": "accuracy", "cls": "", "value": value - 0.02 * seed,
            }
            for seed in range(2)
            for pipeline, cells in ACCURACY.items()
            for (shift, severity), value in cells.items()
            if (pipeline, seed, shift, severity) not in skip
        ]
    )  # fmt: skip


def cell(table: pd.DataFrame, pipeline: str, shift: str, seed: int = 0) -> pd.Series:
    return table.loc[("d", "m", "exp", 1.0, seed, pipeline, shift)]


def test_ce_relative_ce_and_excess_by_hand():
    table = corruption_errors(frame(), PIPELINES)
    fog = cell(table, "prune", "fog")
    assert fog["ce"] == pytest.approx(100 * (0.3 + 0.5) / (0.2 + 0.4))
    assert fog["relative_ce"] == pytest.approx(100 * (0.15 + 0.35) / (0.1 + 0.3))
    assert fog["excess_error"] == pytest.approx(100 * (0.25 - 0.2))
    assert fog["corrupted_accuracy"] == pytest.approx(60)


def test_each_seed_is_compared_with_its_own_parent():
    table = corruption_errors(frame(), PIPELINES)
    second = cell(table, "prune", "fog", seed=1)
    assert second["ce"] == pytest.approx(100 * (0.32 + 0.52) / (0.22 + 0.42))
    assert second["excess_error"] == pytest.approx(5)


def test_relative_ce_is_missing_and_counted_where_the_parent_hardly_loses():
    table = corruption_errors(frame(), PIPELINES)
    assert np.isnan(cell(table, "prune", "blur")["relative_ce"])  # the parent loses half a point
    assert cell(table, "prune", "blur")["ce"] == pytest.approx(100 * 0.2 / 0.105)
    _, overall, _ = corruption_summary(frame(), PIPELINES)
    relative = overall[(overall["quantity"] == "relative_mce") & (overall["pipeline"] == "prune")]
    assert "2 cells under 1 point missing" in relative["note"].item()


def test_the_parent_is_its_own_reference():
    fog = cell(corruption_errors(frame(), PIPELINES), "dense", "fog")
    assert (fog["ce"], fog["relative_ce"], fog["excess_error"]) == pytest.approx((100, 100, 0))


def test_mce_averages_corruptions_within_a_seed_first():
    _, overall, _ = corruption_summary(frame(), PIPELINES)
    row = overall[(overall["quantity"] == "mce") & (overall["pipeline"] == "prune")].iloc[0]
    table = corruption_errors(frame(), PIPELINES)
    per_seed = [
        table["ce"].xs((seed, "prune"), level=("seed", "pipeline")).mean() for seed in (0, 1)
    ]
    assert row["mean"] == pytest.approx(np.mean(per_seed))
    assert row["n"] == 2


def test_a_member_without_a_severity_or_corruption_drops_out_of_what_it_lacks():
    partial = frame(skip={("prune", 1, "fog", 2)})
    table = corruption_errors(partial, PIPELINES)
    assert ("d", "m", "exp", 1.0, 1, "prune", "fog") not in table.index
    _, overall, _ = corruption_summary(partial, PIPELINES)
    mce = overall[(overall["quantity"] == "mce") & (overall["pipeline"] == "prune")]
    assert mce["n"].item() == 1


def test_without_corruptions_the_tables_are_empty():
    clean = frame()
    clean = clean[clean["shift"] == "clean"]
    by_shift, overall, lines = corruption_summary(clean, PIPELINES)
    assert by_shift.empty
    assert overall.empty
    assert lines.empty


def test_excess_error_by_severity_by_hand():
    """Fog adds 15 and 35 points to the pruned network's error and 10 and 30 to the parent's; blur
    adds 5 and 0.5 at either severity. Seed 1, worse everywhere, differs in nothing."""
    table = excess_by_severity(frame(), PIPELINES).set_index(["shift", "severity"])
    assert set(table["pipeline"]) == {"prune"}
    assert table["mean"].to_dict() == pytest.approx(
        {("fog", 1): 5, ("fog", 2): 5, ("blur", 1): 4.5, ("blur", 2): 4.5}
    )
    assert set(table["n"]) == {2}
    over = corruption_errors(frame(), PIPELINES)["excess_error"].xs("prune", level="pipeline")
    means = table["mean"].groupby("shift").mean()
    assert over.groupby("shift").mean().to_dict() == pytest.approx(means.to_dict())
