"""JPEG there and back: what libjpeg's baseline coder at a quality leaves of an image.

Colours to luma and two chromas (JFIF), chroma halved both ways, 8 x 8 cosine transforms, division
by the quality's table and rounding (ITU-T T.81, annex K), and back with chroma interpolated
linearly, three quarters of the nearer value and a quarter of the farther. Entropy coding loses
nothing and is left out. Where libjpeg rounds a transform to whole numbers we keep float32.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.shift.pixels import luma

QUALITY = (80, 65, 58, 50, 40)
BLOCK = 8
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
    x = _padded(images, 1, 2 * BLOCK).astype(jnp.float32)  # rows are added once chroma is halved
    grey = luma(x)
    blue = 0.5 * (x[..., 2:] - grey) / (1 - 0.114)
    red = 0.5 * (x[..., :1] - grey) / (1 - 0.299)
    grey = _coded(jnp.round(grey) - 128, table.luma)[:, :, :width] + 128
    chroma = _halved(jnp.round(jnp.concatenate([blue, red], -1)))
    chroma = _coded(_padded(chroma, BLOCK, 1), table.chroma)[:, : height // 2, : width // 2]
    chroma = _doubled(chroma)  # at its end it repeats the image's last value, not the padding's
    blue, red = chroma[..., :1], chroma[..., 1:]
    green = grey - (0.114 * 1.772 * blue + 0.299 * 1.402 * red) / 0.587
    made = jnp.concatenate([grey + 1.402 * red, green, grey + 1.772 * blue], -1)
    return jnp.clip(jnp.round(made), 0, 255).astype(jnp.uint8)


def _padded(planes: Array, rows: int, columns: int) -> Array:
    """[B, H, W, C] with its last row and column repeated up to multiples of two sizes."""
    missing = (0, 0), (0, -planes.shape[1] % rows), (0, -planes.shape[2] % columns), (0, 0)
    return jnp.pad(planes, missing, mode="edge")


def _coded(planes: Array, steps: Array) -> Array:
    """[B, H, W, C] around 0 after quantization of their blocks, whole numbers in [-128, 127]."""
    batch, height, width, channels = planes.shape
    multiply = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    cosines = _cosines()
    blocks = planes.reshape(batch, height // BLOCK, BLOCK, width // BLOCK, BLOCK, channels)
    found = multiply("ui,bhiwjc,vj->bhwcuv", cosines, blocks, cosines)
    steps = steps.reshape((1,) * 4 + steps.shape)
    kept = jnp.round(found / steps) * steps
    back = multiply("ui,bhwcuv,vj->bhiwjc", cosines, kept, cosines)
    return jnp.clip(jnp.round(back), -128, 127).reshape(planes.shape)


def _cosines() -> np.ndarray:
    """Orthonormal DCT-II, float32 [8, 8], frequency first."""
    frequency, place = np.arange(BLOCK)[:, None], np.arange(BLOCK)[None, :]
    made = np.cos((2 * place + 1) * frequency * np.pi / (2 * BLOCK)) * np.sqrt(2 / BLOCK)
    made[0] /= np.sqrt(2)
    return made.astype(np.float32)


def _halved(planes: Array) -> Array:
    """Means of 2 x 2; halves are rounded down and up in turn across, as libjpeg does."""
    upper, lower = planes[:, ::2], planes[:, 1::2]
    four = upper[:, :, ::2] + upper[:, :, 1::2] + lower[:, :, ::2] + lower[:, :, 1::2]
    bias = 1 + (jnp.arange(four.shape[2]) % 2)[None, None, :, None]
    return jnp.floor((four + bias) / 4)


def _doubled(planes: Array) -> Array:
    """Each value becomes 2 x 2, a quarter of the next one mixed in, both ways."""
    for axis in (1, 2):
        size = planes.shape[axis]
        padding = [(1, 1) if i == axis else (0, 0) for i in range(4)]
        padded = jnp.pad(planes, padding, mode="edge")
        cut = functools.partial(jax.lax.slice_in_dim, padded, axis=axis)
        before, after = cut(0, size), cut(2, size + 2)
        both = jnp.stack([0.75 * planes + 0.25 * before, 0.75 * planes + 0.25 * after], axis + 1)
        shape = list(planes.shape)
        shape[axis] = 2 * size
        planes = both.reshape(shape)
    return planes
