"""Which forgotten images are shown, and in which order."""

import numpy as np
import pytest

from rcm.analysis.forgotten import Answers
from rcm.analysis.forgotten_tables import populations
from rcm.analysis.statistics import PipelineInfo
from rcm.pictures import pictures

NAMES = ("cat", "dog", "ship")
INFOS = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("prune", "prune 90 %", "trained", "dense", "dense", ("prune",)),
]


SEEDS = range(5)


def labels(*by_image):
    """By seed the labels of images, each given as those of all members."""
    return dict(zip(SEEDS, np.array(by_image).T, strict=True))


def test_the_farthest_come_first_and_of_equal_ones_the_surest():
    """Four images that all members change, one that three of five do, and one that none does."""
    cats, dogs = [0] * 5, [1] * 5
    answers = Answers(
        {"dense": labels(*[cats] * 6), "prune": labels(*[dogs] * 4, [1, 1, 1, 0, 0], cats)},
        np.array([0, 1, 0, 2, 0, 0]), len(NAMES), ("d", "m", "exp", 1.0, "clean", 0.0),
    )  # fmt: skip
    sure = np.array([0.5, 0.9, 0.7, np.nan, 0.99, 0.99])
    confidence = {(name, seed): sure for name in ("dense", "prune") for seed in SEEDS}
    found = populations(answers, INFOS)
    shown = pictures(answers, found, "dense", lambda place: np.array([place]), NAMES, confidence)
    order = [int(one.image[0]) for one in shown["prune 90 %"]]
    assert order == [1, 2, 0, 3, 4]
    first, last = shown["prune 90 %"][0], shown["prune 90 %"][-1]
    assert (first.truth, first.dense[:2], first.own[:2]) == ("dog", ("cat", 1.0), ("dog", 1.0))
    assert last.own[:2] == ("dog", pytest.approx(0.6))
