"""Other domains: images of a study's classes that come from elsewhere.

A domain is a data set of its own whose classes are those of the source or some of them (CIFAR-10.1,
STL-10, MNIST, SVHN, USPS, a user's file or folder), or the source's own test images, changed as
another writer, pen or paper would change them, which needs no download. A new one is a function or
an entry of `DATASETS`, and a line here.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from rcm import config
from rcm.data import datasets
from rcm.data.datasets import Dataset

ALIASES = {"car": "automobile"}  # a domain's name of a class -> the source's


class Domain(NamedTuple):
    """images: uint8 [N, H, W, 3] of the source's size; labels: int32 [N], the source's classes;
    digest: 8 hex digits over both; notes: sentences that a reader of results must know."""

    name: str
    images: np.ndarray
    labels: np.ndarray
    digest: str
    notes: tuple[str, ...] = ()


def rotated(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3], each turned by 15 to 35 degrees one way or the other, in turn; black
    comes in."""
    angles = np.tile([15, -20, 25, -30, 35, -15, 20, -25, 30, -35], len(images) // 10 + 1)
    turn = [ndimage.rotate(x, a, (0, 1), reshape=False, order=1, mode="constant")
            for x, a in zip(images, angles, strict=False)]  # fmt: skip
    return np.stack(turn)


def slanted(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3], each sheared sideways by 0.3 or 0.5 of its height, to the right and to
    the left in turn, as other hands write."""
    shears, middle = (0.3, -0.3, 0.5, -0.5), (images.shape[1] - 1) / 2
    made = []
    for i, image in enumerate(images):
        shear = shears[i % 4]
        matrix = np.array([[1, 0, 0], [shear, 1, 0], [0, 0, 1]])
        shift = (0, -shear * middle, 0)
        made.append(ndimage.affine_transform(image, matrix, shift, order=1, mode="constant"))
    return np.stack(made)


def thickened(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3], every pixel the brightest of its 3 x 3 neighbourhood: a broad pen."""
    return ndimage.grey_dilation(images, (1, 3, 3, 1))


def inverted(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3]: dark ink on textured, coloured paper, drawn from a fixed seed."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=images.shape)
    texture = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 0))
    texture *= 30 / texture.std(axis=(1, 2, 3), keepdims=True)
    paper = rng.uniform(150, 230, (len(images), 1, 1, 3)) + texture
    ink = images / 255.0
    return np.clip(np.rint(paper * (1 - ink) + 20 * ink), 0, 255).astype(np.uint8)


EMBEDDED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rotated": rotated,
    "slanted": slanted,
    "thickened": thickened,
    "inverted": inverted,
}
APART = (
    "cifar10_1_v4", "cifar10_1_v6", "stl10", "cifar10",
    "mnist", "mnist_5k", "svhn", "usps", "digits",
)  # fmt: skip


def load(
    name: str,
    source: Dataset,
    data_dir: str = "",
    cache_dir: Path | None = None,
    **photographs: Any,
) -> Domain:
    """The domain `name`, one of `EMBEDDED` or `APART` or a path that `datasets.load` takes, as a
    test of networks trained on `source`.

    photographs: how those of a folder are read. Of a named set classes that the source does not
    have are left out, such as STL-10's monkeys; a user's own must not have any. Images are resized
    to the source's. Raises ValueError for an unknown name and for classes that do not fit.
    """
    if name in EMBEDDED:
        images = EMBEDDED[name](np.asarray(source.test.images))
        return _domain(name, images, source.test.labels)
    named = name in APART
    if not named and not Path(name).expanduser().exists():
        config.choose("domain", name, (*EMBEDDED, *APART, "or a path"))
    found = datasets.load(name, data_dir, cache_dir, only_test=True, **photographs)
    places = class_places(found.name, found.classes, source.classes, strict=not named)
    images, labels = np.asarray(found.test.images), np.asarray(found.test.labels)
    kept = places[labels] >= 0
    height, width = source.test.images.shape[1:3]
    made = _domain(found.name, resized(images[kept], height, width), places[labels[kept]])
    return made._replace(notes=(*found.notes, *_unshared(found, source.classes, places)))


def _unshared(found: Dataset, source: Sequence[str], places: np.ndarray) -> list[str]:
    """What a reader must know of classes that only one of a pair has."""
    lacking = [word for i, word in enumerate(source) if i not in places]
    left_out = [word for word, place in zip(found.classes, places, strict=True) if place < 0]
    notes = [f"The domain {found.name} has no images of {', '.join(lacking)}."] if lacking else []
    if left_out:
        notes.append(f"Of the domain {found.name} images of {', '.join(left_out)} are left out.")
    return notes


def class_places(name: str, own: Sequence[str], source: Sequence[str], strict: bool) -> np.ndarray:
    """int32 [own classes]: each one's place among the source's classes, -1 for none.

    Raises ValueError if nothing is shared or, `strict`, if the source lacks a class.
    """
    known = {word: i for i, word in enumerate(source)}
    places = [known.get(word, known.get(ALIASES.get(word, ""), -1)) for word in own]
    foreign = [word for word, place in zip(own, places, strict=True) if place < 0]
    config.require(
        len(foreign) < len(own) and not (strict and foreign),
        f"The domain {name!r} has classes that the data a study trains on lacks: "
        f"{', '.join(foreign)}; expected some of {', '.join(source)}: rename or remove them.",
    )
    return np.array(places, np.int32)


def resized(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [N, height, width, 3]: means of the pixels that fall into one, or bilinear between."""
    if images.shape[1:3] == (height, width):
        return images
    shrinks = height <= images.shape[1] and width <= images.shape[2]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(x).resize((width, height), how)) for x in images])


def _domain(name: str, images: np.ndarray, labels: np.ndarray) -> Domain:
    labels = np.asarray(labels, np.int32)
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(labels.tobytes())
    return Domain(name, images, labels, digest.hexdigest()[:8])
