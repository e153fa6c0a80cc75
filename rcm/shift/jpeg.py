"""JPEG there and back: what libjpeg's baseline coder at a quality leaves of an image, to the bit.

Colours to luma and two chromas (JFIF 1.02), chroma halved both ways, 8 x 8 cosine transforms,
division by the quality's table and rounding (ITU-T T.81, annex K), and back with chroma
interpolated linearly, three quarters of the nearer value and a quarter of the farther. Entropy
coding loses nothing and is left out. All arithmetic is int32 with libjpeg's precision and
roundings, so that every backend gives the same pixels.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

QUALITY = (80, 65, 58, 50, 40)
BLOCK = 8
LUMA, CHROMA = ((0.299, 0.587, 0.114),), ((-0.16874, -0.33126, 0.5), (0.5, -0.41869, -0.08131))
FRACTION = 16  # bits behind the point of JFIF's constants
COSINE, BETWEEN = 13, 2  # bits behind the point of cosines, and of values between two passes
# sqrt(2) cos((2 place + 1) frequency pi / 16), frequency first, 1 in the first row; the last four
# places are the first ones mirrored, with the other sign for odd frequencies. libjpeg adds them up
# from rounded rotations (Loeffler, Ligtenberg & Moschytz 1989): some are a unit from the nearest.
COSINES = """
8192  8192  8192  8192   11363   9633   6437   2260   10703   4433 -4433 -10703
9633 -2259 -11362 -6436   8192  -8192  -8192   8192    6437 -11362  2261   9633
4433 -10704 10704 -4433   2260  -6436   9633 -11363
"""
# ITU-T T.81, tables K.1 and K.2
LUMA_STEPS = """
16 11 10 16  24  40  51  61   12 12 14 19  26  58  60  55   14 13 16 24  40  57  69  56
14 17 22 29  51  87  80  62   18 22 37 56  68 109 103  77   24 35 55 64  81 104 113  92
49 64 78 87 103 121 120 101   72 92 95 98 112 100 103  99
"""
CHROMA_STEPS = """
17 18 24 47 99 99 99 99   18 21 26 66 99 99 99 99   24 26 56 99 99 99 99 99
47 66 99 99 99 99 99 99   99 99 99 99 99 99 99 99   99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99   99 99 99 99 99 99 99 99
"""


class Steps(NamedTuple):
    """Quantization steps float32 [..., 8, 8], vertical frequency first."""

    luma: Any
    chroma: Any


def steps(quality: int) -> Steps:
    """The tables that libjpeg scales for a quality of 1 to 100."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality

    def scaled(table: str) -> np.ndarray:
        base = np.array(table.split(), int).reshape(BLOCK, BLOCK)
        return np.clip((base * percent + 50) // 100, 1, 255).astype(np.float32)

    return Steps(scaled(LUMA_STEPS), scaled(CHROMA_STEPS))


def tables(height: int, width: int) -> Steps:
    """[5, 8, 8] each, the same for every size."""
    del height, width
    return Steps(*(np.stack(part) for part in zip(*map(steps, QUALITY), strict=True)))


def jpeg(images: Array, table: Steps, keys: Array) -> Array:
    """uint8 [B, H, W, 3] -> uint8."""
    del keys
    height, width = images.shape[1:3]
    x = _padded(images, 1, 2 * BLOCK).astype(jnp.int32)  # rows are added once chroma is halved
    grey, chroma = _luma(x), _halved(_chroma(x))
    grey = _coded(grey, table.luma)[:, :, :width]
    chroma = _coded(_padded(chroma, BLOCK, 1), table.chroma)[:, : height // 2, : width // 2]
    chroma = _doubled(chroma)  # at its end it repeats the image's last value, not the padding's
    return jnp.clip(_colours(grey, chroma), 0, 255).astype(jnp.uint8)


def _fixed(numbers: Any) -> np.ndarray:
    return np.rint(np.array(numbers) * 2**FRACTION).astype(np.int32)


def _luma(x: Array) -> Array:
    """int32 [B, H, W, 3] colours -> [B, H, W, 1]."""
    return _rounded(jnp.einsum("bhwc,kc->bhwk", x, _fixed(LUMA)), FRACTION)


def _chroma(x: Array) -> Array:
    """int32 [B, H, W, 3] colours -> [B, H, W, 2], blue and red, 128 is none; halves go down."""
    total = jnp.einsum("bhwc,kc->bhwk", x, _fixed(CHROMA))
    return (total + (128 << FRACTION) + (1 << (FRACTION - 1)) - 1) >> FRACTION


def _colours(grey: Array, chroma: Array) -> Array:
    """The colours [B, H, W, 3] of luma and chroma, int32, not yet clipped."""
    blue, red = chroma[..., :1] - 128, chroma[..., 1:] - 128
    to_red, from_blue, from_red, to_blue = _fixed((1.402, -0.34414, -0.71414, 1.772))
    moved = [to_red * red, from_blue * blue + from_red * red, to_blue * blue]
    return grey + _rounded(jnp.concatenate(moved, -1), FRACTION)


def _rounded(x: Array, bits: int) -> Array:
    """x / 2^bits to the nearest whole number, halves up."""
    return (x + (1 << (bits - 1))) >> bits


def _padded(planes: Array, rows: int, columns: int) -> Array:
    """[B, H, W, C] with its last row and column repeated up to multiples of two sizes."""
    missing = (0, 0), (0, -planes.shape[1] % rows), (0, -planes.shape[2] % columns), (0, 0)
    return jnp.pad(planes, missing, mode="edge")


def _coded(planes: Array, steps: Array) -> Array:
    """int32 [B, H, W, C] in [0, 255] after quantization of their blocks."""
    batch, height, width, channels = planes.shape
    shape = (batch, height // BLOCK, BLOCK, width // BLOCK, BLOCK, channels)
    found = planes.reshape(shape) - 128
    found = _rounded(_times_cosines(found, "bhiwjc,vj->bhiwvc"), COSINE - BETWEEN)
    found = _rounded(_times_cosines(found, "bhiwvc,ui->bhuwvc"), COSINE + BETWEEN)  # in eighths
    steps = steps.astype(jnp.int32).reshape(1, 1, BLOCK, 1, BLOCK, 1)
    levels = jnp.sign(found) * ((jnp.abs(found) + 4 * steps) // (8 * steps))
    back = _rounded(_times_cosines(levels * steps, "bhuwvc,ui->bhiwvc"), COSINE - BETWEEN)
    back = _rounded(_times_cosines(back, "bhiwvc,vj->bhiwjc"), COSINE + BETWEEN + 3)
    return jnp.clip(back + 128, 0, 255).reshape(planes.shape)


def _times_cosines(blocks: Array, along: str) -> Array:
    """int32 blocks times the cosines along one axis, in units of 2^-COSINE."""
    return jnp.einsum(along, blocks, _cosines())


def _cosines() -> np.ndarray:
    """sqrt(8) times the orthonormal DCT-II, int32 [8, 8] in units of 2^-COSINE, frequency first."""
    half = np.array(COSINES.split(), np.int32).reshape(BLOCK, BLOCK // 2)
    signs = np.where(np.arange(BLOCK) % 2, -1, 1).astype(np.int32)[:, None]
    return np.concatenate([half, signs * half[:, ::-1]], 1)


def _halved(planes: Array) -> Array:
    """Means of 2 x 2; halves are rounded down and up in turn across, as libjpeg does."""
    upper, lower = planes[:, ::2], planes[:, 1::2]
    four = upper[:, :, ::2] + upper[:, :, 1::2] + lower[:, :, ::2] + lower[:, :, 1::2]
    bias = 1 + (jnp.arange(four.shape[2]) % 2)[None, None, :, None]
    return (four + bias) >> 2


def _doubled(planes: Array) -> Array:
    """Each value becomes 2 x 2, a quarter of the next one mixed in, both ways; sixteenths are
    rounded once, halves up and down in turn across."""
    for axis in (1, 2):
        size = planes.shape[axis]
        padding = [(1, 1) if i == axis else (0, 0) for i in range(4)]
        padded = jnp.pad(planes, padding, mode="edge")
        cut = functools.partial(jax.lax.slice_in_dim, padded, axis=axis)
        before, after = cut(0, size), cut(2, size + 2)
        both = jnp.stack([3 * planes + before, 3 * planes + after], axis + 1)
        shape = list(planes.shape)
        shape[axis] = 2 * size
        planes = both.reshape(shape)
    bias = 8 - (jnp.arange(planes.shape[2]) % 2)[None, None, :, None]
    return (planes + bias) >> 4
