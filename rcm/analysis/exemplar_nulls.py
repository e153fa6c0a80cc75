"""What chance alone makes of exemplars: rates between members of populations divided otherwise.

Two dense populations differ in images as well, so that a rate without such a null says nothing;
both nulls are ours (protocol S4).
"""

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rcm.analysis.exemplars import DRAWS, SEED, Flags, drawn_modal
from rcm.analysis.metrics import Labels

FEW = 300  # ways to divide members, up to which all are taken and none is drawn


class Chance(NamedTuple):
    """Rates [ways] of exemplars that chance alone makes; whole: they are those of all ways to
    divide the members, that of the populations at hand among them."""

    rates: NDArray[np.float64]
    whole: bool = False


class Null(NamedTuple):
    """Of such rates their mean, their upper 95 % bound (one-sided) and p, the share of ways that
    make at least what was observed, which counts as one more unless it is one of them; and least,
    the smallest p that there could be."""

    mean: float
    upper: float
    p: float
    least: float


def split_null(one: Labels, two: Labels, classes: int) -> Chance:
    """Rates between two parts of the pooled members of two dense populations, one [n, N] and two
    [m, N], of their sizes: what independent populations differ by. All divisions into two are
    taken if they are `FEW`, else `DRAWS` at random."""
    n, m = len(one), len(two)
    if math.comb(n + m, n) <= FEW:
        ways = np.array([np.isin(np.arange(n + m), c) for c in combinations(range(n + m), n)])
        ways = ways[ways[:, 0]] if n == m else ways  # either part may be called the first
    else:
        ways = np.random.default_rng(SEED).random((DRAWS, n + m)).argsort(1) < n
    return Chance(_drawn_rates(np.concatenate([one, two]), ways, classes))


def swap_null(one: Labels, two: Labels, classes: int) -> Chance:
    """Rates between paired populations [n, N] each in which members and their parents change
    places: what they differ by if compression is one of the members' accidents. All ways are taken
    if they are `FEW`, else `DRAWS` by the toss of a coin for each member.

    It is a weak null: an image that compression really moves is one that the pooled members do not
    agree on, and enters it as doubtful. That against independent dense members has no such fault.
    """
    n = len(one)
    whole = 2 ** (n - 1) <= FEW  # either population may be called the first: a member stays
    if whole:
        swapped = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1 == 1
    else:
        swapped = np.random.default_rng(SEED).random((DRAWS, n)) < 0.5
    first = np.concatenate([~swapped, swapped], axis=1)
    return Chance(_drawn_rates(np.concatenate([one, two]), first, classes), whole)


def against(chance: Chance, observed: float) -> Null:
    """An observed rate beside those of chance."""
    rates, more = chance.rates, int(not chance.whole)
    ways = len(rates) + more
    p = (more + np.count_nonzero(rates >= observed)) / ways
    return Null(float(rates.mean()), float(np.quantile(rates, 0.95)), float(p), 1 / ways)


def _drawn_rates(pool: Labels, first: Flags, classes: int) -> NDArray[np.float64]:
    """Rates between the members [k, N] that `first` [draws, k] takes and the others."""
    split = pool[:, (pool != pool[0]).any(0)]  # where all agree, any two parts of them do, too
    differ = np.zeros(len(first))
    for start in range(0, split.shape[1], 500):  # what is in work stays in the processor's cache
        part = split[:, start : start + 500]
        differ += (drawn_modal(part, first, classes) != drawn_modal(part, ~first, classes)).sum(1)
    return differ / pool.shape[1]
