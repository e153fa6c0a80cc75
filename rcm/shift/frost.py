"""Frost: a cut of a texture laid over the image (Hendrycks & Dietterich 2019).

The benchmark cuts from five photographs of frosted panes, shrunk to a fifth without smoothing them
first. They are not ours to ship: `--config.shift.frost_dir` names a folder of photographs, all of
which are used, and without one the textures are drawn here. Results say which, because the two are
not the same shift.
"""

import contextlib
import functools
import hashlib
import io
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image
from scipy import ndimage

from rcm.foreign import PICTURES, read_picture, reasons
from rcm.shift.pixels import quantize, scale_of

FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))  # weights: image, frost
SHRUNK = 0.2  # photographs, for images of 32 x 32
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
DRAWN, DRAWN_SIZE = 5, 4  # textures, and their sides over the image's


class FrostTable(NamedTuple):
    """weights float32 [5, 2], of image and frost; textures uint8 [5, T, h, w, 3], each the same."""

    weights: Any
    textures: Any


def tables(height: int, width: int, folder: str = "") -> FrostTable:
    """From the photographs in a folder, or with textures of our own without one.

    Raises ValueError for a folder that is missing, holds no photograph, or holds one that cannot be
    read or is too small.
    """
    made = photographs(folder, height, width) if folder else drawn(height, width)
    return FrostTable(np.array(FROST, np.float32), np.broadcast_to(made, (len(FROST), *made.shape)))


def photographs(folder: str, height: int, width: int) -> np.ndarray:
    """uint8 [T, h, w, 3]: every photograph of the folder shrunk, all cut to the smallest."""
    shrunk = [_shrunk(path, height, width) for path in _paths(folder)]
    h, w = (min(texture.shape[axis] for texture in shrunk) for axis in (0, 1))
    return np.stack([texture[:h, :w] for texture in shrunk])


@functools.cache
def source(folder: str) -> str:
    """Where the textures come from: "drawn", or "photographs" and a hash of their files.

    Raises ValueError for a folder without photographs.
    """
    if not folder:
        return "drawn"
    content = hashlib.sha256()
    for path in _paths(folder):
        with _readable(path):
            content.update(read_picture(path))
    return f"photographs{content.hexdigest()[:8]}"


def _paths(folder: str) -> list[pathlib.Path]:
    root = pathlib.Path(folder)
    paths = sorted(p for p in root.glob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(
            f"shift.frost_dir: {folder} is no folder with photographs of frost "
            f"({', '.join(SUFFIXES)}); leave it empty for textures drawn by rcm."
        )
    return paths


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"shift.frost_dir: {path} cannot be read as an image ({error}); remove or replace it."
        ) from error


def _shrunk(path: pathlib.Path, height: int, width: int) -> np.ndarray:
    with _readable(path), reasons():
        photograph = Image.open(io.BytesIO(read_picture(path)), formats=PICTURES).convert("RGB")
    scale = SHRUNK * scale_of(height, width)
    w, h = (round(side * scale) for side in photograph.size)
    if h < height or w < width:
        raise ValueError(
            f"shift.frost_dir: {path} is {photograph.size[0]} x {photograph.size[1]} pixels, which "
            f"shrinks to {w} x {h}: expected at least {width / scale:.0f} x {height / scale:.0f}."
        )
    return _sampled(np.asarray(photograph), h, w, scale)


def _sampled(photograph: np.ndarray, height: int, width: int, scale: float) -> np.ndarray:
    """uint8 [height, width, 3]: the photograph at so many points, bilinear between its pixels, as
    OpenCV's INTER_LINEAR shrinks: to a fifth by taking every fifth pixel from the third on."""
    places = [(np.arange(side) + 0.5) / scale - 0.5 for side in (height, width)]
    grid = np.meshgrid(*places, indexing="ij")
    channels = np.moveaxis(photograph.astype(np.float32), -1, 0)
    made = [ndimage.map_coordinates(c, grid, order=1, mode="nearest") for c in channels]
    return np.rint(np.stack(made, axis=-1)).astype(np.uint8)


def drawn(height: int, width: int) -> np.ndarray:
    """uint8 [T, h, w, 3]: bluish white feathers, ridges of noise stretched along one direction."""
    scale = scale_of(height, width)
    shape = DRAWN_SIZE * height, DRAWN_SIZE * width
    return np.stack([_feathers(np.random.default_rng(i), shape, scale) for i in range(DRAWN)])


def _feathers(draw: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    ridges = np.zeros(shape)
    for octave in range(4):
        long, short = 8 * scale / 2**octave, 2 * scale / 2**octave
        bent = ndimage.rotate(
            draw.normal(size=(2 * max(shape),) * 2), draw.uniform(0, 180), reshape=False, order=1
        )
        smooth = ndimage.gaussian_filter(bent, (long, short))
        smooth = ndimage.rotate(smooth, draw.uniform(0, 180), reshape=False, order=1)
        top, left = ((2 * max(shape) - side) // 2 for side in shape)
        smooth = smooth[top : top + shape[0], left : left + shape[1]]
        ridges += (1 - np.minimum(np.abs(smooth) / smooth.std(), 2) / 2) / 2**octave
    cover = ndimage.gaussian_filter(draw.normal(size=shape), 8 * scale)
    grey = 0.5 * ridges / ridges.max() + 0.35 + 0.15 * cover / np.abs(cover).max()
    tint = np.array([0.86, 0.95, 1.0])
    return np.clip(255 * grey[..., None] * tint, 0, 255).astype(np.uint8)


def frost(images: Array, table: FrostTable, keys: Array) -> Array:
    """uint8 [B, H, W, 3] -> uint8: a random cut of a random texture is added."""
    height, width = images.shape[1:3]
    count, rows, columns, _ = table.textures.shape

    def cut(key: Array) -> Array:
        which, top, left = jax.random.split(key, 3)
        place = (
            jax.random.randint(which, (), 0, count),
            jax.random.randint(top, (), 0, rows - height + 1),
            jax.random.randint(left, (), 0, columns - width + 1),
            0,
        )
        return jax.lax.dynamic_slice(table.textures, place, (1, height, width, 3))[0]

    texture = jax.vmap(cut)(keys).astype(jnp.float32)
    return quantize(table.weights[0] * images.astype(jnp.float32) + table.weights[1] * texture)
