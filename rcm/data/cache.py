"""The array cache: a data set decoded once into `.npy` files that later runs memory-map.

`<cache>/<key>/` holds one file per array and `meta.json` with sizes, dtypes, checksums and class
names. It needs numpy alone, so it can be copied to a machine without TensorFlow. A folder appears
whole or not at all: it is written beside its place and renamed.
"""

import contextlib
import errno
import json
import os
import shutil
import uuid
from pathlib import Path

import numpy as np

from rcm import foreign
from rcm.data.files import check_split
from rcm.data.identity import (
    ARRAYS,
    GROUPED,
    Dataset,
    RawArrays,
    Split,
    arrays_of,
    describe,
    fingerprint,
)

FORMAT = 1
FIELDS = {"format", "fingerprint", "classes", "arrays"}


class CorruptCacheError(ValueError):
    """A cached data set that must not be used; the message names the file and what is wrong."""


def default_folder() -> Path:
    """$XDG_CACHE_HOME/rcm/arrays, or ~/.cache/rcm/arrays."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rcm" / "arrays"


def read(folder: Path, name: str) -> Dataset | None:
    """The cached data set with memory-mapped images, None when there is no `folder`.

    Every array is checked in full (0.1 s for CIFAR-10), also for what only a folder from elsewhere
    can hold wrong. CorruptCacheError names what is damaged.
    """
    if not folder.is_dir():
        return None
    meta = _read_meta(folder / "meta.json")
    names = tuple(meta["classes"]), tuple(meta.get("groups", ()))
    fields = (*ARRAYS, *GROUPED) if names[1] else ARRAYS
    arrays = {field: _read_array(folder / f"{field}.npy", meta["arrays"]) for field in fields}
    if fingerprint(meta["arrays"], *names) != meta["fingerprint"]:
        raise CorruptCacheError(f"{folder / 'meta.json'}: fingerprint and contents disagree")
    raw = RawArrays(classes=names[0], groups=names[1], **arrays)
    train, test = (_split(raw, part, folder) for part in ("train", "test"))
    return Dataset(name, train, test, raw.classes, meta["fingerprint"], raw.groups)


def _split(raw: RawArrays, part: str, folder: Path) -> Split:
    images = getattr(raw, f"{part}_images")
    try:
        if images.size:  # a released set that tests has no images to train on
            check_split(raw, part, str(folder))
    except ValueError as error:
        raise CorruptCacheError(str(error)) from error
    columns = [getattr(raw, f"{part}_{column}") for column in ("labels", "group")]
    return Split(images, *(np.array(column) for column in columns if column is not None))


def _read_meta(path: Path) -> dict:
    try:
        meta = foreign.read_json(path)
    except ValueError as error:
        raise CorruptCacheError(f"{path} cannot be read ({error})") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise CorruptCacheError(f"{path} is not of cache format {FORMAT}")
    expected = {*ARRAYS, *(GROUPED if "groups" in meta else ())}
    arrays = meta.get("arrays")
    if set(meta) - {"groups"} != FIELDS or not isinstance(arrays, dict) or set(arrays) != expected:
        raise CorruptCacheError(f"{path} lacks fields")
    for names in (meta["classes"], meta.get("groups", [])):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise CorruptCacheError(f"{path} has names that are none")
    return meta


def _read_array(path: Path, described: dict[str, dict]) -> np.ndarray:
    try:
        array = np.asarray(foreign.map_array(path))
    except ValueError as error:
        raise CorruptCacheError(f"{path} cannot be read ({error})") from error
    expected, found = described[path.stem], describe(array)
    if found != expected:
        known = expected if isinstance(expected, dict) else {}
        wrong = [key for key in found if found[key] != known.get(key)]
        raise CorruptCacheError(f"{path} is damaged: {', '.join(wrong)} not as written")
    return array


def write(folder: Path, raw: RawArrays) -> None:
    """Store `raw`, in the order it has, at `folder`, replacing what is there.

    ValueError when the place cannot be written or is full; nothing is left behind then.
    """
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        _write_files(temporary, raw)
        _put_in_place(temporary, folder)
    except OSError as error:
        raise ValueError(
            f"cannot write the array cache {folder} ({error.strerror or error}); free space "
            "there, or choose another folder by cache_dir or XDG_CACHE_HOME"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_files(folder: Path, raw: RawArrays) -> None:
    arrays = {}
    for field, array in arrays_of(raw).items():
        np.save(folder / f"{field}.npy", array, allow_pickle=False)
        arrays[field] = describe(array)
    mark = fingerprint(arrays, raw.classes, raw.groups)
    meta = {"format": FORMAT, "fingerprint": mark, "classes": raw.classes, "arrays": arrays}
    meta |= {"groups": raw.groups} if raw.groups else {}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))


def _put_in_place(temporary: Path, folder: Path) -> None:
    old = folder.with_name(f"{temporary.name}-old")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(old)
    try:
        temporary.rename(folder)
    except OSError as error:
        # Another process was faster; it wrote the same pixels.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    shutil.rmtree(old, ignore_errors=True)
