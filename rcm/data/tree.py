"""A folder of photographs, one folder per class: `<root>/<class>/*.jpg`."""

import dataclasses
import hashlib
import logging
import os
from pathlib import Path

import numpy as np

from rcm.data import stream
from rcm.data.identity import Dataset, RawArrays, split_off
from rcm.words import require_name, shown

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")
NAMED = 5  # of the photographs that cannot be read
TEST_EVERY = 5  # of a class's images in canonical order, the share that is kept for testing


def is_tree(path: Path) -> bool:
    """Whether a folder holds folders of photographs, or one called `images` that does."""
    return path.is_dir() and bool(photographs(root_of(path)))


def root_of(path: Path) -> Path:
    """The folder of the classes: `path` itself, or its `images`, as Office-31 has it."""
    return path / "images" if (path / "images").is_dir() else path


def class_folders(root: Path) -> list[Path]:
    """The folders of classes, sorted; those whose names begin with a dot are no classes."""
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def photographs(root: Path) -> list[Path]:
    """All photographs in the folders of classes, sorted."""
    found = (p for folder in class_folders(root) for p in folder.iterdir())
    return sorted(p for p in found if p.suffix.lower() in ENDINGS)


def content_hash(path: Path) -> str:
    """SHA-256 (hex) over the names and contents of all photographs, and the names of classes that
    have none."""
    digest = hashlib.sha256()
    root = root_of(path)
    files = photographs(root)
    for folder in sorted({*class_folders(root)} - {file.parent for file in files}):
        digest.update(os.fsencode(folder.name))
    for file in files:
        digest.update(os.fsencode(file.relative_to(root)))
        if file.is_file():  # what is none is refused when it is read
            with file.open("rb") as content:
                while block := content.read(2**20):
                    digest.update(block)
    return digest.hexdigest()


def read_tree(
    path: Path, size: int, skip_unreadable: bool = False, only_test: bool = False
) -> RawArrays:
    """All photographs as uint8 [N, size, size, 3], labelled by their folder; in canonical order
    every fifth image of a class is a test image, or every one if nobody trains on them (only_test).

    Raises ValueError, naming the first few, for photographs that cannot be read unless they are to
    be skipped, and for a class with none left or with too few to train and test.
    """
    root = root_of(path)
    files = photographs(root)
    names = [folder.name for folder in class_folders(root)]
    for name in names:
        require_name(name, f"{root}: the folder of the class")
    images, labels, unreadable = [], [], []
    for file, image in zip(files, stream.decode(files, size), strict=True):
        if image is None:
            unreadable.append(file)
        else:
            images.append(image)
            labels.append(names.index(file.parent.name))
    if unreadable:
        first = ", ".join(shown(str(file.relative_to(root))) for file in unreadable[:NAMED])
        what = f"{len(unreadable)} of {len(files)} photographs in {root} cannot be read, first"
        if not skip_unreadable:
            raise ValueError(
                f"{what} {first}: mend or remove them, or pass --config.data.skip_unreadable=true."
            )
        logging.getLogger(__name__).warning("%s %s; they are skipped", what, first)
    counts = np.bincount(np.array(labels, int), minlength=len(names))
    every = 1 if only_test else TEST_EVERY
    if counts.min() < every:
        raise ValueError(
            f"{root}/{names[int(counts.argmin())]} has {counts.min()} photographs, expected at "
            f"least {every} for each class: add some or remove the folder."
        )
    return split_off(np.stack(images), np.array(labels), tuple(names), every)


def noted(found: Dataset, path: Path) -> Dataset:
    """The data set, which knows how many photographs of its folder are not in it; every run says
    so, also one that finds the others in the array cache."""
    there = len(photographs(root_of(path)))
    missing = there - len(found.train.labels) - len(found.test.labels)
    if not missing:
        return found
    note = f"{missing} of {there} photographs of {path.name} cannot be read and are left out."
    logging.getLogger(__name__).warning("%s", note)
    return dataclasses.replace(found, notes=(*found.notes, note))
