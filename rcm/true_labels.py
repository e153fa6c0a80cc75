"""The file of true labels in a folder of predictions: what it holds, and whether it fits.

Its arrays are described in `rcm.imported`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rcm import config
from rcm.imported import LABELS, arrays_in, names_in, word, words

OF_CELLS = ("labels", "train_counts", "ids")  # also with "/" and a cell or ratio behind
ARRAYS = (*OF_CELLS, "classes", "group", "groups", "group_counts", "images", "human")
WORDS = {"dataset": "", "model": "network", "imbalance": "exp", "title": "", "claims": ""}

KNOWN = (*ARRAYS, *WORDS)

LARGEST_CLASSES = 2**16  # which predictions can tell apart
RATIO = re.compile(r"[1-9][0-9]{0,8}")

Arrays = Mapping[str, np.ndarray]


def read_labels(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `labels.npz`. Raises ValueError for those that are not as `rcm.imported` has
    them."""
    config.require(
        path.is_file(),
        f"there is no {LABELS} in {path.parent}: expected it beside the models' files, with the "
        "true labels of the test images.",
    )
    found = arrays_in(path, names_in(path))
    for name in found:
        kind, _, cell = name.partition("/")
        config.choose(f"array in {path}", kind if kind in OF_CELLS or not cell else name, KNOWN)
    config.require("labels" in found, f"{path} has no labels: give the true classes.")
    labels = found["labels"]
    _require_whole(path, "labels", labels, "the class of each test image")
    for name, array in found.items():
        if name.startswith("labels/"):
            _require_whole(path, name, array, "the class of each image")
        if name.startswith("train_counts"):
            _require_whole(path, name, array, "a number of training images for each class")
        if name.startswith("ids/"):
            _require_whole(path, name, array, "the places of test images")
            config.require(
                len(np.unique(array)) == len(array) and array.max() < len(labels),
                f"{path}: {name} must hold different numbers from 0 to {len(labels) - 1}.",
            )
    for name in sorted(WORDS.keys() & found.keys()):
        word(path, name, found[name])
    for name in sorted({"classes", "groups"} & found.keys()):
        words(path, name, found[name])
    _check_classes(path, found)
    _check_groups(path, found)
    _check_images(path, found)
    return found


def _require_whole(path: Path, name: str, array: np.ndarray, what: str) -> None:
    config.require(
        array.ndim == 1 and array.dtype.kind in "iu" and array.size > 0 and array.min() >= 0,
        f"{path}: {name} must hold {what}, whole numbers from 0 in one row, not {array.dtype} "
        f"{list(array.shape)}.",
    )
    config.require(
        array.max() < 2**31, f"{path}: {name} reaches {array.max()}, expected less than 2^31."
    )


def _check_classes(path: Path, found: Arrays) -> None:
    needed = classes_of(found)
    config.require(
        2 <= needed <= LARGEST_CLASSES,
        f"{path}: there would be {needed:,} classes, expected 2 to {LARGEST_CLASSES:,}.",
    )
    config.require(
        "classes" not in found or found["classes"].size == needed,
        f"{path} names {found.get('classes', np.empty(0)).size} classes and has training images of "
        f"{needed}: give a name for each.",
    )
    most = max(int(a.max()) for name, a in found.items() if name.partition("/")[0] == "labels")
    counted = {name: array for name, array in found.items() if name.startswith("train_counts")}
    config.require(
        len(counted) < 2 or "train_counts" not in counted,
        f"{path} has train_counts beside {', '.join(sorted(set(counted) - {'train_counts'}))}: "
        "give train_counts/<ratio> for each ratio, or train_counts for the only one.",
    )
    for name, array in counted.items():
        ratio = name.partition("/")[2] or "1"
        config.require(
            len(array) == needed and array.max() > 0 and RATIO.fullmatch(ratio) is not None,
            f"{path}: {name} must be called after a whole ratio and hold training images of each "
            f"of {needed} classes, not of {len(array)}.",
        )
    config.require(
        most < needed,
        f"{path}: labels reach class {most}, but there are only {needed} classes in classes or "
        "train_counts.",
    )


def _check_groups(path: Path, found: Arrays) -> None:
    if not {"group", "groups", "group_counts"} & set(found):
        return
    config.require(
        {"group", "groups"} <= set(found),
        f"{path} has one of group and groups: give the subgroup of each test image and the names.",
    )
    group, names = found["group"], found["groups"]
    _require_whole(path, "group", group, "the subgroup of each test image")
    config.require(
        group.shape == found["labels"].shape and names.ndim == 1 and group.max() < len(names),
        f"{path}: group must hold one of {names.size} subgroups, by their places in groups, for "
        f"each of {len(found['labels'])} test images.",
    )
    counts, classes = found.get("group_counts"), classes_of(found)
    shaped = counts is None or (counts.dtype.kind in "iu" and counts.shape == (names.size, classes))
    config.require(
        shaped and (counts is None or counts.min() >= 0),
        f"{path}: group_counts must hold numbers of training images, whole and at least 0, a row "
        f"for each of {names.size} subgroups and a column for each of {classes} classes.",
    )


def _check_images(path: Path, found: Arrays) -> None:
    """Of the images themselves, and of people's answers to them."""
    count, classes = len(found["labels"]), classes_of(found)
    images, human = found.get("images"), found.get("human")
    config.require(
        images is None
        or (
            images.dtype == np.uint8
            and images.ndim in (3, 4)
            and len(images) == count
            and images.size > 0
            and images.shape[3:] in ((), (3,))
        ),
        f"{path}: images must be uint8 [{count}, H, W, 3] or [{count}, H, W], one for each label, "
        f"not {_kind(images)}.",
    )
    config.require(
        human is None
        or (
            human.dtype.kind in "iuf"
            and human.shape == (count, classes)
            and bool(np.isfinite(human).all() and (human >= 0).all() and (human.sum(1) > 0).all())
        ),
        f"{path}: human must hold numbers or shares of people's answers [{count}, {classes}], at "
        f"least 0 and not all 0 for any image, not {_kind(human)}.",
    )


def _kind(array: np.ndarray | None) -> str:
    return "" if array is None else f"{array.dtype} {list(array.shape)}"


def classes_of(found: Arrays) -> int:
    """How many classes there are, by their names, training counts or true labels."""
    for name in found:
        if name == "classes" or name.startswith("train_counts"):
            return found[name].size
    return int(found["labels"].max()) + 1
