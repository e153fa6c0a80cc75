"""Common corruptions of uint8 images at five severities (Hendrycks & Dietterich 2019, 1903.12261).

The benchmark's fifteen and its four extra ones, with the constants of its 32 x 32 version; their
families have a file each beside this one. Tables are made once on the host in float64, and jitted
code applies them, with randomness that an image's id decides. Noise, contrast, brightness,
pixelation and JPEG are whole-number arithmetic, the same to the bit on every backend; the others
compute in float32, and a value between two grey levels may fall to either side on another backend.

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
from jax.core import Tracer

from rcm import config
from rcm.shift import blur, box, colour, elastic, frost, jpeg, motion, noise, spatter, weather

SEVERITIES = (1, 2, 3, 4, 5)
BATCH = 250  # 500 is a quarter slower on CPU, where its activations leave the cache


class Corruption(NamedTuple):
    """One corruption at five severities.

    tables(height, width) -> pytree of numpy arrays [5, ...]: one entry per severity, host side.
    apply(images uint8 [B, H, W, 3], table, keys [B]) -> uint8 [B, H, W, 3]: `table` is one
        severity's entry, `keys` one PRNG key per image; jax, traced.
    textured: whether `tables` also takes a folder of photographs.
    """

    tables: Callable[..., Any]
    apply: Callable[[Array, Any, Array], Array]
    textured: bool = False


def _noise(law: Callable[[Any], np.ndarray], constants: tuple[float, ...]) -> Corruption:
    return Corruption(lambda h, w: noise.tables(law, constants), noise.noisy)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": _noise(noise.gaussian_law, noise.GAUSSIAN_STD),
    "shot_noise": _noise(noise.shot_law, noise.SHOT_PHOTONS),
    "impulse_noise": _noise(noise.impulse_law, noise.IMPULSE_SHARE),
    "defocus_blur": Corruption(blur.defocus_tables, blur.blurred),
    "glass_blur": Corruption(blur.glass_tables, blur.glass),
    "motion_blur": Corruption(motion.tables, motion.motion),
    "zoom_blur": Corruption(blur.zoom_tables, blur.blurred),
    "snow": Corruption(weather.snow_tables, weather.snow),
    "frost": Corruption(frost.tables, frost.frost, textured=True),
    "fog": Corruption(weather.fog_tables, weather.fog),
    "brightness": Corruption(colour.brightness_tables, colour.brightness),
    "contrast": Corruption(colour.contrast_tables, colour.contrast),
    "elastic_transform": Corruption(elastic.tables, elastic.elastic),
    "pixelate": Corruption(box.tables, box.pixelate),
    "jpeg_compression": Corruption(jpeg.tables, jpeg.jpeg),
    # the extra ones
    "speckle_noise": _noise(noise.speckle_law, noise.SPECKLE_STD),
    "gaussian_blur": Corruption(blur.gaussian_tables, blur.blurred),
    "spatter": Corruption(spatter.tables, spatter.spatter),
    "saturate": Corruption(colour.saturate_tables, colour.saturate),
}
BENCHMARK = tuple(CORRUPTIONS)[:15]  # of which mCE is the mean
SHIFTS = ("clean", *CORRUPTIONS)


def validate(names: Iterable[str], severities: Iterable[int]) -> None:
    """Raises ValueError for a name outside `SHIFTS` or a severity outside 1..5."""
    for name in names:
        config.choose("shift", name, SHIFTS)
    for severity in severities:
        whole = isinstance(severity, int | np.integer) and not isinstance(severity, bool)
        config.require(
            whole and severity in SEVERITIES, f"severity must be 1, 2, 3, 4 or 5, got {severity!r}."
        )


def check_size(size: tuple[int, ...], names: Iterable[str]) -> None:
    """Raises ValueError unless images of (height, width) can undergo all of the shifts `names`."""
    height, width = size
    config.require(
        height % 8 == width % 8 == 0 < min(height, width),
        f"Corruptions need images whose sides are multiples of 8, not {height} x {width}: pad or "
        "crop them, or leave corruptions out.",
    )
    config.require(
        height * width <= colour.CONTRAST_PIXELS or "contrast" not in names,
        f"Contrast takes images of up to {colour.CONTRAST_PIXELS:,} pixels, not {height} x {width}:"
        " crop or shrink them, or leave contrast out.",
    )


def corrupt(
    images: Array | np.ndarray,
    ids: Array | np.ndarray,
    name: str,
    severity: int | Array,
    seed: int | Array = 0,
    frost_dir: str = "",
) -> Array:
    """The images after a shift: uint8 [B, H, W, 3] -> uint8 [B, H, W, 3]; "clean" changes nothing.

    ids: integers [B], an image's index in the canonical order of its data set, from 0 to 2**31 - 1
    as the seed. With the name, the severity and the seed it alone decides the image's noise,
    whatever the batch around it. Images of one size are always shifted as many at a time
    (`at_once`), the last ones repeated to fill it up: a program of another size rounds in another
    way, by which one pixel in a million would be the next grey level. Within a caller's `jit` they
    are shifted as they come, and that holds of programs of one size alone.
    severity (1..5) and seed may be traced, and then go unchecked: none of them compiles anew.
    frost_dir: a folder of photographs of frost; empty for textures of our own.
    Raises ValueError for an unknown name, a severity outside 1..5, an id or a seed out of range,
    images of another form, or a folder without photographs.
    """
    traced = isinstance(severity, jax.Array)
    validate([name], [] if traced else [severity])
    _check_images(images, ids)
    _check_range("seed", seed)
    check_size(images.shape[1:3], [name])
    if name == "clean":
        return jnp.asarray(images)
    corruption = CORRUPTIONS[name]
    extra = (frost_dir,) if corruption.textured else ()
    tables = _tables(corruption.tables, images.shape[1], images.shape[2], *extra)
    if traced:
        tables = jax.tree.map(jnp.asarray, tables)  # numpy's cannot be indexed by a tracer
    table = jax.tree.map(lambda entry: entry[severity - 1], tables)
    given = (table, np.uint32(zlib.crc32(name.encode())), severity, seed, corruption.apply)
    count = len(ids)
    if count == 0 or isinstance(images, Tracer) or isinstance(ids, Tracer):
        return _apply(images, ids, *given)
    parts, together = [], at_once(images.shape[1], images.shape[2])
    for start in range(0, count, together):
        rows = np.minimum(np.arange(start, start + together), count - 1)
        parts.append(_apply(images[rows], ids[rows], *given))
    return parts[0][:count] if len(parts) == 1 else jnp.concatenate(parts)[:count]


def at_once(height: int, width: int) -> int:
    """How many images are shifted together: `BATCH`, or as many as have the pixels of `BATCH` of
    32 x 32, since some corruptions hold thirty copies of all of them."""
    return max(1, min(BATCH, BATCH * 32 * 32 // (height * width)))


@functools.cache
def _tables(make: Callable[..., Any], *arguments: Any) -> Any:
    return make(*arguments)


def _check_images(images: Array | np.ndarray, ids: Array | np.ndarray) -> None:
    shape = images.shape
    if len(shape) != 4 or shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"images must be uint8 [B, H, W, 3], got {images.dtype} {list(shape)}; convert them "
            "first."
        )
    if ids.shape != shape[:1] or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"ids must be one integer per image, [{shape[0]}], got {ids.dtype} {list(ids.shape)}."
        )
    _check_range("ids", ids)


def _check_range(what: str, given: int | Array | np.ndarray) -> None:
    """Raises ValueError for whole numbers that would not survive as the int32 of a key."""
    if isinstance(given, Tracer) or not np.size(given):
        return
    least, most = int(np.min(given)), int(np.max(given))
    config.require(
        least >= 0 and most < 2**31,
        f"{what} must lie from 0 to {2**31 - 1}, got {least if least < 0 else most}.",
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
