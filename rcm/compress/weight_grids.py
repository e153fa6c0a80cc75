"""Grids of weights: where they lie, which range they cover, and the integers read back off them.

A grid is symmetric, step * {-q..q}, or asymmetric, step * ({0..2^bits - 1} - zero point), and there
is one for each output channel (the last axis) or one for the tensor. Its range is that of the
present weights, or a share of it that makes the squared error of rounding and clipping least.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rcm import numerics
from rcm.compress.cluster import Cluster
from rcm.config import require

GRANULARITIES = ("auto", "channel", "tensor")
SHARES = 64  # ranges that are tried: 1/64, 2/64, .. 1 of the whole


class Grid(NamedTuple):
    """What is static about a kernel's grid."""

    per_channel: bool = True
    symmetric: bool = True


PER_CHANNEL = Grid()


def make_grid(granularity: str, earlier: tuple, symmetric: bool = True) -> Grid:
    """The grid of a word of GRANULARITIES behind the techniques `earlier`: `auto` is per channel,
    but per tensor behind a codebook, or behind training on grids per tensor."""
    if granularity == "auto":
        return Grid(not any(_is_whole(technique) for technique in earlier), symmetric)
    return Grid(granularity == "channel", symmetric)


def require_granularity(name: str, granularity: str, earlier: tuple) -> None:
    """Raise ValueError, starting with `name`, for grids per channel behind clustering."""
    require(
        granularity != "channel" or not any(isinstance(t, Cluster) for t in earlier),
        f"{name}: behind clustering a kernel has one grid, because a grid per channel would turn "
        "its shared values into as many for each channel; use granularity 'tensor' or 'auto'.",
    )


def on_grid(
    kernel: Array, bits: Array | int, grid: Grid = PER_CHANNEL, share: Array | None = None
) -> Array:
    """`kernel` on its grid(s) of `bits` bits; the step is a constant to the gradient.

    share: of the range that is covered, broadcast to the kernel; None is all of it.
    """
    if grid.symmetric:
        return numerics.fake_quant_symmetric(kernel, step_of(kernel, bits, grid, share), bits)
    lo, hi = (lax.stop_gradient(end) for end in _ends(kernel, grid, share))
    return numerics.fake_quant_affine(kernel, lo, hi, bits)


def step_of(
    kernel: Array, bits: Array | int, grid: Grid = PER_CHANNEL, share: Array | None = None
) -> Array:
    """The steps that `on_grid` uses, float32, [1, .., C] per channel or [1, .., 1]."""
    if not grid.symmetric:
        return lax.stop_gradient(numerics.affine_grid(*_ends(kernel, grid, share), bits)[0])
    scale = lax.stop_gradient(numerics.symmetric_scale(kernel, bits, _axes(kernel, grid)))
    return scale if share is None else scale * share


def layer_bits(bits: Array, edge_bits: Array, name: str, edges: tuple[str, ...]) -> Array:
    """`bits`, or in a layer (or kernel) whose path `name` begins with one of the modules `edges`
    `edge_bits` where both are above 0."""
    if name.split("/")[0] not in edges:
        return bits
    return jnp.where((bits > 0) & (edge_bits > 0), edge_bits, bits)


def best_share(kernel: Array, bits: Array | int, grid: Grid = PER_CHANNEL) -> Array:
    """The share of the range with the least squared error, float32, shaped like the steps.

    The search of Banner et al. 2019 (arXiv 1810.05723) and Nagel et al. 2021 (arXiv 2106.08295,
    section 3.1), by trying every 64th; of equals the largest.
    """
    axes = _axes(kernel, grid)

    def error(share: Array) -> Array:
        return jnp.square(on_grid(kernel, bits, grid, share) - kernel).sum(axes, keepdims=True)

    def attempt(i: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        share = jnp.full_like(best[1], (SHARES - i) / SHARES)
        found = error(share)
        better = found < best[0]
        return jnp.where(better, found, best[0]), jnp.where(better, share, best[1])

    whole = jnp.ones_like(kernel.sum(axes, keepdims=True))
    return lax.fori_loop(1, SHARES, attempt, (error(whole), whole))[1]


def integer_weights(
    kernel: np.ndarray, bits: int, per_channel: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(integers int32 in [-q, q] shaped like the kernel, steps float32) of a symmetric grid.

    The steps, [1, .., C] per channel or [1, .., 1], are read off the largest weight, which is q
    steps by construction. Weights off the grid give the nearest integer: see `violations`.
    """
    axes = _axes(kernel, Grid(per_channel))
    scale = np.abs(kernel).max(axes, keepdims=True, initial=0) / np.float32(2 ** (bits - 1) - 1)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    return np.rint(kernel / scale).astype(np.int32), scale


def affine_weights(
    kernel: np.ndarray, bits: int, per_channel: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(integers int32 in [0, 2^bits - 1], steps float32, zero points int32) of an asymmetric grid.

    weight = (integer - zero point) * step. The step is read off the range, which is 2^bits - 1
    steps or, where both of its ends are rounded inwards, one less: what leaves less of a remainder.
    """
    axes, limit = _axes(kernel, Grid(per_channel)), 2**bits - 1
    lo = kernel.min(axes, keepdims=True, initial=0)
    hi = kernel.max(axes, keepdims=True, initial=0)

    def read(steps: int) -> tuple[np.ndarray, np.ndarray]:
        scale = (hi - lo) / np.float32(steps)
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        remainder = np.abs(kernel / scale - np.rint(kernel / scale))
        return scale, remainder.max(axes, keepdims=True, initial=0)

    (scale, remainder), (wider, other) = read(limit), read(max(limit - 1, 1))
    scale = np.where(remainder <= other + 4e-7 * limit, scale, wider)
    zero = np.rint(-lo / scale).astype(np.int32)
    return np.rint(kernel / scale).astype(np.int32) + zero, scale, zero


def read_steps(kernel: np.ndarray, bits: int, grid: Grid) -> np.ndarray:
    """The steps of a quantized kernel, float32, [1, .., C] per channel or [1, .., 1]."""
    return (integer_weights if grid.symmetric else affine_weights)(kernel, bits, grid.per_channel)[
        1
    ]


def violations(name: str, kernel: np.ndarray, bits: int, grid: Grid) -> list[str]:
    """A sentence if the kernel `name` is off its grid of `bits` bits; 0 bits is no grid.

    This reading takes any kernel and forgives rounding errors, so that it can count what is off;
    that of `integers.py` gives every weight back to the bit, or finds no grid at all.
    """
    if bits == 0:
        return []
    limit = 2 ** (bits - 1) - 1 if grid.symmetric else 2**bits - 1
    tolerance = 1e-6 + 4 * limit * np.finfo(np.float32).eps  # of weight / step, in steps
    kernel = np.asarray(kernel)
    if not np.isfinite(kernel).all():  # no comparison below would tell
        return [f"{name}: {np.count_nonzero(~np.isfinite(kernel))} weights are no finite numbers."]
    if grid.symmetric:
        integers, scale = integer_weights(kernel, bits, grid.per_channel)
    else:
        integers, scale, zero = affine_weights(kernel, bits, grid.per_channel)
        integers = integers - zero
    off = np.count_nonzero(np.abs(kernel / scale - integers) > tolerance)
    return [f"{name}: {off} weights are off the {bits}-bit grid."] if off else []


def _is_whole(technique: object) -> bool:
    """Whether what it makes of a kernel belongs to the tensor: a multiplier per channel, as folding
    has, would take the values of its channels apart."""
    return isinstance(technique, Cluster) or getattr(technique, "granularity", "") == "tensor"


def _axes(kernel, grid: Grid) -> tuple[int, ...] | None:
    return tuple(range(kernel.ndim - 1)) if grid.per_channel else None


def _ends(kernel: Array, grid: Grid, share: Array | None) -> tuple[Array, Array]:
    axes = _axes(kernel, grid)
    lo = kernel.min(axes, keepdims=True, initial=0)  # every range is widened to hold 0
    hi = kernel.max(axes, keepdims=True, initial=0)
    return (lo, hi) if share is None else (lo * share, hi * share)
