"""Files that may come from elsewhere, read without trusting them.

Only ordinary files are opened; what a file claims to hold is compared with its size before memory
is taken for it; arrays hold no pickled objects, JSON holds nothing twice. What is wrong is a
ValueError without a subject, such as "it holds pickled objects": callers name the file and say what
to do. The numbers below are in `docs/files.md`.
"""

import contextlib
import io
import json
import math
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

SMALL = 2**30  # bytes to which any file may unpack
TIMES = 100  # as many times its own size may a larger one unpack to
LARGEST_TEXT = 2**28  # bytes of a file of text
DEEPEST = 64  # levels of lists and objects in JSON
LONGEST_NUMBER = 40  # digits of a whole number in JSON
LARGEST_PICTURE = 2**28  # bytes of a photograph
PIXELS = 2**26
PICTURES = ("JPEG", "PNG", "BMP", "GIF", "WEBP")  # Pillow also knows kinds that run other programs
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # which numpy writes


def require_file(path: Path) -> None:
    """Raise ValueError unless the path leads to an ordinary file: a pipe keeps its reader waiting,
    and a device never ends."""
    with reasons():
        if not path.is_file():
            there = path.exists() or path.is_symlink()
            raise ValueError("it is no ordinary file" if there else "there is no such file")


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """A file's content. ValueError for one of more than `most` bytes."""
    require_file(path)
    with reasons():
        size = path.stat().st_size
        if most is not None and size > most:
            raise ValueError(f"it has {size:,} bytes, expected at most {most:,}")
        return path.read_bytes()


def require_expansion(claimed: int, size: int, times: int = TIMES) -> None:
    """Raise ValueError if `size` bytes claim to unpack to more than anybody packs into them."""
    if claimed > max(SMALL, times * size):
        raise ValueError(
            f"it would unpack {size:,} bytes to {claimed:,}, more than {times} times as many"
        )


# arrays


def array_names(source: Path | bytes) -> tuple[str, ...]:
    """Of the arrays in an `.npz` file or its content. Raises ValueError."""
    with _opened(source) as (_, entries):
        return tuple(entries)


def read_arrays(source: Path | bytes, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file or its content by name, all of them or some. Raises ValueError."""
    with _opened(source) as (archive, entries):
        return {
            name: _read(archive, entries, name) for name in (entries if names is None else names)
        }


def map_array(path: Path) -> np.ndarray:
    """The array of an `.npy` file, memory-mapped and not to be written to. Raises ValueError."""
    require_file(path)
    with reasons():
        with path.open("rb") as stream:
            _sound_header(stream, path.stat().st_size)
        return np.lib.format.open_memmap(path, mode="r")


@contextlib.contextmanager
def _opened(source: Path | bytes) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """An archive of arrays, and its entries by the names of the arrays."""
    if isinstance(source, Path):
        require_file(source)
    with reasons():
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        with zipfile.ZipFile(
            io.BytesIO(source) if isinstance(source, bytes) else source
        ) as archive:
            yield archive, _entries(archive, size)


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    found = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")
        strange = name == entry.filename or entry.compress_type not in COMPRESSIONS
        if strange or entry.comment:  # a flipped bit of its length swallows the next entry
            raise ValueError(f"its part {name!r} is no array as np.savez writes them")
        if name in found:
            raise ValueError(f"it holds the array {name!r} twice")
        found[name] = entry
    require_expansion(sum(entry.file_size for entry in found.values()), size)
    return found


def _read(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str) -> np.ndarray:
    if name not in entries:
        raise ValueError(f"it has no array {name!r}")
    content = io.BytesIO()
    try:
        with archive.open(entries[name]) as stream:
            shape, order, dtype = _sound_header(stream, entries[name].file_size)
            shutil.copyfileobj(stream, content)  # numpy would parse the header again, which is slow
        if content.tell() < math.prod(shape) * dtype.itemsize:
            raise ValueError(f"it ends after {content.tell():,} bytes of numbers")
        return np.ndarray(shape, dtype, content.getbuffer(), order=order)
    except ValueError as error:
        raise ValueError(f"at its array {name!r}: {error}") from error


def _sound_header(stream: Any, size: int) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype]:
    """Shape, order and dtype of an array of `size` bytes, header included, whose header is all that
    is read of it. ValueError unless it has as many bytes as they claim, and no objects."""
    shape, order, dtype = _header(stream)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects")
    if dtype.fields or dtype.subdtype:
        raise ValueError("it holds structures, not plain numbers or words")
    claimed, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if claimed > held or min(shape, default=0) < 0:
        raise ValueError(f"it says {claimed:,} bytes of numbers and has {held:,}")
    return shape, order, dtype


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype]:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        shape, fortran, dtype = readers[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # its text is parsed in ways that fail in many
        raise ValueError("it does not begin as an array does") from error
    return shape, "F" if fortran else "C", dtype


# JSON


def read_json(path: Path) -> Any:
    """The JSON value of a file. Raises ValueError."""
    return parse_json(read_bytes(path, LARGEST_TEXT))


def parse_json(content: bytes | str) -> Any:
    """A JSON value, in which NaN and infinities may stand as Python writes them. ValueError for
    what is none, says something twice, or has whole numbers or depths that nobody writes."""
    try:
        text = content.decode() if isinstance(content, bytes) else content
        value = json.loads(text, object_pairs_hook=_object, parse_int=_whole)
        deep = _depth(value) > DEEPEST
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    if deep:
        raise ValueError("its JSON is nested too deeply")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(name for name in made if sum(name == own for own, _ in pairs) > 1)
        raise ValueError(f"its JSON says {twice!r} twice")
    return made


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"its JSON has a number of {len(digits)} digits")
    return int(digits)


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(one) for one in inner if type(one) in (dict, list)), default=0)


# photographs


def read_picture(path: Path) -> bytes:
    """The content of a photograph that may be decoded: its header was read, none of its pixels.
    Raises ValueError for another kind of file and for more pixels than `PIXELS`."""
    from PIL import Image

    content = read_bytes(path, LARGEST_PICTURE)
    try:
        with Image.open(io.BytesIO(content), formats=PICTURES) as picture:
            width, height = picture.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"it has more than {PIXELS:,} pixels") from error
    except Exception as error:  # Pillow raises many kinds for a broken file
        raise ValueError(f"it is none of {', '.join(PICTURES)}, or damaged") from error
    if width * height > PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, expected at most {PIXELS:,} in all")
    return content


@contextlib.contextmanager
def reasons() -> Iterator[None]:
    """Whatever files, zip, zlib and numpy raise for a broken file is a ValueError in one line."""
    try:
        yield
    except ValueError:
        raise
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except Exception as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
