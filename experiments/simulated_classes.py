"""Simulated recalls by class: some classes are harmed, as many gain, and nothing happens to others.

What classes lose and gain adds up to nothing, so that accuracy stays and the others are truly null:
their recall beyond the change of accuracy does not change.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from rcm.analysis.harm import ALPHA, class_harm
from rcm.analysis.statistics import PipelineInfo

CLASSES, CHANGED = 10, 4  # half of the changed ones are harmed, half gain
LUCK, NOISE = 0.03, 0.02  # of a member, of each of its classes; recalls are fractions
SPREAD = NOISE * np.sqrt(2 * (1 - 1 / CLASSES))  # of a class's paired change beyond accuracy's
TESTS = {
    "p": "Welch, as published",
    "p_bh": "Welch, Benjamini and Hochberg",
    "p_paired": "paired t",
    "p_paired_bh": "paired t, Benjamini and Hochberg",
}
INFOS = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("prune", "prune", "trained", "dense", "dense"),
]


class Discoveries(NamedTuple):
    """Of a test, by study: the share of changed classes that it finds, on the right side; that of
    the classes it finds, on either side, to which nothing happened (0 if it finds none)."""

    found: np.ndarray
    false: np.ndarray


def discoveries(seeds: int, studies: int, effect: float, key: int = 0) -> dict[str, Discoveries]:
    """By name of `TESTS`, with `effect` standard deviations (`SPREAD`) of the paired changes."""
    table = class_harm(recalls(np.random.default_rng([key, seeds]), seeds, studies, effect), INFOS)
    planted = _planted(effect)[table["cls"].astype(int)]
    by_study = table["model"]
    made = {}
    for name in TESTS:
        hit = table[name] <= ALPHA
        right = hit & (np.sign(table["effect"]) == np.sign(planted)) & (planted != 0)
        false = (hit & (planted == 0)).groupby(by_study).sum()
        count = hit.groupby(by_study).sum().clip(lower=1)
        share = right.groupby(by_study).sum() / CHANGED
        made[name] = Discoveries(share.to_numpy(), (false / count).to_numpy())
    return made


def recalls(
    rng: np.random.Generator, seeds: int, studies: int, effect: float = 0.0
) -> pd.DataFrame:
    """A tidy table of recalls by class and of accuracies, their means; a study is a `model`."""
    shape = (studies, 2, seeds, CLASSES)
    values = rng.uniform(0.5, 0.9, (studies, 1, 1, CLASSES)) + rng.normal(0, NOISE, shape)
    values += rng.normal(0, LUCK, (studies, 2, seeds, 1))
    values[:, 1] += SPREAD * _planted(effect)
    axes = [range(studies), [info.name for info in INFOS], range(seeds)]
    members = pd.MultiIndex.from_product(axes, names=["model", "pipeline", "seed"])
    by_class = pd.DataFrame(values.reshape(-1, CLASSES), members, map(str, range(CLASSES)))
    accuracy = by_class.mean(axis=1).rename("value").reset_index().assign(metric="accuracy", cls="")
    recall = by_class.rename_axis(columns="cls").stack().rename("value").reset_index()
    where = {"dataset": "d", "imbalance": "exp", "ratio": 1.0, "shift": "clean", "severity": 0.0}
    return pd.concat([accuracy, recall.assign(metric="recall")]).assign(**where)


def _planted(effect: float) -> np.ndarray:
    """What happens to each class, in standard deviations [CLASSES]."""
    signs = np.zeros(CLASSES)
    signs[:CHANGED] = np.tile([-1, 1], CHANGED // 2)
    return effect * signs
