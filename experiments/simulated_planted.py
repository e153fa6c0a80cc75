"""A simulated population with three planted effects at once: harmed classes, exemplars, a gap.

Children of dense parents differ from them by accident, as in `simulated_answers`, and their answers
are then changed: some of those to two classes are made wrong, all of those to a few images of every
class become the next class's, and at the largest ratio some of all are made wrong. The analysis of
a study is to tell the three apart.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import simulated_answers
from simulated_answers import CLASSES, IMAGES, PAIRED, RATIOS

from rcm.analysis.claims import SUPPORTED, decide
from rcm.analysis.claims_imbalance import IMBALANCE_CLAIMS
from rcm.analysis.exemplars import exemplars, label_counts
from rcm.analysis.harm import ALPHA, class_harm
from rcm.analysis.statistics import PipelineInfo, summarise

HARMED, HARM = (2, 7), 0.06  # of the right answers to these classes, the share that is made wrong
FORGOTTEN = 0.03  # of the images of every class, the share whose answers become the next class's
GAP = 0.03  # of all right answers at the largest ratio, the share that is made wrong
INFOS = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("dense_again", "dense_again", "replica", "", "dense"),
    PipelineInfo("prune", "prune", "trained", "dense", "dense", ("prune",), sparsity=0.9),
]


class Found(NamedTuple):
    """Of one study. harmed: the share of the harmed classes that are found harmed; false: that of
    the classes found harmed that are not (0 if none is found), ratio 1, paired and corrected.
    planted: the share of the planted images that are exemplars; exemplars: that of the exemplars
    that are planted; excess: what their interval says, in percent of the images. gap: what the
    claim S1 C1 says, in points, beyond what was planted on these images."""

    harmed: float
    false: float
    planted: float
    exemplars: float
    excess: tuple[float, float, float]
    gap: tuple[float, float, float]
    supported: bool


class Rates(NamedTuple):
    """Of many studies the means of `Found`'s shares; of intervals the share that covers the truth
    and that lies above 0. The truth of the excess is its mean; gap_bias: in points."""

    harmed: float
    false: float
    planted: float
    exemplars: float
    excess_covered: float
    excess_above: float
    gap_bias: float
    gap_covered: float
    supported: float


def rates(seeds: int, studies: int) -> Rates:
    """What the analysis of so many studies, of `seeds` members each, finds again."""
    table = pd.DataFrame([study(seeds, key) for key in range(studies)])
    means = table[["harmed", "false", "planted", "exemplars", "supported"]].mean()
    excess, gap = (np.array(table[name].tolist()) for name in ("excess", "gap"))
    return Rates(
        excess_covered=_covered(excess, excess[:, 0].mean()),
        excess_above=float((excess[:, 1] > 0).mean()),
        gap_bias=float(gap[:, 0].mean()),
        gap_covered=_covered(gap, 0.0),
        **{str(name): float(mean) for name, mean in means.items()},
    )


def _covered(intervals: np.ndarray, truth: float) -> float:
    """Of (mean, low, high) [studies, 3]."""
    return float(((intervals[:, 1] <= truth) & (truth <= intervals[:, 2])).mean())


def study(seeds: int, key: int) -> Found:
    """Draw one study and analyse it."""
    rng, rows, lost = np.random.default_rng([3, seeds, key]), [], []
    forgotten = np.arange(IMAGES) % (IMAGES // CLASSES) < FORGOTTEN * IMAGES / CLASSES
    shares: tuple[float, float] = (np.nan, np.nan)
    for ratio, counts in RATIOS.items():
        images = simulated_answers.images_of_ratio(rng, np.asarray(counts))
        images = images._replace(evidence=images.evidence[:1])  # the clean ones
        answers = simulated_answers.answers_of_members(rng, images.evidence, seeds, PAIRED, INFOS)
        before = answers["prune"][0]
        share = HARM * np.isin(images.truth, HARMED) + GAP * (ratio == max(RATIOS))
        answers["prune"] = _planted(rng, before, images.truth, forgotten, share)[None]
        lost.append(_loss(before, images.truth, forgotten, share))
        rows += simulated_answers.rows_of_answers(answers, images, ratio)
        if ratio == 1:
            shares = _overlap(answers, forgotten)
    frame, truth = pd.DataFrame(rows), 100 * (lost[1] - lost[0])
    gap = next(v for v in decide(IMBALANCE_CLAIMS, frame, INFOS) if v.claim.id == "C1")
    harmed, false = _harm(frame)
    return Found(
        harmed=harmed,
        false=false,
        planted=shares[0],
        exemplars=shares[1],
        excess=_excess(frame),
        gap=tuple(value - truth for value in gap.effect[:3]),
        supported=gap.answer == SUPPORTED,
    )


def _planted(
    rng: np.random.Generator,
    answers: np.ndarray,
    truth: np.ndarray,
    forgotten: np.ndarray,
    share: np.ndarray,
) -> np.ndarray:
    """Answers [seeds, N] of members to which all of it happened; share [N]: of the right answers
    that are made wrong."""
    lost = (rng.random(answers.shape) < share) & (answers == truth)
    wrong = (truth + rng.integers(1, CLASSES, answers.shape)) % CLASSES
    return np.where(forgotten, (answers + 1) % CLASSES, np.where(lost, wrong, answers))


def _loss(
    answers: np.ndarray, truth: np.ndarray, forgotten: np.ndarray, share: np.ndarray
) -> float:
    """Accuracy that this is expected to cost on these images."""
    right = answers == truth
    after = np.where(forgotten, (answers + 1) % CLASSES == truth, right * (1 - share))
    return float(right.mean() - after.mean())


def _harm(frame: pd.DataFrame) -> tuple[float, float]:
    table = class_harm(frame, INFOS)
    own = table[(table["pipeline"] == "prune") & (table["ratio"] == 1)]
    hit = own[(own["p_paired_bh"] <= ALPHA) & (own["effect"] < 0)]["cls"].astype(int)
    right = hit.isin(HARMED)
    return right.sum() / len(HARMED), float((~right).mean()) if len(hit) else 0.0


def _overlap(answers: dict[str, np.ndarray], forgotten: np.ndarray) -> tuple[float, float]:
    dense, own = (label_counts(answers[name][0], CLASSES) for name in ("dense", "prune"))
    found = exemplars(dense, own)
    both = (found & forgotten).sum()
    return both / max(forgotten.sum(), 1), both / max(found.sum(), 1)


def _excess(frame: pd.DataFrame) -> tuple[float, float, float]:
    own = frame[(frame["pipeline"] == "prune") & (frame["ratio"] == 1)]
    estimate = summarise(100 * own[own["metric"] == "exemplar_excess"]["value"])
    return estimate.mean, estimate.lo, estimate.hi
