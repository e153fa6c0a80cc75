"""Images that a compressed population answers differently from a dense one (protocol S4).

Sources: Hooker et al. 2019, "What Do Compressed Deep Neural Networks Forget?" (arXiv 1911.05248),
for exemplars by modal label; Hooker et al. 2020 (arXiv 2010.03058) for the distance of label
histograms, which needs no true labels. The nulls, the held-out accuracies and the jackknife are
ours: two dense populations differ in images as well, so a rate without a null says nothing.

Populations are label arrays [n, N], a row per member; counts are [C, ..., N], the class first,
which is what makes thousands of modal labels cheap.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rcm.analysis.metrics import Labels

Counts = NDArray[np.int16]
Flags = NDArray[np.bool_]
DRAWS, SEED = 200, 0
LEAST = 5  # members, below which a modal label is hardly a population's


class Null(NamedTuple):
    """Rates of exemplars that chance alone makes: their mean, their upper 95 % bound (one-sided)
    and p, the share of draws at least as large as what was observed, which counts as one more."""

    mean: float
    upper: float
    p: float


def label_counts(labels: Labels, classes: int) -> Counts:
    """How many members of a population [n, N] give each label: int16 [C, N]."""
    return np.stack([(labels == c).sum(0, dtype=np.int16) for c in range(classes)])


def modal(counts: NDArray) -> Labels:
    """The most frequent label of each image; ties go to the largest label id, as published.

    counts [C, ...] -> integers [...]: one maximum over "count, then label" as a single number,
    which int16 holds for up to 300 members and 100 classes.
    """
    classes = len(counts)
    fits = classes * (counts.max() + 1) <= np.iinfo(np.int16).max
    wide = counts.dtype if fits else np.dtype(np.int64)
    ids = np.arange(classes, dtype=wide).reshape(-1, *[1] * (counts.ndim - 1))
    return (counts.astype(wide, copy=False) * wide.type(classes) + ids).max(0).astype(int) % classes


def tied(counts: NDArray) -> Flags:
    """Whether two labels are equally and the most frequent: counts [C, ...] -> bool [...]."""
    return (counts == counts.max(0)).sum(0) > 1


def exemplars(dense: NDArray, other: NDArray) -> Flags:
    """Pruning-identified exemplars: images whose modal labels differ, from counts [C, ..., N]."""
    return modal(dense) != modal(other)


def taxicab(dense: Counts, other: Counts) -> NDArray[np.float64]:
    """L1 distance between two populations' label histograms (shares), between 0 and 2, [N]."""
    shares = [counts / counts.sum(0, keepdims=True) for counts in (dense, other)]
    return np.abs(shares[0] - shares[1]).sum(0)


def farthest(distance: NDArray, share: float = 0.01) -> Flags:
    """The Taxicab exemplars: the images above the (1 - share) quantile of the distance, [N]."""
    return distance > np.quantile(distance, 1 - share)


def split_null(one: Labels, two: Labels, classes: int) -> NDArray[np.float64]:
    """Rates [DRAWS] between two halves of the pooled members of two dense populations, one [n, N]
    and two [m, N], drawn at random: what independent populations of these sizes differ by."""
    ranks = np.random.default_rng(SEED).random((DRAWS, len(one) + len(two))).argsort(1)
    return _drawn_rates(np.concatenate([one, two]), ranks < len(one), classes)


def swap_null(one: Labels, two: Labels, classes: int) -> NDArray[np.float64]:
    """Rates [DRAWS] between paired populations [n, N] each in which a member and its parent change
    places by a coin: what they differ by if compression is one of the members' accidents.

    It is a weak null: an image that compression really moves is one that the pooled members do not
    agree on, and enters it as doubtful. That against independent dense members has no such fault.
    """
    swapped = np.random.default_rng(SEED).random((DRAWS, len(one))) < 0.5
    first = np.concatenate([~swapped, swapped], axis=1)
    return _drawn_rates(np.concatenate([one, two]), first, classes)


def against(rates: NDArray, observed: float) -> Null:
    """An observed rate beside the rates of a null [DRAWS]."""
    p = (1 + np.count_nonzero(rates >= observed)) / (1 + len(rates))
    return Null(float(rates.mean()), float(np.quantile(rates, 0.95)), float(p))


def _drawn_rates(pool: Labels, first: Flags, classes: int) -> NDArray[np.float64]:
    """Rates between the members [k, N] that `first` [draws, k] takes and the others."""
    split = pool[:, (pool != pool[0]).any(0)]  # where all agree, any two parts of them do, too
    differ = np.zeros(len(first))
    for start in range(0, split.shape[1], 500):  # what is in work stays in the processor's cache
        part = split[:, start : start + 500]
        differ += (_drawn_modal(part, first, classes) != _drawn_modal(part, ~first, classes)).sum(1)
    return differ / pool.shape[1]


def _drawn_modal(pool: Labels, chosen: Flags, classes: int) -> NDArray[np.int32]:
    """`modal` [draws, N] of the members [k, N] that `chosen` [draws, k] takes, class by class."""
    members = chosen.astype(np.float32) * classes
    best = np.full((len(chosen), pool.shape[1]), -1, np.float32)
    for c in range(classes):
        np.maximum(best, members @ (pool == c).astype(np.float32) + c, out=best)
    return best.astype(np.int32) % classes


def without_each(labels: Labels, counts: Counts) -> Counts:
    """Label counts of a population [n, N] without one member at a time: int16 [C, n, N]."""
    return np.stack([counts[c] - (labels == c) for c in range(len(counts))])


def by_member(whole: float, without: NDArray) -> NDArray[np.float64]:
    """A population's statistic spread over its members [n]: whole + (n - 1) (mean - without[i]).

    The jackknife's influence values (Tukey 1958; Efron & Tibshirani 1993, chapter 11) about the
    statistic itself: their mean is it, and the variance of their mean the jackknife's. The usual
    pseudo-values would also extrapolate to infinitely many members, which is wrong here: one member
    fewer makes an even number odd, and ties rarer.
    """
    n, without = len(without), np.asarray(without, np.float64)
    return whole + (n - 1) * (without.mean() - without)


def rates_by_member(dense: Labels, other: Labels, classes: int) -> NDArray[np.float64]:
    """The rate of exemplars between populations [n, N] each, spread over their members [n]."""
    own, others = label_counts(dense, classes), label_counts(other, classes)
    without = exemplars(without_each(dense, own), without_each(other, others)).mean(1)
    return by_member(float(exemplars(own, others).mean()), without)


def excess_by_member(
    again: Labels, dense: Labels, other: Labels, classes: int
) -> NDArray[np.float64]:
    """The rate of `other` against an independent dense population `again` minus the rate of `dense`
    against it, spread over members [n]; all [n, N], `again` unpaired with the others.

    Both rates are between independent populations of n members, so the difference is 0 in the mean
    if compression changes nothing, whether or not `other` and `dense` are paired.
    """
    return rates_by_member(again, other, classes) - rates_by_member(again, dense, classes)


def doubt_by_member(
    dense: Labels, other: Labels, classes: int, doubt: NDArray
) -> NDArray[np.float64]:
    """Mean doubt [N] of the exemplars of two populations [n, N] minus that of the other images,
    spread over members [n]; NaN if they, or those without one member, have no exemplars."""
    pairs = [(labels, label_counts(labels, classes)) for labels in (dense, other)]
    whole = exemplars(*(counts for _, counts in pairs))[None]
    without = exemplars(*(without_each(*pair) for pair in pairs))
    excess = [_mean_over(doubt, one) - _mean_over(doubt, ~one) for one in (whole, without)]
    return by_member(float(excess[0][0]), excess[1])


class HeldOut(NamedTuple):
    """Accuracies [n], fractions, of each member on the exemplars that all other pairs define and on
    the remaining images; NaN where there are none."""

    own: NDArray[np.float64]
    parent: NDArray[np.float64]
    own_rest: NDArray[np.float64]
    parent_rest: NDArray[np.float64]


def held_out(dense: Labels, other: Labels, truth: Labels, classes: int) -> HeldOut:
    """How members do on exemplars that they had no part in choosing: dense, other [n, N] paired.

    Members are wrong on the images that they themselves made exemplars by answering them wrongly,
    which says nothing of the images; so each is measured on those of the others.
    """
    pairs = [(labels, label_counts(labels, classes)) for labels in (dense, other)]
    chosen = exemplars(*(without_each(*pair) for pair in pairs))
    return HeldOut(
        *(
            _mean_over(labels == truth, among)
            for among in (chosen, ~chosen)
            for labels in (other, dense)
        )
    )


def _mean_over(values: NDArray, among: Flags) -> NDArray[np.float64]:
    """Means over the images of each row of `among` [n, N]; NaN of a row without any."""
    counts = among.sum(1)
    return np.where(counts > 0, (values * among).sum(1) / np.maximum(counts, 1), np.nan)


def jaccard(one: Flags, two: Flags) -> float:
    """Size of the intersection over that of the union of two sets of images; NaN of empty ones."""
    union = np.count_nonzero(one | two)
    return np.count_nonzero(one & two) / union if union else float("nan")


def jaccard_by_chance(one: Flags, two: Flags) -> float:
    """What `jaccard` is for sets of these sizes drawn independently: both, at their expectation."""
    a, b = np.count_nonzero(one), np.count_nonzero(two)
    both = a * b / one.size
    return both / (a + b - both) if a + b else float("nan")
