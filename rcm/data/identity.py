"""What a data set is, and the one order and fingerprint its images have, whatever the copy.

Within a split, images stand in canonical order: by label, then by the SHA-256 of their pixels, then
by subgroup. Released corrupted sets alone keep their copy's order until they are aligned.
Index tables, image ids and fingerprints all refer to that order, so nothing depends on the order of
files or shards. Duplicated images are kept, each at its own index.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class RawArrays(NamedTuple):
    """What a reader returns, in any order: uint8 images [N, H, W, 3], integer labels [N], names;
    perhaps also integer subgroups [N] of both splits, and their names."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    train_group: np.ndarray | None = None
    test_group: np.ndarray | None = None
    groups: tuple[str, ...] = ()


ARRAYS = RawArrays._fields[:4]
GROUPED = ("train_group", "test_group")


@dataclass(frozen=True)
class Split:
    """images: uint8 [N, H, W, 3], perhaps memory-mapped; labels: int32 [N]; group: int32 [N], the
    subgroup of each image where the data has any; canonical order."""

    images: np.ndarray
    labels: np.ndarray
    group: np.ndarray | None = None


@dataclass(frozen=True)
class Dataset:
    """fingerprint: 64 hex digits over the canonical arrays and the names of classes and subgroups,
    not over `name`; notes: sentences that a reader of results must know of this copy."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def canonical(raw: RawArrays) -> RawArrays:
    """`raw` with both splits in canonical order, labels and subgroups as int32."""
    train = _order(raw.train_images, raw.train_labels, raw.train_group)
    test = _order(raw.test_images, raw.test_labels, raw.test_group)
    return RawArrays(
        raw.train_images[train],
        raw.train_labels[train].astype(np.int32),
        raw.test_images[test],
        raw.test_labels[test].astype(np.int32),
        raw.classes,
        None if raw.train_group is None else raw.train_group[train].astype(np.int32),
        None if raw.test_group is None else raw.test_group[test].astype(np.int32),
        raw.groups,
    )


def _order(images: np.ndarray, labels: np.ndarray, group: np.ndarray | None = None) -> np.ndarray:
    pixels = [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images]
    last = [0] * len(labels) if group is None else group.tolist()
    keys = list(zip(labels.tolist(), pixels, last, strict=True))
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), int)


def positions(images: np.ndarray, split: Split) -> np.ndarray:
    """int32 [N]: where each of `images` uint8 [N, H, W, 3] stands in the split, by its pixels; of
    equal images each has a place of its own.

    Raises ValueError for an image that the split does not have (any more).
    """
    places: dict[bytes, list[int]] = {}
    for i, image in enumerate(split.images):
        places.setdefault(np.ascontiguousarray(image).tobytes(), []).append(i)
    found = [places.get(np.ascontiguousarray(x).tobytes()) or [-1] for x in images]
    order = np.array([place.pop(0) for place in found], np.int32)
    if (order < 0).any():
        raise ValueError(
            f"{(order < 0).sum()} of {len(order)} images are not among the split's {len(places)}, "
            f"first the one at {int(np.argmax(order < 0))}: give the original uint8 pixels."
        )
    return order


def split_off(
    images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], every: int
) -> RawArrays:
    """Images [N, H, W, 3] and labels [N] in canonical order; every so many'th of each class is a
    test image."""
    order = _order(images, labels)
    images, labels = images[order], labels[order].astype(np.int32)
    first = np.searchsorted(labels, np.arange(len(classes)))
    test = (np.arange(len(labels)) - first[labels]) % every == every - 1
    return RawArrays(images[~test], labels[~test], images[test], labels[test], classes)


def describe(array: np.ndarray) -> dict:
    """dtype, shape and SHA-256 of the elements: what cache checks and fingerprints cover."""
    digest = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": digest}


def arrays_of(raw: RawArrays) -> dict[str, np.ndarray]:
    """The arrays that `raw` has, by field name."""
    names = ARRAYS if raw.train_group is None else (*ARRAYS, *GROUPED)
    return {name: getattr(raw, name) for name in names}


def fingerprint(
    arrays: dict[str, dict], classes: tuple[str, ...], groups: tuple[str, ...] = ()
) -> str:
    """64 hex digits of the canonical arrays' descriptions (by field name) and all names."""
    described = {"arrays": arrays, "classes": list(classes)}
    described |= {"groups": list(groups)} if groups else {}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def as_dataset(name: str, raw: RawArrays) -> Dataset:
    """The data set that holds `raw`'s images in canonical order."""
    raw = canonical(raw)
    described = {field: describe(array) for field, array in arrays_of(raw).items()}
    mark = fingerprint(described, raw.classes, raw.groups)
    train = Split(raw.train_images, raw.train_labels, raw.train_group)
    test = Split(raw.test_images, raw.test_labels, raw.test_group)
    return Dataset(name, train, test, raw.classes, mark, raw.groups)
