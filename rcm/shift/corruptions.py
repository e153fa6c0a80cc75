"""Common corruptions of uint8 images at five severities (Hendrycks & Dietterich 2019, 1903.12261).

Constants are those of the benchmark's 32 x 32 version. Every corruption is integer arithmetic and
table look-up in jitted code, the tables being made once on the host in float64: shifted pixels are
the same to the bit on every backend, and none needs floating point on the device.

The noises act on single values, so for a given severity each is a law P(grey level out | grey level
in), a 256 x 256 matrix that already contains the benchmark's clipping to [0, 255] and truncation to
uint8. `rcm.shift.alias` samples it exactly from one 32-bit draw per value; a sampler of the noise
itself would cost more and give the same law.

A new corruption is one function (two where it needs tables) and one line in `CORRUPTIONS`.
"""

import functools
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import stats

from rcm import config
from rcm.shift import alias, box

SEVERITIES = (1, 2, 3, 4, 5)
GAUSSIAN_STD = (0.04, 0.06, 0.08, 0.09, 0.10)
SHOT_PHOTONS = (500, 250, 100, 75, 50)
IMPULSE_SHARE = (0.01, 0.02, 0.03, 0.05, 0.07)
BRIGHTNESS_ADDED = (0.05, 0.1, 0.15, 0.2, 0.3)
CONTRAST_TWENTIETHS = (15, 10, 8, 6, 3)  # 0.75, 0.5, 0.4, 0.3, 0.15
PIXELATE_SCALE = (0.95, 0.9, 0.85, 0.75, 0.65)


class Corruption(NamedTuple):
    """One corruption at five severities.

    tables(height, width) -> pytree of numpy arrays [5, ...]: one entry per severity, host side.
    apply(images uint8 [B, H, W, 3], table, keys [B]) -> uint8 [B, H, W, 3]: `table` is one
        severity's entry, `keys` one PRNG key per image; jax, traced.
    """

    tables: Callable[[int, int], Any]
    apply: Callable[[Array, Any, Array], Array]


def gaussian_law(std: float) -> np.ndarray:
    """P(out | in) of x + std N(0, 1) on images in [0, 1], float64 [256, 256]."""
    borders = np.concatenate([[-np.inf], np.arange(1, 256) / 255, [np.inf]])
    return np.diff(stats.norm.cdf(borders[None, :], loc=_unit()[:, None], scale=std), axis=1)


def shot_law(photons: int) -> np.ndarray:
    """P(out | in) of Poisson(x photons) / photons on images in [0, 1], float64 [256, 256]."""
    counts = np.arange(photons)
    probability = stats.poisson.pmf(counts[None, :], _unit()[:, None] * photons)
    greys = counts * 255 // photons
    law = probability @ (greys[:, None] == np.arange(256)[None, :])
    law[:, 255] += stats.poisson.sf(photons - 1, _unit() * photons)
    return law


def impulse_law(share: float) -> np.ndarray:
    """P(out | in) of salt and pepper, half each, on `share` of the values, float64 [256, 256]."""
    law = (1 - share) * np.eye(256)
    law[:, [0, 255]] += share / 2
    return law


def brightness_table(added: float) -> np.ndarray:
    """Brightened value of each (largest value of its pixel, value), uint8 [256, 256].

    Adding to V of HSV while H and S stay multiplies a pixel by V'/V; written with the saturation
    as matplotlib's `hsv_to_rgb` does, because truncation turns 1e-16 into a grey level. Exact for
    a pixel's largest and smallest value; the middle one, which also depends on the hue's rounding,
    is one level off in at most 0.1 % of values, where the true result is a whole number.
    """
    largest, value = np.broadcast_arrays(_unit()[:, None], _unit()[None, :])
    saturation = (largest - value) / np.where(largest > 0, largest, 1)
    brighter = np.clip(largest + added, 0, 1) * (1 - np.clip(saturation, 0, 1))
    return (np.clip(brighter, 0, 1) * 255).astype(np.uint8)


def _unit() -> np.ndarray:
    """The 256 grey levels in [0, 1], float64."""
    return np.arange(256) / 255


@functools.cache
def _noise_tables(law: Callable[[Any], np.ndarray], constants: tuple[float, ...]) -> np.ndarray:
    """Alias tables uint32 [5, 256, 256] of a law at each severity, the same for every shape."""
    return alias.build(np.stack([law(constant) for constant in constants]))


def _noise(images: Array, table: Array, keys: Array) -> Array:
    draw = functools.partial(jax.random.bits, shape=images.shape[1:], dtype=jnp.uint32)
    return alias.sample(table, images, jax.vmap(draw)(keys))


def _brightness(images: Array, table: Array, keys: Array) -> Array:
    del keys
    index = images.max(-1, keepdims=True).astype(jnp.int32) * 256 + images.astype(jnp.int32)
    return table.reshape(-1).at[index].get(mode="promise_in_bounds")


def _contrast(images: Array, twentieths: Array, keys: Array) -> Array:
    """floor(mean + factor (x - mean)) in whole numbers; the mean is per image and channel."""
    del keys
    pixels = images.shape[1] * images.shape[2]
    if 20 * 255 * pixels >= 2**31:
        raise ValueError(f"contrast takes images of up to 421,000 pixels, got {pixels}; crop them")
    values = images.astype(jnp.int32)
    sums = values.sum((1, 2), keepdims=True)
    numerator = twentieths * pixels * values + (20 - twentieths) * sums
    return (numerator // (20 * pixels)).astype(jnp.uint8)


def _pixelate(images: Array, table: Any, keys: Array) -> Array:
    """Down by a box filter, up to the old size: across first, then downwards, as Pillow does."""
    del keys
    rows, columns = table
    return box.resample(box.resample(images, columns, axis=2), rows, axis=1)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(lambda h, w: _noise_tables(gaussian_law, GAUSSIAN_STD), _noise),
    "shot_noise": Corruption(lambda h, w: _noise_tables(shot_law, SHOT_PHOTONS), _noise),
    "impulse_noise": Corruption(lambda h, w: _noise_tables(impulse_law, IMPULSE_SHARE), _noise),
    "brightness": Corruption(
        lambda h, w: np.stack([brightness_table(c) for c in BRIGHTNESS_ADDED]), _brightness
    ),
    "contrast": Corruption(lambda h, w: np.array(CONTRAST_TWENTIETHS, np.int32), _contrast),
    "pixelate": Corruption(
        lambda h, w: (box.taps(h, PIXELATE_SCALE), box.taps(w, PIXELATE_SCALE)), _pixelate
    ),
}
SHIFTS = ("clean", *CORRUPTIONS)


def validate(names: Iterable[str], severities: Iterable[int]) -> None:
    """Raises ValueError for a name outside `SHIFTS` or a severity outside 1..5."""
    for name in names:
        config.choose("shift", name, SHIFTS)
    for severity in severities:
        whole = isinstance(severity, int | np.integer)
        config.require(
            whole and severity in SEVERITIES, f"severity must be 1, 2, 3, 4 or 5, got {severity!r}."
        )


def corrupt(
    images: Array | np.ndarray,
    ids: Array | np.ndarray,
    name: str,
    severity: int | Array,
    seed: int | Array = 0,
) -> Array:
    """The images after a shift: uint8 [B, H, W, 3] -> uint8 [B, H, W, 3]; "clean" changes nothing.

    ids: int32 [B], an image's index in the canonical order of its data set. With the name, the
    severity and the seed it alone decides the image's noise, whatever the batch around it.
    severity (1..5) and seed may be traced, and then go unchecked: none of them compiles anew.
    Raises ValueError for an unknown name, a severity outside 1..5, or images of another form.
    """
    traced = isinstance(severity, jax.Array)
    validate([name], [] if traced else [severity])
    _check_images(images, ids)
    if name == "clean":
        return jnp.asarray(images)
    corruption = CORRUPTIONS[name]
    tables = _tables(corruption.tables, images.shape[1], images.shape[2])
    if traced:
        tables = jax.tree.map(jnp.asarray, tables)  # numpy's cannot be indexed by a tracer
    table = jax.tree.map(lambda entry: entry[severity - 1], tables)
    stream = np.uint32(zlib.crc32(name.encode()))
    return _apply(images, ids, table, stream, severity, seed, corruption.apply)


@functools.cache
def _tables(make: Callable[[int, int], Any], height: int, width: int) -> Any:
    return make(height, width)


def _check_images(images: Array | np.ndarray, ids: Array | np.ndarray) -> None:
    shape = images.shape
    form = len(shape) == 4 and shape[3] == 3 and shape[1] % 8 == 0 and shape[2] % 8 == 0
    if not form or images.dtype != np.uint8:
        raise ValueError(
            "images must be uint8 [B, H, W, 3] with H and W multiples of 8, "
            f"got {images.dtype} {list(shape)}; pad or convert them first."
        )
    if ids.shape != shape[:1] or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"ids must be one integer per image, [{shape[0]}], got {ids.dtype} {list(ids.shape)}."
        )


@functools.partial(jax.jit, static_argnames="apply")
def _apply(
    images: Array,
    ids: Array,
    table: Any,
    stream: Array,
    severity: Array,
    seed: Array,
    apply: Callable[[Array, Any, Array], Array],
) -> Array:
    """Compiled once per `apply` and shape: the three noises differ in their tables only."""
    key = jax.random.key(seed, impl="threefry2x32")  # whatever the default generator is
    key = jax.random.fold_in(jax.random.fold_in(key, stream), severity)
    return apply(images, table, jax.vmap(jax.random.fold_in, (None, 0))(key, ids))
