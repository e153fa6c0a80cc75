"""Chooses an execution strategy by measuring it, once per machine and program.

Worth its compilations only for long plans (DESIGN: longer than ten minutes). The choice is cached
in the user's cache folder and becomes part of each round's execution record.
"""

import contextlib
import dataclasses
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rcm import config, rounds, sweep
from rcm.backend import cache_folder, environment, fitted
from rcm.exhausted import is_exhausted
from rcm.files import write_json
from rcm.records import Damaged, read_json
from rcm.rounds import Lane, Pool
from rcm.sweep import Execution
from rcm.train.fit import Program

LONG_PLAN_SECONDS = 600.0
ROUNDS = 5
NOISE = 0.05
NEVER = 1e9  # seconds
CALLS = 3  # timed calls of a candidate in every round


def candidates(default: Execution) -> list[Execution]:
    """The table's choice and its neighbours: other lane counts and the other strategy."""
    devices = jax.local_device_count()
    scanned = default.steps_per_call
    found = [default, Execution("loop", devices, devices, scanned)]
    if jax.default_backend() == "cpu":
        found += [Execution("loop", 1, 1, scanned), Execution("vmap", 2 * devices, devices, 1)]
    else:
        found += [Execution("vmap", n * devices, devices, scanned) for n in (8, 16)]
    return list(dict.fromkeys(found))


def fastest(
    program: Program, default: Execution, lane: Lane, pool: Pool, members: int
) -> Execution:
    """The candidate with which a population of so many members, `fitted`, takes least time.

    Measured once per machine and program, then cached. lane: any lane of the program with a fresh
    start, repeated to fill the candidates' lanes; pool: host arrays.
    """
    path, choices = cache_folder() / "calibration.json", candidates(default)
    key = config.fingerprint([dataclasses.astuple(program), environment()])
    seconds = remembered(path, key)
    if seconds.keys() != set(choices):
        seconds = measure(program, choices, lane, pool)
        remember(path, key, seconds)
    return winner(seconds, default, members)


def winner(seconds: dict[Execution, float], default: Execution, members: int) -> Execution:
    """The fastest, but the default unless that is beaten by more than the noise of measuring.

    seconds are per member and step. A step of all members takes rounds of the fitted lanes; a
    device's time is taken to be in proportion to its lanes, and no less when others are idle.
    """

    def whole(choice: Execution) -> float:
        fit = fitted(choice, members)
        return (
            seconds[choice] * choice.devices * (fit.lanes // fit.devices) * -(-members // fit.lanes)
        )

    best = min(seconds, key=whole)
    return best if whole(best) < whole(default) * (1 - NOISE) else default


def remember(path: pathlib.Path, key: str, seconds: dict[Execution, float]) -> None:
    """Add a calibration to the cache; one that cannot be written costs time only."""
    rows = [[*execution, value] for execution, value in seconds.items()]
    with contextlib.suppress(OSError):
        write_json(path, {**_read(path), key: rows})


def remembered(path: pathlib.Path, key: str) -> dict[Execution, float]:
    """Seconds per execution of an earlier calibration; empty if there is none that can be read."""
    try:
        return {Execution(*row[:-1]): float(row[-1]) for row in _read(path).get(key, [])}
    except (TypeError, ValueError, LookupError, OverflowError):
        return {}


def measure(
    program: Program, executions: list[Execution], lane: Lane, pool: Pool
) -> dict[Execution, float]:
    """Median seconds per member and step of each execution, in interleaved rounds; `NEVER` of one
    that does not fit into a device's memory."""
    pools = {n: sweep.share(e, pool) for n, e in {e.devices: e for e in executions}.items()}
    made = {e: _fitting(program, e, lane, pools[e.devices]) for e in executions}
    calls = {execution: call for execution, call in made.items() if call}
    seconds = {execution: [] if call else [NEVER] for execution, call in made.items()}
    for _ in range(ROUNDS):
        for execution, call in calls.items():
            started = time.perf_counter()
            call()
            elapsed = time.perf_counter() - started
            steps = CALLS * execution.steps_per_call * execution.lanes
            seconds[execution].append(elapsed / steps)
    return {execution: statistics.median(times) for execution, times in seconds.items()}


def _fitting(
    program: Program, execution: Execution, lane: Lane, pool: Pool
) -> Callable[[], None] | None:
    try:
        return _prepare(program, execution, lane, pool)
    except jax.errors.JaxRuntimeError as error:
        if not is_exhausted(error):
            raise
        return None


def _prepare(program: Program, execution: Execution, lane: Lane, pool: Pool) -> Callable[[], None]:
    """A compiled and warmed-up function that trains the lanes for `CALLS` calls; pool is placed."""
    steps = CALLS * execution.steps_per_call
    lanes = [lane._replace(learning_rates=np.zeros(steps, np.float32))] * execution.lanes
    state: list[Any] = [rounds.begin_round(program, execution, lanes)]

    def call() -> None:
        state[0] = rounds.run_round(program, execution, pool, lanes, state[0], 0, _ignore)
        jax.block_until_ready(state[0])

    call()
    return call


def _ignore(*_: Any) -> None:
    """Progress of a measurement interests nobody."""


def _read(path: pathlib.Path) -> dict:
    try:
        found = read_json(path)
    except Damaged:
        return {}
    return found if isinstance(found, dict) else {}
