"""What lies in a workdir: its rounds and its studies' folders, found without changing anything.

Of a round only its notes are read, not its arrays; what is damaged is named and stays where it is.
"""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from rcm import kept
from rcm.records import PLACE_IN_STUDY, Damaged, read_fields, read_json
from rcm.store import Store

CHUNK = re.compile("[0-9a-f]{16}")  # the name of a round
LEFT_SECONDS = 3600.0  # longer than any file is written
REFERENCES = "stages.json"  # in a study's folder: what `rcm.references` makes of its plan
REFERENCE_FIELDS = {"members": list, "tested": list}
WITHOUT_STAGES = "Predictions"  # the type of the config where predictions came from elsewhere


class Chunk(NamedTuple):
    """A round as it lies below `stages`.

    stage: the key of its lock; members: fingerprints by row; labels: their stages, such as
    `prune 50%`; step: that of its last checkpoint, 0 for none; states: bytes of all but its
    predictions; predictions: bytes by cell; fault: what is wrong with its notes, "" for nothing:
    nothing is known of its members then.
    """

    name: str
    finished: bool
    step: int
    states: int
    predictions: dict[str, int]
    stage: str = ""
    members: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    fault: str = ""

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return self.states + sum(self.predictions.values())

    @property
    def what(self) -> str:
        """Whose round it is, for people: such as `8 members of prune 50%`."""
        stages = list(dict.fromkeys(self.labels))
        more = f" and {len(stages) - 1} more stages" if len(stages) > 1 else ""
        return f"{len(self.members)} members of {stages[0]}{more}" if stages else "unknown members"


class References(NamedTuple):
    """What a study refers to: fingerprints of its member-stages, and which of them answer which
    cells, in groups."""

    members: frozenset[str] = frozenset()
    tested: tuple[tuple[frozenset[str], frozenset[str]], ...] = ()


class StudyFolder(NamedTuple):
    """A study's folder; references: None where it does not say them; fault: why."""

    path: Path
    size: int
    references: References | None
    fault: str = ""


def chunks(store: Store) -> list[Chunk]:
    """Every round that was begun, by name."""
    if not store.stages.is_dir():
        return []
    found = []
    for name in sorted(os.listdir(store.stages)):
        folder = store.stages / name
        if any((folder / note).exists() for note in ("record.json", "done.json")):
            found.append(read_chunk(store, name))
    return found


def read_chunk(store: Store, name: str) -> Chunk:
    """One round that was begun."""
    folder = store.stages / name
    cells = sizes(folder / "predictions")
    predictions = {cell.removesuffix(".npz"): size for cell, size in cells.items()}
    states = size_of(folder) - sum(cells.values())
    finished = (folder / "done.json").exists()
    step = max(kept.steps(folder), default=0)
    chunk = Chunk(name, finished, step, states, predictions)
    try:
        record = store.record(name)
        if finished:
            store.notes(name)
        labels = [PLACE_IN_STUDY.sub("", str(label)) for label in record["labels"]]
        members = [str(member) for member in record["members"]]
        if len(labels) != len(members):
            raise Damaged(f"{folder / 'record.json'} has not one label for each member")
    except Damaged as error:
        return chunk._replace(fault=str(error))
    return chunk._replace(stage=record["stage"], members=tuple(members), labels=tuple(labels))


def held(store: Store, stages: Iterable[str]) -> set[str]:
    """The stages, of those asked for, that a running process holds at this moment.

    A lock is tried as a reader, for which its file need not be written; whoever asks for it in that
    instant finds it taken and waits, as for any other process.
    """
    taken = set()
    for stage in set(stages):
        with contextlib.suppress(FileNotFoundError), open(_lock(store, stage)) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                taken.add(stage)
    return taken


def _lock(store: Store, stage: str) -> Path:
    return store.stages / "locks" / f"{stage}.lock"


def places(found: Collection[Chunk]) -> dict[str, Chunk]:
    """The round of every finished member-stage, as `Store.index` has them."""
    finished = {}
    for chunk in found:
        if chunk.finished:
            for member in chunk.members:
                finished.setdefault(member, chunk)
    return finished


def studies(store: Store) -> list[StudyFolder]:
    """Every study's folder, by name."""
    signs = ("config.json", "report.html", REFERENCES)
    folders = {path.parent for sign in signs for path in store.root.glob(f"*/{sign}")}
    return [read_study(folder) for folder in sorted(folders)]


def read_study(folder: Path) -> StudyFolder:
    """One study's folder."""
    size = size_of(folder)
    try:
        return StudyFolder(folder, size, read_references(folder))
    except Damaged as error:
        return StudyFolder(folder, size, None, str(error))


def read_references(folder: Path) -> References:
    """What a study refers to. Raises Damaged where its folder does not say so, as those of earlier
    versions."""
    path = folder / REFERENCES
    if not path.exists() and _needs_no_stages(folder):
        return References()
    told = read_fields(path, REFERENCE_FIELDS)
    try:
        groups = [(frozenset(one["members"]), frozenset(one["cells"])) for one in told["tested"]]
        return References(frozenset(told["members"]), tuple(groups))
    except (KeyError, TypeError) as error:
        raise Damaged(f"{path} does not list members and cells") from error


def _needs_no_stages(folder: Path) -> bool:
    """Whether the folder is that of an analysis of predictions made elsewhere."""
    try:
        config = read_json(folder / "config.json")
    except Damaged:
        return False
    return isinstance(config, dict) and config.get("type") == WITHOUT_STAGES


def damaged(store: Store) -> dict[str, int]:
    """Bytes of every round that was set aside, by name."""
    folder = store.root / "damaged"
    return {name: size_of(folder / name) for name in names(folder)}


def leavings(store: Store) -> dict[str, int]:
    """Bytes of what writers left that were killed, by its place below the workdir: parts of files,
    and folders of rounds without any note, all of them older than a write takes."""
    found = {path: path.stat().st_size for path in store.root.glob("stages/**/.*.part")}
    for name in names(store.stages):
        folder = store.stages / name
        noted = any((folder / note).exists() for note in ("record.json", "done.json"))
        if CHUNK.fullmatch(name) and not noted:
            found = {path: size for path, size in found.items() if folder not in path.parents}
            found[folder] = size_of(folder)
    old = time.time() - LEFT_SECONDS
    return {
        str(path.relative_to(store.root)): size
        for path, size in sorted(found.items())
        if path.stat().st_mtime < old
    }


def names(folder: Path) -> list[str]:
    """What lies in a folder, which may be absent."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file in a folder but those that are being written."""
    found = {}
    for name in names(folder):
        with contextlib.suppress(FileNotFoundError):
            if not name.startswith("."):
                found[name] = (folder / name).stat().st_size
    return found


def size_of(folder: str | Path) -> int:
    """Bytes of all files below a folder; what goes meanwhile counts nothing."""
    total = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    total += size_of(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total
