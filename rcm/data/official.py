"""Corrupted test sets as their authors released them, brought into the order of our test images.

A release is a folder of `.npy` files, one of uint8 [5 N, H, W, 3] per corruption in five blocks of
rising severity and `labels.npy`, as CIFAR-10-C and CIFAR-100-C have it (and `rcm` writes it), or
one of the two in TensorFlow Datasets, which is read through the array cache. Its images have no
names: which clean image one was made from is found by looking, in the set that changes least.
"""

import functools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rcm import config, foreign
from rcm.data import cache, datasets, stream
from rcm.data.identity import Dataset, RawArrays, Split

TFDS = "tfds"
TFDS_SETS = {"cifar10": "cifar10_corrupted", "cifar100": "cifar100_corrupted"}
SEVERITIES = 5
MARK = "regenerated.txt"  # in folders of images that we made in the releases' layout
MILDEST = ("brightness", 1)  # by which images are recognised
CIFAR10_NAMES = {"elastic_transform": "elastic", "glass_blur": "frosted_glass_blur"}
WHERE = (
    "the releases are records 2535967 (CIFAR-10-C) and 3555552 (CIFAR-100-C) of zenodo.org; unpack "
    "one and give its folder, or give 'tfds' for them in TensorFlow Datasets"
)


class Release:
    """A released set. `order` [N] has each of its images' place among the clean test images, or is
    None where they cannot all be told apart."""

    def __init__(
        self,
        source: str,
        data: str,
        test: Split,
        data_dir: str = "",
        cache_dir: Path | None = None,
    ):
        """source: a folder or `tfds`; data: name of the data set it is a test set of. Raises
        ValueError for a folder without a release of this data."""
        self.source, self.data = source, data
        self.regenerated = (Path(source).expanduser() / MARK).exists()
        self.where = (data_dir, cache_dir or cache.default_folder())
        config.require(
            source != TFDS or data in TFDS_SETS,
            f"There are releases of {' and '.join(TFDS_SETS)} only, not of {data}: {WHERE}.",
        )
        if source != TFDS:
            self._check_folder(Path(source).expanduser(), test)
        self.test = test
        images, self.own_labels = self.read(*MILDEST)
        self.order = alignment(images, self.own_labels, test)

    def _check_folder(self, folder: Path, test: Split) -> None:
        config.require(folder.is_dir(), f"There is no folder {folder} of released images: {WHERE}.")
        labels = _labels(folder)
        counts = np.bincount(np.asarray(test.labels))
        config.require(
            len(labels) == len(test.labels)
            and 0 <= labels.min() <= labels.max() < len(counts)
            and np.array_equal(np.bincount(labels, minlength=len(counts)), counts),
            f"{folder}/labels.npy has not the labels of these {len(test.labels)} test images: "
            f"it belongs to another data set; {WHERE}.",
        )

    def check(self, names: Sequence[str], severities: Sequence[int]) -> None:
        """Raise ValueError if a folder lacks the images of a corruption, or has others than of this
        data, or TensorFlow Datasets lacks some and cannot fetch them; no pixel is read."""
        for name in names:
            if self.source != TFDS:
                _from_folder(Path(self.source).expanduser(), name, 1, self.test.images.shape)
            for severity in severities if self.source == TFDS else ():
                builder, variant = _tfds_name(self.data, name, severity)
                if not (self.where[1] / f"{builder}-{variant}").is_dir():
                    stream.prepare(f"{builder}/{variant}", self.where[0])

    def read(self, name: str, severity: int) -> tuple[np.ndarray, np.ndarray]:
        """(images uint8 [N, H, W, 3], labels int32 [N]) in the release's own order."""
        if self.source == TFDS:
            test = _from_tfds(self.data, name, severity, *self.where).test
            return test.images, np.asarray(test.labels, np.int32)
        folder = Path(self.source).expanduser()
        return _from_folder(folder, name, severity, self.test.images.shape), _labels(folder)

    def images(self, name: str, severity: int, ids: np.ndarray) -> np.ndarray:
        """uint8 [ids, H, W, 3] made from the clean test images `ids` (aligned releases), or those
        at the places `ids` of the release."""
        images, labels = self.read(name, severity)
        config.require(
            np.array_equal(labels, self.own_labels),
            f"The released images of {name} at severity {severity} are in another order than those "
            f"of {MILDEST[0]}: they come from two copies; remove those under {self.where[1]}.",
        )
        return images[ids if self.order is None else np.argsort(self.order)[ids]]

    def labels(self, ids: np.ndarray) -> np.ndarray:
        """int32 [ids], the labels of `images`."""
        own = self.own_labels if self.order is None else np.asarray(self.test.labels)
        return own[ids]

    def mark(self, name: str, severity: int) -> str:
        """What tells this release's images of a cell from another's: a checksum."""
        if self.source == TFDS:
            return _from_tfds(self.data, name, severity, *self.where).fingerprint[:8]
        return f"{zlib.crc32(self.read(name, severity)[0].tobytes()):08x}"


def alignment(images: np.ndarray, labels: np.ndarray, test: Split) -> np.ndarray | None:
    """int32 [N]: the place of each image's original among the test images: the nearest one of its
    label in the mean square; of equal test images any is that of any. None unless every test image
    is found exactly once."""
    order = np.full(len(labels), -1, np.int32)
    for label in np.unique(labels):
        theirs = np.flatnonzero(labels == label)
        ours = np.flatnonzero(np.asarray(test.labels) == label)
        if len(ours) == 0:
            return None
        a, b = (
            np.asarray(x, np.float32).reshape(len(x), -1)
            for x in (images[theirs], test.images[ours])
        )
        distance = (b**2).sum(1) - 2 * a @ b.T  # + |a|^2, the same for every candidate
        _, kind = np.unique(b, axis=0, return_inverse=True)
        found = kind[distance.argmin(1)]
        if not np.array_equal(np.sort(found), np.sort(kind)):
            return None
        order[theirs[np.argsort(found, kind="stable")]] = ours[np.argsort(kind, kind="stable")]
    return order if len(labels) == len(test.labels) else None


def _labels(folder: Path) -> np.ndarray:
    labels = _array(folder / "labels.npy")
    config.require(
        labels.ndim == 1 and labels.dtype.kind in "iu" and labels.size > 0,
        f"{folder}/labels.npy is {labels.dtype} {list(labels.shape)}, expected whole numbers, one "
        f"per image; {WHERE}.",
    )
    config.require(
        bool((labels == labels.astype(np.int32)).all()),
        f"{folder}/labels.npy holds numbers that are no classes; {WHERE}.",
    )
    size = len(labels) // SEVERITIES
    blocks = labels[: SEVERITIES * size].reshape(SEVERITIES, size)
    repeated = len(labels) % SEVERITIES == 0 and (blocks == blocks[0]).all()
    return np.asarray(blocks[0] if repeated else labels, np.int32)


def _from_folder(folder: Path, name: str, severity: int, like: tuple[int, ...]) -> np.ndarray:
    images = _array(folder / f"{name}.npy")
    expected = (SEVERITIES * like[0], *like[1:])
    config.require(
        images.shape == expected and images.dtype == np.uint8,
        f"{folder}/{name}.npy is {images.dtype} {list(images.shape)}, expected uint8 "
        f"{list(expected)}: it is incomplete or of another data set; {WHERE}.",
    )
    return images[(severity - 1) * like[0] : severity * like[0]]


def _array(path: Path) -> np.ndarray:
    try:
        return foreign.map_array(path)
    except ValueError as error:
        missing = "is missing" if not path.exists() else f"cannot be read ({error})"
        raise ValueError(f"{path} {missing}: {WHERE}.") from error


def streamed(
    data: str, name: str, severity: int, size: int, data_dir: str = ""
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A corruption at a severity from the release of `cifar10` or `cifar100` in TensorFlow
    Datasets, by tf.data and without the array cache: (images uint8 [size, H, W, 3], labels int32
    [size]) at a time, in the order of `Release.read`, whose `order` finds the clean images. Raises
    ValueError for other data, for what is not in its release, and as `stream.read_tfds`."""
    config.choose("data with a release", data, TFDS_SETS)
    yield from stream.examples("/".join(_tfds_name(data, name, severity)), "test", size, data_dir)


def _tfds_name(data: str, name: str, severity: int) -> tuple[str, str]:
    theirs = CIFAR10_NAMES.get(name, name) if data == "cifar10" else name
    return TFDS_SETS[data], f"{theirs}_{severity}"


@functools.lru_cache(maxsize=2)
def _from_tfds(data: str, name: str, severity: int, data_dir: str, cache_dir: Path) -> Dataset:
    """Its test split is the cell, in the order of the prepared copy, one for all shifts."""
    builder, variant = _tfds_name(data, name, severity)

    def read() -> RawArrays:
        raw = stream.read_tfds(f"{builder}/{variant}", data_dir, train="test")
        return raw._replace(train_images=raw.test_images[:0], train_labels=raw.test_labels[:0])

    folder = cache_dir / f"{builder}-{variant}"
    return datasets.through_cache(variant, folder, read, order=lambda raw: raw)
