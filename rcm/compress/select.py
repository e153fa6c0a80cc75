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
BYTES = 128  # entries that are counted in one byte


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
    keys = [[_ordered(scores.reshape(-1)) for scores in group] for group in groups]
    sizes = [[scores.size for scores in group] for group in groups]

    def where(condition: Callable) -> list[list[Array]]:
        """condition(keys, place of the first in its group, index of the group) of every array."""
        return [
            [condition(k, start, i) for k, start in zip(group, _starts(sizes[i]), strict=True)]
            for i, group in enumerate(keys)
        ]

    def count(condition: Callable) -> Array:
        """How many entries of each group fulfil it, int32 [groups]."""
        return jnp.stack([_total(hits) for hits in where(condition)])

    threshold = _first(lambda t: count(lambda k, _, i: k <= t[i]) >= wanted, len(groups), 32)
    missing = wanted - count(lambda k, _, i: k < threshold[i])
    last = _first(
        lambda t: count(lambda k, s, i: (k == threshold[i]) & _up_to(t[i], k, s)) >= missing,
        len(groups),
        bits=max(sum(group) for group in sizes).bit_length(),
    )

    def chosen(k: Array, start: int, i: int) -> Array:
        tied = (k == threshold[i]) & _up_to(last[i], k, start)
        return (wanted[i] > 0) & ((k < threshold[i]) | tied)

    return [
        [mask.reshape(scores.shape) for mask, scores in zip(*pair, strict=True)]
        for pair in zip(where(chosen), groups, strict=True)
    ]


def _first(reached: Callable[[Array], Array], groups: int, bits: int) -> Array:
    """The smallest uint32 numbers [groups] below 2^bits with reached(numbers) True, elementwise.

    reached must stay True above, and be True for the largest.
    """

    def settle(i: Array, found: Array) -> Array:
        bit = jnp.uint32(1 << (bits - 1)) >> i.astype(jnp.uint32)
        return jnp.where(reached(found | (bit - 1)), found, found | bit)

    return lax.fori_loop(0, bits, settle, jnp.zeros(groups, jnp.uint32))


def _total(hits: list[Array]) -> Array:
    return sum((_count(hit) for hit in hits), jnp.int32(0))


def _count(hit: Array) -> Array:
    """How many are True, int32, bytes first: XLA on CPU writes out what it is about to sum, and
    four bytes of every entry would be another copy of the scores."""
    flat = hit.reshape(-1)
    whole = flat.size // BYTES * BYTES
    sums = jnp.sum(flat[:whole].reshape(-1, BYTES), axis=1, dtype=jnp.uint8)
    return jnp.sum(sums, dtype=jnp.int32) + jnp.sum(flat[whole:], dtype=jnp.int32)


def _ordered(scores: Array) -> Array:
    """uint32 numbers in the order of the float32 scores."""
    scores = jnp.where(scores == 0, 0, scores.astype(jnp.float32))
    bits = lax.bitcast_convert_type(scores, jnp.uint32)
    return jnp.where(bits >= SIGN, ~bits, bits | SIGN)


def _starts(sizes: list[int]) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]


def _up_to(place: Array, keys: Array, start: int) -> Array:
    """Whether an entry's place, counted on from `start`, is at most `place` (uint32, below 2^31).

    The start goes to the other side: places that are more than an iota would be made once, before
    the loop, and be another copy of the scores.
    """
    return lax.iota(jnp.int32, keys.size) <= place.astype(jnp.int32) - start
