"""Shifted images kept on disk: made once, then memory-mapped by every population that sees them.

`<folder>/<data>-<source>/<cell>.npy` holds uint8 [N, H, W, 3], `<cell>.json` its checksum. The
folder's name has the data's fingerprint, a hash of the code that shifts and the backend, so that
other data or another version of rcm never finds these images.
"""

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from rcm import foreign
from rcm.cells import BATCH, CellSpec, Spec, shift_source
from rcm.files import write_bytes


def can_be_kept(cell: Spec) -> bool:
    """Whether a cell's images are the same for every member, and not those of the data set."""
    return isinstance(cell, CellSpec) and not cell.clean


def stored_bytes(cells: Sequence[Spec]) -> int:
    """Bytes of all images that would be kept."""
    kept = [cell for cell in cells if isinstance(cell, CellSpec) and can_be_kept(cell)]
    return sum(len(cell.ids) * cell.images[0].nbytes for cell in kept)


def with_images(cell: Spec, folder: Path, data: str) -> Spec:
    """The cell with its shifted images memory-mapped, made and written first where there are none.

    data: fingerprint of the data set. Raises ValueError where the folder cannot take them.
    """
    if not can_be_kept(cell):
        return cell
    assert isinstance(cell, CellSpec)
    made_by = f"{shift_source()}-{jax.default_backend()}"  # on which their rounding depends
    path = folder / f"{data[:16]}-{made_by}" / f"{cell.key}.npy"
    images = _read(path, (len(cell.ids), *cell.images.shape[1:]))
    if images is None:
        try:
            _write(path, cell)
        except OSError as error:
            raise ValueError(
                f"Shifted images cannot be kept in {folder} ({error.strerror or error}): free "
                "space there, choose another cache by XDG_CACHE_HOME, or leave shift.cache out."
            ) from error
        images = _read(path, (len(cell.ids), *cell.images.shape[1:]))
    return cell._replace(shifted=images)


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The images, or None where they are absent or not as they were written."""
    try:
        note = foreign.read_json(path.with_suffix(".json"))
        images = foreign.map_array(path)
    except ValueError:
        return None
    plain = images.flags.c_contiguous and images.dtype == np.uint8
    whole = plain and images.shape == shape and isinstance(note, dict)
    return images if whole and zlib.crc32(images.data) == note.get("crc32") else None


def _write(path: Path, cell: CellSpec) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    checksum, shape = 0, (len(cell.ids), *cell.images.shape[1:])
    try:
        with open(part, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(cell.ids), BATCH):
                content = cell.batch(start)[: len(cell.ids) - start].tobytes()
                checksum = zlib.crc32(content, checksum)
                file.write(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    write_bytes(path.with_suffix(".json"), json.dumps({"crc32": checksum}).encode())
