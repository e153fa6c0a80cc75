"""Simulated integer quantization of weights and activations, with batch-norm folding.

Weights lie on symmetric grids, one per output channel (the last axis) or one per tensor;
activations on one asymmetric grid per tensor (Jacob et al. 2018, arXiv 1712.05877). The layers
quantize activations themselves: `apply` only puts `bits` beside the ranges that calibration left
in the collection `quant`.

Folding multiplies a kernel by its norm's per-channel multiplier. It commutes with symmetric
per-channel grids (the step is multiplied, the integers stay), but it would turn a codebook shared
by a whole tensor into one per channel. So behind clustering the pipeline uses per_channel=False and
fold=False: a per-tensor grid keeps at most K values per tensor, and an integer kernel absorbs the
norm's multiplier in its requantization multiplier.

Ranges are those of the present weights and rounding is straight-through, so the float weights may
be trained behind the grid; with `fold` only with norms in inference mode, since a folded norm must
not normalise again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer

from rcm import numerics
from rcm.compress.base import Compressor, Info, Levels, Variables, kernels, map_kernels
from rcm.compress.cluster import Cluster
from rcm.config import require
from rcm.models.layers import BN_EPSILON


class QuantizeState(NamedTuple):
    """Bit widths of weights and activations, int32 scalars; 0 is off."""

    bits: Array
    activation_bits: Array


def quantize(per_channel: bool = True, fold: bool = True) -> Compressor:
    """Quantization; levels {"bits", "activation_bits"}, int32, each 0 (off) or 2 to 16 (1 to 16).

    init raises ValueError when activations are to be quantized (or might be: a traced level) but
    the variables hold no calibrated ranges. Folding is part of weight quantization: bits = 0 leaves
    kernels and norms as they are, to the bit.
    """

    def init(key: Array, variables: Variables, levels: Levels) -> QuantizeState:
        require_ranges(variables, levels["activation_bits"])
        bits = (jnp.asarray(levels[name], jnp.int32) for name in ("bits", "activation_bits"))
        return QuantizeState(*bits)

    def update(state: QuantizeState, variables: Variables, info: Info):
        return variables, state  # the grid is imposed by `apply`; float weights stay behind it

    def apply(variables: Variables, state: QuantizeState) -> Variables:
        if fold:
            folded = fold_batch_norm(variables)
            on = state.bits > 0
            variables = jax.tree.map(lambda new, old: jnp.where(on, new, old), folded, variables)
        params = map_kernels(lambda w: on_grid(w, state.bits, per_channel), variables["params"])
        if "quant" not in variables:
            return {**variables, "params": params}
        quant = _with_bits(variables["quant"], state.activation_bits)
        return {**variables, "params": params, "quant": quant}

    def check(variables: Variables, state: QuantizeState) -> list[str]:
        return violations(kernels(variables["params"]), int(state.bits), per_channel)

    return Compressor(init, update, apply, check)


def on_grid(kernel: Array, bits: Array | int, per_channel: bool) -> Array:
    """`kernel` on its symmetric grid(s) of `bits` bits; the step is a constant to the gradient."""
    axes = tuple(range(kernel.ndim - 1)) if per_channel else None
    scale = lax.stop_gradient(numerics.symmetric_scale(kernel, bits, axes))
    return numerics.fake_quant_symmetric(kernel, scale, bits)


def integer_weights(
    kernel: np.ndarray, bits: int, per_channel: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(integers int32 in [-q, q] shaped like the kernel, steps float32) of a quantized kernel.

    The steps, [1, .., C] per channel or [1, .., 1], are read off the largest weight, which is q
    steps by construction. Weights off the grid give the nearest integer: see `check`.
    """
    axes = tuple(range(kernel.ndim - 1)) if per_channel else None
    scale = np.abs(kernel).max(axis=axes, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.rint(kernel / scale).astype(np.int32), scale


def fold_batch_norm(variables: Variables) -> Variables:
    """Every norm of a `ConvNorm` folded into its convolution, exact up to float32 rounding.

    The kernel takes the multiplier scale / sqrt(var + eps) along its last axis, the norm's bias
    becomes bias + (convolution's bias - mean) * multiplier, the convolution's own bias 0, and the
    norm an identity: scale 1, mean 0, var 1 - eps, whose inference multiplier is exactly 1. A
    ConvNorm is a node with `conv` beside `norm`.
    """
    params, stats = _fold(variables["params"], variables.get("batch_stats", {}))
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
    norm, running = params["norm"], stats["norm"]
    kernel = params["conv"]["kernel"]
    multiplier = norm["scale"] * lax.rsqrt(running["var"] + BN_EPSILON)
    along_last = multiplier.reshape((1,) * (kernel.ndim - 1) + (-1,))
    conv = {**params["conv"], "kernel": kernel * along_last}
    offset = norm["bias"] - running["mean"] * multiplier
    if "bias" in conv:
        offset = offset + conv["bias"] * multiplier
        conv["bias"] = jnp.zeros_like(conv["bias"])
    identity = {"scale": jnp.ones_like(norm["scale"]), "bias": offset}
    neutral = {
        "mean": jnp.zeros_like(running["mean"]),
        "var": jnp.full_like(running["var"], 1 - BN_EPSILON),
    }
    return {**params, "conv": conv, "norm": identity}, {**stats, "norm": neutral}


def _with_bits(quant: Any, bits: Array) -> Any:
    if "lo" in quant:
        return {**quant, "bits": bits}
    return {name: _with_bits(node, bits) for name, node in quant.items()}


def require_ranges(variables: Variables, activation_bits: Any) -> None:
    """Raise ValueError if activations may be quantized and there are no calibrated ranges."""
    traced = isinstance(activation_bits, Tracer)
    if "quant" not in variables and (traced or int(activation_bits) > 0):
        raise ValueError(
            "Activations cannot be quantized without ranges: the variables have no collection "
            "'quant'; run the model on calibration images with mutable=['quant'] first."
        )


def violations(found: dict, bits: int, per_channel: bool) -> list[str]:
    """A sentence for every kernel that is off its grid of `bits` bits; 0 bits is no grid."""
    if bits == 0:
        return []
    limit = 2 ** (bits - 1) - 1
    tolerance = 1e-6 + 4 * limit * np.finfo(np.float32).eps  # of weight / step, in steps
    lines = []
    for name, kernel in found.items():
        kernel = np.asarray(kernel)
        integers, scale = integer_weights(kernel, bits, per_channel)
        off = np.count_nonzero(np.abs(kernel / scale - integers) > tolerance)
        if off:
            lines.append(f"{name}: {off} weights are off the {bits}-bit grid.")
    return lines


@dataclass(frozen=True)
class Quantize:
    """Technique: `bits` for weights, `activation_bits` for activations (0: float).

    Ranges come from `calibration_images` images of the member's own training table.
    """

    bits: int = 8
    activation_bits: int = 8
    calibration_images: int = 200

    trains: ClassVar[bool] = False  # post-training: calibrated, not fine-tuned

    def describe(self) -> str:
        """A short name for people: bits of weights and activations."""
        return f"int W{self.bits}A{self.activation_bits}"

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for a number that cannot be used."""
        require(
            2 <= self.bits <= 16,
            f"{name}: bits must lie in 2..16, not {self.bits}; a symmetric grid of 1 bit holds "
            "nothing but zero, and to quantize no weights leave the step out.",
        )
        require(
            0 <= self.activation_bits <= 16,
            f"{name}: activation_bits must be 0 (float) or lie in 1..16, "
            f"not {self.activation_bits}.",
        )
        require(
            self.calibration_images >= 1,
            f"{name}: calibration_images must be at least 1, not {self.calibration_images}.",
        )

    def static(self) -> tuple:
        """What decides the compiled program (besides the techniques before it)."""
        return ("quantize",)

    def levels(self, steps: int) -> Mapping[str, np.generic]:
        """Traced numbers; the same for any number of steps."""
        return {"bits": np.int32(self.bits), "activation_bits": np.int32(self.activation_bits)}

    @staticmethod
    def per_channel(earlier: tuple) -> bool:
        """Whether kernels have a grid per channel: yes, unless a codebook comes before."""
        return not any(isinstance(technique, Cluster) for technique in earlier)

    def build(self, earlier: tuple, network: Any) -> Compressor:
        """The compressor: per channel and folded, but neither behind clustering."""
        per_channel = self.per_channel(earlier)
        return quantize(per_channel=per_channel, fold=per_channel)
