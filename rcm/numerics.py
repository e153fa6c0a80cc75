"""Grids, fake quantization and straight-through rounding, shared by layers and compressors.

Bit widths are traced int32 scalars, so one program serves every width; 0 bits means "off" and is
a bit-exact identity. The formulas are those of Jacob et al. 2018 (arXiv 1712.05877), with the
symmetric range narrowed to [-q, q] so that zero and both signs are treated alike.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

FLOAT_FORMATS = ("float32", "float16", "bfloat16")  # by the code that `fake_cast` takes
SMALLEST_NORMAL, SUBNORMAL_STEP = 2.0**-14, 2.0**-24  # of float16


@jax.custom_jvp
def round_clip(x: Array, lo: Array, hi: Array) -> Array:
    """Round half to even, then clip to the integers [lo, hi], straight through.

    The derivative by x is 1 where the rounded x lies in the range, its ends included, and 0 where
    it saturates (Bengio et al. 2013); those by lo and hi are 0. `jnp.clip` would halve the gradient
    of everything that rounds to an end of the range.
    """
    return jnp.clip(jnp.round(x), lo, hi)


@round_clip.defjvp
def _round_clip_jvp(primals, tangents):
    x, lo, hi = primals
    rounded = jnp.round(x)
    inside = (rounded >= lo) & (rounded <= hi)
    return jnp.clip(rounded, lo, hi), jnp.where(inside, tangents[0], jnp.zeros_like(tangents[0]))


def signed_limit(bits: Array | int) -> Array:
    """Largest integer q of the symmetric grid {-q..q} of `bits` bits, float32: 127 for 8 bits."""
    return (jnp.left_shift(1, jnp.maximum(jnp.asarray(bits, jnp.int32), 1) - 1) - 1).astype(
        jnp.float32
    )


def unsigned_limit(bits: Array | int) -> Array:
    """Largest integer of the asymmetric grid {0..q} of `bits` bits, float32: 255 for 8 bits."""
    return (jnp.left_shift(1, jnp.maximum(jnp.asarray(bits, jnp.int32), 1)) - 1).astype(jnp.float32)


def symmetric_scale(x: Array, bits: Array | int, axes: tuple[int, ...] | None = None) -> Array:
    """Step of the symmetric grid that covers max |x| over `axes` (all of them for None).

    float32, shaped like x with the reduced axes kept at size 1; an all-zero or empty slice gets
    step 1, and so does one that is too small for a normal float32 step: it becomes zeros.
    """
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True, initial=0)
    scale = largest / jnp.maximum(signed_limit(bits), 1)
    return jnp.where(scale > 0, scale, 1).astype(jnp.float32)


def fake_quant_symmetric(x: Array, scale: Array, bits: Array | int) -> Array:
    """x on the grid scale * {-q..q}; the gradient passes inside the range and stops outside."""
    limit = signed_limit(bits)
    on_grid = round_clip(x / scale, -limit, limit) * scale
    return jnp.where(jnp.asarray(bits) > 0, on_grid, x)


def affine_grid(lo: Array, hi: Array, bits: Array | int) -> tuple[Array, Array]:
    """(step, zero point) of the asymmetric grid that covers [min(lo, 0), max(hi, 0)].

    The range is widened to hold 0 so that zero padding and ReLU's zero are exact. Both float32. A
    range wider than float32's largest number (ends beyond 1.7e38) has no step and gives NaN.
    """
    lo, hi = jnp.minimum(lo, 0.0), jnp.maximum(hi, 0.0)
    limit = unsigned_limit(bits)
    scale = (hi - lo) / limit
    scale = jnp.where(scale > 0, scale, 1).astype(jnp.float32)
    return scale, jnp.clip(jnp.round(-lo / scale), 0, limit)


def fake_quant_affine(x: Array, lo: Array, hi: Array, bits: Array | int) -> Array:
    """x on the asymmetric grid of `affine_grid(lo, hi, bits)`, computed in float32."""
    scale, zero = affine_grid(lo, hi, bits)
    steps = round_clip(x.astype(jnp.float32) / scale, -zero, unsigned_limit(bits) - zero)
    return jnp.where(jnp.asarray(bits) > 0, (steps * scale).astype(x.dtype), x)


def fake_quant_dynamic(x: Array, bits: Array | int) -> Array:
    """x [B, ...] on asymmetric grids that cover each image's own range."""
    axes = tuple(range(1, x.ndim))
    x32 = lax.stop_gradient(x).astype(jnp.float32)
    lo, hi = x32.min(axes, keepdims=True), x32.max(axes, keepdims=True)
    return fake_quant_affine(x, lo, hi, bits)


@jax.custom_jvp
def scale_gradient(x: Array, factor: Array) -> Array:
    """x to the bit; its derivative is `factor`, which itself is a constant."""
    return x


@scale_gradient.defjvp
def _scale_gradient_jvp(primals, tangents):
    x, factor = primals
    return x, tangents[0] * factor


@jax.custom_jvp
def fake_cast(x: Array, code: Array | int) -> Array:
    """float32 x rounded to what a shorter float holds, half to even, straight through.

    code: int32 scalar, the place in FLOAT_FORMATS; 0 leaves x as it is, to the bit. Numbers beyond
    the format's range saturate at its largest finite one, and float16 keeps its subnormals. Written
    without a cast there and back, which XLA may take out.
    """
    return jnp.where(code == 1, _as_float16(x), jnp.where(code == 2, _as_bfloat16(x), x))


@fake_cast.defjvp
def _fake_cast_jvp(primals, tangents):
    return fake_cast(*primals), tangents[0]


def _as_float16(x: Array) -> Array:
    limit = float(jnp.finfo(jnp.float16).max)
    x = jnp.clip(x, -limit, limit)
    normal = lax.reduce_precision(x, exponent_bits=5, mantissa_bits=10)
    small = jnp.round(x / SUBNORMAL_STEP) * SUBNORMAL_STEP
    return jnp.where(jnp.abs(x) < SMALLEST_NORMAL, small, normal)


def _as_bfloat16(x: Array) -> Array:
    limit = float(jnp.finfo(jnp.bfloat16).max)
    return lax.reduce_precision(jnp.clip(x, -limit, limit), exponent_bits=8, mantissa_bits=7)
