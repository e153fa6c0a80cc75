"""What a workdir holds, in tables of 80 columns: `launch.py --status`. Nothing is changed."""

import collections
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from rcm import inventory
from rcm.inventory import Chunk, References, StudyFolder
from rcm.progress import Display
from rcm.store import Store

LISTED = 10  # rounds that were set aside, by name


@dataclass
class Stage:
    """The members of all rounds that share a label, and their part of these rounds' bytes."""

    finished: int = 0
    begun: int = 0
    checkpoints: set[int] = field(default_factory=set)
    held: bool = False
    states: float = 0.0
    predictions: float = 0.0


def show(store: Store, display: Display) -> None:
    """Print a workdir's studies, stages, totals, what is damaged and the disk space left."""
    found, folders = inventory.chunks(store), inventory.studies(store)
    running = inventory.held(store, [chunk.stage for chunk in found])
    if folders:
        display.show(study_table(folders, inventory.places(found)))
    if found:
        display.show(stage_table(stages(found, running)))
    for line in totals(store, found, folders):
        display.say(line)


def study_table(folders: Sequence[StudyFolder], places: Mapping[str, Chunk]) -> Table:
    """Studies: their finished member-stages and their answers, of how many, report and bytes."""
    table = _table("study", "finished", "tested", "report", "size")
    for folder in folders:
        counts = ("?", "?")
        if folder.references:
            members = folder.references.members
            finished = sum(member in places for member in members)
            counts = (_of(finished, len(members)), _of(*tested(folder.references, places)))
        report = "yes" if (folder.path / "report.html").exists() else "no"
        table.add_row(escape(folder.path.name), *counts, report, decimal(folder.size))
    return table


def tested(references: References, places: Mapping[str, Chunk]) -> tuple[int, int]:
    """How many answers of a member to a cell are there, and how many the study asks for."""
    there = asked = 0
    for members, cells in references.tested:
        asked += len(members) * len(cells)
        own = collections.Counter(places[m].name for m in members if m in places)
        chunks = {places[m].name: places[m] for m in members if m in places}
        there += sum(n * len(cells & chunks[name].predictions.keys()) for name, n in own.items())
    return there, asked


def stages(found: Sequence[Chunk], running: set[str]) -> dict[str, Stage]:
    """What is there of every stage, by label; running: the keys of those that are held."""
    listed: dict[str, Stage] = collections.defaultdict(Stage)
    for chunk in found:
        for label, members in collections.Counter(chunk.labels).items():
            stage, share = listed[label], members / len(chunk.labels)
            stage.held |= chunk.stage in running
            stage.states += share * chunk.states
            stage.predictions += share * sum(chunk.predictions.values())
            if chunk.finished:
                stage.finished += members
            else:
                stage.begun += members
                stage.checkpoints.add(chunk.step)
    return dict(sorted(listed.items()))


def stage_table(listed: Mapping[str, Stage]) -> Table:
    """Stages: members finished and begun, whether a process holds them, and bytes."""
    table = _table("stage", "finished", "begun", "states", "predictions")
    for label, stage in listed.items():
        sizes = [decimal(round(size)) for size in (stage.states, stage.predictions)]
        table.add_row(escape(label), f"{stage.finished:,}", begun(stage), *sizes)
    return table


def begun(stage: Stage) -> str:
    """Such as `2 at step 1,500, running`."""
    steps = sorted(stage.checkpoints)
    words = [f"{stage.begun:,} at step {steps[0]:,}"] if steps else []
    words += [f"to {steps[-1]:,}"] if len(steps) > 1 else []
    text = " ".join(words)
    return ", ".join([text] * bool(text) + ["running"] * stage.held)


def totals(store: Store, found: Sequence[Chunk], folders: Sequence[StudyFolder]) -> list[str]:
    """Lines below the tables."""
    finished = [chunk for chunk in found if chunk.finished]
    members = len(inventory.places(found))
    sizes = [sum(c.states for c in found), sum(sum(c.predictions.values()) for c in found)]
    sizes.append(sum(folder.size for folder in folders))
    states, predictions, reports = map(decimal, sizes)
    lines = [
        f"{store.root}: studies {len(folders):,}, member-stages finished {members:,}, rounds "
        f"finished {len(finished):,}, begun {len(found) - len(finished):,}.",
        f"States {states}, predictions {predictions}, studies {reports}; "
        f"{decimal(shutil.disk_usage(store.root).free)} left on the disk.",
    ]
    if any(folder.references is None for folder in folders):
        lines.append(
            "?: folders without a readable list of their member-stages, such as earlier versions "
            "wrote; running a study again, also with --report_only, writes it."
        )
    faults = sum(bool(chunk.fault) for chunk in found)
    if faults:
        lines.append(f"The notes of {faults:,} rounds cannot be read: --verify names them.")
    return lines + set_aside(inventory.damaged(store))


def set_aside(damaged: Mapping[str, int]) -> list[str]:
    """What lies in `damaged`."""
    if not damaged:
        return []
    named = [f"{name} ({decimal(size)})" for name, size in damaged.items()]
    more = f" and {len(named) - LISTED} more" if len(named) > LISTED else ""
    return [f"Set aside as damaged: {', '.join(named[:LISTED])}{more}; --prune_store deletes them."]


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(names):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    return table
