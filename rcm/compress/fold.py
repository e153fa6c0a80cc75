"""Batch norms and biases as integer arithmetic has them: folded, and on a 32-bit grid."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rcm import numerics
from rcm.compress.base import Variables
from rcm.models.layers import BN_EPSILON


def fold_batch_norm(variables: Variables) -> Variables:
    """Every norm of a `ConvNorm` folded into its convolution, exact up to float32 rounding.

    The kernel takes the multiplier scale / sqrt(var + eps) along its last axis, the norm's bias
    becomes bias + (convolution's bias - mean) * multiplier, the convolution's own bias 0, and the
    norm an identity: scale 1, mean 0, var 1 - eps, whose inference multiplier is exactly 1. Where
    the multiplier is 0, as in pruned channels, the scale stays 0. A ConvNorm is a node with `conv`
    beside `norm`.
    """
    if "batch_stats" not in variables:  # a network without norms
        return variables
    params, stats = _fold(variables["params"], variables["batch_stats"])
    return {**variables, "params": params, "batch_stats": stats}


def _fold(params: Any, stats: Any) -> tuple[Any, Any]:
    if not isinstance(params, Mapping) or not isinstance(stats, Mapping) or not stats:
        return params, stats
    if "conv" in params and "norm" in params and "kernel" in params["conv"]:
        return _fold_pair(params, stats)
    parts = {name: _fold(node, stats.get(name, {})) for name, node in params.items()}
    folded = {name: node for name, (node, _) in parts.items()}
    return folded, {name: parts[name][1] if name in parts else stats[name] for name in stats}


def _fold_pair(params: Any, stats: Any) -> tuple[Any, Any]:
    params, stats = _settle(params, stats)
    kernel, norm = params["conv"]["kernel"], params["norm"]
    along_last = norm["scale"].reshape((1,) * (kernel.ndim - 1) + (-1,))
    conv = {**params["conv"], "kernel": kernel * along_last}
    norm = {**norm, "scale": jnp.where(norm["scale"] == 0, 0.0, 1.0)}
    return {**params, "conv": conv, "norm": norm}, stats


def _settle(params: Any, stats: Any) -> tuple[Any, Any]:
    """A ConvNorm whose norm is only its multiplier and its offset, and has all of the bias."""
    norm, running = params["norm"], stats["norm"]
    multiplier = norm["scale"] * lax.rsqrt(running["var"] + BN_EPSILON)
    offset = norm["bias"] - running["mean"] * multiplier
    conv = dict(params["conv"])
    if "bias" in conv:
        offset = offset + conv["bias"] * multiplier
        conv["bias"] = jnp.zeros_like(conv["bias"])
    neutral = {
        "mean": jnp.zeros_like(running["mean"]),
        "var": jnp.full_like(running["var"], 1 - BN_EPSILON),
    }
    settled = {**params, "conv": conv, "norm": {"scale": multiplier, "bias": offset}}
    return settled, {**stats, "norm": neutral}


def integer_biases(variables: Variables, steps: Mapping[str, Array], bits: Array) -> Variables:
    """Biases on the grid on which products of integers are summed up: step s_in * s_w, of `bits`
    bits, 32 in practice (Jacob et al. 2018, arXiv 1712.05877, section 2.4).

    steps: s_w by kernel; s_in is the step of the layer's input, by its range in `quant`. Where a
    norm follows, its offset is the bias; a norm that was not folded is settled into multiplier and
    offset, and the multiplier is part of the step. 0 bits, or an input that is not quantized,
    leave everything as it is, to the bit.
    """
    for name, step in steps.items():
        path = name.split("/")[:-1]
        point = _get(variables["quant"], path)
        step = step.ravel() * numerics.affine_grid(point["lo"], point["hi"], point["bits"])[0]
        on = (bits > 0) & (point["bits"] > 0)
        variables = _with_bias(variables, path, step, bits, on)
    return variables


def _with_bias(
    variables: Variables, path: Sequence[str], step: Array, bits: Array, on: Array
) -> Variables:
    limit = numerics.signed_limit(bits)

    def rounded(bias: Array, step: Array) -> Array:
        """A channel whose multiplier is 0 has no grid, and keeps its float bias."""
        on_grid = numerics.round_clip(bias / jnp.where(step > 0, step, 1), -limit, limit) * step
        return jnp.where(on & (step > 0), on_grid, bias)

    params, stats = variables["params"], variables.get("batch_stats", {})
    if has_norm(params, path):
        old = _get(params, path[:-1]), _get(stats, path[:-1])
        new = _settle(*old)
        norm = new[0]["norm"]
        norm["bias"] = rounded(norm["bias"], step * jnp.abs(norm["scale"]))
        made = jax.tree.map(lambda a, b: jnp.where(on, a, b), new, old)
        params, stats = (
            _set(tree, path[:-1], node) for tree, node in zip((params, stats), made, strict=True)
        )
        return {**variables, "params": params, "batch_stats": stats}
    layer = _get(params, path)
    if "bias" not in layer:
        return variables
    layer = {**layer, "bias": rounded(layer["bias"], step)}
    return {**variables, "params": _set(params, path, layer)}


def bias_violations(variables: Variables, steps: Mapping[str, np.ndarray], bits: int) -> list[str]:
    """A sentence for every layer with biases off the grid of `integer_biases`; host side."""
    lines = []
    for name, step in steps.items() if bits else ():
        path = name.split("/")[:-1]
        point, layer = _get(variables["quant"], path), _get(variables["params"], path)
        if int(point["bits"]) == 0:
            continue
        scale, _ = numerics.affine_grid(*(jnp.asarray(point[k]) for k in ("lo", "hi", "bits")))
        step = np.asarray(step).ravel() * np.asarray(scale)
        if has_norm(variables["params"], path):
            layer = _get(variables["params"], path[:-1])["norm"]
            step = step * np.abs(layer["scale"])
        if "bias" not in layer:
            continue
        integers = np.asarray(layer["bias"], np.float64) / np.where(step > 0, step, np.inf)
        tolerance = 1e-3 + np.abs(integers) * 1e-5
        off = np.count_nonzero(np.abs(integers - np.rint(integers)) > tolerance)
        if off:
            lines.append(f"{name}: {off} biases behind it are off the {bits}-bit grid.")
    return lines


def has_norm(params: Any, path: Sequence[str]) -> bool:
    """Whether the layer at `path` is the convolution of a ConvNorm."""
    return path[-1] == "conv" and "norm" in _get(params, path[:-1])


def _get(tree: Any, path: Sequence[str]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _set(tree: Any, path: Sequence[str], node: Any) -> Any:
    if not path:
        return node
    return {**tree, path[0]: _set(tree[path[0]], path[1:], node)}
