"""A user's own arrays: an `.npz` file or a folder of `.npy` files, and the checks on any arrays."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from rcm import foreign
from rcm.data.identity import RawArrays
from rcm.words import require_name

GROUPS = RawArrays._fields[5:]  # which a data set has all or none of


def read_arrays(path: Path) -> RawArrays:
    """The fields of `RawArrays` in the file `path` (.npz) or the folder `path` (.npy each).

    ValueError when a field is missing, unreadable (pickled objects are refused) or malformed.
    """
    held = _names_in(path)
    grouped = not held.isdisjoint(GROUPS)
    wanted = RawArrays._fields if grouped else RawArrays._fields[:5]
    fields: dict[str, Any] = {}
    for name in wanted:
        if name not in held:
            file = path / f"{name}.npy"
            where = f"{file} does not exist" if path.is_dir() else f"{path} has no array {name}"
            raise ValueError(f"{where}; a data set needs the arrays {', '.join(wanted)}")
        fields[name] = _field(path, name)
    for name in ("classes", "groups") if grouped else ("classes",):
        fields[name] = _names(fields[name], f"{path}: {name}")
    return checked(RawArrays(**fields), str(path))


def _names(array: np.ndarray, what: str) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind != "U":
        raise ValueError(
            f"{what} is {array.dtype} {list(array.shape)}, expected one string each; save "
            "np.array of a list of names"
        )
    return tuple(array.tolist())


def _names_in(path: Path) -> set[str]:
    if path.is_dir():
        return {name for name in RawArrays._fields if (path / f"{name}.npy").exists()}
    try:
        return set(foreign.array_names(path))
    except ValueError as error:
        raise ValueError(_unreadable(path, "its arrays", error)) from error


def _field(path: Path, name: str) -> np.ndarray:
    source = path / f"{name}.npy" if path.is_dir() else path
    try:
        if path.is_dir():
            return foreign.map_array(source)
        return foreign.read_arrays(source, [name])[name]
    except ValueError as error:
        raise ValueError(_unreadable(source, name, error)) from error


def _unreadable(source: Path, what: str, error: ValueError) -> str:
    return (
        f"{source}: cannot read {what} ({error}); the file is damaged or holds pickled objects, "
        "save it again from plain arrays"
    )


def content_hash(path: Path) -> str:
    """SHA-256 (hex) of the file or of the folder's `.npy` files: a changed file is other data."""
    digest = hashlib.sha256()
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    for file in (file for file in files if file.is_file()):  # what is none is refused when read
        with file.open("rb") as stream:
            digest.update(os.fsencode(file.name) if path.is_dir() else b"")
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def checked(raw: RawArrays, source: str) -> RawArrays:
    """`raw` itself when it is a sound data set; ValueError naming `source` and the array if not."""
    classes = raw.classes
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"{source}: classes must be at least two different names, got {classes}")
    if len(set(raw.groups)) < len(raw.groups):
        raise ValueError(f"{source}: groups must have different names, got {raw.groups}")
    for split in ("train", "test"):
        check_split(raw, split, source)
    if raw.train_images.shape[1:] != raw.test_images.shape[1:]:
        raise ValueError(
            f"{source}: train_images are {raw.train_images.shape[1:]} and test_images "
            f"{raw.test_images.shape[1:]}; bring both to one size"
        )
    return raw


def check_split(raw: RawArrays, split: str, source: str) -> None:
    """Raise ValueError as `checked`, for what the split `train` or `test` holds and its names."""
    for name in (*raw.classes, *raw.groups):
        require_name(name, f"{source}: the name")
    images, labels = getattr(raw, f"{split}_images"), getattr(raw, f"{split}_labels")
    _check_images(images, f"{source}: {split}_images")
    _check_labels(labels, len(images), len(raw.classes), f"{source}: {split}_labels")
    group = getattr(raw, f"{split}_group")
    if group is not None:
        _check_labels(group, len(images), len(raw.groups), f"{source}: {split}_group")


def _check_images(images: np.ndarray, what: str) -> None:
    expected = "expected uint8 [N, H, W, 3] with values 0 to 255"
    if images.dtype != np.uint8:
        nan = " with NaN" if images.dtype.kind == "f" and np.isnan(images).any() else ""
        raise ValueError(f"{what} is {images.dtype}{nan}, {expected}; scale, clip and cast first")
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise ValueError(f"{what} has shape {images.shape}, {expected}; repeat grey to 3 channels")


def _check_labels(labels: np.ndarray, images: int, classes: int, what: str) -> None:
    if labels.dtype.kind not in "iu":
        nan = " with NaN" if labels.dtype.kind == "f" and np.isnan(labels).any() else ""
        raise ValueError(f"{what} is {labels.dtype}{nan}, expected integers; cast class ids to int")
    if labels.shape != (images,):
        raise ValueError(
            f"{what} has shape {labels.shape}, expected one number for each of {images} images; "
            "save those of the same samples"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"{what} holds {labels.min()} to {labels.max()}, expected 0 to {classes - 1} for "
            f"{classes} names; correct the numbers or add names"
        )
