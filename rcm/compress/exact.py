"""The exact optimum of one-dimensional K-means, by dynamic programming on the host.

In one dimension clusters are intervals of the sorted weights, so the best K clusters of the first i
weights are the best K - 1 of the first j and one cluster of the rest (Wang & Song 2011, R Journal
3/2). The best j does not decrease with i, so each of the K rows is filled by halving: the middle
first, then both sides between their neighbours' answers (Gronlund et al. 2017, arXiv 1701.07204).
All the middles of one depth are computed together: O(K n log n) in float64, where float32 sums
would make the optimum a matter of rounding.
"""

import numpy as np

LARGEST = 2**16  # weights; more take seconds for 16 clusters


def optimal_centroids(values: np.ndarray, slots: int, clusters: int) -> np.ndarray:
    """float32 [slots], ascending: the centroids of the best at most `clusters` clusters, then +inf.

    values: float32 [n], ascending; equal ones stay together. What is not finite, the weights of a
    diverged member, has no centroids: raising would stop the members beside it.
    """
    centroids = np.full(slots, np.inf, np.float32)
    points, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    used = min(int(clusters), points.size) if np.isfinite(points).all() else 0
    if used:
        shift = points.mean()  # differences of prefix sums lose less around 0
        edges = _best_edges(points - shift, counts, used)
        sums = np.add.reduceat(points * counts, edges[:-1])
        centroids[:used] = sums / np.add.reduceat(counts, edges[:-1])
    return centroids


def _best_edges(points: np.ndarray, counts: np.ndarray, clusters: int) -> np.ndarray:
    """int [clusters + 1]: cluster j holds the points from edge j up to edge j + 1."""
    n = points.size
    sums = np.concatenate([[0], np.cumsum(points * counts)])
    mass = np.concatenate([[0], np.cumsum(counts)])

    def explained(first: np.ndarray, end: np.ndarray) -> np.ndarray:
        """count * mean^2 of the points from `first` up to `end`; cost is a constant minus it."""
        return np.square(sums[end] - sums[first]) / np.maximum(mass[end] - mass[first], 1)

    ends = np.arange(n + 1)
    best = explained(np.zeros_like(ends), ends)
    firsts = []
    for row in range(1, clusters):
        best, first = _next_row(best, explained, row, n)
        firsts.append(first)
    edges = [n]
    for first in reversed(firsts):
        edges.append(int(first[edges[-1]]))
    return np.array([0, *reversed(edges)])


def _next_row(best: np.ndarray, explained, row: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(best sums with one cluster more, where the last cluster begins), both [n + 1] by end.

    best: with `row` clusters; entries for fewer points than clusters mean nothing.
    """
    first, more = np.full(n + 1, row), np.full(n + 1, -np.inf)
    stride = 1 << (n + 1).bit_length()
    while stride > 1:
        half = stride // 2
        ends = np.arange(half, n + 1, stride)
        ends = ends[ends > row]
        low = np.where(ends - half > row, first[np.maximum(ends - half, 0)], row)
        known = ends + half <= n
        high = np.where(known, first[np.minimum(ends + half, n)], n)
        high = np.minimum(high, ends - 1)
        more[ends], first[ends] = _best_of_ranges(best, explained, ends, low, high)
        stride = half
    return more, first


def _best_of_ranges(best, explained, ends, low, high) -> tuple[np.ndarray, np.ndarray]:
    """The largest best[j] + explained(j, end) of every end over low <= j <= high, and its j."""
    if ends.size == 0:
        return np.zeros(0), np.zeros(0, int)
    widths = high - low + 1
    starts = np.cumsum(widths) - widths
    owner = np.repeat(np.arange(ends.size), widths)
    tried = np.arange(widths.sum()) - starts[owner] + low[owner]
    found = best[tried] + explained(tried, ends[owner])
    largest = np.maximum.reduceat(found, starts)
    hits = np.flatnonzero(found == largest[owner])
    _, where = np.unique(owner[hits], return_index=True)
    return largest, tried[hits[where]]
