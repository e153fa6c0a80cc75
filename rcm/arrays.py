"""Trees of arrays on disk, by Orbax: saved whole or not at all, checked by digest when read."""

import contextlib
import hashlib
import math
import pathlib
import shutil
import signal
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint._src.multihost import multihost

from rcm.foreign import require_expansion
from rcm.records import Damaged, digest, flatten

ROOM = 2**16  # bytes that the files of a tree take beside its arrays
_one_at_a_time = threading.Lock()  # of what a process changes in orbax


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C and SIGTERM off until the block is over: they can hang orbax's event loop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda n, _: caught.append(n)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
    for number in caught[:1]:
        signal.raise_signal(number)


@contextlib.contextmanager
def own_checkpointer() -> Iterator[ocp.StandardCheckpointer]:
    """Saves and restores what this process alone has, without waiting for any other.

    Orbax lets the processes of a run save parts of the same arrays together and writes NumPy arrays
    in the first of them only, whatever its options say; so it takes each for the first one here.
    """
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
    # made later, they would be waited for by a signal that the first process alone gives
    folders = ocp.AsyncOptions(create_directories_asynchronously=False)
    options = {"multiprocessing_options": alone, "async_options": folders}
    with _one_at_a_time:
        process_index = multihost.process_index
        multihost.process_index = lambda: 0
        try:
            with ocp.StandardCheckpointer(**options) as checkpointer:
                yield checkpointer
        finally:
            multihost.process_index = process_index


class Marks(NamedTuple):
    """What a saved tree is recognised by: digests of its arrays and of its files."""

    digest: str
    files: str


def marks_of(note: dict) -> Marks:
    """From a note that holds them; one of an older version has no digest of files."""
    return Marks(note["digest"], note.get("files", ""))


def save_tree(path: pathlib.Path, tree: Any) -> Marks:
    """Write a tree of NumPy or JAX arrays as the folder `path`, whose parent is there. Raises
    ValueError, with a sentence for the user, where that is not possible."""
    flat = flatten(tree)
    needed, free = sum(leaf.nbytes for leaf in flat.values()), shutil.disk_usage(path.parent).free
    problem = f"{free / 1e6:,.1f} of {needed / 1e6:,.1f} MB are free"
    try:
        if free > needed + ROOM:  # where a write fails, what is below orbax prints tracebacks
            with uninterrupted(), own_checkpointer() as checkpointer:
                checkpointer.save(path, flat, force=True)
            return Marks(digest(flat), files_digest(path))
    except Exception as error:  # a full disk has many names below orbax
        problem = type(error).__name__
    raise ValueError(
        f"{path.parent} cannot take a checkpoint ({problem}): free space, or choose another "
        "workdir with --workdir; what is finished is kept."
    )


def load_tree(path: pathlib.Path, marks: Marks) -> dict[str, np.ndarray]:
    """What `save_tree` wrote, as {path in the tree: array}. Raises Damaged where it does not have
    its marks; where an older version noted none of its files, they are read all the same."""
    if marks.files and files_digest(path) != marks.files:  # before libraries see what they read
        raise Damaged(f"{path} does not match its digest")
    try:
        with uninterrupted(), own_checkpointer() as checkpointer:
            _require_plausible(path, checkpointer)
            flat = checkpointer.restore(path)
        flat = {name: np.asarray(leaf) for name, leaf in flat.items()}
    except Damaged:
        raise
    except Exception as error:  # orbax raises many kinds for one cause: the files are not whole
        raise Damaged(f"{path} cannot be restored ({type(error).__name__})") from error
    if digest(flat) != marks.digest:
        raise Damaged(f"{path} does not match its digest")
    return flat


def files_digest(folder: pathlib.Path) -> str:
    """Of the names and contents of all files below a folder."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(str(path.relative_to(folder)).encode())
        with open(path, "rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _require_plausible(path: pathlib.Path, checkpointer: ocp.StandardCheckpointer) -> None:
    """Raise Damaged if the files are far too small for the arrays that they claim to hold."""
    metadata: Any = checkpointer.metadata(path).item_metadata
    leaves = jax.tree.leaves(metadata.tree)
    claimed = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in leaves)
    try:
        require_expansion(claimed, sum(file.stat().st_size for file in path.rglob("*")))
    except ValueError as error:
        raise Damaged(f"{path} cannot be restored ({error})") from error
