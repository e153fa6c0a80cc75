"""Fog and snow: a layer drawn per image and laid over it (Hendrycks & Dietterich 2019)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.shift import motion
from rcm.shift.blur import zoom_matrix
from rcm.shift.pixels import luma, quantize, scale_of

FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))  # strength, decay
ROUGHNESS = 100.0  # of the first step of a plasma; its square is the range, as in the benchmark


class Snow(NamedTuple):
    """Constants of one severity; lengths in pixels of a 32 x 32 image."""

    mean: float
    std: float
    zoom: float
    threshold: float
    radius: float
    sigma: float
    mix: float


SNOW = (
    Snow(0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
    Snow(0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
    Snow(0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    Snow(0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    Snow(0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
SNOW_DEGREES = (-135.0, -45.0)


def plasma(keys: Array, size: int, decay: Array) -> Array:
    """Diamond-square heights in [0, 1], float32 [B, size, size]; size: a power of two.

    Fournier, Fussell & Carpenter 1982, on a torus.
    """
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (size * size,), minval=-1, maxval=1))
    noise = uniform(keys)
    grid, rough, used = jnp.zeros((len(keys), 1, 1)), jnp.float32(ROUGHNESS), 0
    while (side := grid.shape[1]) < size:
        draws = noise[:, used : used + 3 * side**2].reshape(-1, 3, side, side) * rough**2
        used, rough = used + 3 * side**2, rough / decay
        grid = _finer(grid, draws)
    low, high = grid.min((1, 2), keepdims=True), grid.max((1, 2), keepdims=True)
    return (grid - low) / (high - low)


def _finer(grid: Array, noise: Array) -> Array:
    """[B, n, n] -> [B, 2n, 2n]: the old points, and those between them with noise [B, 3, n, n]."""
    right, below = jnp.roll(grid, -1, 2), jnp.roll(grid, -1, 1)
    middle = (grid + below + right + jnp.roll(below, -1, 2)) / 4 + noise[:, 0]
    flat = (middle + jnp.roll(middle, 1, 1) + grid + right) / 4 + noise[:, 1]
    upright = (middle + jnp.roll(middle, 1, 2) + grid + below) / 4 + noise[:, 2]
    lines = jnp.stack([grid, flat], 3), jnp.stack([upright, middle], 3)
    batch, side = grid.shape[:2]
    return jnp.stack(lines, 2).reshape(batch, 2 * side, 2 * side)


def fog(images: Array, table: Array, keys: Array) -> Array:
    """table: (strength, decay). The image's largest value stays the largest possible one."""
    strength, decay = table
    height, width = images.shape[1:3]
    side = 1 << (max(height, width) - 1).bit_length()
    layer = 255 * strength * plasma(keys, side, decay)[:, :height, :width, None]
    x = images.astype(jnp.float32)
    most = x.max((1, 2, 3), keepdims=True)
    return quantize((x + layer) * most / (most + 255 * strength))


def fog_tables(height: int, width: int) -> np.ndarray:
    """float32 [5, 2]."""
    del height, width
    return np.array(FOG, np.float32)


class SnowTable(NamedTuple):
    """rows [H, H] and columns [W, W] enlarge the flakes; weights [taps] of their motion."""

    mean: Any
    std: Any
    threshold: Any
    mix: Any
    rows: Any
    columns: Any
    weights: Any


def snow_tables(height: int, width: int) -> SnowTable:
    """Flakes and their motion grow with the image."""
    scale = scale_of(height, width)
    mean, std, _, threshold, _, _, mix = np.array(SNOW, np.float32).T
    rows, columns = (
        np.stack([zoom_matrix(n, c.zoom * max(scale, 1)) for c in SNOW]) for n in (height, width)
    )
    weights = motion.kernels([c.radius * scale for c in SNOW], [c.sigma * scale for c in SNOW])
    return SnowTable(mean, std, threshold, mix, rows, columns, weights)


def snow(images: Array, table: SnowTable, keys: Array) -> Array:
    """Flakes of normal noise above a threshold, drawn out by motion, over a whitened image."""
    shape = images.shape[1:3]

    def draw(key: Array) -> tuple[Array, Array]:
        flakes, direction = jax.random.split(key)
        low, high = SNOW_DEGREES
        degrees = jax.random.uniform(direction, minval=low, maxval=high)
        return jax.random.normal(flakes, shape), degrees

    noise, degrees = jax.vmap(draw)(keys)
    multiply = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    layer = table.mean + table.std * noise
    layer = multiply("ij,bjw->biw", table.rows, multiply("ij,bhj->bhi", table.columns, layer))
    layer = jnp.where(layer < table.threshold, 0, layer)
    grey = jnp.floor(jnp.clip(layer, 0, 1) * 255)[..., None]
    grey = motion.blur(grey, table.weights, degrees)
    x = images.astype(jnp.float32)
    white = jnp.maximum(x, 1.5 * luma(x) + 127.5)
    x = table.mix * x + (1 - table.mix) * white
    return quantize(x + grey + jnp.rot90(grey, 2, (1, 2)))
