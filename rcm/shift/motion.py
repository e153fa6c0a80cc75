"""Motion blur along a random direction, as ImageMagick makes it.

Half a Gaussian of weights lies along the direction, each at the nearest whole pixel, and pixels
outside the image repeat its edge. The result is truncated to whole grey levels.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rcm.shift.pixels import SLACK, scale_of

MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))  # radius, sigma: Hendrycks & Dietterich
DEGREES = (-45.0, 45.0)
NEGLIGIBLE = 1e-4  # of the largest weight: a hundredth of a grey level over all of them


def kernels(radii: Sequence[float], sigmas: Sequence[float]) -> np.ndarray:
    """Weights float32 [severities, taps], those of a direction's whole pixels, summing to 1."""
    each = [_kernel(radius, sigma) for radius, sigma in zip(radii, sigmas, strict=True)]
    taps = max(map(len, each))
    return np.stack([np.pad(one, (0, taps - len(one))) for one in each]).astype(np.float32)


def _kernel(radius: float, sigma: float) -> np.ndarray:
    weights = np.exp(-0.5 * (np.arange(2 * math.ceil(radius) + 1) / sigma) ** 2)
    weights = weights[weights > NEGLIGIBLE]
    return weights / weights.sum()


def blur(images: Array, weights: Array, degrees: Array) -> Array:
    """Float32 grey levels [B, H, W, C], weights [taps], degrees [B] -> whole ones, float32."""
    reach = len(weights) - 1
    padded = jnp.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    taps = jnp.arange(len(weights))[None]
    across = jnp.ceil(taps * jnp.cos(jnp.deg2rad(degrees))[:, None] - 0.5).astype(jnp.int32)
    down = jnp.ceil(taps * jnp.sin(jnp.deg2rad(degrees))[:, None] - 0.5).astype(jnp.int32)
    cut = jax.vmap(lambda image, y, x: lax.dynamic_slice(image, (y, x, 0), images.shape[1:]))

    def add(tap, total):
        return total + weights[tap] * cut(padded, reach + down[:, tap], reach + across[:, tap])

    total = lax.fori_loop(0, len(weights), add, jnp.zeros_like(images))
    return jnp.floor(total + SLACK)


def tables(height: int, width: int) -> np.ndarray:
    """Weights float32 [5, taps]; lengths grow with the image."""
    radii, sigmas = np.array(MOTION).T * scale_of(height, width)
    return kernels(radii, sigmas)


def motion(images: Array, table: Array, keys: Array) -> Array:
    """uint8 [B, H, W, 3] -> uint8; a direction per image."""
    low, high = DEGREES
    degrees = jax.vmap(lambda key: jax.random.uniform(key, minval=low, maxval=high))(keys)
    return blur(images.astype(jnp.float32), table, degrees).astype(jnp.uint8)
