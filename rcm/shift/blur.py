"""Blurs: linear maps of an image, made on the host in float64 (Hendrycks & Dietterich 2019).

A blur whose kernel is a sum of products of one along each axis is a sum of terms R image C^T, with
R [H, H] and C [W, W] that already hold what happens at the borders. So a Gaussian is one term, a
disk and an average of zooms a few, and the device multiplies small matrices.

Lengths of the benchmark are in pixels of its 32 x 32 images; in others they grow with the shorter
side. The constants are those of the benchmark's CIFAR version.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.shift.pixels import quantize, scale_of

GAUSSIAN_SIGMA = (0.4, 0.6, 0.7, 0.8, 1.0)
DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))  # radius, sigma
GLASS = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))  # sigma, rounds
GLASS_ROUNDS = 2
ZOOM_END = (1.06, 1.11, 1.16, 1.21, 1.26)
TOLERANCE = 1e-6  # of the largest singular value: far below a grey level


class Separable(NamedTuple):
    """A sum over K of rows[k] image columns[k]^T; float32 [..., K, H, H] and [..., K, W, W]."""

    rows: Any
    columns: Any


def border(index: np.ndarray, size: int, mode: str) -> np.ndarray:
    """Positions in [0, size) that stand for others: `nearest`, `reflect` (edge twice) or `mirror`
    (edge once)."""
    if mode == "nearest":
        return np.clip(index, 0, size - 1)
    period = 2 * size if mode == "reflect" else max(2 * size - 2, 1)
    inside = index % period
    return np.where(inside < size, inside, period - inside - (1 if mode == "reflect" else 0))


def matrix(size: int, weights: np.ndarray, mode: str) -> np.ndarray:
    """[size, size] of a correlation with `weights` (odd length, centred)."""
    radius = len(weights) // 2
    made = np.zeros((size, size))
    for offset, weight in enumerate(weights, -radius):
        place = border(np.arange(size) + offset, size, mode)
        np.add.at(made, (np.arange(size), place), weight)
    return made


def gaussian(sigma: float, radius: int) -> np.ndarray:
    """Sampled and normalised Gaussian weights, [2 radius + 1]."""
    if sigma <= 0:
        return (np.arange(-radius, radius + 1) == 0).astype(float)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def gaussian_matrix(
    size: int, sigma: float, mode: str = "nearest", truncate: float = 4.0
) -> np.ndarray:
    """[size, size] of scipy's `gaussian_filter1d`."""
    return matrix(size, gaussian(sigma, int(truncate * sigma + 0.5)), mode)


def gaussian_tables(height: int, width: int) -> Separable:
    """One term per severity."""
    scale = scale_of(height, width)
    return gaussians(height, width, [scale * sigma for sigma in GAUSSIAN_SIGMA])


def gaussians(height: int, width: int, sigmas: list[float]) -> Separable:
    """[len(sigmas), 1, ...]: a Gaussian of each sigma, in pixels."""
    both = (np.stack([gaussian_matrix(n, s)[None] for s in sigmas]) for n in (height, width))
    return Separable(*(one.astype(np.float32) for one in both))


def fewest_terms(rows: np.ndarray, columns: np.ndarray) -> Separable:
    """The same sum of terms R image C^T with as few of them as hold it to `TOLERANCE`.

    rows [K, H, H], columns [K, W, W], float64. A sum of products is a matrix vec(R)^T vec(C); its
    singular vectors are the fewest products (Van Loan & Pitsianis 1993).
    """
    left, one = np.linalg.qr(rows.reshape(len(rows), -1).T)
    right, two = np.linalg.qr(columns.reshape(len(columns), -1).T)
    u, s, vt = np.linalg.svd(one @ two.T)
    kept = s > TOLERANCE * s[0]
    root = np.sqrt(s[kept])
    rows = (left @ (u[:, kept] * root)).T.reshape(-1, *rows.shape[1:])
    columns = (right @ (vt[kept].T * root)).T.reshape(-1, *columns.shape[1:])
    return Separable(rows.astype(np.float32), columns.astype(np.float32))


def stacked(severities: list[Separable]) -> Separable:
    """One table of several, terms of zeros filling up the shorter ones."""
    most = max(len(one.rows) for one in severities)

    def filled(terms: np.ndarray) -> np.ndarray:
        return np.pad(terms, ((0, most - len(terms)), (0, 0), (0, 0)))

    return Separable(
        *(np.stack([filled(x) for x in part]) for part in zip(*severities, strict=True))
    )


def defocus_tables(height: int, width: int) -> Separable:
    """A disk whose rim is softened by a small Gaussian, borders mirrored, as the benchmark's."""
    scale = scale_of(height, width)
    return stacked([_defocus(height, width, r * scale, s * scale) for r, s in DEFOCUS])


def _defocus(height: int, width: int, radius: float, sigma: float) -> Separable:
    rim = 1 if radius <= 8 else 2
    reach = int(radius) + 2 * rim  # so far out that nothing is mirrored back
    x = np.arange(-reach, reach + 1)
    disk = (x[:, None] ** 2 + x[None, :] ** 2 <= radius**2).astype(float)
    soft = matrix(len(x), gaussian(sigma, rim), "mirror")
    kernel = soft @ (disk / disk.sum()) @ soft.T
    u, s, vt = np.linalg.svd(kernel)
    kept = s > TOLERANCE * s[0]
    rows = [matrix(height, u[:, k] * s[k], "mirror") for k in np.flatnonzero(kept)]
    columns = [matrix(width, vt[k], "mirror") for k in np.flatnonzero(kept)]
    return fewest_terms(np.stack(rows), np.stack(columns))


def zoom_tables(height: int, width: int) -> Separable:
    """The mean of the image and of its zooms about the middle, 1.00, 1.01, ... up to the end."""
    return stacked([_zooms(height, width, np.arange(1, end, 0.01)) for end in ZOOM_END])


def _zooms(height: int, width: int, factors: np.ndarray) -> Separable:
    terms = [[np.eye(n), *(zoom_matrix(n, f) for f in factors)] for n in (height, width)]
    rows, columns = (np.stack(one) for one in terms)
    return fewest_terms(rows / (len(factors) + 1), columns)


def zoom_matrix(size: int, factor: float) -> np.ndarray:
    """[size, size]: the middle, enlarged linearly and cut to the old size.

    scipy's `zoom` of order 1 lays the first and last pixel of the cut onto those of the result.
    """
    cut = math.ceil(size / factor)
    top = (size - cut) // 2
    large = round(cut * factor)
    place = np.arange(large) * ((cut - 1) / max(large - 1, 1))
    below = np.minimum(place.astype(int), max(cut - 2, 0))
    share = place - below
    made = np.zeros((large, size))
    np.add.at(made, (np.arange(large), top + below), 1 - share)
    np.add.at(made, (np.arange(large), top + np.minimum(below + 1, cut - 1)), share)
    trim = (large - size) // 2
    return made[trim : trim + size]


def separable(images: Array, terms: Separable) -> Array:
    """Float32 images [B, H, W, C] -> the same shape."""
    multiply = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    across = multiply("kij,bhjc->kbhic", terms.columns, images)
    return multiply("kij,kbjwc->biwc", terms.rows, across)


def blurred(images: Array, terms: Separable, keys: Array) -> Array:
    """The corruption of a blur that draws nothing: uint8 -> uint8 [B, H, W, 3]."""
    del keys
    return quantize(separable(images.astype(jnp.float32), terms))


class GlassTable(NamedTuple):
    """rounds: int32; blur: one term."""

    rounds: Any
    blur: Separable


def glass_tables(height: int, width: int) -> GlassTable:
    """One entry per severity."""
    scale = scale_of(height, width)
    blurs = gaussians(height, width, [scale * sigma for sigma, _ in GLASS])
    return GlassTable(np.array([rounds for _, rounds in GLASS], np.int32), blurs)


def glass(images: Array, table: GlassTable, keys: Array) -> Array:
    """Blurred; every pixel inside takes over the one above left, above, left or itself; blurred.

    The benchmark visits the pixels from below right, so what a pixel takes was not yet changed in
    this round, and a round is one look-up.
    """
    height, width = images.shape[1:3]
    draw = functools.partial(jax.random.bits, shape=(GLASS_ROUNDS, height, width), dtype=jnp.uint8)
    bits = jax.vmap(draw)(keys)
    inside = jnp.zeros((height, width), bool).at[2:height, 2:width].set(True)
    soft = quantize(separable(images.astype(jnp.float32), table.blur))
    for turn in range(GLASS_ROUNDS):
        on = (inside & (turn < table.rounds))[None, :, :, None]
        up, left = ((bits[:, turn, :, :, None] & bit) > 0 for bit in (1, 2))
        taken = jnp.where(up & on, jnp.roll(soft, 1, 1), soft)
        both = jnp.where(up, jnp.roll(soft, (1, 1), (1, 2)), jnp.roll(soft, 1, 2))
        soft = jnp.where(left & on, both, taken)
    return quantize(separable(soft.astype(jnp.float32), table.blur))
