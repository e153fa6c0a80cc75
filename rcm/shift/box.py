"""Box-filter shrinking and enlarging in Pillow's whole-number arithmetic, bit for bit.

Pillow (`Resample.c`, 8 bits per channel) weighs the pixels whose centres fall into the box of an
output pixel equally, in fixed point with 22 fractional bits, and rounds after each direction.
Enlarging by a box repeats pixels. Both directions therefore are a few weighted look-ups.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

PRECISION = 22
PIXELATE_SCALE = (0.95, 0.9, 0.85, 0.75, 0.65)  # Hendrycks & Dietterich 2019
TAPS = 3  # a scale of at least one half shrinks at most three pixels into one


class Taps(NamedTuple):
    """Input positions int32 [..., size, TAPS] and their fixed-point weights, the same shape."""

    index: np.ndarray
    weight: np.ndarray


def taps(size: int, scales: Sequence[float]) -> Taps:
    """Shrinking `size` to int(size * scale) and back, one entry per scale, each in [0.5, 1]."""
    each = [_taps(size, int(size * scale)) for scale in scales]
    return Taps(*(np.stack(field) for field in zip(*each, strict=True)))


def _taps(size: int, small: int) -> Taps:
    ratio = size / small
    centre = (np.arange(small) + 0.5) * ratio
    first = np.maximum((centre - ratio / 2 + 0.5).astype(np.int32), 0)
    end = np.minimum((centre + ratio / 2 + 0.5).astype(np.int32), size)
    index = first[:, None] + np.arange(TAPS)[None, :]
    offset = (index - centre[:, None] + 0.5) / ratio
    inside = (index < end[:, None]) & (offset > -0.5) & (offset <= 0.5)
    weight = np.floor(0.5 + inside / inside.sum(1, keepdims=True) * 2**PRECISION)
    source = ((np.arange(size) + 0.5) * (small / size)).astype(np.int32)  # enlarging repeats
    index = np.minimum(index, size - 1)
    return Taps(index[source].astype(np.int32), weight[source].astype(np.int32))


def resample(images: Array, taps: Taps, axis: int) -> Array:
    """uint8 [B, H, W, 3] -> uint8 of the same shape, resampled along axis 1 or 2 by `taps`."""
    shape = [1, 1, 1, 1]
    shape[axis] = images.shape[axis]
    total = jnp.int32(1 << (PRECISION - 1))
    for tap in range(TAPS):
        values = jnp.take(images, taps.index[:, tap], axis=axis, mode="clip").astype(jnp.int32)
        total = total + values * taps.weight[:, tap].reshape(shape)
    return (total >> PRECISION).astype(jnp.uint8)


def pixelate(images: Array, table: Any, keys: Array) -> Array:
    """Down by a box filter, up to the old size: across first, then downwards, as Pillow does."""
    del keys
    rows, columns = table
    return resample(resample(images, columns, axis=2), rows, axis=1)


def tables(height: int, width: int) -> tuple[Taps, Taps]:
    """Of the five severities, for rows and for columns."""
    return taps(height, PIXELATE_SCALE), taps(width, PIXELATE_SCALE)
