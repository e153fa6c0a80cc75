"""Ranks of several pipelines over blocks (seeds, data sets, networks): Friedman and Nemenyi.

What follows Demšar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets".
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from rcm.analysis.statistics import BLOCK


class Ranking(NamedTuple):
    """Mean ranks (1 is best, ties at their mean), a float per pipeline, the best first; Friedman's
    chi2 of k - 1 degrees of freedom, its p, and the least p that n identical rankings have."""

    mean_ranks: pd.Series
    n: int
    chi2: float
    p: float
    smallest_p: float


def friedman(table: pd.DataFrame, larger_is_better: bool) -> Ranking:
    """Friedman's test (1937) that the columns of `table` [n blocks, k pipelines] do not differ, by
    its chi-square approximation, ties corrected.

    The approximation is conservative for few blocks. Blocks must not share what makes pipelines
    differ: seeds of one data set answer for that data set alone. Blocks with a missing value are
    left out. ValueError for fewer than three pipelines or two blocks.
    """
    whole = table.dropna()
    n, k = whole.shape
    if n < 2 or k < 3:
        raise ValueError(
            f"the table has {n} complete blocks and {k} pipelines, expected at least two and "
            "three; compare two pipelines by a paired t test"
        )
    values = whole.to_numpy(np.float64).round(9)  # equal up to the rounding of means is a tie
    ranks = stats.rankdata(-values if larger_is_better else values, axis=1)
    mean_ranks = pd.Series(ranks.mean(axis=0), whole.columns).sort_values(kind="stable")
    chi2, p = 0.0, 1.0
    if (np.ptp(values, axis=1) > 0).any():
        chi2, p = map(float, stats.friedmanchisquare(*values.T))
    return Ranking(mean_ranks, n, chi2, p, float(stats.chi2.sf(n * (k - 1), k - 1)))


def critical_difference(k: int, n: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of two of k mean ranks over n blocks: q sqrt(k (k + 1) / 6 n),
    q the 1 - alpha quantile of the studentized range of k and infinitely many degrees of freedom
    over sqrt(2)."""
    q = stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(k * (k + 1) / (6 * n)))


def not_told_apart(mean_ranks: pd.Series, difference: float) -> list[list[str]]:
    """The bars of a critical-difference diagram: the largest sets of two or more pipelines whose
    mean ranks all lie within `difference` of one another, the best first."""
    ordered = mean_ranks.sort_values(kind="stable")
    ends = np.searchsorted(ordered.to_numpy(), ordered.to_numpy() + difference, side="right")
    groups, reached = [], 0
    for start, end in enumerate(ends):
        if end > reached and end - start > 1:
            groups.append([str(name) for name in ordered.index[start:end]])
            reached = end
    return groups


def rank_table(members: pd.DataFrame) -> pd.DataFrame:
    """Mean ranks of the pipelines over the seeds of every block and ratio, in each objective (a
    column, of which more is better) that three pipelines have in two seeds.

    members: indexed by block, ratio, seed and pipeline, such as `tradeoffs.objectives`. Long:
    block, ratio, objective, pipeline, rank, n, chi2, p, smallest_p, difference (Nemenyi's critical
    one); the best first.
    """
    rows = []
    for key, part in members.groupby(level=[*BLOCK, "ratio"], sort=False) if len(members) else ():
        for name in members.columns:
            table = part[name].unstack("pipeline").dropna(axis="columns", how="all").dropna()
            if len(table) < 2 or table.shape[1] < 3:
                continue
            found = friedman(table, larger_is_better=True)
            about = (*found[1:], critical_difference(table.shape[1], found.n))
            rows += [(*key, name, p, rank, *about) for p, rank in found.mean_ranks.items()]
    names = ["objective", "pipeline", "rank", *Ranking._fields[1:], "difference"]
    return pd.DataFrame(rows, columns=pd.Index([*BLOCK, "ratio", *names]))
