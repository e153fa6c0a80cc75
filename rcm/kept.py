"""The checkpoints of an interrupted round: the last few, each whole or not there at all.

A checkpoint is a folder `progress-<step>` of arrays and a note `progress-<step>.json`, which is
written after it and removed before it.
"""

import math
import pathlib
import re
import shutil
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rcm import config
from rcm.arrays import load_tree, marks_of, save_tree
from rcm.files import write_note
from rcm.records import PROGRESS_FIELDS, Damaged, Progress, read_fields, unflatten

NOTE = re.compile(r"progress-(\d+)\.json")


WORDS = re.compile(r"(?P<count>[1-9]\d*)|(?P<size>\d+(\.\d+)?)GiB")


class Limits(NamedTuple):
    """How many checkpoints of a round stay, and how many bytes they may take together, the one that
    is being written included. The last whole one stays whatever it takes."""

    count: int = 2
    size: float = math.inf


USUAL = Limits()


def limits(words: Sequence[str]) -> Limits:
    """What `--keep` says: a number, bytes such as 4GiB, or both. Raises ValueError."""
    found: dict[str, str] = {}
    for word in words:
        match = WORDS.fullmatch(word)
        config.require(
            match is not None and match.lastgroup is not None,
            f"--keep={','.join(words)}: give how many checkpoints stay, at least 1, how much they "
            "may take, such as 4GiB, or both, such as 2,4GiB.",
        )
        found |= {k: v for k, v in match.groupdict().items() if v} if match else {}
    size = float(found["size"]) * 2**30 if "size" in found else math.inf
    return Limits(int(found.get("count", USUAL.count)), size)


def save(folder: pathlib.Path, tree: Any, told: dict, stay: Limits) -> None:
    """Add a checkpoint of a chunk; told: what is noted of it, at least its step; stay: which of
    all checkpoints, this one included."""
    note = _note(folder, told["step"])
    room = stay.size - sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    drop(folder, but=_within(folder, stay._replace(size=room)))
    marks = save_tree(note.with_suffix(""), tree)
    write_note(note, {**told, **marks._asdict()})
    drop(folder, but=_within(folder, stay))


def _within(folder: pathlib.Path, stay: Limits) -> list[int]:
    """The steps of the checkpoints that may stay, the last one always."""
    last, taken = steps(folder)[: stay.count], 0
    for i, step in enumerate(last):
        files = _note(folder, step).with_suffix("").rglob("*")
        taken += sum(file.stat().st_size for file in files if file.is_file())
        if i and taken > stay.size:
            return last[:i]
    return last


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
