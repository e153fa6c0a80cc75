"""Images that a compressed population answers differently from a dense one (protocol S4).

Sources: Hooker et al. 2019, "What Do Compressed Deep Neural Networks Forget?" (arXiv 1911.05248),
for exemplars by modal label; Hooker et al. 2020 (arXiv 2010.03058) for the distance of label
histograms, which needs no true labels. The held-out accuracies and how rates are spread over
members are ours; what chance makes of a rate is in `exemplar_nulls`.

Populations are label arrays [n, N], a row per member; counts are [C, ..., N], the class first,
which is what makes thousands of modal labels cheap.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rcm.analysis.metrics import Labels

Counts = NDArray[np.int16]
Flags = NDArray[np.bool_]
DRAWS, SEED = 200, 0
LEAST = 5  # members, below which a modal label is hardly a population's


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
    """The Taxicab exemplars: the images that are at least as far as the (1 - share) quantile of the
    distance [N], but not at 0. Of few members many are equally far: then they are more."""
    steps = distance.round(9)  # sums of the same shares differ in their last bits
    least = np.quantile(steps, 1 - share, method="higher")
    return (steps >= least) & (steps > 0)


def drawn_modal(pool: Labels, times: NDArray, classes: int) -> NDArray[np.int32]:
    """`modal` [draws, N] of the members [k, N], each taken `times` [draws, k], class by class."""
    members = times.astype(np.float32) * classes
    best = np.full((len(times), pool.shape[1]), -1, np.float32)
    for c in range(classes):
        np.maximum(best, members @ (pool == c).astype(np.float32) + c, out=best)
    return best.astype(np.int32) % classes


class Votes(NamedTuple):
    """A population's labels [n, N], its modal label of each image and whether another is as
    frequent [N], that of its members without one of them at a time [n, N], and that of n
    populations of n of its members, drawn with replacement, the same places in all populations of n
    [n, N]."""

    labels: Labels
    modal: Labels
    tied: Flags
    without: Labels
    redrawn: Labels


def votes(labels: Labels, classes: int) -> Votes:
    """The modal labels of a population [n, N], whole, without each member, and drawn again.

    One vote less cannot unseat a label that leads by two, so only close images are counted again;
    where all members agree, whoever is drawn does.
    """
    counts = label_counts(labels, classes)
    whole = modal(counts)
    second, first = np.partition(counts, -2, axis=0)[-2:]
    without = np.tile(whole, (len(labels), 1))
    close = first - second < 2
    if close.any():
        fewer = np.stack([counts[c, close] - (labels[:, close] == c) for c in range(classes)])
        without[:, close] = modal(fewer)
    n, redrawn = len(labels), np.tile(whole, (len(labels), 1))
    times = _drawn_times(n)
    split = np.flatnonzero(first < n)
    for part in np.split(split, range(500, len(split), 500)):  # stays in the processor's cache
        redrawn[:, part] = drawn_modal(labels[:, part], times, classes)
    return Votes(labels, whole, first == second, without, redrawn)


@functools.cache
def _drawn_times(n: int) -> NDArray[np.int64]:
    """How often each of n members is drawn into each of n populations [n, n], read-only."""
    times = np.random.default_rng([SEED, n]).multinomial(n, np.full(n, 1 / n), size=n)
    times.setflags(write=False)
    return times


def among(one: Votes, images: Flags | Labels) -> Votes:
    """A population's labels of some of the images, by bool [N] or their places [k]."""
    parts = {"without": one.without[:, images], "redrawn": one.redrawn[:, images]}
    return Votes(one.labels[:, images], one.modal[images], one.tied[images], **parts)


def by_member(whole: float, without: NDArray) -> NDArray[np.float64]:
    """A population's statistic spread over its members [n]: whole + (n - 1) (mean - without[i]).

    The jackknife's influence values (Tukey 1958; Efron & Tibshirani 1993, chapter 11) about the
    statistic itself: their mean is it, and the variance of their mean the jackknife's. The usual
    pseudo-values would also extrapolate to infinitely many members, which is wrong here: one member
    fewer makes an even number odd, and ties rarer.
    """
    n, without = len(without), np.asarray(without, np.float64)
    return whole + (n - 1) * (without.mean() - without)


def by_draw(whole: float, redrawn: NDArray) -> NDArray[np.float64]:
    """A population's statistic spread over n draws of n of its members: the values' mean is it, and
    the variance of their mean that of the statistic over the draws (the bootstrap's, Efron &
    Tibshirani 1993, chapter 6, times n / (n - 1), without which few members vary too little).

    For what counts modal labels, of which leaving out one member is a poor guide: it moves a label
    only where the vote is close, so that the jackknife's variance grows with n where the true one
    does not. As many draws as members leave the variance as unsure as t of n - 1 degrees supposes.
    """
    n, redrawn = len(redrawn), np.asarray(redrawn, np.float64)
    return whole + n / np.sqrt(n - 1) * (redrawn - redrawn.mean())


class Chosen(NamedTuple):
    """Which images are exemplars of two paired populations [N], and of each of n draws of their
    members [n, N]; who the members are."""

    whole: Flags
    redrawn: Flags
    seeds: tuple[int, ...] = ()


def chosen(dense: Votes, other: Votes, seeds: Sequence[int] = ()) -> Chosen:
    """The exemplars of paired populations."""
    return Chosen(dense.modal != other.modal, dense.redrawn != other.redrawn, tuple(seeds))


def rates_by_member(dense: Votes, other: Votes) -> NDArray[np.float64]:
    """The rate of exemplars between paired populations of n members, spread over draws [n]."""
    redrawn = (dense.redrawn != other.redrawn).mean(1)
    return by_draw(float((dense.modal != other.modal).mean()), redrawn)


def excess_by_member(again: Votes, dense: Votes, other: Votes) -> NDArray[np.float64]:
    """The rate of `other` against an independent dense population `again` minus the rate of `dense`
    against it, spread over draws [n]; all of n members, `again` unpaired with the others.

    Both rates are between independent populations of n members, so the difference is 0 in the mean
    if compression changes nothing, whether or not `other` and `dense` are paired.
    """
    apart = again._replace(redrawn=np.roll(again.redrawn, 1, axis=0))  # draws of its own
    return rates_by_member(apart, other) - rates_by_member(apart, dense)


def overlap_by_member(one: Chosen, two: Chosen) -> NDArray[np.float64]:
    """The Jaccard index of two sets of exemplars among the same images, both of n members, spread
    over draws [n]; NaN if they, or those of a draw, have none at all."""
    shares = [jaccard(a, b) for a, b in zip(one.redrawn, two.redrawn, strict=True)]
    return by_draw(jaccard(one.whole, two.whole), np.array(shares))


def doubt_by_member(dense: Votes, other: Votes, doubt: NDArray) -> NDArray[np.float64]:
    """Mean doubt [N] of the exemplars of two populations minus that of the other images, spread
    over draws [n]; NaN if they, or those of a draw, have no exemplars."""

    def excess(chosen: Flags) -> NDArray[np.float64]:
        on, count = np.where(chosen, doubt, 0).sum(-1), chosen.sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return on / count - (doubt.sum() - on) / (doubt.size - count)

    whole = excess(dense.modal != other.modal)
    return by_draw(float(whole), excess(dense.redrawn != other.redrawn))


class HeldOut(NamedTuple):
    """Accuracies, fractions, of members on the exemplars that all other pairs define and on the
    remaining images, spread over members [n]; NaN where some of these sets are empty."""

    own: NDArray[np.float64]
    parent: NDArray[np.float64]
    own_rest: NDArray[np.float64]
    parent_rest: NDArray[np.float64]


def held_out(dense: Votes, other: Votes, truth: Labels) -> HeldOut:
    """How members do on exemplars that they had no part in choosing: dense, other [n, N] paired.

    Members are wrong on the images that they themselves made exemplars by answering them wrongly,
    which says nothing of the images; so each is measured on those of the others. The spread is not
    that of these n accuracies, which are of nearly the same images and vary too little (intervals
    of 95 % covered 63 % of simulated differences between equals): it is the jackknife's, of the
    accuracy on the exemplars without one pair of the members without it.
    """
    chosen = dense.without != other.without
    right = [labels == truth for labels in (other.labels, dense.labels)]
    on, rest = ([_spread(one, images) for one in right] for images in (chosen, ~chosen))
    return HeldOut(*on, *rest)


def _spread(right: Flags, images: Flags) -> NDArray[np.float64]:
    """Shares of right answers [n, N], each member's of the images [n, N] of its row, in the mean;
    spread by the shares of all others on the same images."""
    by_row = right.astype(np.float32) @ images.T.astype(np.float32)  # [member, row]
    own, count, others = np.diag(by_row), images.sum(1), len(right) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return by_member(float((own / count).mean()), (by_row.sum(0) - own) / (others * count))


def jaccard(one: Flags, two: Flags) -> float:
    """Size of the intersection over that of the union of two sets of images; NaN of empty ones."""
    union = np.count_nonzero(one | two)
    return np.count_nonzero(one & two) / union if union else float("nan")


def jaccard_by_chance(one: Flags, two: Flags) -> float:
    """What `jaccard` is for sets of these sizes drawn independently: both, at their expectation."""
    a, b = np.count_nonzero(one), np.count_nonzero(two)
    both = a * b / one.size
    return both / (a + b - both) if a + b else float("nan")
