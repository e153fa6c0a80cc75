"""Hostile files: the bytes that several rows of the table are made of."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MARKER = "executed"  # the folder that code in a hostile file would make


class Row(NamedTuple):
    """make(folder) writes below the folder and gives what `read` is given, which must end in an
    error whose sentence is matched."""

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Any], Any]
    sentence: str


class Executes:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder / MARKER),)


def objects(folder: Path) -> np.ndarray:
    return np.array([Executes(folder)], dtype=object)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_of(header: str, body: bytes = b"") -> bytes:
    """An array's bytes with a header of our own."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def claiming(shape: tuple[int, ...], descr: str = "|u1", body: bytes = b"few") -> bytes:
    """An array's bytes that claim such a shape, whatever they hold."""
    return npy_of(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}", body)


def zipped(parts: list[tuple[str, bytes]], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in parts:
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return buffer.getvalue()


def lying_size(archive: bytes, claimed: int) -> bytes:
    """An archive of one part whose directory says that it unpacks to so many bytes."""
    at = archive.index(b"PK\x01\x02") + 24
    return archive[:at] + struct.pack("<I", claimed) + archive[at + 4 :]


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def savez(folder: Path, name: str, **arrays: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def pipe(folder: Path, name: str) -> Path:
    """A file that keeps its reader waiting for ever."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / name)
    return folder / name


def loop(folder: Path, name: str) -> Path:
    (folder / name).symlink_to(name)
    return folder / name


def png(width: int, height: int) -> bytes:
    """A picture whose header says its size, and hardly any pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def deep(levels: int = 100_000) -> bytes:
    return b"[" * levels + b"]" * levels


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(x) (w) file closefile\n"
ESCAPE = "red \x1b[31m\x1b]0;title\x07"
FORMULA = "=HYPERLINK(1)"
