"""Fresh processes under measurement: compilation, start-up and memory, for `bench.py`."""

import base64
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import bench_engine
import jax
import numpy as np
from bench_engine import FirstStep, Settings
from bench_tables import EXECUTION, Table, cells, number, spread, verdict

from rcm import backend
from rcm.sweep import Execution

COMPILE_ROUNDS = 3  # at most, of three fresh processes each; more would take minutes
MORE = 20  # pairs of calls behind the first two, by which the peak is reached
FORETOLD = 0.25  # of the memory that is measured: how far a plan may be from it
START = 6.0  # seconds from the start of a process to its first step, programs compiled
FOLDER = Path(__file__).resolve().parent
COMMAND = """
import base64, pickle, sys
sys.modules.setdefault("compression", None)
sys.path[:0] = sys.argv[2:]
import launch, rcm.study, rcm.outcome, bench_engine
bench_engine.first_step(*pickle.loads(base64.b64decode(sys.argv[1])))
"""  # what a user's command imports, then two calls


def compilation(settings: Settings) -> Table:
    """Seconds to the first step in fresh processes, without and with compiled programs on disk."""
    auto = backend.choose_execution()
    found: dict[str, list[FirstStep]] = {"cold": [], "cached": []}
    starts = []
    for _ in range(max(1, min(COMPILE_ROUNDS, settings.rounds // 3))):
        with tempfile.TemporaryDirectory() as folder:
            for runs in found.values():
                runs.append(
                    bench_engine.in_process(bench_engine.first_step, settings, auto, folder)
                )
            starts.append(_start(settings, auto, folder))
    seconds = {name: np.array([run.seconds for run in runs]) for name, runs in found.items()}
    peaks = {name: np.array([run.peak / 1e6 for run in runs]) for name, runs in found.items()}
    rows = [(k, spread(row), spread(peaks[k]), str(len(row))) for k, row in seconds.items()]
    limit = START if settings.judged else None
    whole = "A process with cached programs, from its start to its end behind the first two calls"
    notes = [
        verdict("Cold over cached", seconds["cold"] / seconds["cached"]),
        verdict(f"{whole}, s", np.array(starts), at_most=limit),
    ]
    header = ("programs", "seconds to the first result", "peak memory, MB", "n")
    return Table("Compilation of `auto`", header, rows, notes)


def _start(settings: Settings, execution: Execution, folder: str) -> float:
    """Seconds that a command of a user's takes up to its first two calls."""
    arguments = base64.b64encode(pickle.dumps((settings, execution, folder))).decode()
    paths = (str(FOLDER), str(FOLDER.parent))
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", COMMAND, arguments, *paths], check=True)
    return time.perf_counter() - started


def memory(settings: Settings) -> Table:
    """Peak memory of 42 calls, each strategy in a fresh process with compiled programs, and what a
    plan foretells of it there."""
    executions = bench_engine.fixed_executions(settings)
    runs = {cells(one): Run(settings, one) for one in executions}
    return _peaks("Peak memory", EXECUTION, runs)


def peaks(settings: Settings) -> Table:
    """The same of networks of their published widths, by `auto`."""
    auto = backend.choose_execution()
    runs = {
        (name,): Run(settings._replace(model=name, width=0), auto) for name in settings.networks
    }
    return _peaks(f"Peak memory of networks, {auto.lanes} lanes", ("network",), runs)


def stages(settings: Settings) -> Table:
    """The same of techniques and teachers, by `auto`."""
    auto = backend.choose_execution()
    runs = {(name,): Run(settings, auto, name) for name in bench_engine.STAGES}
    return _peaks(f"Peak memory of stages, {auto.lanes} lanes", ("stage",), runs)


class Run(NamedTuple):
    """What is measured in a process of its own; stage: one of `bench_engine.STAGES`."""

    settings: Settings
    execution: Execution
    stage: str = "dense"


class Measured(NamedTuple):
    """Of a process: what it took, and bytes that a plan foretold."""

    run: FirstStep
    foretold: float


def _peaks(title: str, heads: tuple[str, ...], runs: Mapping[tuple[str, ...], Run]) -> Table:
    found = {}
    for name, (settings, execution, stage) in runs.items():
        first = partial(bench_engine.in_process, bench_engine.first_step, settings, execution, "")
        # a process of its own, so that its memory is free again; it fills the user's cache
        first(0, stage)
        run = first(MORE, stage)
        foretold = bench_engine.in_process(bench_engine.foretold, settings, execution, stage)
        found[name] = Measured(run, foretold)
    return peak_table(title, heads, found)


def peak_table(
    title: str, heads: tuple[str, ...], found: Mapping[tuple[str, ...], Measured]
) -> Table:
    """What processes, one each, took and what was foretold of them."""
    rows, ratios = [], []
    for name, (run, foretold) in found.items():
        ratios.append(foretold / run.peak)
        megabytes = (number(value / 1e6) for value in (run.peak, run.before, foretold))
        rows.append((*name, *megabytes, number(ratios[-1]), "1"))
    kind = "the process" if jax.default_backend() == "cpu" else "the fullest device"
    furthest = max(ratios, key=lambda ratio: abs(ratio - 1.0))
    within = "met" if abs(furthest - 1.0) <= FORETOLD else "missed"
    notes = [
        f"Memory of {kind}; compiling needs more (see compilation).",
        f"Foretold over measured, the furthest from 1: {number(furthest)}; goal: within "
        f"{FORETOLD:.0%}, {within}.",
    ]
    header = (*heads, "peak, MB", "before, MB", "foretold, MB", "foretold over peak", "n")
    return Table(title, header, rows, notes)


SECTIONS = {"compilation": compilation, "memory": memory, "peaks": peaks, "stages": stages}
