"""Whole studies under measurement, for `bench.py`: what a member costs by their number, and what
storing members and checkpoints costs beside training."""

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bench_engine
import numpy as np
from bench_engine import Settings, Trainer, random_pool
from bench_process import Measured, peak_table
from bench_store import Seconds, study_of
from bench_tables import Table, interleaved, number, spread, verdict
from rich.console import Console

from rcm import backend, config
from rcm.plan import Plan
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.run import Runner
from rcm.store import Store
from rcm.study import Options, execute
from rcm.sweep import Execution

MEMBERS = (1, 4, 16, 64, 256)
LANES = 2
ROUNDS, STEPS = 2, 20  # of a study beside which the engine alone is measured
LONG = 1000  # steps of a round that is no test
LAUNCH = Path(__file__).resolve().parents[1] / "launch.py"
FEW = "--config.train.steps=20 --config.fine_tune.steps=20"
STUDIES = (  # and what is changed of them
    "distribution_shift.py:smoke",
    "natural_corruptions.py:smoke",
    "joint.py:smoke",
    f"quickstart.py {FEW}",
    f"quickstart.py --config.model.name=resnet56 {FEW}",
)
REPEATS = 3  # at most: each is some 20 s of training


def silent() -> Display:
    """Progress for nobody."""
    return Display(Console(file=io.StringIO(), width=80))


def foretold(settings: Settings) -> Table:
    """Peak memory of whole studies, from start to report, and what `--dry_run` foretells of it."""
    found = {}
    for name in STUDIES if settings.model != "tiny" else STUDIES[:1]:
        with tempfile.TemporaryDirectory() as workdir:
            _launched(name, f"{workdir}/first")  # fills the user's cache of compiled programs
            plan, _ = _launched(name, f"{workdir}/none", "--dry_run")
            _, peak = _launched(name, f"{workdir}/second")
        told = re.findall(r"some ([\d.,]+) GiB", " ".join(plan.split()))
        most = max(2**30 * float(number.replace(",", "")) for number in told)
        found[(name,)] = Measured(bench_engine.FirstStep(0.0, peak, 0), most)
    return peak_table("Peak memory of studies, compiled programs on disk", ("study",), found)


def _launched(study: str, workdir: str, *more: str) -> tuple[str, int]:
    """What `launch.py` says of a study, and bytes at its peak."""
    name, *changes = study.split()
    command = [sys.executable, str(LAUNCH), f"--config={LAUNCH.parent / 'experiments' / name}"]
    with subprocess.Popen(
        [*command, f"--workdir={workdir}", *changes, *more], stdout=subprocess.PIPE, text=True
    ) as process:
        said = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    config.require(process.returncode == 0, f"{' '.join(command)} failed: {said[-300:]}")
    return said, 1024 * usage.ru_maxrss


def population(settings: Settings) -> Table:
    """Seconds of a study, planned, trained, tested and reported, by its members."""
    sizes = MEMBERS if settings.model != "tiny" else MEMBERS[:2]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        _studied(LANES, Path(folder))  # compiles what all sizes need
        for size in sizes:
            found[size] = _studied(size, Path(folder))
    rows = [
        (str(size), number(one.wall), number(one.cpu), number(one.wall / size))
        for size, one in found.items()
    ]
    large, small = sizes[-1], sizes[-2]
    more = (found[large].wall - found[small].wall) / (large - small)
    notes = [f"Each member beyond {small} takes {number(more)} s: a tiny network of 50 steps."]
    header = ("members", "seconds", "of them CPU", "seconds a member")
    return Table(f"Members: a study on {LANES} lanes, n = 1", header, rows, notes)


def _studied(size: int, folder: Path) -> Seconds:
    """What a study of so many dense members takes in a workdir of its own."""
    study = study_of(5 * size, folder)
    study.pipelines = ()
    with tempfile.TemporaryDirectory() as workdir:
        wall, cpu = time.perf_counter(), time.process_time()
        execute(study, Options(workdir=workdir, lanes=LANES), silent())
        return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def storing(settings: Settings) -> Table:
    """ms per member and step of a study, of which members and checkpoints are stored, over those of
    the engine alone."""
    execution = backend.choose_execution()
    steps = STEPS * execution.steps_per_call
    alone, calm, busy = "the engine alone", "a study", "a study with a checkpoint a second"
    engine = settings._replace(member_steps=steps * execution.lanes)
    with tempfile.TemporaryDirectory() as folder:
        plan = _plan(settings, execution, steps, Path(folder))
        candidates = {
            alone: Trainer(engine, execution),
            calm: lambda: _trained(plan, execution, steps, 1e9),
            busy: lambda: _trained(plan, execution, steps, 1.0),
        }
        values = interleaved(candidates, max(2, min(REPEATS, settings.rounds)))
    rows = [
        (k, spread(row), spread(row / values[alone]), str(len(row))) for k, row in values.items()
    ]
    training = steps * execution.lanes / 1e3 * values[alone]  # seconds of a round
    beside = steps * execution.lanes / 1e3 * (values[calm] - values[alone])
    notes = [
        verdict(f"{busy} over {alone}", values[busy] / values[alone]),
        f"Beside its {steps} steps a round takes {spread(beside)} s: it begins and its members are "
        "settled, weighed and written, the last one's while nothing trains.",
        f"Devices are idle in {spread(100 * beside / (beside + training))} % of such a round, in "
        f"{spread(100 * beside / (beside + training * LONG / steps))} % of one of {LONG:,} steps.",
    ]
    header = ("candidate", "ms per member and step", "over the engine", "n")
    return Table(
        f"Storing: rounds of {execution.lanes} members, {steps} steps", header, rows, notes
    )


def _plan(settings: Settings, execution: Execution, steps: int, folder: Path) -> Plan:
    """Dense members of the settings' network that fill some rounds."""
    data, pool = folder / "random.npz", random_pool(settings)
    names = np.array([f"class {c}" for c in range(10)])
    few, labels = pool.images[:100], np.arange(100, dtype=np.int32) % 10
    splits = {"train_images": pool.images, "train_labels": pool.labels}
    np.savez(data, classes=names, test_images=few, test_labels=labels, **splits)
    study = config.Study(
        name="bench",
        seeds=ROUNDS * execution.lanes,
        data=config.Data(name=str(data), ratios=(1,), val_per_class=0),
        model=config.Model(settings.model, settings.width, precision=settings.precision),
        train=config.Train(steps=steps, batch=settings.batch, learning_rate=0.01),
        pipelines=(),
    )
    return prepare(study)[0]


def _trained(plan: Plan, execution: Execution, steps: int, checkpoint_seconds: float) -> float:
    """ms per member and step of all rounds of a plan, in a new workdir."""
    plan.study.checkpoint_seconds = checkpoint_seconds
    with tempfile.TemporaryDirectory() as workdir:
        runner = Runner(plan, Store(workdir), execution, False, silent())
        start = time.perf_counter()
        runner.run()
        return 1e3 * (time.perf_counter() - start) / (steps * len(plan.jobs))
