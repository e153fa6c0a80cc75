"""Intervals over test images of populations: McNemar's variance, pairing by seed, and gaps."""

import numpy as np
import pytest

from rcm.analysis.forgotten import Answers
from rcm.analysis.images import image_table
from rcm.analysis.resampling import image_intervals, resampled_accuracy
from rcm.analysis.statistics import PipelineInfo

PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("prune", "prune", "trained", "dense", "dense"),
    PipelineInfo("missing", "missing", "trained", "dense", "dense"),
]
PLACE = ("d", "m", "exp", 1.0, "clean", 0.0)
TRUTH = np.random.default_rng(0).integers(0, 3, 1500)


def labels(accuracy, seed):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(TRUTH.size) < accuracy, TRUTH, (TRUTH + 1) % 3)


def table(members):
    return image_table(Answers(members, TRUTH, 3, PLACE), PIPELINES).set_index("pipeline")


def test_a_member_and_its_parent_have_the_binomial_and_mcnemars_interval():
    dense, prune = labels(0.8, 1), labels(0.7, 2)
    found = table({"dense": {0: dense}, "prune": {0: prune}})
    right = [one == TRUTH for one in (dense, prune)]
    p, own = right[1].mean(), found.loc["prune"]
    assert own["accuracy"] == pytest.approx(100 * p)
    half = 196 * np.sqrt(p * (1 - p) / TRUTH.size)
    assert (own["hi"] - own["lo"]) / 2 == pytest.approx(half, rel=0.06)
    b, c = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
    assert own["change"] == pytest.approx(100 * (c - b) / TRUTH.size)
    half = 196 * np.sqrt((b + c) / TRUTH.size**2 - (b - c) ** 2 / TRUTH.size**3)
    assert (own["change_hi"] - own["change_lo"]) / 2 == pytest.approx(half, rel=0.06)
    assert np.isnan(found.loc["dense", "change"])
    assert list(found.index) == ["dense", "prune"]


def test_intervals_are_those_of_every_members_accuracies_on_the_resampled_images():
    """The change is of the seeds that both have: 1 and 2."""
    dense, prune = ({s: labels(a, int(100 * a) + s) for s in seeds}
                    for a, seeds in ((0.8, range(3)), (0.7, range(1, 5))))  # fmt: skip
    found = table({"dense": dense, "prune": prune})
    right = [[members[s] == TRUTH for s in sorted(members)] for members in (dense, prune)]
    drawn, pruned = (100 * resampled_accuracy(np.array(one)) for one in right)
    expected = {
        ("dense", "lo", "hi"): drawn.mean(axis=1),
        ("prune", "lo", "hi"): pruned.mean(axis=1),
        ("prune", "change_lo", "change_hi"): (pruned[:, :2] - drawn[:, 1:]).mean(axis=1),
    }
    for (name, *ends), values in expected.items():
        np.testing.assert_allclose(found.loc[name, ends].astype(float), image_intervals(values))


def test_changes_are_those_of_the_seeds_that_both_have():
    dense = {seed: labels(0.8, seed) for seed in range(3)}
    prune = {seed: dense[seed].copy() for seed in (0, 1)} | {7: labels(0.1, 7)}
    own = table({"dense": dense, "prune": prune}).loc["prune"]
    assert own[["change", "change_lo", "change_hi"]].tolist() == [0, 0, 0]
    assert own["n"] == 3
    assert own["accuracy"] < 60


def test_more_members_do_not_replace_images():
    """The images are the same for all: what is hard for one is hard for the others."""
    hard = np.random.default_rng(3).random(TRUTH.size) < 0.3
    members = {s: np.where(hard, (TRUTH + 1) % 3, TRUTH) for s in range(8)}
    few, many = (table({"dense": dict(list(members.items())[:k])}).loc["dense"] for k in (1, 8))
    assert many["hi"] - many["lo"] == pytest.approx(few["hi"] - few["lo"])
    assert table({"dense": {}}).empty
