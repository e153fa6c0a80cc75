"""How often intervals beside the paired t cover, from samples whose truth is known.

Each function gives the share of `studies` simulated ones whose 95 % interval covers it, of n seeds.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import entropy, rankdata, skew

from rcm.analysis.compare import independent
from rcm.analysis.effective import effective_robustness
from rcm.analysis.exemplars import (
    LEAST,
    by_member,
    chosen,
    doubt_by_member,
    overlap_by_member,
    rates_by_member,
    votes,
)
from rcm.analysis.resampling import image_intervals, resampled_accuracy
from rcm.analysis.statistics import BLOCK, Estimate, PipelineInfo, summarise
from rcm.analysis.tradeoffs import Values, hypervolume, membership

OBJECTIVES, LARGER = ["bytes", "accuracy"], np.array([False, True])
SIZES = 2.0 ** np.arange(8)  # of eight pipelines
FRONT = np.array([0.60, 0.66, 0.69, 0.71, 0.715, 0.74, 0.73, 0.75])  # their accuracies
LUCK = 0.01  # of a member
IMAGES = 500
REPEATED = 0.9  # of a parent's answers, by its child
BINS = (0.0, 0.05, 0.5, 0.95, 1.0)  # of membership
DENSE = [f"width{i}" for i in range(6)]


def welch(n: int, studies: int) -> float:
    """Of the difference of two runs of other seeds, one with twice the spread of the other."""
    rng, covered = np.random.default_rng(n), 0
    for _ in range(studies):
        found, _ = independent(rng.normal(0, 1, n), rng.normal(0, 2, n))
        covered += found.lo <= 0 <= found.hi
    return covered / studies


def volume(n: int, studies: int) -> float:
    """Of the hypervolume of `FRONT`, members with luck of their own."""
    truth = hypervolume(_values(FRONT[:, None]))[0]
    rng, covered = np.random.default_rng(n), 0
    for _ in range(studies):
        _, low, high = hypervolume(_values(rng.normal(FRONT[:, None], LUCK, (len(FRONT), n))))
        covered += low <= truth <= high
    return covered / studies


def on_fronts(n: int, studies: int) -> np.ndarray:
    """Shares of pipelines that are on the front of the true means, by how often they are in
    resampled studies (`BINS`, the last with its end). True accuracies are drawn anew for each
    study, with as much spread as members have luck."""
    rng, shares, truths = np.random.default_rng(n), [], []
    for _ in range(studies):
        true = rng.normal(0.7, LUCK, len(SIZES))
        shares.append(membership(_values(rng.normal(true[:, None], LUCK, (len(true), n))))[1])
        truths.append(membership(_values(true[:, None]))[0])
    share, truth = np.concatenate(shares)[:, None], np.concatenate(truths)
    inside = (share >= BINS[:-1]) & (share < [*BINS[1:-1], np.inf])
    return (inside * truth[:, None]).sum(axis=0) / inside.sum(axis=0)


def _values(accuracy: np.ndarray) -> Values:
    """Accuracies [8, seeds] of pipelines of `SIZES`."""
    sizes = np.broadcast_to(SIZES[:, None], accuracy.shape)
    names = [f"p{i}" for i in range(len(SIZES))]
    return Values(names, OBJECTIVES, LARGER, np.stack([sizes, accuracy], axis=-1))


def overlap(n: int, studies: int) -> float:
    """Of the overlap of exemplars among images and the same ones corrupted: its mean over other
    members (the mean of all these studies) of the same kind, on the same images. NaN below `LEAST`
    members."""
    if n < LEAST:
        return float("nan")
    rng = np.random.default_rng(n)
    shares = rng.dirichlet(np.full(10, 0.15), (2, IMAGES))  # of a dense network and a child of it
    corrupted = 0.7 * shares + 0.3 * rng.dirichlet(np.full(10, 0.15), (2, IMAGES))
    found = []
    for _ in range(studies):
        drawn = [votes(_answers(rng, one, n), 10) for one in (*shares, *corrupted)]
        found.append(
            summarise(overlap_by_member(chosen(drawn[0], drawn[1]), chosen(drawn[2], drawn[3])))
        )
    return _covering_their_mean(found)


def of_exemplars(n: int, studies: int, doubted: bool = False) -> float:
    """Of the rate of exemplars between parents and children that repeat `REPEATED` of their
    answers, or of how much more their images are doubted than others (by the entropy of what
    members answer): the mean, as in `overlap`. NaN below `LEAST` members."""
    if n < LEAST:
        return float("nan")
    rng, found = np.random.default_rng(n), []
    shares = rng.dirichlet(np.full(10, 0.15), IMAGES)
    doubt = entropy(shares, axis=1) / np.log(10)
    for _ in range(studies):
        parents, own = (_answers(rng, shares, n) for _ in range(2))
        children = np.where(rng.random(own.shape) < REPEATED, parents, own)
        pair = votes(parents, 10), votes(children, 10)
        found.append(
            summarise(doubt_by_member(*pair, doubt) if doubted else rates_by_member(*pair))
        )
    return _covering_their_mean(found)


def skewness(n: int, studies: int, planted: float = 0.0) -> float:
    """Of the skewness over ten classes of their mean change, spread by the jackknife as S4's C3
    has it; planted: points that one class loses beyond the others, members differ by one in each.
    The truth is 0 if nothing is planted, else the mean, as in `overlap`."""
    rng, found = np.random.default_rng(n), []
    for _ in range(studies):
        change = rng.normal(0, 1, (n, 10)) - planted * (np.arange(10) == 0)
        without = (change.sum(0) - change) / (n - 1)
        found.append(summarise(by_member(float(skew(change.mean(0))), skew(without, axis=1))))
    return _covering_their_mean(found) if planted else _covering(found, 0.0)


def correlation(n: int, studies: int) -> float:
    """Of Spearman's correlation of the harm to ten classes with what foretells it, one for each
    seed; the truth is the mean, as in `overlap`."""
    rng = np.random.default_rng(n)
    ranks = rankdata(np.arange(10) + rng.normal(0, 5, (studies, n, 10)), axis=-1) - 5.5
    each = ranks @ (np.arange(10) - 4.5) / (ranks[0, 0] ** 2).sum()
    return _covering_their_mean([summarise(values) for values in each])


def _covering(found: Sequence[Estimate], truth: float) -> float:
    return float(np.mean([one.lo <= truth <= one.hi for one in found]))


def _covering_their_mean(found: Sequence[Estimate]) -> float:
    return _covering(found, float(np.mean([one.mean for one in found])))


def _answers(rng: np.random.Generator, shares: np.ndarray, n: int) -> np.ndarray:
    """Labels [n, N] of members that draw from the shares [N, 10]."""
    return (rng.random((n, len(shares), 1)) > shares.cumsum(1)).sum(2).clip(0, 9).astype(np.uint8)


def effective(n: int, studies: int, off: float = 0.0) -> float:
    """Of effective robustness 0, of a pipeline on the line of six dense networks; off: standard
    deviation by which every network, whatever its seeds, is off that line, points."""
    rng, names = np.random.default_rng(n), [*DENSE, "prune"]
    means = np.array([*np.linspace(0.70, 0.90, len(DENSE)), 0.82])[:, None]
    clean = expit(logit(means) + rng.normal(0, 0.05, (studies, len(names), n)))
    corrupted = expit(0.8 * logit(clean) - 1 + rng.normal(0, 0.03, clean.shape))
    corrupted[:, :-1] += rng.normal(0, off / 100, (studies, len(DENSE), 1))
    axes = [["d"], [f"m{i}" for i in range(studies)], ["exp"], [1.0], names, range(n)]
    index = pd.MultiIndex.from_product(axes, names=[*BLOCK, "ratio", "pipeline", "seed"])
    accuracies = pd.DataFrame({"clean": clean.ravel(), "corrupted": corrupted.ravel()}, index)
    infos = [PipelineInfo(name, name, "control", "width5", "width5") for name in DENSE]
    infos.append(PipelineInfo("prune", "prune", "trained", "width5", "width5"))
    table = effective_robustness(accuracies, infos)[0]
    table = table[table["pipeline"] == "prune"]
    return float(((table["lo"] <= 0) & (table["hi"] >= 0)).mean())


def over_images(images: int, studies: int) -> tuple[float, float]:
    """Of the accuracies of a member, and of its change against its parent, over other images."""
    rng, covered = np.random.default_rng(images), np.zeros(2)
    for _ in range(studies):
        dense = rng.random(images) < 0.8
        child = np.where(rng.random(images) < 0.05, rng.random(images) < 0.5, dense)
        drawn = resampled_accuracy(np.stack([dense, child]))
        own, change = (image_intervals(one) for one in (drawn[:, 1], drawn[:, 1] - drawn[:, 0]))
        truth = 0.95 * 0.8 + 0.05 * 0.5
        covered += own[0] <= truth <= own[1], change[0] <= truth - 0.8 <= change[1]
    share = covered / studies
    return float(share[0]), float(share[1])


ROWS: dict[str, tuple[Callable[[int, int], float], int]] = {  # and how many times the studies
    "Welch, twice the spread": (welch, 10),
    "bootstrap, hypervolume of a front": (volume, 1),
    "draws of members, overlap of exemplars": (overlap, 1),
    "draws of members, rate of exemplars": (of_exemplars, 1),
    "draws of members, doubt of exemplars": (
        lambda n, studies: of_exemplars(n, studies, doubted=True), 1,
    ),
    "jackknife, skewness over classes, none": (skewness, 5),
    "jackknife, skewness over classes, one of ten loses 3": (
        lambda n, studies: skewness(n, studies, 3.0), 5,
    ),
    "t, rank correlation over classes": (correlation, 10),
    "t, effective robustness, networks on the line": (effective, 5),
    "the same, networks half a point off it": (
        lambda n, studies: effective(n, studies, 0.5), 5,
    ),
}  # fmt: skip
