"""Elastic transform: a random affine map, then a smooth random displacement of every pixel.

After Simard, Steinkraus & Platt 2003, with the affine map and the constants of Hendrycks &
Dietterich 2019. Both read between pixels linearly; the first mirrors the image at its edge pixels,
the second repeats them.

Places and grey levels are whole numbers of small parts of one: in floating point a product and a
sum are rounded once or twice as the compiler likes, which depends on the size of the batch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.shift.blur import gaussian_matrix

ELASTIC = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
           (0.1, 0.03, 0.03))  # fmt: skip  # alpha, sigma, affine, each times the shorter side
# bits behind the point: of places, maps and the shares of two neighbours; of grey levels; of a
# field's draws and of the weights that smooth it, whose sums float32 holds exactly
PLACE, LEVEL, DRAWN, WEIGHT = 14, 8, 10, 13


class ElasticTable(NamedTuple):
    """float32, whole numbers but for the first two. alpha: parts of a pixel for one of a smooth
    field; affine: parts by which three corners are moved at most; rows [..., H, H] and columns
    [..., W, W]: the Gaussian."""

    alpha: Any
    affine: Any
    rows: Any
    columns: Any


def tables(height: int, width: int) -> ElasticTable:
    """One entry per severity."""
    side = min(height, width)
    alpha, sigma, affine = side * np.array(ELASTIC, np.float32).T

    def smooth(size: int) -> np.ndarray:
        each = [gaussian_matrix(size, one, "reflect", 3.0) for one in sigma]
        return np.rint(np.stack(each) * 2**WEIGHT).astype(np.float32)

    alpha, affine = alpha * 2.0 ** (PLACE - DRAWN - WEIGHT), affine * 2.0 ** _corner_bits(side)
    return ElasticTable(
        alpha.astype(np.float32), affine.astype(np.float32), smooth(height), smooth(width)
    )


def _corner_bits(side: int) -> int:
    """Bits behind the point of corners, as many as the determinant of their map has room for."""
    return min(15 - (side - 1).bit_length(), 10)


def elastic(images: Array, table: ElasticTable, keys: Array) -> Array:
    """uint8 [B, H, W, 3] -> uint8."""
    height, width = images.shape[1:3]

    def draw(key: Array) -> tuple[Array, Array]:
        corners, field = jax.random.split(key)
        return (
            jax.random.uniform(corners, (3, 2), minval=-1, maxval=1) * table.affine,
            jax.random.uniform(field, (height, width, 2), minval=-1, maxval=1) * 2**DRAWN,
        )

    moved, field = map(jnp.rint, jax.vmap(draw)(keys))
    field = jnp.rint(_smoothed(field, table) * table.alpha).astype(jnp.int32)
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    y, x = jax.vmap(_affine, (0, None, None))(moved.astype(jnp.int32), rows, columns)
    turned = _read(images.astype(jnp.int32) << LEVEL, y, x, "mirror")
    y, x = (rows << PLACE)[None] + field[..., 0], (columns << PLACE)[None] + field[..., 1]
    return (_read(turned, y, x, "reflect") >> LEVEL).astype(jnp.uint8)


def _smoothed(field: Array, table: ElasticTable) -> Array:
    """float32 [B, H, W, 2], whole numbers, WEIGHT more bits behind their point."""
    exact = jax.lax.Precision.HIGHEST
    field = jnp.einsum("ij,bhjc->bhic", table.columns, field, precision=exact)
    return jnp.einsum("ij,bjwc->biwc", table.rows, jnp.rint(field / 2**WEIGHT), precision=exact)


def _affine(moved: Array, rows: Array, columns: Array) -> tuple[Array, Array]:
    """Where the pixels come from, if three corners of a square about the middle move by `moved`.

    moved: int32 [3, 2] in parts of corners, x before y, for those below right, above right and
    above left. Returns y and x, int32 in parts of places.
    """
    height, width = rows.shape
    bits = _corner_bits(min(height, width))
    middle, arm = np.array([[height // 2, width // 2]]), min(height, width) // 3
    before = middle + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    after = (before << bits) + moved
    ends, starts = after[:2] - after[2:], before[:2] - before[2:]
    (a, b), (c, d) = ends
    over = jnp.matmul(jnp.array([[d, -b], [-c, a]]), starts)
    share = over.astype(jnp.float32) / (a * d - b * c).astype(jnp.float32)
    # [x, y] of a place, times `turn`, is where it came from
    turn = jnp.rint(share * 2 ** (bits + PLACE)).astype(jnp.int32)
    whole, part = after[2] >> bits, after[2] & ((1 << bits) - 1)
    origin = jnp.matmul(whole, turn) + (jnp.matmul(part, turn) >> bits)
    x, y = (
        columns * turn[0, i] + rows * turn[1, i] + (before[2, i] << PLACE) - origin[i]
        for i in range(2)
    )
    return y, x


def _read(values: Array, y: Array, x: Array, mode: str) -> Array:
    """int32 [B, H, W, C] below 2^16, read linearly at places [B, H, W] each way."""
    batch, height, width, channels = values.shape
    flat = values.reshape(batch, height * width, channels)
    top, left = y >> PLACE, x >> PLACE
    down, across = ((place & ((1 << PLACE) - 1))[..., None] for place in (y, x))

    def at(i: int, j: int) -> Array:
        place = _inside(top + i, height, mode) * width + _inside(left + j, width, mode)
        take = jax.vmap(lambda one, index: one.at[index].get(mode="promise_in_bounds"))
        return take(flat, place)

    above = _between(at(0, 0), at(0, 1), across)
    return _between(above, _between(at(1, 0), at(1, 1), across), down)


def _between(one: Array, other: Array, share: Array) -> Array:
    """The nearest whole number to so much of the way from one to the other, halves up."""
    return one + (((other - one) * share + (1 << (PLACE - 1))) >> PLACE)


def _inside(index: Array, size: int, mode: str) -> Array:
    """Positions up to one image away, mirrored at the edge pixels or, `reflect`, beside them."""
    twice = 1 if mode == "reflect" else 0
    index = jnp.where(index < 0, -index - twice, index)
    index = jnp.where(index >= size, 2 * size - 2 + twice - index, index)
    return jnp.clip(index, 0, size - 1)
