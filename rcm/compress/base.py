"""The algebra of compression: a compressor is three pure functions, and compressors chain.

`variables` is a model's dict of collections: `params`, `batch_stats` and, once calibrated, `quant`.
`levels` is a dict of traced scalars; level 0 means off and is a bit-exact identity, so that one
program serves a whole sweep of levels. Nothing here has a member axis: `rcm.sweep` adds it.

The forward pass always uses `apply`. Its derivative is part of the technique (a mask stops
gradients, a codebook averages them), so training-aware and post-training compression are one
object. The style is optax's: NamedTuples of functions and of state.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax import Array

Variables = dict[str, Any]
State = Any
Levels = dict[str, Array]


class Info(NamedTuple):
    """What a training step tells the compressors after the optimizer has moved the parameters.

    step: int32 scalar, steps of this stage already taken (the same for every lane, never batched,
    so that a schedule's `lax.cond` stays a branch under vmap); key: a PRNG key of this step;
    grads: gradients with respect to the *effective* parameters, shaped like `params`.

    learning_rate: float32 scalar of this step; before: the parameters that the optimizer moved;
    quant_grads: gradients with respect to the effective collection `quant` (float0 where an entry
    is no float), or None unless a compressor of the chain sets `learns_ranges`.
    """

    step: Array
    key: Array
    grads: Any
    learning_rate: Any = None
    before: Any = None
    quant_grads: Any = None


class Compressor(NamedTuple):
    """One technique.

    init(key, variables, levels) -> state: what the technique must remember (mask, codebook, ...).
    update(state, variables, info) -> (variables, state): after each optimizer step, restore the
        invariant and advance any schedule.
    apply(variables, state) -> variables: what the forward pass sees.
    check(variables, state) -> list of sentences: host side, numpy; names every tensor of the
        *effective* variables that breaks the invariant; empty when it holds.
    learns_ranges: whether `update` needs `info.quant_grads`.
    """

    init: Callable[[Array, Variables, Any], State]  # Levels, or a tuple of them for a chain
    update: Callable[[State, Variables, Info], tuple[Variables, State]]
    apply: Callable[[Variables, State], Variables]
    check: Callable[[Variables, State], list[str]]
    learns_ranges: bool = False


def chain(*compressors: Compressor) -> Compressor:
    """Compressors in pipeline order; state and levels are tuples in the same order.

    `apply` composes left to right, so a later technique sees what the earlier ones made, and
    `update` runs left to right on what the optimizer left. `chain()` is the dense identity.
    """

    def init(key, variables, levels):
        states = []
        for i, (compressor, level) in enumerate(zip(compressors, levels, strict=True)):
            state = compressor.init(jax.random.fold_in(key, i), variables, level)
            variables = compressor.apply(variables, state)
            states.append(state)
        return tuple(states)

    def update(states, variables, info):
        updated = []
        for compressor, state in zip(compressors, states, strict=True):
            variables, state = compressor.update(state, variables, info)
            updated.append(state)
        return variables, tuple(updated)

    def apply(variables, states):
        for compressor, state in zip(compressors, states, strict=True):
            variables = compressor.apply(variables, state)
        return variables

    def check(variables, states):
        pairs = zip(compressors, states, strict=True)
        return [line for compressor, state in pairs for line in compressor.check(variables, state)]

    learns_ranges = any(compressor.learns_ranges for compressor in compressors)
    return Compressor(init, update, apply, check, learns_ranges)


def map_kernels(function: Callable, params: Any, *rest: Any) -> Any:
    """`function` on every compressible leaf (those named `kernel`), other leaves as they are."""

    def visit(path, leaf, *others):
        return function(leaf, *others) if path[-1].key == "kernel" else leaf

    return jax.tree.map_with_path(visit, params, *rest)


def kernels(params: Any, depthwise: bool = True) -> dict[str, Any]:
    """The compressible leaves by path, such as `stem/conv/kernel`, in tree order.

    depthwise: also those of modules called `depthwise`, which hold few weights and are usually
    spared by pruning and clustering (protocol S3).
    """
    found = {n: leaf for n, leaf in named_leaves(params).items() if n.split("/")[-1] == "kernel"}
    if depthwise:
        return found
    return {name: leaf for name, leaf in found.items() if "depthwise" not in name.split("/")}


def named_leaves(tree: Any) -> dict[str, Any]:
    """All leaves of a nest of dicts by path, in tree order."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def with_kernels(variables: Variables, new: dict[str, Any]) -> Variables:
    """`variables` with the kernels of `new`, by path; every other leaf is kept."""

    def visit(path, leaf):
        return new.get(_name(path), leaf)

    return {**variables, "params": jax.tree.map_with_path(visit, variables["params"])}


def map_points(function: Callable[[str, Any], Any], quant: Any, name: str = "") -> Any:
    """`quant` with function(path, node) for every quantization point that has a range, such as
    `stem/conv`; what is beside them is kept."""
    if not isinstance(quant, Mapping):
        return quant
    if "lo" in quant:
        return function(name, quant)
    parts = {part: f"{name}/{part}" if name else part for part in quant}
    return {part: map_points(function, quant[part], path) for part, path in parts.items()}


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
