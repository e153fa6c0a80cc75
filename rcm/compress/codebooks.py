"""Making codebooks: K-means of every kernel, or of every output channel of every kernel."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rcm.compress import exact
from rcm.compress.kmeans import kmeans, midpoints, sort_weights

ATTEMPTS = 4  # of K-means, the best is kept; one alone is often 10 % above the optimum
FEW_SLOTS = 32  # up to which assigning by comparing with every border is faster than by bisection
TOGETHER = 2**22  # padded weights that are clustered side by side, at some 7 copies of them
CHUNK = 2**20  # the same where there are more, one chunk after the other


class Rule(NamedTuple):
    """What is static about clustering: slots of a codebook, and the fields of `Cluster`.

    exceptions: the modules with a number of clusters of their own.
    """

    slots: int
    pin_zero: bool = True
    start: str = "plus_plus"
    gradient: str = "mean"
    iterations: int = 300
    per_channel: bool = False
    exceptions: tuple[str, ...] = ()


class Codebook(NamedTuple):
    """One kernel's clusters.

    values: float32 [slots], unused slots 0; assignments: uint8 (int32 above 256 slots), shaped like
    the kernel; counts: float32 [slots], weights per cluster; pinned: bool scalar, slot 0 stays 0.
    Per channel, values, counts and pinned have a leading axis of the kernel's channels.
    """

    values: Array
    assignments: Array
    counts: Array
    pinned: Array


class Batch(NamedTuple):
    """Kernels to pad and cluster together; chunk: rows at a time, 0 for all."""

    names: list[str]
    chunk: int


def make_codebooks(
    key: Array, found: dict[str, Array], clusters: dict[str, Array], rule: Rule
) -> dict[str, Codebook]:
    """A codebook per kernel, with at most clusters[name] values (int32 scalars)."""
    draws = _draws(key, found, rule)
    rows = {name: _rows(kernel, rule) for name, kernel in found.items()}

    def one(flat: Array, draws: Array, size: Array, clusters: Array) -> Codebook:
        return cluster_weights(draws, flat, size, clusters, rule)

    codebooks = {}
    for names, chunk in _batches({name: row.shape for name, row in rows.items()}, rule):
        together = [rows[name] for name in names]
        counts = np.array([len(mine) for mine in together])
        limits = [jnp.broadcast_to(clusters[name], rows[name].shape[:1]) for name in names]
        made = _map_rows(
            one,
            chunk,
            together,
            jnp.concatenate([draws[name] for name in names]),
            jnp.asarray(np.repeat([mine.shape[1] for mine in together], counts)),
            jnp.concatenate(limits),
        )
        start = 0
        for name, count in zip(names, counts, strict=True):
            mine = jax.tree.map(lambda x, start=start, end=start + count: x[start:end], made)
            codebooks[name] = _of_kernel(mine, found[name], rule)
            start += count
    return codebooks


def _draws(key: Array, found: dict[str, Array], rule: Rule) -> dict[str, Array]:
    """float32 [rows, attempts, slots, 2] for every kernel, uniform in [0, 1)."""
    if not rule.per_channel:
        uniform = jax.random.uniform(key, (len(found), ATTEMPTS, rule.slots, 2))
        return dict(zip(found, uniform[:, None], strict=True))
    return {
        name: jax.random.uniform(
            jax.random.fold_in(key, i), (kernel.shape[-1], ATTEMPTS, rule.slots, 2)
        )
        for i, (name, kernel) in enumerate(found.items())
    }


def _rows(kernel: Array, rule: Rule) -> Array:
    """What is clustered on its own: [1, weights], or per channel [channels, weights each]."""
    if rule.per_channel:
        return kernel.reshape(-1, kernel.shape[-1]).T
    return kernel.reshape(1, -1)


def _of_kernel(rows: Codebook, kernel: Array, rule: Rule) -> Codebook:
    """The codebook of a kernel from those of its rows, which may be padded."""
    if rule.per_channel:
        each = kernel.size // kernel.shape[-1]
        assignments = rows.assignments[:, :each].T.reshape(kernel.shape)
        return rows._replace(assignments=assignments)
    first = jax.tree.map(lambda leaf: leaf[0], rows)
    return first._replace(assignments=first.assignments[: kernel.size].reshape(kernel.shape))


def _batches(shapes: dict[str, tuple[int, ...]], rule: Rule) -> list[Batch]:
    """Kernels of shapes (rows, weights of a row) by what is padded and clustered together.

    Every batch costs a second or two of compilation, padding costs arithmetic and memory. So rows
    within a factor of 16 in length go together (two batches for the CIFAR ResNets); where that is
    too much at once, rows within a factor of 2, one chunk after the other.
    """
    batches = []
    for names in _alike(shapes, list(shapes), 4, rule):
        if _padded(shapes, names) <= TOGETHER:
            batches.append(Batch(names, 0))
            continue
        for fewer in _alike(shapes, names, 1, rule):
            longest = max(shapes[name][1] for name in fewer)
            batches.append(Batch(fewer, max(CHUNK // max(longest, 1), 1)))
    return batches


def _alike(
    shapes: dict[str, tuple[int, ...]], names: list[str], octaves: int, rule: Rule
) -> list[list[str]]:
    """Names in groups within a factor of 2^octaves in length; apart, if K-means is solved exactly,
    those that are too long for it."""
    groups: dict[tuple, list[str]] = {}
    longest = max(shapes[name][1] for name in names)
    for name in names:
        size = shapes[name][1]
        octave = ((longest // max(size, 1)).bit_length() - 1) // octaves
        groups.setdefault((octave, rule.start == "exact" and size > exact.LARGEST), []).append(name)
    return list(groups.values())


def _padded(shapes: dict[str, tuple[int, ...]], names: list[str]) -> int:
    return sum(shapes[name][0] for name in names) * max(shapes[name][1] for name in names)


def _map_rows(function: Callable, chunk: int, rows: list[Array], *arguments: Array) -> Codebook:
    """`function` of every row and its arguments, vectorised over all rows or `chunk` at a time.

    rows: [n, weights] each, of different lengths. They are padded and laid side by side when their
    turn comes: all of a network's large kernels at once would be half a copy of it.
    """
    many, longest = sum(map(len, rows)), max(mine.shape[1] for mine in rows)
    if chunk == 0 or chunk >= many:
        return jax.vmap(function)(_side_by_side(rows, many, longest), *arguments)
    parts = [partial(_side_by_side, part, chunk, longest) for part in _parts(rows, chunk)]
    run = jax.vmap(function) if chunk > 1 else _of_one(function)

    def turn(given: tuple) -> Codebook:
        index, *mine = given
        return run(lax.switch(index, parts), *mine)

    def chunked(array: Array) -> Array:
        padded = jnp.pad(array, ((0, -many % chunk), *((0, 0),) * (array.ndim - 1)))
        return padded.reshape(-1, chunk, *array.shape[1:])

    made = lax.map(turn, (jnp.arange(len(parts)), *map(chunked, arguments)))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:many], made)


def _parts(rows: list[Array], chunk: int) -> list[list[Array]]:
    """The rows of all arrays in turn, `chunk` of them in each part but the last."""
    parts, room = [], 0
    for mine in rows:
        start = 0
        while start < len(mine):
            if room == 0:
                parts.append([])
                room = chunk
            taken = mine[start : start + room]
            parts[-1].append(taken)
            start, room = start + len(taken), room - len(taken)
    return parts


def _side_by_side(rows: list[Array], many: int, longest: int) -> Array:
    """[many, longest]: the rows, padded with zeros behind and below."""
    padded = [jnp.pad(mine, ((0, 0), (0, longest - mine.shape[1]))) for mine in rows]
    flat = jnp.concatenate(padded)
    return jnp.pad(flat, ((0, many - len(flat)), (0, 0)))


def _of_one(function: Callable) -> Callable:
    """`function` vectorised over one row, which costs less without a batch axis."""

    def run(*arguments: Array) -> Codebook:
        made = function(*(array[0] for array in arguments))
        return jax.tree.map(lambda leaf: leaf[None], made)

    return run


def cluster_weights(
    draws: Array,
    flat: Array,
    size: Array | int,
    clusters: Array | int,
    rule: Rule,
) -> Codebook:
    """The codebook of the first `size` of float32 weights [n], with at most `clusters` values.

    draws: float32 [starts, slots, 2], uniform in [0, 1), clusters <= slots. Assignments of the
    padding behind `size` mean nothing and are not counted.
    """
    real = jnp.arange(flat.size) < size
    zero = (flat == 0) & real
    pinned = jnp.any(zero) & (jnp.asarray(clusters) > 1) & rule.pin_zero
    weights = sort_weights(flat, ~real | (zero & pinned))
    centroids = kmeans(draws, weights, clusters - pinned, rule.iterations, rule.start)
    method = "compare_all" if rule.slots <= FEW_SLOTS else "scan"  # less memory, more arithmetic
    assignments = jnp.searchsorted(midpoints(centroids), flat, side="right", method=method)
    assignments = jnp.where(pinned, jnp.where(zero, 0, assignments + 1), assignments)
    shifted = jnp.concatenate([jnp.zeros(1), centroids[:-1]])
    values = jnp.where(pinned, shifted, centroids)
    values = jnp.where(jnp.isfinite(values), values, 0)
    counts = jnp.zeros(rule.slots).at[assignments].add(real)
    dtype = jnp.uint8 if rule.slots <= 256 else jnp.int32
    return Codebook(values, assignments.astype(dtype), counts, pinned)
