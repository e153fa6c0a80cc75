"""Between whole grey levels and floating point."""

import jax.numpy as jnp
import numpy as np
from jax import Array

SIDE = 32  # of the images for which the benchmark's constants were chosen
SLACK = 1e-3  # grey levels; what should be whole must not fall below it by a rounding error


def scale_of(height: int, width: int) -> float:
    """Pixels of an image for one of the benchmark's: its shorter side over 32."""
    return min(height, width) / SIDE


def quantize(values: Array) -> Array:
    """Float32 grey levels, clipped to [0, 255] and truncated -> uint8."""
    return jnp.floor(jnp.clip(values, 0, 255) + SLACK).astype(jnp.uint8)


def luma(values: Array) -> Array:
    """Grey of RGB [..., 3] by the weights of ITU-R BT.601 -> [..., 1]."""
    red, green, blue = values[..., :1], values[..., 1:2], values[..., 2:]
    return 0.299 * red + 0.587 * green + 0.114 * blue


def unit() -> np.ndarray:
    """The 256 grey levels in [0, 1], float64."""
    return np.arange(256) / 255
