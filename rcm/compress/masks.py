"""Which weights to prune: from scores and a sparsity to masks, by scope and by structure.

scope      how the sparsity is shared out: `layer` prunes every kernel to it, `global` all kernels
           together, `erk` to a density in proportion to (sum of the dimensions) / (their product),
           at most 1 (the Erdos-Renyi kernel rule of Evci et al. 2020, arXiv 1911.11134).
structure  what is pruned as one: single `weights`; a `block` of `group` neighbouring output
           channels, scored by its sum; `n_of_m`: the lowest of each `group` neighbouring input
           channels (2:4 is sparsity 0.5 with groups of 4), which leaves no choice of scope.

A kernel whose axis is no multiple of the group stays dense. The pruned number is round(s n), to
even, product in float32; of equal scores the lowest index (row-major, kernels in tree order) goes
first.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.compress.select import smallest, smallest_of_all

SCOPES = ("layer", "global", "erk")
STRUCTURES = ("weights", "block", "n_of_m")

Shapes = Mapping[str, tuple[int, ...]]


def pruned_count(sparsity: Array | float, size: int) -> Array:
    """round(sparsity * size), half to even, product in float32; int32 scalar."""
    return jnp.round(jnp.asarray(sparsity, jnp.float32) * np.float32(size)).astype(jnp.int32)


def random_scores(key: Array, shapes: Shapes) -> dict[str, Array]:
    """float32 scores, uniform in [0, 1), of each shape by its own key."""
    keys = jax.random.split(key, len(shapes))
    drawn = zip(shapes.items(), keys, strict=True)
    return {name: jax.random.uniform(one, shape) for (name, shape), one in drawn}


def make_masks(
    scores: Mapping[str, Array],
    dead: Mapping[str, Array],
    sparsity: Array,
    scope: str,
    structure: str,
    group: int,
) -> dict[str, Array]:
    """bool masks, True is kept, shaped like the float32 scores by kernel; see the module.

    dead: bool, weights that go before all others; a block does when all of it is dead.
    """
    masks = {name: jnp.ones(s.shape, bool) for name, s in scores.items()}
    fit = {
        name: _unit_scores(s, dead[name], structure, group)
        for name, s in scores.items()
        if divisible(s.shape, structure, group)
    }
    if structure == "n_of_m":
        return masks | {name: ~_lowest_of_groups(s, sparsity, group) for name, s in fit.items()}
    if not fit:
        return masks
    if scope == "global":
        total = sum(s.size for s in fit.values())
        pruned = smallest_of_all(fit, pruned_count(sparsity, total))
    else:
        pruned = smallest(fit, counts({name: s.shape for name, s in fit.items()}, sparsity, scope))
    return masks | {
        name: ~(jnp.repeat(units, group, axis=-1) if structure == "block" else units)
        for name, units in pruned.items()
    }


def _unit_scores(scores: Array, dead: Array, structure: str, group: int) -> Array:
    if structure == "block":
        scores, dead = (x.reshape(*x.shape[:-1], -1, group) for x in (scores, dead))
        scores, dead = jnp.where(dead, 0, scores).sum(-1), dead.all(-1)
    return jnp.where(dead, -jnp.inf, scores)


def divisible(shape: tuple[int, ...], structure: str, group: int) -> bool:
    """Whether a kernel [.., I, O] falls into whole groups."""
    axis = {"weights": None, "block": -1, "n_of_m": -2}[structure]
    return axis is None or shape[axis] % group == 0


def counts(shapes: Shapes, sparsity: Array | float, scope: str) -> dict[str, Array]:
    """int32 scalars, how many entries of each shape are pruned in the scopes `layer` and `erk`."""
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    if scope == "layer":
        return {name: pruned_count(sparsity, size) for name, size in sizes.items()}
    densities = erk_densities(shapes, sparsity)
    return {name: pruned_count(1 - densities[name], size) for name, size in sizes.items()}


def erk_densities(shapes: Shapes, sparsity: Array | float) -> dict[str, Array]:
    """Shares of kept entries min(1, e r), r = sum(shape) / prod(shape), e such that in all a share
    1 - sparsity is kept; float32 scalars.

    e is found by capping the kernels of largest r, none, one, two, ..., until none exceeds 1.
    """
    size = np.array([np.prod(shape) for shape in shapes.values()], np.float32)
    raw = np.array([np.sum(shape) for shape in shapes.values()], np.float32) / size
    order = np.argsort(-raw)
    capped = np.concatenate([[0], np.cumsum(size[order])[:-1]]).astype(np.float32)
    free = np.cumsum((size * raw)[order][::-1])[::-1].astype(np.float32)
    kept = (1 - jnp.asarray(sparsity, jnp.float32)) * np.float32(size.sum())
    factors = (kept - capped) / free
    first = jnp.argmax(factors * raw[order] <= 1 + 1e-6)
    densities = jnp.clip(factors[first] * raw, 0, 1)
    return dict(zip(shapes, densities, strict=True))


def _lowest_of_groups(scores: Array, sparsity: Array, group: int) -> Array:
    """True for the lowest round(sparsity * group) of each group along the axis before the last."""
    *outer, inputs, outputs = scores.shape
    grouped = scores.reshape(*outer, inputs // group, group, outputs)
    one, other = grouped[..., :, None, :], grouped[..., None, :, :]
    earlier = np.tri(group, k=-1, dtype=bool)[..., None]  # of equal scores the first ranks lower
    earlier = earlier.reshape((1,) * (one.ndim - 3) + earlier.shape)
    rank = jnp.sum((other < one) | ((other == one) & earlier), axis=-2)
    return (rank < pruned_count(sparsity, group)).reshape(scores.shape)


def pruned_and_expected(
    masks: Mapping[str, np.ndarray], sparsity: Array, scope: str, structure: str, group: int
) -> list[tuple[str, int, int]]:
    """(name, pruned, expected) of every kernel, or of all kernels together in the scope `global`;
    of an N:M pattern (name, zeros too many or too few in its groups, 0).

    masks: bool, True is kept, by kernel, on the host.
    """
    fit = {n: m for n, m in masks.items() if divisible(m.shape, structure, group)}
    if structure == "n_of_m":
        expected = int(pruned_count(sparsity, group))
        groups = {
            name: (~mask).reshape(*mask.shape[:-2], -1, group, mask.shape[-1]).sum(-2)
            for name, mask in fit.items()
        }
        return [(name, int(np.abs(g - expected).sum()), 0) for name, g in groups.items()]
    each = group if structure == "block" else 1
    shapes = {name: (*mask.shape[:-1], mask.shape[-1] // each) for name, mask in fit.items()}
    pruned = {name: int(np.count_nonzero(~mask)) for name, mask in fit.items()}
    if scope == "global":
        units = sum(mask.size for mask in fit.values()) // each
        return [("all kernels", sum(pruned.values()), each * int(pruned_count(sparsity, units)))]
    expected = counts(shapes, sparsity, scope)
    return [(name, pruned[name], each * int(expected[name])) for name in fit]
