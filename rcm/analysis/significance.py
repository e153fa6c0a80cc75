"""Tests beside the paired t test, and what none of them can say with few seeds.

Differences are one value per seed; NaN (a missing seed) is dropped.
"""

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from rcm.analysis.statistics import no_spread

DRAWS, SEED = 9999, 0  # sign flips that are drawn where there are more
EXACT = 13  # differences up to which all of their 2^n sign flips are looked at


class Tested(NamedTuple):
    """Two-sided p of a test, and the least that it could have been with differences of this
    number; a test whose `smallest_p` is above alpha answers nothing. NaN without a test."""

    p: float
    smallest_p: float


def sign_flip(differences: ArrayLike) -> Tested:
    """That the differences are as likely to have the other sign (Fisher 1935; Pitman 1937), by
    their mean under flips of signs: all of them up to `EXACT` differences, else `DRAWS` drawn ones
    with (r + 1) / (DRAWS + 1). It assumes symmetry about 0, not a normal distribution."""
    present = _present(differences)
    if present.size < 2:
        return Tested(np.nan, np.nan)
    smallest = max(smallest_p(int(np.count_nonzero(present))), 2 / (DRAWS + 1))
    if present.size > EXACT:
        return Tested(_drawn_flips(present), smallest)
    found = stats.permutation_test(
        (present,), np.mean, permutation_type="samples", vectorized=True, n_resamples=DRAWS
    )
    return Tested(float(found.pvalue), smallest)


def _drawn_flips(values: np.ndarray) -> float:
    """p of `sign_flip` of values [n] by drawn flips, as scipy's `permutation_test` counts them, but
    by one matrix product: scipy moves the values of every draw about, which takes twenty times as
    long. Means that differ by rounding alone are equal."""
    means, found = (2 * (_kept(values.size) @ values) - values.sum()) / values.size, values.mean()
    rounding = 1e-12 * np.abs(values).mean()
    below, above = (means <= found + rounding).sum(), (means >= found - rounding).sum()
    return min(1.0, 2 * float(min(below, above) + 1) / (DRAWS + 1))


@functools.lru_cache(maxsize=1)  # the same for all pipelines of a study
def _kept(n: int) -> np.ndarray:
    """Which of n signs are kept in each draw, bool [DRAWS, n]: the lowest of 32 random bits, as in
    scipy, which shuffles a value and its opposite."""
    draw = np.random.default_rng(SEED)
    return (draw.integers(2**32, size=(DRAWS, n), dtype=np.uint32) & 1).astype(bool)


def smallest_p(differences: int) -> float:
    """The least two-sided p of `sign_flip` and `wilcoxon` with so many differences that are not 0:
    that of all signs alike, 2 / 2^n, which is .25 at n = 3, .0625 at 5 and below .05 from 6 on."""
    return min(1.0, 2 * 0.5**differences)


def wilcoxon(differences: ArrayLike) -> Tested:
    """Wilcoxon's signed-rank test (1945), zeros left out, ties at their mean ranks: exact up to
    `EXACT` differences, also with ties, by flips of the signed ranks (scipy's enumeration takes a
    hundred times as long), above by scipy's exact table or normal approximation."""
    present = _present(differences)
    if present.size < 2:
        return Tested(np.nan, np.nan)
    nonzero = present[present != 0]
    if not nonzero.size:
        return Tested(1.0, 1.0)
    if 1 < nonzero.size <= EXACT:
        return sign_flip(np.sign(nonzero) * stats.rankdata(np.abs(nonzero)))
    return Tested(float(stats.wilcoxon(nonzero).pvalue), smallest_p(nonzero.size))


def welch(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p of Welch's t test (1947) that two independent groups have one mean.

    NaN where there is no test: a group of fewer than two, or no spread in either and other means;
    without spread and with equal means p is 1 (protocols).
    """
    groups = [_present(values) for values in (first, second)]
    if min(group.size for group in groups) < 2:
        return float("nan")
    if all(no_spread(group) for group in groups):
        return 1.0 if no_spread([groups[0].mean(), groups[1].mean()]) else float("nan")
    moments = [(group.mean(), group.std(ddof=1), group.size) for group in groups]
    return float(stats.ttest_ind_from_stats(*moments[0], *moments[1], equal_var=False).pvalue)


def tost(differences: ArrayLike, margin: float) -> float:
    """p of two one-sided paired t tests that the mean is within +-`margin` (Schuirmann 1987), the
    larger of theirs; small means equivalence. NaN with fewer than two values or without spread."""
    present = _present(differences)
    if present.size < 2 or no_spread(present):
        return float("nan")
    above = stats.ttest_1samp(present, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(present, margin, alternative="less").pvalue
    return float(max(above, below))


def benjamini_hochberg(p_values: ArrayLike) -> np.ndarray:
    """p-values adjusted to the false discovery rate (Benjamini & Hochberg 1995), same order; NaN
    stays and is not counted."""
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, np.nan)
    given = ~np.isnan(p)
    if given.any():
        adjusted[given] = stats.false_discovery_control(p[given], method="bh")
    return adjusted


def _present(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, np.float64).ravel()
    return values[~np.isnan(values)]
