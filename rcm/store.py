"""The run folder: the only file that writes there (its trees of arrays by `rcm.arrays`).

Layout below a workdir:

    stages/<chunk>/record.json       members (fingerprints, in row order), execution record
    stages/<chunk>/progress-<step>/  a checkpoint of an interrupted round (Orbax); the last few stay
    stages/<chunk>/progress-<step>.json  written after it: its digest and what was trained so far
    stages/<chunk>/final/            the finished states, stacked over members (Orbax)
    stages/<chunk>/done.json         written last: digests of the arrays; makes the chunk count
    stages/<chunk>/predictions/      one .npz per shift cell, stacked over members
    stages/locks/                    flock files, one per stage
    damaged/<chunk>/                 what was found broken, set aside
    <study>-<hash>/                  config, results, figures, report
    <study>-<hash>/stages.json       which member-stages and predictions it refers to
    <study>-<hash>/export/           model files, a note in JSON beside each
    index.html                       lists the studies

Every file appears under its name only when it is complete (written beside it, synced, renamed), so
a kill at any moment leaves old or new, never half. Content is checked by digest when it is read.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rcm import foreign, kept
from rcm.arrays import load_tree, marks_of, save_tree
from rcm.files import write_bytes, write_note
from rcm.records import (
    DONE_FIELDS,
    Damaged,
    Place,
    Progress,
    read_fields,
    read_record,
    require_all,
)

LATE_SECONDS = 60.0  # after which a file that another process has written must be seen
PATTERN = set("*?[]")  # orbax lists checkpoints by glob


class Store:
    """Stages, predictions and study folders below one workdir."""

    def __init__(
        self, workdir: str | pathlib.Path, create: bool = True, keep: kept.Limits = kept.USUAL
    ):
        """keep: which checkpoints of an interrupted round stay."""
        self.keep = keep
        self.root = pathlib.Path(workdir).absolute()
        self.stages = self.root / "stages"
        self.damage: list[str] = []  # what was found damaged, and what that leads to
        self.outdated: set[str] = set()  # predictions of images that other code has made
        self._index: dict[str, Place] = {}
        self._scanned: set[str] = set()
        if not PATTERN.isdisjoint(str(self.root)):
            raise ValueError(
                f"The workdir {self.root} has one of {''.join(sorted(PATTERN))} in its path, which "
                "the checkpoint library takes for a pattern: choose another with --workdir."
            )
        if create:
            self._require_writable()

    def _require_writable(self) -> None:
        try:
            (self.stages / "locks").mkdir(parents=True, exist_ok=True)
            write_bytes(self.stages / ".writable", b"")
        except OSError as error:
            raise ValueError(
                f"The workdir {self.root} cannot be written ({os.strerror(error.errno or 0)}): "
                "choose another with --workdir or free it."
            ) from error

    @contextlib.contextmanager
    def lock(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Hold the stage's lock; yields False at once if another process has it and not `wait`."""
        with open(self.stages / "locks" / f"{name}.lock", "a") as file:  # may be a link elsewhere
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                    raise
                yield False
                return
            yield True

    # chunks of member-stages

    def index(self) -> Mapping[str, Place]:
        """Finished member-stages: fingerprint -> place. Only chunks new to this object are read.

        What was given out before does not change; a call takes as long as the folder has names.
        """
        names = self._names()
        self._forget(self._scanned - names)  # set aside by another process
        found: dict[str, Place] = {}
        for name in sorted(names - self._scanned):
            if not (self.stages / name / "done.json").exists():
                continue
            self._scanned.add(name)
            try:
                members = self.record(name)["members"]
                notes = self.notes(name)
                if not len(members) == len(notes["alive"]) == len(notes["bytes"]):
                    raise Damaged(
                        f"{self.stages / name / 'done.json'} is not about {len(members)} members"
                    )
            except Damaged as error:
                self.discard(name)
                self.damage.append(f"{error}; the round was set aside.")
                continue
            for row, fingerprint in enumerate(members):
                found.setdefault(fingerprint, Place(name, row))
        if found:
            self._index = {**found, **self._index}
        return self._index

    def unfinished(self) -> dict[str, dict]:
        """Records of chunks that were begun and not finished: chunk -> record."""
        found = {}
        for name in sorted(self._names() - self._scanned):
            folder = self.stages / name
            if (folder / "record.json").exists() and not (folder / "done.json").exists():
                with contextlib.suppress(Damaged):
                    found[name] = self.record(name)
        return found

    def _names(self) -> set[str]:
        """What lies below `stages`, chunks and else."""
        return set(os.listdir(self.stages)) if self.stages.is_dir() else set()

    def discard(self, chunk: str) -> None:
        """Set a damaged chunk aside, so that its members are run again."""
        aside = self.root / "damaged" / chunk
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            os.replace(self.stages / chunk, aside)
        self._forget({chunk})

    def remove(self, chunk: str) -> None:
        """Delete a chunk: set aside first, so that what is left of it never counts."""
        self.discard(chunk)
        self.remove_damaged(chunk)

    def remove_damaged(self, chunk: str) -> None:
        """Delete what was set aside."""
        folder = self.root / "damaged" / chunk
        with contextlib.suppress(FileNotFoundError):
            folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)

    def remove_leavings(self, place: str) -> None:
        """Delete what a killed writer left at a place below the workdir."""
        path = self.root / place
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _forget(self, chunks: set[str]) -> None:
        """Leave chunks out of the index until they are there again."""
        if chunks:
            self._index = {k: at for k, at in self._index.items() if at.chunk not in chunks}
            self._scanned -= chunks

    def start_chunk(self, chunk: str, record: dict) -> None:
        """Begin a chunk anew: forget its checkpoints, write its record."""
        self.abandon(chunk)
        write_note(self.stages / chunk / "record.json", record)

    def abandon(self, chunk: str) -> None:
        """Remove a chunk that is not finished."""
        shutil.rmtree(self.stages / chunk, ignore_errors=True)

    def save_progress(
        self, chunk: str, step: int, tree: Any, seconds: float, history: dict | None = None
    ) -> None:
        """Checkpoint an unfinished round; earlier ones stay as far as `keep` has room.

        seconds: how long the round has been trained; history: what is kept of its training.
        """
        told = {"step": step, "seconds": seconds, "history": history}
        kept.save(self.stages / chunk, tree, told, self.keep)

    def load_progress(self, chunk: str, like: Any) -> Progress | None:
        """The last checkpoint that is whole, or None; damaged ones are reported and removed."""
        found, damage = kept.load(self.stages / chunk, like)
        self.damage += [f"A checkpoint of {chunk} is left out: {one}." for one in damage]
        return found

    def finish_chunk(self, chunk: str, tree: Any, notes: dict) -> None:
        """Store the final states and make the chunk count; its checkpoints go."""
        folder = self.stages / chunk
        marks = save_tree(folder / "final", tree)
        done = {**marks._asdict(), "record": self._record_digest(chunk), **notes}
        write_note(folder / "done.json", done)
        kept.drop(folder)

    def record(self, chunk: str) -> dict:
        """The record a chunk was begun with. Raises Damaged."""
        return read_record(self.stages / chunk / "record.json")

    def notes(self, chunk: str) -> dict:
        """What was noted when a chunk was finished. Raises Damaged, also for a changed record."""
        path = self.stages / chunk / "done.json"
        notes = read_fields(path, DONE_FIELDS)
        require_all(path, notes, "alive", bool)
        require_all(path, notes, "bytes", int)
        if notes["record"] != self._record_digest(chunk):
            raise Damaged(f"{self.stages / chunk / 'record.json'} is not the one it was made with")
        return notes

    def _record_digest(self, chunk: str) -> str:
        return hashlib.sha256((self.stages / chunk / "record.json").read_bytes()).hexdigest()

    def load_chunk(self, chunk: str) -> dict[str, np.ndarray]:
        """All final arrays of a chunk, {path: [rows, ...]}. Raises Damaged."""
        return load_tree(self.stages / chunk / "final", marks_of(self.notes(chunk)))

    # predictions

    def save_predictions(self, chunk: str, cell: str, arrays: dict[str, np.ndarray]) -> None:
        """Store a shift cell's arrays [rows, images, ...] of a chunk, compressed."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
        write_bytes(self.stages / chunk / "predictions" / f"{cell}.npz", buffer.getvalue())

    def has_predictions(self, chunk: str, cell: str) -> bool:
        return (self.stages / chunk / "predictions" / f"{cell}.npz").exists()

    def load_predictions(self, chunk: str, cell: str) -> dict[str, np.ndarray]:
        """A shift cell's arrays. Raises Damaged; zip members carry a checksum."""
        path = self.stages / chunk / "predictions" / f"{cell}.npz"
        try:
            return foreign.read_arrays(path)
        except ValueError as error:
            raise Damaged(f"{path} cannot be read ({error})") from error

    def drop_predictions(self, chunk: str, cell: str) -> None:
        """Remove a damaged cell so that it is evaluated again."""
        folder = self.stages / chunk / "predictions"
        if not (folder.is_symlink() or folder.parent.is_symlink()):  # or it is not ours
            (folder / f"{cell}.npz").unlink(missing_ok=True)

    # study folders

    def study(self, name: str, fingerprint: str) -> pathlib.Path:
        """The folder of a study with exactly this config."""
        return self.root / f"{name}-{fingerprint}"

    def others(self, name: str) -> bool:
        """Whether a study of this name has a folder already, whatever its config."""
        return any(self.root.glob(f"{name}-*"))

    def note_export(self, path: pathlib.Path, note: dict) -> None:
        """Put what is known of an exported file beside it, so that reports can list it."""
        content = path.read_bytes()
        own = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        write_note(path.with_name(f"{path.name}.json"), {**note, **own})

    def log(self, folder: pathlib.Path, event: dict) -> None:
        """Append one JSON line to the study's `log.jsonl`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "log.jsonl"
        if path.is_symlink():  # a folder from elsewhere may have it lead to any file
            raise ValueError(f"{path} is a link: remove it, as nothing is written through links.")
        with open(path, "a") as file:
            file.write(json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **event}) + "\n")


def load_member(workdir: str | pathlib.Path, fingerprint: str) -> dict[str, np.ndarray]:
    """One member-stage alone: {path: array}, such as `.variables['params']['head']['kernel']`.

    Raises KeyError if the workdir has no such finished member-stage, Damaged if its file is broken.
    """
    store = Store(workdir, create=False)
    place = store.index().get(fingerprint)
    if place is None:
        raise KeyError(f"{workdir} holds no finished member-stage {fingerprint}")
    return {name: leaf[place.row] for name, leaf in store.load_chunk(place.chunk).items()}
