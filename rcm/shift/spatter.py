"""Spatter: drops of water or of mud on the lens (Hendrycks & Dietterich 2019).

Mud is smoothed noise above a threshold. Water is the same noise, lit by its distance from the edges
of the drops; its steps are those of OpenCV's functions that the benchmark calls, written for a
batch: edges after Canny 1986, distances by the weights of Borgefors 1986.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rcm.shift.blur import Separable, gaussians, separable
from rcm.shift.pixels import quantize, scale_of

WATER, MUD = (175, 238, 238), (63, 42, 20)  # colours
CANNY = (50, 150)  # thresholds
FARTHEST = 20.0  # pixels; where distance is cut
STEPS = ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 1.4), (1, 2, 2.1969), (2, 1, 2.1969))  # of a distance


class Spatter(NamedTuple):
    """Constants of one severity. strength: of the water's light; for mud the sigma of its rims."""

    mean: float
    std: float
    sigma: float
    threshold: float
    strength: float
    mud: bool


SPATTER = (
    Spatter(0.62, 0.1, 0.7, 0.7, 0.5, False),
    Spatter(0.65, 0.1, 0.8, 0.7, 0.5, False),
    Spatter(0.65, 0.3, 1.0, 0.69, 0.5, False),
    Spatter(0.65, 0.1, 0.7, 0.69, 0.6, True),
    Spatter(0.65, 0.1, 0.5, 0.68, 0.6, True),
)


class SpatterTable(NamedTuple):
    """smooth: of the noise; rims: of the mud."""

    mean: Any
    std: Any
    threshold: Any
    strength: Any
    mud: Any
    smooth: Separable
    rims: Separable


def tables(height: int, width: int) -> SpatterTable:
    """One entry per severity; drops grow with the image, whose noise is made so much stronger or
    weaker that the smoothed one varies as that of 32 x 32 does."""
    scale = scale_of(height, width)
    mean, std, _, threshold, strength, mud = np.array(SPATTER, np.float32).T
    return SpatterTable(
        mean,
        std * np.array([_left(c.sigma) / _left(scale * c.sigma) for c in SPATTER], np.float32),
        threshold,
        strength,
        mud > 0,
        gaussians(height, width, [scale * c.sigma for c in SPATTER]),
        gaussians(height, width, [scale * c.strength for c in SPATTER]),
    )


def _left(sigma: float) -> float:
    """What smoothing leaves of the standard deviation of white noise: the sum of the squared
    weights along one axis, for both are smoothed."""
    reach = np.arange(-int(4 * sigma + 1), int(4 * sigma + 1) + 1)
    weights = np.exp(-((reach / sigma) ** 2) / 2)
    return float((weights**2).sum() / weights.sum() ** 2)


def spatter(images: Array, table: SpatterTable, keys: Array) -> Array:
    """uint8 [B, H, W, 3] -> uint8."""
    draw = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:3]))
    noise = table.mean + table.std * draw(keys)[..., None]
    liquid = separable(noise, table.smooth)
    x = images.astype(jnp.float32)

    def water() -> Array:
        return x + _light(liquid[..., 0], table)[..., None] * _colour(WATER)

    def mud() -> Array:
        mask = separable((liquid > table.threshold).astype(jnp.float32), table.rims)
        mask = jnp.where(mask < 0.8, 0, mask)
        return x * (1 - mask) + mask * _colour(MUD)

    return quantize(lax.cond(table.mud, mud, water))


def _colour(rgb: tuple[int, int, int]) -> Array:
    return jnp.array(rgb, jnp.float32).reshape(1, 1, 1, 3)


def _light(liquid: Array, table: SpatterTable) -> Array:
    """[B, H, W], at most `strength`: dark at the edges of a drop, with a bevel."""
    drops = jnp.where(liquid < table.threshold, 0, liquid)
    drops = jnp.floor(jnp.clip(drops * 255, 0, 255))
    depth = jnp.floor(_mean3(distances(edges(drops))))
    depth = equalized(depth)
    shifted = _neighbours(depth, "reflect")
    bevel = {(-1, -1): -2, (-1, 0): -1, (0, -1): -1, (0, 0): 1, (0, 1): 1, (1, 0): 1, (1, 1): 2}
    depth = jnp.clip(sum(weight * shifted(*place) for place, weight in bevel.items()), 0, 255)
    light = drops * jnp.round(_mean3(depth))
    most = light.max((1, 2), keepdims=True)
    return table.strength * light / jnp.where(most > 0, most, 1)


def _neighbours(x: Array, mode: str):
    """(down, right) -> x [B, H, W] displaced by up to one pixel, its border by numpy's `mode`."""
    height, width = x.shape[1:]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1)), mode=mode)
    return lambda i, j: padded[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width]


def _mean3(x: Array) -> Array:
    """Mean over 3 x 3, mirrored at the edge."""
    shifted = _neighbours(x, "reflect")
    return jnp.stack([shifted(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]).sum(0) / 9


def edges(x: Array) -> Array:
    """Canny's edges of whole grey levels float32 [B, H, W] -> bool."""
    at = _neighbours(x, "edge")
    dx = sum(w * (at(i, 1) - at(i, -1)) for i, w in ((-1, 1), (0, 2), (1, 1)))
    dy = sum(w * (at(1, j) - at(-1, j)) for j, w in ((-1, 1), (0, 2), (1, 1)))
    size = jnp.abs(dx) + jnp.abs(dy)
    near = _neighbours(size, "constant")
    steep = jnp.abs(dy) / jnp.maximum(jnp.abs(dx), 1e-6)
    across = (size > near(0, -1)) & (size >= near(0, 1))
    down = (size > near(-1, 0)) & (size >= near(1, 0))
    falling = (size > near(-1, -1)) & (size > near(1, 1))
    rising = (size > near(-1, 1)) & (size > near(1, -1))
    diagonal = jnp.where(dx * dy < 0, rising, falling)
    tangent = np.tan(np.pi / 8), np.tan(3 * np.pi / 8)
    ridge = jnp.where(steep < tangent[0], across, jnp.where(steep > tangent[1], down, diagonal))
    weak = ridge & (size > CANNY[0])
    return _grown(weak & (size > CANNY[1]), weak)


def _grown(strong: Array, weak: Array) -> Array:
    """The weak pixels that are connected with strong ones, by 8 neighbours."""

    def grow(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        found, _ = carry
        shifted = _neighbours(found, "constant")
        near = [shifted(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        more = jnp.stack(near).any(0) & weak
        return more, jnp.any(more != found)

    return lax.while_loop(lambda carry: carry[1], grow, (strong, jnp.any(weak)))[0]


def distances(found: Array) -> Array:
    """Pixels to the nearest one of bool [B, H, W], at most `FARTHEST`, by steps of `STEPS`."""
    height, width = found.shape[1:]

    def nearer(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        old, _ = carry
        padding = ((0, 0), (2, 2), (2, 2))
        padded = jnp.pad(old, padding, constant_values=FARTHEST)
        new = old
        for down, right, cost in STEPS:
            for i in {down, -down}:
                for j in {right, -right}:
                    near = padded[:, 2 + i : 2 + i + height, 2 + j : 2 + j + width]
                    new = jnp.minimum(new, near + cost)
        return new, jnp.any(new != old)

    start = jnp.where(found, 0, FARTHEST), jnp.any(found)
    return lax.while_loop(lambda carry: carry[1], nearer, start)[0]


def equalized(x: Array) -> Array:
    """Histogram equalization of whole numbers 0 to `FARTHEST` float32 [B, H, W] to 0 to 255."""
    levels = jnp.arange(FARTHEST + 1, dtype=jnp.float32).reshape(1, 1, 1, -1)
    below = (x[..., None] <= levels).sum((1, 2)).astype(jnp.float32)  # [B, levels]
    pixels = x.shape[1] * x.shape[2]
    first = jnp.min(jnp.where(below > 0, below, pixels), 1, keepdims=True)
    table = jnp.round((below - first) * 255 / jnp.maximum(pixels - first, 1))
    flat = x.astype(jnp.int32).reshape(len(x), -1)
    made = jax.vmap(lambda one, index: one[index])(table, flat).reshape(x.shape)
    return jnp.where((first == pixels)[..., None], x, made)
