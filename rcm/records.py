"""What stored files must contain, and how that is checked on reading. Nothing is written here."""

import hashlib
import math
import pathlib
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from rcm import foreign
from rcm.files import CHECKSUM, checksum


class Damaged(Exception):
    """A stored file is truncated, altered or of another origin; the message names it."""


STAGE = re.compile(r"[\w.-]+")  # which names a lock
PLACE_IN_STUDY = re.compile(r" ratio (\d+) seed (\d+)$")


def member_label(stage: str, ratio: int, seed: int) -> str:
    """What a record calls a member."""
    return f"{stage} ratio {ratio} seed {seed}"


def ratio_and_seed(label: str) -> tuple[int, int]:
    """Of a member that a record calls `label`."""
    found = PLACE_IN_STUDY.search(label)
    if not found:
        raise Damaged(f"a record calls a member {label!r}, without its ratio and seed")
    return int(found[1]), int(found[2])


RECORD_FIELDS = {
    "stage": str,
    "members": list,
    "labels": list,
    "choice": list,
    "execution": list,
    "environment": dict,
    "hardware": str,
    "source": str,
}
PROGRESS_FIELDS = {"step": int, "digest": str, "seconds": float}
EXPORT_FIELDS = {
    "pipeline": str,
    "member": str,
    "format": str,
    "bytes": int,
    "sha256": str,
    "accuracy": float,
    "simulated": float,
    "disagreement": float,
}
DONE_FIELDS = {"digest": str, "record": str, "seconds": float, "alive": list, "bytes": list}


class Place(NamedTuple):
    """Where a finished member-stage lies."""

    chunk: str
    row: int


class Progress(NamedTuple):
    """A checkpoint of an unfinished round: its step, its states, how long it was trained, and what
    is kept of its training so far (None by earlier versions)."""

    step: int
    tree: Any
    seconds: float
    history: dict | None = None


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """A tree as {path: array}; tuples, NamedTuples and dicts all become part of the path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def unflatten(flat: dict[str, np.ndarray], like: Any) -> Any:
    """The inverse of `flatten`, shaped like `like`; raises Damaged if names do not match."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    if set(names) != set(flat):
        strange = sorted(set(names) ^ set(flat))[:3]
        raise Damaged(f"its arrays are not those of this program (such as {', '.join(strange)})")
    return jax.tree_util.tree_unflatten(structure, [flat[name] for name in names])


def digest(flat: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes."""
    made = hashlib.sha256()
    for name in sorted(flat):
        array = np.ascontiguousarray(flat[name])
        made.update(f"{name} {array.dtype} {array.shape}".encode())
        made.update(array.tobytes())
    return made.hexdigest()


def read_json(path: pathlib.Path) -> Any:
    """The JSON value of a file. Raises Damaged if it is not JSON."""
    try:
        return foreign.read_json(path)
    except ValueError as error:
        raise Damaged(f"{path} cannot be read: {error}") from error


def read_exports(folder: pathlib.Path) -> tuple[list[dict], list[str]]:
    """(notes, sentences): what is noted of each exported file in `folder` that is there as it was
    written, its name as `file`; and a sentence for each that is another now, or whose note is."""
    notes, faults = [], []
    for path in sorted(folder.glob("*.json")):
        file = path.with_suffix("")
        if not file.is_file():
            continue  # removed by hand, which is nobody's fault
        try:
            note = read_fields(path, EXPORT_FIELDS)
            if hashlib.sha256(file.read_bytes()).hexdigest() != note["sha256"]:
                raise Damaged(f"{file} was changed since it was exported")
        except (Damaged, OSError) as error:
            faults.append(f"{error}; the report leaves that file out.")
        else:
            notes.append({**note, "file": file.name})
    return notes, faults


def read_fields(path: pathlib.Path, fields: dict[str, type]) -> dict:
    """A JSON object that has these fields with these types, numbers finite, without its checksum,
    which earlier versions did not write. Raises Damaged."""
    value = read_json(path)
    told = value.pop(CHECKSUM, None) if isinstance(value, dict) else None
    if told is not None and told != checksum(value):
        raise Damaged(f"{path} does not match its checksum")
    for name, kind in fields.items():
        found = value.get(name) if isinstance(value, dict) else None
        if not isinstance(found, kind) or (isinstance(found, float) and not math.isfinite(found)):
            raise Damaged(f"{path} has no {name}")
    return value


def read_record(path: pathlib.Path) -> dict:
    """A chunk's record. Raises Damaged."""
    record = read_fields(path, RECORD_FIELDS)
    if not STAGE.fullmatch(record["stage"]):
        raise Damaged(f"{path} is of a stage whose name no file can have")
    require_all(path, record, "members", str)
    require_all(path, record, "labels", str)
    return record


def require_all(path: pathlib.Path, value: dict, name: str, kind: type) -> None:
    """Raise Damaged unless everything in this list of a JSON object is of this type."""
    if not all(type(one) is kind for one in value[name]):
        raise Damaged(f"{path} has something else than {kind.__name__} among its {name}")
