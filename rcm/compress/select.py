"""The smallest scores, exactly as many as asked for, without sorting.

A threshold is found bit by bit on the scores' bit patterns, then, among those equal to it, an index
bit by bit: some 55 passes over the scores that only compare and count. Sorting the 23.5 M weights
of a ResNet-50 takes several times as long, and room for their order.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

SIGN = np.uint32(1 << 31)


def smallest(scores: Mapping[str, Array], counts: Mapping[str, Array]) -> dict[str, Array]:
    """bool masks, True for the counts[name] smallest of each scores[name].

    scores: float32 arrays of any shape, without NaN; counts: int32 scalars between 0 and the size,
    which may be traced. Of equal scores those with the lowest row-major index come first; 0, -0
    and, where a backend flushes them, subnormal numbers are equal.
    """
    wanted = jnp.stack([jnp.asarray(counts[name], jnp.int32) for name in scores])
    masks = _smallest([[array] for array in scores.values()], wanted)
    return {name: mask for name, [mask] in zip(scores, masks, strict=True)}


def smallest_of_all(scores: Mapping[str, Array], count: Array | int) -> dict[str, Array]:
    """Like `smallest`, but the `count` smallest of all scores together; ties in the order given."""
    wanted = jnp.asarray(count, jnp.int32)[None]
    return dict(zip(scores, _smallest([list(scores.values())], wanted)[0], strict=True))


@jax.jit
def nth_smallest(values: Array, n: Array | int) -> Array:
    """The value of rank n (from 1, traced or not) among float32 values of any shape, without NaN.

    Equal to sorting and picking, except that -0 is 0.
    """
    keys = _ordered(values)
    bits = _first(lambda t: _total([keys <= t[0]])[None] >= n, 1, 32)[0]
    bits = jnp.where(bits >= SIGN, bits ^ SIGN, ~bits)
    return lax.bitcast_convert_type(bits, jnp.float32)


@jax.jit
def _smallest(groups: list[list[Array]], wanted: Array) -> list[list[Array]]:
    keys = [[_ordered(scores) for scores in group] for group in groups]
    places = [_places(group) for group in groups]

    def where(condition: Callable) -> list[list[Array]]:
        """condition(key, place, index of the group) of every entry."""
        return [
            [condition(k, p, i) for k, p in zip(*pairs, strict=True)]
            for i, pairs in enumerate(zip(keys, places, strict=True))
        ]

    def count(condition: Callable) -> Array:
        """How many entries of each group fulfil it, int32 [groups]."""
        return jnp.stack([_total(hits) for hits in where(condition)])

    threshold = _first(lambda t: count(lambda k, p, i: k <= t[i]) >= wanted, len(groups), 32)
    missing = wanted - count(lambda k, p, i: k < threshold[i])
    last = _first(
        lambda t: count(lambda k, p, i: (k == threshold[i]) & (p <= t[i])) >= missing,
        len(groups),
        bits=max(sum(scores.size for scores in group) for group in groups).bit_length(),
    )

    def chosen(k: Array, p: Array, i: int) -> Array:
        tied = (k == threshold[i]) & (p <= last[i])
        return (wanted[i] > 0) & ((k < threshold[i]) | tied)

    return where(chosen)


def _first(reached: Callable[[Array], Array], groups: int, bits: int) -> Array:
    """The smallest uint32 numbers [groups] below 2^bits with reached(numbers) True, elementwise.

    reached must stay True above, and be True for the largest.
    """

    def settle(i: Array, found: Array) -> Array:
        bit = jnp.uint32(1 << (bits - 1)) >> i.astype(jnp.uint32)
        return jnp.where(reached(found | (bit - 1)), found, found | bit)

    return lax.fori_loop(0, bits, settle, jnp.zeros(groups, jnp.uint32))


def _total(hits: list[Array]) -> Array:
    return sum((jnp.sum(hit, dtype=jnp.int32) for hit in hits), jnp.int32(0))


def _ordered(scores: Array) -> Array:
    """uint32 numbers in the order of the float32 scores."""
    scores = jnp.where(scores == 0, 0, scores.astype(jnp.float32))
    bits = lax.bitcast_convert_type(scores, jnp.uint32)
    return jnp.where(bits >= SIGN, ~bits, bits | SIGN)


def _places(group: list[Array]) -> list[Array]:
    """Row-major indices, uint32, counted on from array to array."""
    starts = np.cumsum([0] + [scores.size for scores in group[:-1]])
    return [
        lax.iota(jnp.uint32, scores.size).reshape(scores.shape) + np.uint32(start)
        for scores, start in zip(group, starts, strict=True)
    ]
