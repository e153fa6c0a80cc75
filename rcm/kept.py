"""The checkpoints of an interrupted round: the last few, each whole or not there at all.

A checkpoint is a folder `progress-<step>` of arrays and a note `progress-<step>.json`, which is
written after it and removed before it.
"""

import pathlib
import re
import shutil
from collections.abc import Collection
from typing import Any

import numpy as np

from rcm.arrays import load_tree, marks_of, save_tree
from rcm.files import write_note
from rcm.records import PROGRESS_FIELDS, Damaged, Progress, read_fields, unflatten

NOTE = re.compile(r"progress-(\d+)\.json")


def save(folder: pathlib.Path, tree: Any, told: dict, keep: int) -> None:
    """Add a checkpoint of a chunk; told: what is noted of it, at least its step; keep: how many
    stay, this one included."""
    note = _note(folder, told["step"])
    marks = save_tree(note.with_suffix(""), tree)
    write_note(note, {**told, **marks._asdict()})
    drop(folder, but=steps(folder)[:keep])


def load(folder: pathlib.Path, like: Any) -> tuple[Progress | None, list[str]]:
    """The last checkpoint that is whole, or None, and what is damaged of later ones, which go.

    like: the tree it must be one of.
    """
    damage = []
    for step in steps(folder):
        try:
            told, flat = read(folder, step)
            tree = unflatten(flat, like)
            return Progress(told["step"], tree, told["seconds"], told.get("history")), damage
        except Damaged as error:
            damage.append(str(error))
            _note(folder, step).unlink()
    return None, damage


def read(folder: pathlib.Path, step: int) -> tuple[dict, dict[str, np.ndarray]]:
    """What is noted of a checkpoint, and its arrays. Raises Damaged."""
    note = _note(folder, step)
    told = read_fields(note, PROGRESS_FIELDS)
    return told, load_tree(note.with_suffix(""), marks_of(told))


def steps(folder: pathlib.Path) -> list[int]:
    """The steps of a chunk's checkpoints, the last one first."""
    found = map(NOTE.fullmatch, (path.name for path in folder.glob("progress-*")))
    return sorted((int(name[1]) for name in found if name), reverse=True)


def drop(folder: pathlib.Path, but: Collection[int] = ()) -> None:
    """Remove a chunk's checkpoints, whole or half written, but for those of some steps."""
    stay = {_note(folder, step).stem for step in but}
    found = sorted(folder.glob("progress-*"), key=lambda path: path.is_dir())  # notes go first
    for path in found:
        if path.name.removesuffix(".json") in stay:
            continue
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _note(folder: pathlib.Path, step: int) -> pathlib.Path:
    return folder / f"progress-{step}.json"
