"""One-dimensional K-means on sorted weights.

The weights are sorted once; a cluster is an interval of the sorted array, found by binary search
of the midpoints between centroids, and its sum a difference of prefix sums. So a Lloyd iteration
costs about K log n comparisons instead of n K distances. Prefix sums are kept in fixed point
(three int32 limbs of a 24-bit number): integer sums wrap around without loss, so a difference is
exact whatever the length, where float32 prefix sums over 10^6 weights are not, and the same on
every backend.

Starts: K-means++ (Arthur & Vassilvitskii 2007), or those of Han et al. 2016 (arXiv 1510.00149,
section 3.2): weights drawn at random, evenly spaced quantiles (density), evenly spaced numbers from
the smallest to the largest weight (linear). Or the exact optimum (`exact.py`), which Lloyd's
iteration leaves as it is; tensors too large for it start by K-means++. Iteration: Lloyd 1982; an
empty cluster keeps its centroid. The number of clusters is traced, up to a static number of slots.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rcm.compress import exact

FRACTION_BITS = 24  # of the fixed-point weights, as many as a float32 has
LARGEST_TENSOR = 2**23  # weights; beyond, the sum of a limb may not fit in 31 bits


class Sorted(NamedTuple):
    """values float32 [n], ascending and padded with +inf; active: how many are not padding."""

    values: Array
    active: Array


class PrefixSums(NamedTuple):
    """limbs: int32 [n + 1] each, low, middle and high bits; exponent: of a unit, base 2."""

    limbs: tuple[Array, ...]
    exponent: Array


def sort_weights(flat: Array, ignore: Array) -> Sorted:
    """Weights [n] in ascending order, those under the bool mask `ignore` [n] as padding."""
    if flat.size > LARGEST_TENSOR:
        raise ValueError(
            f"A tensor of {flat.size} weights is too large to cluster: expected at most "
            f"{LARGEST_TENSOR}; split the layer or leave it out of clustering."
        )
    values = jnp.sort(jnp.where(ignore, jnp.inf, flat))
    return Sorted(values, (flat.size - ignore.sum()).astype(jnp.int32))


def kmeans(
    draws: Array, weights: Sorted, clusters: Array | int, iterations: int, start: str = "plus_plus"
) -> Array:
    """Centroids float32 [slots], ascending, the first `clusters` in use and the rest +inf.

    draws: float32 [starts, slots, 2], uniform in [0, 1); the best of the starts is kept. They are
    made outside because a random generator in the loop is slow to compile. A start stops when no
    border between clusters moves, or after `iterations` (static).
    """
    sums, begin = prefix_sums(weights), STARTS[start]
    if begin is optimum and weights.values.size <= exact.LARGEST:
        draws = draws[:1]
    centroids, explained = lax.map(
        lambda one: _lloyd(begin(one, weights, clusters), weights, sums, iterations), draws
    )
    return centroids[jnp.argmax(explained)]


def _lloyd(start: Array, weights: Sorted, sums: PrefixSums, iterations: int) -> tuple[Array, Array]:
    """(centroids [slots], sum over clusters of count * mean^2) after Lloyd's iteration.

    The cost is the sum of squared weights minus the second, so the largest is the best.
    """

    def improve(carry):
        i, centroids, edges, _ = carry
        total, count = interval_sums(sums, edges)
        centroids = jnp.where(count > 0, total / jnp.maximum(count, 1), centroids)
        moved = borders(weights, centroids)
        return i + 1, centroids, moved, jnp.any(moved != edges)

    def unfinished(carry):
        return (carry[0] < iterations) & carry[3]

    carry = (jnp.int32(0), start, borders(weights, start), jnp.bool_(True))
    _, centroids, edges, _ = lax.while_loop(unfinished, improve, carry)
    total, count = interval_sums(sums, edges)
    return centroids, jnp.sum(jnp.square(total) / jnp.maximum(count, 1))


def borders(weights: Sorted, centroids: Array) -> Array:
    """int32 [slots + 1]: cluster j holds the sorted weights from border j up to border j + 1."""
    inner = jnp.searchsorted(weights.values, midpoints(centroids)).astype(jnp.int32)
    return jnp.concatenate([jnp.zeros(1, jnp.int32), inner, weights.active[None]])


def midpoints(centroids: Array) -> Array:
    """float32 [slots - 1]; a weight on a midpoint belongs to the upper cluster."""
    return 0.5 * centroids[:-1] + 0.5 * centroids[1:]


def prefix_sums(weights: Sorted) -> PrefixSums:
    """Fixed-point prefix sums, in units that make the largest weights exact."""
    values = jnp.where(jnp.isfinite(weights.values), weights.values, 0)
    exponent = jnp.frexp(jnp.max(jnp.abs(values)))[1] - FRACTION_BITS
    fixed = jnp.round(jnp.ldexp(values, -exponent)).astype(jnp.int32)
    limbs = (fixed & 255, (fixed >> 8) & 255, fixed >> 16)
    return PrefixSums(tuple(jnp.cumsum(jnp.pad(limb, (1, 0))) for limb in limbs), exponent)


def interval_sums(sums: PrefixSums, edges: Array) -> tuple[Array, Array]:
    """(sums float32 [k], counts int32 [k]) of the weights between edges int32 [k + 1]."""
    low, middle, high = (
        (limb[edges[1:]] - limb[edges[:-1]]).astype(jnp.float32) for limb in sums.limbs
    )
    return jnp.ldexp(high * 65536 + middle * 256 + low, sums.exponent), edges[1:] - edges[:-1]


def plus_plus(draws: Array, weights: Sorted, clusters: Array | int) -> Array:
    """[slots] starting centroids, ascending: each drawn with probability in proportion to D^2."""
    values = weights.values
    first = values[(draws[0, 0] * weights.active).astype(jnp.int32)]
    real = jnp.arange(values.size) < weights.active
    nearest = jnp.where(real, jnp.square(values - first), 0)  # 0 stays 0: never drawn
    centroids = jnp.full(len(draws), jnp.inf).at[0].set(first)

    def add(i, carry):
        centroids, nearest = carry
        chosen = values[_draw(draws[i], nearest)]
        return centroids.at[i].set(chosen), jnp.minimum(nearest, jnp.square(values - chosen))

    return jnp.sort(lax.fori_loop(1, clusters, add, (centroids, nearest))[0])


def random_weights(draws: Array, weights: Sorted, clusters: Array | int) -> Array:
    """[slots] starting centroids, ascending: weights drawn uniformly."""
    return _start(weights.values[(draws[:, 0] * weights.active).astype(jnp.int32)], clusters)


def quantiles(draws: Array, weights: Sorted, clusters: Array | int) -> Array:
    """[slots] starting centroids, ascending: the middles of equally many weights each."""
    share = (jnp.arange(len(draws)) + 0.5) / jnp.maximum(clusters, 1)
    place = jnp.minimum((share * weights.active).astype(jnp.int32), weights.active - 1)
    return _start(weights.values[jnp.maximum(place, 0)], clusters)


def evenly_spaced(draws: Array, weights: Sorted, clusters: Array | int) -> Array:
    """[slots] starting centroids, ascending: from the smallest to the largest weight."""
    smallest, largest = weights.values[0], weights.values[jnp.maximum(weights.active - 1, 0)]
    share = jnp.arange(len(draws)) / jnp.maximum(clusters - 1, 1)
    return _start(smallest + share * (largest - smallest), clusters)


def optimum(draws: Array, weights: Sorted, clusters: Array | int) -> Array:
    """[slots] centroids of the exact optimum; of more than `exact.LARGEST` weights K-means++'s."""
    if weights.values.size > exact.LARGEST:
        return plus_plus(draws, weights, clusters)
    slots = len(draws)

    def on_host(values: Array, active: Array, clusters: Array) -> np.ndarray:
        return exact.optimal_centroids(np.asarray(values)[: int(active)], slots, int(clusters))

    shape = jax.ShapeDtypeStruct((slots,), jnp.float32)
    arguments = (weights.values, weights.active, jnp.asarray(clusters, jnp.int32))
    return jax.pure_callback(on_host, shape, *arguments, vmap_method="sequential")


def _start(centroids: Array, clusters: Array | int) -> Array:
    used = jnp.arange(len(centroids)) < clusters
    return jnp.sort(jnp.where(used, centroids, jnp.inf))


# name -> function(draws [slots, 2], weights, clusters) -> [slots] ascending, unused ones +inf
STARTS = {
    "plus_plus": plus_plus,
    "random": random_weights,
    "density": quantiles,
    "linear": evenly_spaced,
    "exact": optimum,
}


def _draw(uniform: Array, mass: Array) -> Array:
    """An index of mass [n] with probability mass / sum: first a block, then a place in it.

    uniform: [2], two of them because one float32 uniform has only 2^23 values.
    """
    width = math.isqrt(mass.size - 1) + 1
    blocks = jnp.pad(mass, (0, -mass.size % width)).reshape(-1, width)
    block = _inverse_cdf(uniform[0], blocks.sum(1))
    index = block * width + _inverse_cdf(uniform[1], blocks[block])
    return jnp.minimum(index, mass.size - 1)


def _inverse_cdf(uniform: Array, mass: Array) -> Array:
    cdf = jnp.cumsum(mass)
    index = jnp.searchsorted(cdf, uniform * cdf[-1], side="right")
    return jnp.minimum(index, mass.size - 1)
