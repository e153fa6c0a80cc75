"""Brightness, contrast and saturation (Hendrycks & Dietterich 2019)."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.shift.pixels import quantize, unit

BRIGHTNESS_ADDED = (0.05, 0.1, 0.15, 0.2, 0.3)
CONTRAST_TWENTIETHS = (15, 10, 8, 6, 3)  # 0.75, 0.5, 0.4, 0.3, 0.15
CONTRAST_PIXELS = (2**31 - 1) // 255  # of an image, whose sums int32 still holds
SATURATION = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))  # multiplied, added


def brightness_table(added: float) -> np.ndarray:
    """Brightened value of each (largest value of its pixel, value), uint8 [256, 256].

    Adding to V of HSV while H and S stay multiplies a pixel by V'/V; written with the saturation
    as matplotlib's `hsv_to_rgb` does, because truncation turns 1e-16 into a grey level. Exact for
    a pixel's largest and smallest value; the middle one, which also depends on the hue's rounding,
    is one level off in at most 0.1 % of values, where the true result is a whole number.
    """
    largest, value = np.broadcast_arrays(unit()[:, None], unit()[None, :])
    saturation = (largest - value) / np.where(largest > 0, largest, 1)
    brighter = np.clip(largest + added, 0, 1) * (1 - np.clip(saturation, 0, 1))
    return (np.clip(brighter, 0, 1) * 255).astype(np.uint8)


def brightness(images: Array, table: Array, keys: Array) -> Array:
    """uint8 [B, H, W, 3] -> uint8; table: of `brightness_table`."""
    del keys
    index = images.max(-1, keepdims=True).astype(jnp.int32) * 256 + images.astype(jnp.int32)
    return table.reshape(-1).at[index].get(mode="promise_in_bounds")


def contrast(images: Array, twentieths: Array, keys: Array) -> Array:
    """floor(mean + factor (x - mean)) in whole numbers; the mean is per image and channel, of at
    most `CONTRAST_PIXELS`, in a whole part and a rest, so that nothing exceeds the sum."""
    del keys
    pixels = images.shape[1] * images.shape[2]
    values = images.astype(jnp.int32)
    sums = values.sum((1, 2), keepdims=True)
    whole, rest = sums // pixels, sums % pixels
    others = 20 - twentieths
    numerator = twentieths * values + others * whole + others * rest // pixels
    return (numerator // 20).astype(jnp.uint8)


def saturate(images: Array, table: Array, keys: Array) -> Array:
    """S of HSV times table[0], plus table[1], clipped; V and the hue stay, grey counts as red."""
    del keys
    x = images.astype(jnp.float32)
    value, least = x.max(-1, keepdims=True), x.min(-1, keepdims=True)
    old = (value - least) / jnp.maximum(value, 1)
    new = jnp.clip(old * table[0] + table[1], 0, 1)
    red = jnp.array([0.0, 1.0, 1.0])  # how far a pure red's channels lie below V
    below = jnp.where(old > 0, (value - x) / jnp.where(old > 0, old * value, 1), red)
    return quantize(value * (1 - new * below))


def brightness_tables(height: int, width: int) -> np.ndarray:
    """uint8 [5, 256, 256]."""
    del height, width
    return np.stack([brightness_table(added) for added in BRIGHTNESS_ADDED])


def contrast_tables(height: int, width: int) -> np.ndarray:
    """int32 [5]."""
    del height, width
    return np.array(CONTRAST_TWENTIETHS, np.int32)


def saturate_tables(height: int, width: int) -> np.ndarray:
    """float32 [5, 2]."""
    del height, width
    return np.array(SATURATION, np.float32)
