"""Harm to classes: by hand, against scipy, and found where it was planted and nowhere else."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rcm.analysis.harm import class_harm, harm_counts
from rcm.analysis.statistics import PipelineInfo

PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("again", "again", "replica", "dense", "dense"),
    PipelineInfo("prune", "prune", "trained", "dense", "dense"),
]


def rows_of(recall: dict[str, np.ndarray]) -> pd.DataFrame:
    """A tidy table of recalls [seeds, C] by pipeline, and of accuracies, their means."""
    member = {"dataset": "d", "model": "m", "imbalance": "exp", "ratio": 1.0, "shift": "clean",
              "severity": 0.0, "status": "ok"}  # fmt: skip
    rows = []
    for pipeline, values in recall.items():
        for seed, of_member in enumerate(values):
            own = member | {"pipeline": pipeline, "seed": seed}
            rows.append(own | {"metric": "accuracy", "cls": "", "value": of_member.mean()})
            rows += [
                own | {"metric": "recall", "cls": str(c), "value": value}
                for c, value in enumerate(of_member)
            ]
    return pd.DataFrame(rows)


def simulated(rng, seeds=10, classes=10, harm=0.0) -> pd.DataFrame:
    """Members with luck of their own; pruning takes `harm` from the first two classes."""
    base = rng.uniform(0.5, 0.9, classes)
    made = {
        p.name: base + rng.normal(0, 0.03, (seeds, 1)) + rng.normal(0, 0.02, (seeds, classes))
        for p in PIPELINES
    }
    made["prune"][:, :2] -= harm
    return rows_of(made)


def test_effect_and_tests_by_hand():
    dense = np.array([[0.8, 0.6], [0.9, 0.7], [0.7, 0.65]])
    own = np.array([[0.7, 0.7], [0.8, 0.72], [0.68, 0.66]])
    table = class_harm(rows_of({"dense": dense, "prune": own}), PIPELINES).set_index("cls")
    change = 100 * ((own - own.mean(1, keepdims=True)) - (dense - dense.mean(1, keepdims=True)))
    assert table.loc["0", "effect"] == pytest.approx(change[:, 0].mean())
    published = stats.ttest_ind(dense[:, 0] - dense.mean(), own[:, 0] - own.mean(), equal_var=False)
    assert table.loc["0", "p"] == pytest.approx(published.pvalue)
    assert table.loc["0", "p_paired"] == pytest.approx(stats.ttest_1samp(change[:, 0], 0).pvalue)
    assert table.loc["1", "n"] == 3


def test_large_harm_is_found_and_counted():
    """Two of ten classes lose ten points; how often tests are wrong near the noise is simulated in
    `test_analysis_simulations`."""
    rng, found, chance = np.random.default_rng(0), 0, 0
    for _ in range(20):
        harm = class_harm(simulated(rng, harm=0.1), PIPELINES)
        own = harm[harm["pipeline"] == "prune"].set_index("cls")
        hit = own.index[(own["p_paired_bh"] <= 0.05) & (own["effect"] < 0)]
        found += len({"0", "1"} & set(hit))
        counts = harm_counts(harm).set_index("pipeline")
        assert counts.loc["prune", "worst"] < -5
        assert counts.loc["prune", "by_chance"] == 0.5
        chance += counts.loc["again", "impacted_paired_bh"]
    assert found >= 38  # of 40
    assert chance <= 3  # of 20 studies without harm


def test_members_without_a_partner_are_left_out():
    rng = np.random.default_rng(1)
    frame = simulated(rng, seeds=4)
    frame.loc[(frame["pipeline"] == "dense") & (frame["seed"] == 3), "status"] = "diverged"
    assert set(class_harm(frame, PIPELINES)["n"]) == {3}
    assert class_harm(frame[frame["pipeline"] == "prune"], PIPELINES).empty
    assert harm_counts(class_harm(frame[:0], PIPELINES)).empty


def test_classes_without_a_test_are_counted_apart():
    """Recall of class 0 is 1 in all parents and 0.9 in all members: no spread, no test. Class 1 has
    the same in both, which is a test with p = 1."""
    rng = np.random.default_rng(2)
    dense, own = (rng.uniform(0.5, 0.9, (4, 3)) for _ in range(2))
    dense[:, :2], own[:, 0], own[:, 1] = 1.0, 0.9, 1.0
    frame = rows_of({"dense": dense, "prune": own})
    frame.loc[frame["metric"] == "accuracy", "value"] = 0.75
    harm = class_harm(frame, PIPELINES).set_index("cls")
    assert harm["p"].isna().to_dict() == {"0": True, "1": False, "2": False}
    assert harm.loc["1", "p"] == 1
    [counts] = harm_counts(harm.reset_index()).to_dict("records")
    assert (counts["classes"], counts["untested"]) == (2, 1)
    assert counts["by_chance"] == pytest.approx(0.1)
