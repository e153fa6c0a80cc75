"""Cost of workdirs by what is in them, for `bench.py`; nothing of it is trained or predicted."""

import collections
import io
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from bench_engine import Settings, in_process, peak_bytes
from bench_tables import Table, number
from rich.console import Console

from rcm import arrays, backend, config, status
from rcm.cells import MADE_BY, Spec, is_made_here, shift_source
from rcm.compress import Prune, Quantize
from rcm.config import Pipeline, Replica, Study
from rcm.evaluate import fields
from rcm.files import write_json
from rcm.inventory import REFERENCES
from rcm.outcome import describe_pipelines
from rcm.plan import Plan, Stage
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.records import member_label
from rcm.references import references
from rcm.report import style
from rcm.reporting import save_report
from rcm.results import read_results
from rcm.shift.corruptions import CORRUPTIONS
from rcm.store import Store

SIZES = (10, 100, 1000, 10_000)  # member-stages
EACH = 5  # of a seed: dense, its control, two pruned, one quantized
LANES = 10  # members of a round
IMAGES, CLASSES = 60, 3  # of the test split
LIMIT = 10.0  # seconds for the largest
DRAWS = 4  # different answers of a round, which its cells repeat
FULL_IMAGES = 10_000
ANALYSIS_SECONDS, ANALYSIS_GIB = 120, 4
JUDGED = ("plan", "index", "report")


class Seconds(NamedTuple):
    """How long something took: by the clock, and of this process's CPU time."""

    wall: float = 0.0
    cpu: float = 0.0

    def __str__(self) -> str:
        return f"{number(self.wall)} ({number(self.cpu)})"


class Clock:
    """Seconds by what was done, of all calls of a name together."""

    def __init__(self):
        self.seconds: dict[str, Seconds] = collections.defaultdict(Seconds)

    def timed(self, name: str, function: Callable[..., Any], *given: Any) -> Any:
        """What the function gives."""
        wall, cpu = time.perf_counter(), time.process_time()
        made = function(*given)
        before = self.seconds[name]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.seconds[name] = Seconds(before.wall + wall, before.cpu + cpu)
        return made

    def without(self, name: str, part: str) -> None:
        """Take a part out of what it was part of."""
        pairs = zip(self.seconds[name], self.seconds[part], strict=True)
        self.seconds[name] = Seconds(*(whole - own for whole, own in pairs))


def store(settings: Settings) -> Table:
    """Seconds of every part of a study's life but training and testing, by its member-stages."""
    sizes = SIZES if settings.model != "tiny" else SIZES[:2]
    rows, found = [], {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            found = measured(size, Path(folder))
        rows.append((f"{size:,}", *map(str, found.values())))
    judged = JUDGED if settings.model != "tiny" else ()
    notes = [
        f"{name}, {sizes[-1]:,} member-stages: {number(found[name].wall)} s; goal: at most "
        f"{number(LIMIT)}, {'met' if found[name].wall <= LIMIT else 'missed'}."
        for name in judged
    ]
    title = f"Workdirs: seconds (of them CPU), rounds of {LANES} members, n = 1"
    return Table(title, ("member-stages", *found), rows, notes)


def measured(size: int, folder: Path) -> dict[str, Seconds]:
    """Seconds by what is done with a finished study of so many member-stages; the report without
    the drawing of its figures, which is by itself."""
    clock, study = Clock(), study_of(size, folder)
    prepare(study_of(EACH, folder))  # loads and traces what all sizes need
    plan, cells = clock.timed("plan", prepare, study)
    fill(plan, cells, Store(folder / "runs"))
    found = Store(folder / "runs")
    clock.timed("index", found.index)
    clock.timed("index again", found.index)
    clock.timed("unfinished", found.unfinished)
    silent = Display(Console(file=io.StringIO(), width=80))
    clock.timed("--status", status.show, found, silent)
    frame = clock.timed("results", read_results, plan, found, cells)
    given = (plan, cells, found, found.root / "bench-1", frame, describe_pipelines(plan), "")
    with patch("rcm.report.style.render", partial(clock.timed, "drawing", style.render)):
        clock.timed("report", save_report, *given)
    clock.without("report", "drawing")
    return dict(clock.seconds)


def analysis(settings: Settings) -> Table:
    """Seconds and memory of everything from stored predictions to the report, at full size."""
    study, images = (
        (full_study, FULL_IMAGES) if settings.model != "tiny" else (study_of_ten, IMAGES)
    )
    with tempfile.TemporaryDirectory() as folder:
        plan, cells = prepare(study(Path(folder), images))
        fill(plan, cells, Store(Path(folder) / "runs"))
        found, peak = in_process(_analysed, study, Path(folder), images)
    shape = f"{plan.study.seeds} members, {len(plan.pipelines) + 1} pipelines, {len(cells)} cells"
    whole = sum(one.wall for one in found.values())
    rows = [(name, *map(number, one), "1") for name, one in found.items()]
    notes = [f"In all {number(whole)} s, at most {number(peak / 2**30)} GiB."]
    if settings.model != "tiny":
        met = whole <= ANALYSIS_SECONDS and peak <= ANALYSIS_GIB * 2**30
        goal = (
            f"goal: {ANALYSIS_SECONDS:g} s and {ANALYSIS_GIB:g} GiB, {'met' if met else 'missed'}."
        )
        notes[0] = f"{notes[0][:-1]}; {goal}"
    title = f"Analysis: {shape}, {images:,} images"
    return Table(title, ("part", "seconds", "of them CPU", "n"), rows, notes)


def _analysed(
    study: Callable[[Path, int], Study], folder: Path, images: int
) -> tuple[dict[str, Seconds], int]:
    """What a process that does nothing else takes: seconds by part, and bytes at its peak."""
    backend.set_up("cpu")
    clock, (plan, cells), found = Clock(), prepare(study(folder, images)), Store(folder / "runs")
    frame = clock.timed("results, from predictions", read_results, plan, found, cells)
    given = (plan, cells, found, found.root / "bench-1", frame, describe_pipelines(plan), "")
    with patch("rcm.report.style.render", partial(clock.timed, "drawing", style.render)):
        clock.timed("statistics, tables and pages", save_report, *given)
    clock.without("statistics, tables and pages", "drawing")
    return dict(clock.seconds), peak_bytes()


def random_data(folder: Path, images: int, classes: int) -> str:
    """The path of a data set with so many random test images, and few to train on."""
    data = folder / f"random-{images}.npz"
    if not data.exists():
        draw, labels = np.random.default_rng(0), np.arange(images, dtype=np.int32) % classes
        pixels = draw.integers(0, 256, (images, 8, 8, 3), np.uint8)
        few = slice(0, IMAGES)
        splits = {"train_images": pixels[few], "train_labels": labels[few], "test_labels": labels}
        names = np.array([f"class {c}" for c in range(classes)])
        np.savez(data, classes=names, test_images=pixels[::-1], **splits)
    return str(data)


def study_of_ten(folder: Path, images: int) -> Study:
    """The smallest study."""
    return study_of(SIZES[0], folder)


def full_study(folder: Path, images: int) -> Study:
    """Thirty members of sixteen configurations, all corruptions at all severities, exemplars."""
    study = study_of(EACH, folder)
    study.seeds, study.claims = 30, "S4"
    study.data.name = random_data(folder, images, 10)
    study.shift = config.Shift(corruptions=tuple(CORRUPTIONS))
    pruned = [Pipeline(f"prune{p}", (Prune(p / 100),)) for p in (30, 50, 60, 70, 80, 90, 95)]
    bits = [Pipeline(f"int{b}", (Quantize(b),)) for b in (8, 7, 6, 5, 4, 3)]
    study.pipelines = (Pipeline("dense_again", (Replica(),)), *pruned, *bits)
    return study


def study_of(size: int, folder: Path) -> Study:
    """A study of random images with so many member-stages, all of `EACH` a seed."""
    return Study(
        name="bench",
        seeds=size // EACH,
        data=config.Data(name=random_data(folder, IMAGES, CLASSES), ratios=(1,), val_per_class=0),
        model=config.Model(name="tiny", width=4),
        train=config.Train(steps=50, batch=8, warmup_epochs=0.0),
        fine_tune=config.Train(steps=20, batch=8, warmup_epochs=0.0),
        shift=config.Shift(corruptions=("contrast",), severities=(3,)),
        pipelines=(
            Pipeline("prune50", (Prune(0.5),)),
            Pipeline("prune90", (Prune(0.9),)),
            Pipeline("int8", (Quantize(8),)),
        ),
    )


def fill(plan: Plan, cells: list[Spec], target: Store) -> None:
    """Put every round and prediction of a plan into a workdir, as if it had been run: all states
    are copies of the first, because Orbax takes a third of a second for each."""
    first: list[tuple[Path, arrays.Marks]] = []

    def copied(path: Path, tree: Any) -> arrays.Marks:
        if not first:
            first.append((path, arrays.save_tree(path, tree)))
        else:
            shutil.copytree(first[0][0], path)
        return first[0][1]

    draw = np.random.default_rng(0)
    with patch("rcm.store.save_tree", copied):
        for stage in plan.stages:
            for start in range(0, len(stage.jobs), LANES):
                add_round(target, stage, start, plan, cells, draw)
    write_json(target.root / "bench-1" / REFERENCES, references(plan, cells))


def add_round(
    target: Store,
    stage: Stage,
    start: int,
    plan: Plan,
    cells: list[Spec],
    draw: np.random.Generator,
) -> None:
    """A finished round of a stage, with random answers."""
    jobs = stage.jobs[start : start + LANES]
    members = [job.fingerprint for job in jobs]
    chunk = config.fingerprint(members)
    target.start_chunk(chunk, {
        "stage": stage.key, "members": members, "choice": ["loop", 2, 2, 1],
        "labels": [member_label(job.label, job.ratio, job.seed) for job in jobs],
        "execution": ["loop", 2, 2, 1], "environment": {"backend": "cpu"}, "hardware": "none",
        "source": "none",
    })  # fmt: skip
    points = min(50, jobs[0].steps)
    curve = draw.random((len(jobs), points)).round(4).tolist()
    sizes = {"parameters": 1000, "macs": 1000}
    target.finish_chunk(chunk, {"a": np.zeros((LANES, 1000), np.float32)}, {
        "seconds": 1.0, "alive": [True] * len(jobs), "bytes": [1000] * len(jobs),
        "sizes": [sizes] * len(jobs),
        "history": {"batches": [1.0] * points, "loss": curve, "accuracy": curve},
    })  # fmt: skip
    ends = set(plan.ends.values())
    made: dict[tuple, dict[str, np.ndarray]] = {}
    for place, cell in enumerate(cells) if ends & set(members) else ():
        kind = (cell.clean, len(cell.ids), place % DRAWS)
        if kind not in made:
            shape = (len(jobs), len(cell.ids), len(plan.dataset.classes))
            logits = draw.standard_normal(shape, np.float32) + 2 * np.eye(shape[-1])[cell.labels]
            made[kind] = fields(logits.astype(np.float32), cell.labels, cell.clean)
        kept = {MADE_BY: np.array(shift_source())} if is_made_here(cell) else {}
        target.save_predictions(chunk, cell.key, made[kind] | kept)
