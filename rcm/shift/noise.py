"""Noise that acts on single values, sampled exactly.

For a severity each noise is a law P(grey level out | grey level in), a 256 x 256 matrix that
already contains the benchmark's clipping to [0, 255] and truncation to uint8 (Hendrycks &
Dietterich 2019). `rcm.shift.alias` samples it from one 32-bit draw per value; a sampler of the
noise itself would cost more and give the same law.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.shift import alias
from rcm.shift.pixels import unit

GAUSSIAN_STD = (0.04, 0.06, 0.08, 0.09, 0.10)
SHOT_PHOTONS = (500, 250, 100, 75, 50)
IMPULSE_SHARE = (0.01, 0.02, 0.03, 0.05, 0.07)
SPECKLE_STD = (0.06, 0.10, 0.12, 0.16, 0.20)


def _normal_law(std: np.ndarray) -> np.ndarray:
    """P(out | in) of x + std N(0, 1), std [256] by grey level in; 0 changes nothing."""
    from scipy import stats  # takes half a second to import, which training does not wait for

    borders = np.concatenate([[-np.inf], np.arange(1, 256) / 255, [np.inf]])
    scale = np.where(std > 0, std, 1)[:, None]
    law = np.diff(stats.norm.cdf(borders[None, :], loc=unit()[:, None], scale=scale), axis=1)
    return np.where(std[:, None] > 0, law, np.eye(256))


def gaussian_law(std: float) -> np.ndarray:
    """P(out | in) of x + std N(0, 1) on images in [0, 1], float64 [256, 256]."""
    return _normal_law(np.full(256, std))


def shot_law(photons: int) -> np.ndarray:
    """P(out | in) of Poisson(x photons) / photons on images in [0, 1], float64 [256, 256]."""
    from scipy import stats  # as above

    counts = np.arange(photons)
    probability = stats.poisson.pmf(counts[None, :], unit()[:, None] * photons)
    greys = counts * 255 // photons
    law = probability @ (greys[:, None] == np.arange(256)[None, :])
    law[:, 255] += stats.poisson.sf(photons - 1, unit() * photons)
    return law


def impulse_law(share: float) -> np.ndarray:
    """P(out | in) of salt and pepper, half each, on `share` of the values, float64 [256, 256]."""
    law = (1 - share) * np.eye(256)
    law[:, [0, 255]] += share / 2
    return law


def speckle_law(std: float) -> np.ndarray:
    """P(out | in) of x + x std N(0, 1) on images in [0, 1], float64 [256, 256]."""
    return _normal_law(std * unit())


@functools.cache
def tables(law: Callable[[Any], np.ndarray], constants: tuple[float, ...]) -> np.ndarray:
    """Alias tables uint32 [5, 256, 256] of a law at each severity, the same for every shape."""
    return alias.build(np.stack([law(constant) for constant in constants]))


def noisy(images: Array, table: Array, keys: Array) -> Array:
    """uint8 [B, H, W, 3] -> uint8; table: uint32 [256, 256]."""
    draw = functools.partial(jax.random.bits, shape=images.shape[1:], dtype=jnp.uint32)
    return alias.sample(table, images, jax.vmap(draw)(keys))
