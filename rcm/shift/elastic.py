"""Elastic transform: a random affine map, then a smooth random displacement of every pixel.

After Simard, Steinkraus & Platt 2003, with the affine map and the constants of Hendrycks &
Dietterich 2019. Both read between pixels linearly; the first mirrors the image at its edge pixels,
the second repeats them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.shift.blur import Separable, border, gaussian_matrix, separable
from rcm.shift.pixels import quantize

ELASTIC = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
           (0.1, 0.03, 0.03))  # fmt: skip  # alpha, sigma, affine, each times the shorter side


class ElasticTable(NamedTuple):
    """Pixels by which all are moved and by which three corners are; smooth: Gaussian, one term."""

    alpha: Any
    affine: Any
    smooth: Separable


def tables(height: int, width: int) -> ElasticTable:
    """One entry per severity."""
    side = min(height, width)
    alpha, _, affine = side * np.array(ELASTIC, np.float32).T

    def smooth(size: int) -> np.ndarray:
        each = [gaussian_matrix(size, sigma * side, "reflect", 3.0) for _, sigma, _ in ELASTIC]
        return np.stack(each)[:, None].astype(np.float32)

    return ElasticTable(alpha, affine, Separable(smooth(height), smooth(width)))


def elastic(images: Array, table: ElasticTable, keys: Array) -> Array:
    """uint8 [B, H, W, 3] -> uint8."""
    height, width = images.shape[1:3]

    def draw(key: Array) -> tuple[Array, Array]:
        corners, field = jax.random.split(key)
        return (
            jax.random.uniform(corners, (3, 2), minval=-1, maxval=1) * table.affine,
            jax.random.uniform(field, (height, width, 2), minval=-1, maxval=1) * table.alpha,
        )

    moved, field = jax.vmap(draw)(keys)
    field = separable(field, table.smooth)
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    y, x = jax.vmap(_affine, (0, None, None))(moved, rows, columns)
    turned = _read(images.astype(jnp.float32), y, x, "mirror")
    y, x = rows[None] + field[..., 0], columns[None] + field[..., 1]
    return quantize(_read(turned, y, x, "reflect"))


def _affine(moved: Array, rows: Array, columns: Array) -> tuple[Array, Array]:
    """Where the pixels come from, if three corners of a square about the middle move by `moved`.

    moved: [3, 2], x before y, for the corners below right, above right and above left.
    """
    height, width = rows.shape
    middle, arm = jnp.array([[height // 2, width // 2]]), min(height, width) // 3
    before = middle + arm * jnp.array([[1, 1], [1, -1], [-1, -1]])
    after = before + moved
    ends, starts = after[:2] - after[2:], (before[:2] - before[2:]).astype(jnp.float32)
    (a, b), (c, d) = ends
    inverse = jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
    turn = jnp.matmul(inverse, starts, precision=jax.lax.Precision.HIGHEST)
    # [x, y] of a place, times `turn`, is where it came from
    x, y = columns - after[2, 0], rows - after[2, 1]
    return x * turn[0, 1] + y * turn[1, 1] + before[2, 1], (
        x * turn[0, 0] + y * turn[1, 0] + before[2, 0]
    )


def _read(images: Array, y: Array, x: Array, mode: str) -> Array:
    """Float32 [B, H, W, C] read linearly at places [B, H, W] each way."""
    batch, height, width, channels = images.shape
    flat = images.reshape(batch, height * width, channels)
    top, left = jnp.floor(y), jnp.floor(x)
    down, across = (y - top)[..., None], (x - left)[..., None]

    def at(i: int, j: int) -> Array:
        row = _inside(top.astype(jnp.int32) + i, height, mode)
        place = row * width + _inside(left.astype(jnp.int32) + j, width, mode)
        take = jax.vmap(lambda one, index: one.at[index].get(mode="promise_in_bounds"))
        return take(flat, place)

    above = at(0, 0) * (1 - across) + at(0, 1) * across
    below = at(1, 0) * (1 - across) + at(1, 1) * across
    return above * (1 - down) + below * down


def _inside(index: Array, size: int, mode: str) -> Array:
    """`border` of traced positions up to one image away, from a table."""
    table = border(np.arange(-size, 2 * size), size, mode).astype(np.int32)
    return jnp.asarray(table)[jnp.clip(index + size, 0, 3 * size - 1)]
