"""Intervals by resampling, for what has no t: the interquartile mean over seeds, and accuracies
over images."""

import functools

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from rcm.analysis.statistics import BLOCK, ESTIMATE_COLUMNS, Estimate, usable, wide

DRAWS, SEED = 2000, 0


def interquartile_mean(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of the middle half of all values, the lowest and highest quarter (rounded down) left
    out, with a percentile bootstrap interval over seeds (Agarwal et al. 2021, arXiv 2108.13264).

    values: [seeds] or [seeds, cells]; seeds are drawn whole, since their cells share luck (the
    source draws runs of each task on their own). Seeds with a NaN are left out. Fewer than four
    values are just averaged. The bootstrap is too narrow for few seeds: docs/statistics.md has its
    measured coverage; n = 1 has no interval.
    """
    table = np.asarray(values, np.float64)
    table = table if table.ndim == 2 else table[:, None]
    table = table[~np.isnan(table).any(axis=1)]
    n = len(table)
    if not table.size:
        return Estimate(np.nan, np.nan, np.nan, 0, "missing")
    mean = float(stats.trim_mean(table.ravel(), 0.25))
    if n == 1:
        return Estimate(mean, np.nan, np.nan, 1, "no interval (n = 1)")
    draws = stats.trim_mean(table[drawn_seeds(n)].reshape(DRAWS, -1), 0.25, axis=1)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(mean, float(low), float(high), n, "bootstrap over seeds, too narrow")


@functools.lru_cache(maxsize=1)  # the same for all pipelines of a study
def drawn_seeds(n: int) -> NDArray[np.int64]:
    """Places of seeds that are drawn from n with replacement, [DRAWS, n]."""
    return np.random.default_rng(SEED).integers(0, n, (DRAWS, n))


def middle_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Interquartile means of accuracy on clean images and, over all corruptions and severities,
    on corrupted ones (`accuracy_iqm`, `corrupted_accuracy_iqm`), percent, as `estimates` has
    means; a seed that lacks a cell which others of its pipeline have is left out."""
    rows = usable(frame, "accuracy")
    shifted = wide(rows, "accuracy", None, ("shift", "severity"))
    tables = {
        "accuracy_iqm": wide(rows, "accuracy"),
        "corrupted_accuracy_iqm": shifted.unstack(["shift", "severity"]),
    }
    found = []
    for quantity, table in tables.items():
        for key, part in table.groupby(level=[*BLOCK, "ratio"], sort=False):
            for name in part.columns.unique("pipeline"):
                own = pd.DataFrame(part[name]).dropna(axis="columns", how="all").to_numpy()
                if own.size and not np.isnan(own).any(axis=1).all():
                    estimate = interquartile_mean(100 * own)
                    found.append((*key, name, quantity, "", "percent", *estimate))
    return pd.DataFrame(found, columns=pd.Index(ESTIMATE_COLUMNS))


def resampled_accuracy(right: NDArray, draws: int = DRAWS, seed: int = SEED) -> NDArray[np.float64]:
    """Accuracies [draws, rows] of [rows, N], whether a member answers each image rightly, bool, or
    how many of several do, in the mean (so also differences of such shares), on resampled images:
    every image counts Poisson(1) times, the same for all rows (the Poisson bootstrap, Hanley &
    MacGibbon 2006), so that differences are paired by image."""
    right = np.asarray(right)
    if right.ndim != 2 or not right.shape[1]:
        raise ValueError(
            f"right answers are {right.dtype} {list(right.shape)}, expected [members, images] with "
            "at least one image"
        )
    weights = np.random.default_rng(seed).poisson(1.0, (draws, right.shape[1])).astype(np.float64)
    weights[~weights.any(axis=1)] = 1  # of a handful of images sometimes none is drawn
    return weights @ right.T.astype(np.float64) / weights.sum(axis=1, keepdims=True)


def image_intervals(drawn: NDArray[np.float64], level: float = 0.95) -> NDArray[np.float64]:
    """(low, high) [2, ...] of what was drawn [draws, ...], accuracies or their differences: how far
    other test images of the same kind would have moved it, the members as they are. What other
    seeds would have done is not in it."""
    return np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
