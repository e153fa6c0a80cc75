"""Every file of a workdir read once: `launch.py --verify`. Nothing is changed.

What is found is told with what comes of it: which round the next run makes again, which file.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from rcm import inventory, kept
from rcm.inventory import REFERENCES, Chunk, StudyFolder
from rcm.progress import Display
from rcm.records import Damaged, read_exports, read_json
from rcm.results_table import read_table
from rcm.store import Store


def verify(store: Store, display: Display) -> int:
    """Check every digest and checksum, with one file or tree of arrays in memory at a time, and say
    what is damaged; how many faults were found."""
    found, folders = inventory.chunks(store), inventory.studies(store)
    running = inventory.held(store, [chunk.stage for chunk in found])
    files = sum(1 + len(chunk.predictions) for chunk in found) + len(folders)
    display.start("verifying", files, "files")
    count = 0
    for fault in faults(store, found, folders, running, display.advance):
        display.say(fault)
        count += 1
    display.finish()
    display.say(f"Damaged: {count:,} of {files:,}." if count else "Everything is whole.")
    return count


def faults(
    store: Store,
    found: Sequence[Chunk],
    folders: Sequence[StudyFolder],
    running: Collection[str],
    advance: Callable[[int], None],
) -> Iterator[str]:
    """A sentence for everything that is damaged. Checkpoints of stages that are `running` are left
    out: they come and go."""
    for chunk in found:
        yield from round_faults(store, chunk, chunk.stage in running)
        advance(1)
        for cell in chunk.predictions:
            try:
                store.load_predictions(chunk.name, cell)
            except Damaged as error:
                yield f"{error}: a run that reads it makes it again, from the same members."
            advance(1)
    for folder in folders:
        yield from study_faults(folder)
        advance(1)


def round_faults(store: Store, chunk: Chunk, running: bool) -> Iterator[str]:
    """What is wrong with a round's notes, or else its states or checkpoints."""
    again = "sets its round aside and makes it again" if chunk.finished else "begins its round anew"
    if chunk.fault:
        yield f"{chunk.fault}: the next run {again}."
    elif chunk.finished:
        try:
            store.load_chunk(chunk.name)
        except Damaged as error:
            yield f"{error}: a run that needs it {again} ({chunk.what})."
    elif not running:
        whole, broken = read_checkpoints(store.stages / chunk.name)
        then = f"goes on from step {max(whole):,}" if whole else again
        yield from (f"{error}: the next run {then} ({chunk.what})." for error in broken)


def read_checkpoints(folder: Path) -> tuple[list[int], list[Damaged]]:
    """The steps of a round's checkpoints that are whole, and what is wrong with the others."""
    whole, broken = [], []
    for step in kept.steps(folder):
        try:
            kept.read(folder, step)
            whole.append(step)
        except Damaged as error:
            broken.append(error)
    return whole, broken


def study_faults(folder: StudyFolder) -> Iterator[str]:
    """What is wrong in a study's folder: its notes, its table of results, its exported files."""
    anew = "the study's next run, also with --report_only, writes it anew"
    if folder.fault and (folder.path / REFERENCES).exists():
        yield f"{folder.fault}: {anew}."
    for name in ("config.json", "run.json"):
        try:
            if (folder.path / name).exists():
                read_json(folder.path / name)
        except Damaged as error:
            yield f"{error}: {anew}."
    table = folder.path / "results.parquet"
    try:
        if table.exists():
            read_table(table)
    except ValueError as error:
        yield f"{table} cannot be read ({error}): {anew}."
    yield from read_exports(folder.path / "export")[1]
