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

from rcm.data.identity import ARRAYS, Dataset, RawArrays, Split, describe, fingerprint

FORMAT = 1


class CorruptCacheError(ValueError):
    """A cached data set that must not be used; the message names the file and what is wrong."""


def default_folder() -> Path:
    """$XDG_CACHE_HOME/rcm/arrays, or ~/.cache/rcm/arrays."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rcm" / "arrays"


def read(folder: Path, name: str) -> Dataset | None:
    """The cached data set with memory-mapped images, None when there is no `folder`.

    Every array is checked in full (0.1 s for CIFAR-10). CorruptCacheError names what is damaged.
    """
    if not folder.is_dir():
        return None
    meta = _read_meta(folder / "meta.json")
    arrays = {field: _read_array(folder / f"{field}.npy", meta["arrays"]) for field in ARRAYS}
    classes = tuple(meta["classes"])
    if fingerprint(meta["arrays"], classes) != meta["fingerprint"]:
        raise CorruptCacheError(f"{folder / 'meta.json'}: fingerprint and contents disagree")
    train = Split(arrays["train_images"], np.array(arrays["train_labels"]))
    test = Split(arrays["test_images"], np.array(arrays["test_labels"]))
    return Dataset(name, train, test, classes, meta["fingerprint"])


def _read_meta(path: Path) -> dict:
    try:
        meta = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CorruptCacheError(f"{path} cannot be read ({error})") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise CorruptCacheError(f"{path} is not of cache format {FORMAT}")
    if set(meta) != {"format", "fingerprint", "classes", "arrays"} or set(meta["arrays"]) != set(
        ARRAYS
    ):
        raise CorruptCacheError(f"{path} lacks fields")
    return meta


def _read_array(path: Path, described: dict[str, dict]) -> np.ndarray:
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise CorruptCacheError(f"{path} cannot be read ({error})") from error
    expected, found = described[path.stem], describe(array)
    if found != expected:
        wrong = [key for key in found if found[key] != expected.get(key)]
        raise CorruptCacheError(f"{path} is damaged: {', '.join(wrong)} not as written")
    return array


def write(folder: Path, raw: RawArrays) -> None:
    """Store `raw` (canonical order) at `folder`, replacing what is there.

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
    for field in ARRAYS:
        np.save(folder / f"{field}.npy", getattr(raw, field), allow_pickle=False)
        arrays[field] = describe(getattr(raw, field))
    mark = fingerprint(arrays, raw.classes)
    meta = {"format": FORMAT, "fingerprint": mark, "classes": raw.classes, "arrays": arrays}
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
