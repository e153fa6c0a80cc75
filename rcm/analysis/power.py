"""What n seeds can show: power of the paired t test, and the effect or margin within its reach.

Standard deviations are of per-seed differences. Taken from the same few seeds they are uncertain
themselves: at n = 3 the true one is between 0.5 and 6.3 times as large (95 %).

scipy's noncentral t, also by way of statsmodels, gives NaN or wrong numbers (for n = 2 and power
.95 an effect of 10 instead of 17.7) beyond a noncentrality of about 7, where tests of few seeds
are; so normal probabilities are averaged over the chi distribution of the sample's deviation here.
"""

import functools
from collections.abc import Callable

import numpy as np
from scipy import optimize, stats

ALPHA, POWER = 0.05, 0.8
LARGEST = 1e6  # standard errors; nothing beyond is looked for
SHARES = (np.arange(4000) + 0.5) / 4000  # quantiles over which is averaged


def paired_power(effect: float, sd: float, n: int, alpha: float = ALPHA) -> float:
    """Probability that the two-sided paired t test of n >= 2 differences, normal with mean `effect`
    and standard deviation `sd`, gives p <= alpha: of |mean| > t(n - 1) s / sqrt(n), to 1e-5."""
    half, standardized = _half_widths(n, alpha), effect * np.sqrt(n) / sd
    beyond = stats.norm.sf(half - standardized) + stats.norm.sf(half + standardized)
    return float(beyond.mean())


def interval_power(margin: float, sd: float, n: int, alpha: float = ALPHA) -> float:
    """Probability that the interval of level 1 - alpha of n >= 2 such differences lies within
    +-margin where their true mean is 0: of |mean| + t(n - 1) s / sqrt(n) < margin."""
    room = margin * np.sqrt(n) / sd - _half_widths(n, alpha)
    return float(np.maximum(2 * stats.norm.cdf(room) - 1, 0).mean())


def detectable_effect(sd: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The minimum detectable effect: the smallest |effect|, in the unit of `sd`, that has
    `paired_power` power; NaN for n < 2 or without a positive sd."""
    return _smallest(paired_power, sd, n, alpha, power)


def provable_margin(sd: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest margin, in the unit of `sd`, that has `interval_power` power, within which
    equality can be shown; NaN for n < 2 or without a positive sd."""
    return _smallest(interval_power, sd, n, alpha, power)


def _smallest(
    power_of: Callable[[float, float, int, float], float],
    sd: float,
    n: int,
    alpha: float,
    power: float,
) -> float:
    return sd * _standardized(power_of, n, alpha, power) if n > 1 and sd > 0 else float("nan")


@functools.cache
def _standardized(
    power_of: Callable[[float, float, int, float], float], n: int, alpha: float, power: float
) -> float:
    """In standard deviations; the same for all pipelines of a study."""
    return float(optimize.brentq(lambda size: power_of(size, 1.0, n, alpha) - power, 0, LARGEST))


@functools.cache
def _half_widths(n: int, alpha: float) -> np.ndarray:
    """Equally likely half widths of the interval, in true standard errors."""
    s = np.sqrt(stats.chi2.ppf(SHARES, n - 1) / (n - 1))
    return stats.t.ppf(1 - alpha / 2, n - 1) * s
