"""A study's report: from its results table and its store into its folder."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rcm import config
from rcm.analysis.claims import decide
from rcm.analysis.claims_corruption import CORRUPTION_CLAIMS
from rcm.analysis.claims_exemplars import EXEMPLAR_CLAIMS
from rcm.analysis.claims_imbalance import IMBALANCE_CLAIMS
from rcm.analysis.claims_joint import JOINT_CLAIMS
from rcm.analysis.claims_shift import SHIFT_CLAIMS
from rcm.analysis.statistics import PipelineInfo, diverged_names
from rcm.cells import CellSpec, DomainSpec, OfficialSpec, Spec
from rcm.config import CLAIM_SETS, Distill, Pipeline, Replica, Scratch
from rcm.curves import training_table
from rcm.files import write_bytes, write_json
from rcm.forgotten import forgotten
from rcm.plan import Plan
from rcm.records import read_exports
from rcm.report.beside import comma_separated
from rcm.report.gallery import Picture
from rcm.report.page import Report, RunInfo, write_report
from rcm.shift import frost
from rcm.shift.corruptions import corrupt
from rcm.steps import techniques
from rcm.store import Store
from rcm.sweep import Execution

RELEASED = "Corrupted images are those of a released set, not made here."
REGENERATED = (
    "Corrupted images were made by experiments/write_corrupted.py and read from its folder: they "
    "are not those of the released set."
)
UNALIGNED = (
    "They could not all be matched with clean images, so nothing compares the two image by image: "
    "their rates stand for a set of its own."
)
CLAIMS = dict(
    zip(
        CLAIM_SETS,
        ((), IMBALANCE_CLAIMS, SHIFT_CLAIMS, CORRUPTION_CLAIMS, EXEMPLAR_CLAIMS, JOINT_CLAIMS),
        strict=True,
    )
)


def save_report(
    plan: Plan,
    cells: Sequence[Spec],
    store: Store,
    folder: Path,
    frame: pd.DataFrame,
    pipelines: list[PipelineInfo],
    command: str,
) -> tuple[Path, dict[str, pd.DataFrame]]:
    """Tables, figures and the page of a results table, written into the study's folder; returns
    the page's path and the tables.

    pipelines: what the table's pipelines are; command: what the user typed. Exported files are
    listed as they are found in the folder; what is wrong with others goes into `store.damage`.
    """
    study = plan.study
    places = store.index()
    chunks = sorted({places[job].chunk for job in plan.jobs})
    records = [store.record(chunk) for chunk in chunks]
    noted = {chunk: store.notes(chunk) for chunk in chunks}
    run = RunInfo(
        title=study.title or study.name,
        summary=study.summary,
        command=command,
        config=config.plain(study),
        versions=versions(records),
        hardware=hardware_of(records),
        seconds=sum(notes["seconds"] for notes in noted.values()),
        notes=[
            *run_notes(records),
            *plan.dataset.notes,
            *shift_notes(study.shift, cells),
            *outdated_notes(store),
        ],
        diverged=diverged_names(frame),
        preview=study.preview,
        class_names=plan.dataset.classes,
        invariants=checked_invariants(plan, pipelines, frame),
    )
    exports, faults = read_exports(folder / "export")
    store.damage += faults
    tables, pictures = forgotten(plan, store, cells, pipelines)
    tables = {**tables, "training": training_table(plan, places, noted)}
    identity = (study.claims, plan.dataset.fingerprint)
    shown = write_run(folder, frame, pipelines, run, *identity, exports, tables, pictures)
    return folder / "report.html", shown


def write_run(
    folder: Path,
    frame: pd.DataFrame,
    pipelines: list[PipelineInfo],
    run: RunInfo,
    claims: str,
    data: str,
    exports: Sequence[Mapping[str, Any]] = (),
    tables: Mapping[str, pd.DataFrame] | None = None,
    pictures: Mapping[str, Sequence[Picture]] | None = None,
) -> dict[str, pd.DataFrame]:
    """Put a results table, what it does not say itself (`run.json`) and its report into a run
    folder; returns its tables.

    claims: the protocol whose claims are decided, "" for none; data: identity of the data set;
    the rest as in `write_report`.
    """
    write_bytes(folder / "results.parquet", frame.to_parquet(index=False, write_page_checksum=True))
    write_bytes(folder / "results.csv", comma_separated(frame))
    described = [dataclasses.asdict(pipeline) for pipeline in pipelines]
    more = {"data": data, "versions": run.versions, "hardware": run.hardware}
    write_json(folder / "run.json", {"pipelines": described, **more})
    verdicts = decide(CLAIMS[claims], frame, pipelines) if claims else []
    report = write_report(frame, pipelines, run, verdicts, exports, tables, pictures)
    write_report_files(folder, report)
    return report.tables


def versions(records: list[dict]) -> dict[str, str]:
    """What trained the members, by name; where rounds differ, every value."""
    every = [{"rcm source": r["source"], **r["environment"]} for r in records]
    return {
        name: " and ".join(dict.fromkeys(str(e.get(name, "unknown")) for e in every))
        for name in every[0]
    }


def checked_invariants(
    plan: Plan, pipelines: list[PipelineInfo], frame: pd.DataFrame
) -> list[tuple[str, str, int]]:
    """(pipeline, what its techniques promise, members that hold it) for the report.

    A stage is stored only if every invariant of its chain holds in every member that is alive.
    """
    labels = {info.name: info.label for info in pipelines}
    whole = frame[frame["status"] == "ok"][["pipeline", "ratio", "seed"]].drop_duplicates()
    members = whole["pipeline"].value_counts()
    promises = {p.name: "; ".join(t.promise() for t in compressing(p)) for p in plan.pipelines}
    return [
        (labels[name], promise, int(members.get(name, 0)))
        for name, promise in promises.items()
        if promise
    ]


def compressing(pipeline: Pipeline) -> tuple:
    """The techniques in force at the end of a pipeline: those of its last network."""
    starts = [i for i, s in enumerate(pipeline.steps) if isinstance(s, Scratch | Replica | Distill)]
    return techniques(pipeline.steps[starts[-1] + 1 if starts else 0 :])


def hardware_of(records: list[dict]) -> str:
    """On what the rounds were run, in how many processes if several."""
    kinds = " and ".join(sorted({record["hardware"] for record in records}))
    processes = len({record.get("process", 0) for record in records})
    return f"{kinds}, in {processes} processes" if processes > 1 else kinds


def run_notes(records: list[dict]) -> list[str]:
    """What a reader should know about how the rounds were run: where they differ, and which."""
    notes = []
    for what, told in (("environment", environments(records)), ("execution", executions(records)),
                       ("source", [record["source"] for record in records])):  # fmt: skip
        stages: dict[str, list[str]] = {}
        for record, kind in zip(records, told, strict=True):
            stages.setdefault(kind, []).append(record["labels"][0].split(" ratio ")[0])
        if len(stages) > 1:
            kinds = "; ".join(f"{kind}: {some(names)}" for kind, names in stages.items())
            notes.append(f"Rounds differ in their {what} ({kinds}).")
    return notes


def environments(records: list[dict]) -> list[str]:
    """What of each round's environment is not the same for all of them."""
    first = records[0]["environment"]
    names = sorted({n for r in records for n, v in r["environment"].items() if v != first.get(n)})
    return [", ".join(f"{n} {r['environment'].get(n)}" for n in names) for r in records]


def executions(records: list[dict]) -> list[str]:
    """How each round was run. Short stages take fewer steps per call, by the same program."""
    shown = []
    for record in records:
        execution = Execution(*record["execution"])
        lanes = f"{execution.lanes} lane{'s' if execution.lanes > 1 else ''}"
        devices = f"{execution.devices} device{'s' if execution.devices > 1 else ''}"
        shown.append(f"{execution.strategy} with {lanes} on {devices}")
    return shown


def some(names: list[str], most: int = 4) -> str:
    """Names, each once, the last ones counted where there are many."""
    names = list(dict.fromkeys(names))
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")


def outdated_notes(store: Store) -> list[str]:
    """That answers to images of another version's making are among the results, if so."""
    if not store.outdated:
        return []
    return [
        f"{len(store.outdated)} stored predictions are of images that another version of rcm "
        "corrupted or attacked; remove them (stages/*/predictions) or choose a new --workdir to "
        "make them anew."
    ]


def shift_notes(shift: config.Shift, cells: Sequence[Spec] = ()) -> list[str]:
    """What a reader should know about how the images were shifted, and of those of domains."""
    notes = [note for cell in cells if isinstance(cell, DomainSpec) for note in cell.notes]
    same = [f"{c.shift}/{c.severity}" for c in cells if isinstance(c, CellSpec) and unblurred(c)]
    if same:
        notes.append("Images are so small that " + ", ".join(same) + " changed nothing of them.")
    if shift.official and shift.corruptions:
        released = [cell.release for cell in cells if isinstance(cell, OfficialSpec)]
        again = any(release.regenerated for release in released)
        unknown = any(release.order is None for release in released)
        return [*notes, REGENERATED if again else RELEASED, *([UNALIGNED] if unknown else [])]
    if "frost" not in shift.corruptions:
        return notes
    if not shift.frost_dir:
        drawn = "Frost: textures drawn by rcm, not the benchmark's photographs; not comparable."
        return [*notes, drawn]
    return [*notes, f"Frost: {frost.source(shift.frost_dir)}, supplied by the user."]


def unblurred(cell: CellSpec) -> bool:
    """Whether a blur leaves images as they are: below 32 pixels some are shorter than a pixel."""
    if not cell.shift.endswith("_blur") or min(cell.images.shape[1:3]) >= 32:
        return False
    images = np.asarray(cell.images[:50])
    made = corrupt(images, np.asarray(cell.ids[:50]), cell.shift, cell.severity, cell.seed)
    return bool((np.asarray(made) == images).all())


def write_report_files(folder: Path, report: Report) -> None:
    """Put a report where a run folder has it."""
    for path, content in report.files.items():
        write_bytes(folder / path, content)
    write_bytes(folder / "report.md", report.markdown.encode())
    write_bytes(folder / "report.html", report.html.encode())
