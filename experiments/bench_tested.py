"""Memory of testing under measurement, for `bench.py`: answers and attacks, in fresh processes."""

from functools import partial
from typing import Any, NamedTuple

import bench_engine
import jax
import numpy as np
from bench_engine import FirstStep, Settings, peak_bytes
from bench_process import Measured, peak_table
from bench_tables import Table

from rcm import backend, evaluate, memory, rounds
from rcm.cells import AttackSpec, CellSpec
from rcm.config import Attack
from rcm.sweep import Execution
from rcm.train import fit

IMAGES = 5000  # twenty batches
TESTS: dict[str, tuple[str, str]] = {  # a stage of `bench_engine`, and an attack or none
    "clean images": ("dense", ""),
    "square": ("dense", "square"),
    "pgd": ("dense", "pgd"),
    "apgd_ce": ("dense", "apgd_ce"),
    "pgd, QAT W8A8": ("QAT W8A8", "pgd"),
}


class Tested(NamedTuple):
    """Members, as they are stacked in the lanes of an execution, and what they are asked."""

    program: fit.Program
    states: Any
    cell: CellSpec | AttackSpec


def tested(settings: Settings, execution: Execution, test: str) -> Tested:
    """Untrained members and one of `TESTS`, its attack of three steps or queries."""
    stage, attack = TESTS[test]
    program, lane = bench_engine.stage_of(settings, stage, 1)
    states = fit.settled(rounds.begin_round(program, execution, [lane] * execution.lanes))
    pool, ids = bench_engine.random_pool(settings), np.arange(IMAGES, dtype=np.int32)
    given = (pool.images[ids], pool.labels[ids], ids, 0)
    if not attack:
        return Tested(program, states, CellSpec("clean", 0, *given))
    return Tested(program, states, AttackSpec(Attack(attack, eps=(8,), steps=3), 8, *given))


def run(settings: Settings, execution: Execution, test: str) -> FirstStep:
    """Test all members in a process that has not used JAX before."""
    backend.set_up(settings.platform)
    before = peak_bytes()
    program, states, cell = tested(settings, execution, test)
    given = (program, execution, [states])
    if isinstance(cell, AttackSpec):
        evaluate.attack_cell(*given, cell, lambda _: None)
    else:
        evaluate.predict_cell(*given, cell, lambda _: None)
    return FirstStep(0.0, peak_bytes(), before)


def foretold(settings: Settings, execution: Execution, test: str) -> float:
    """Bytes at the peak of such a process, as a plan foretells them."""
    backend.set_up(settings.platform)
    program, states, cell = tested(settings, execution, test)
    member = jax.tree.map(lambda leaf: leaf[0], states)
    lowered = evaluate.lower_cell(program, execution, member, cell)
    return memory.foretell_test(lowered, execution).peak


def tests(settings: Settings) -> Table:
    """Peak memory of tests and what a plan foretells of it, by `auto`."""
    auto, found = backend.choose_execution(), {}
    for test in TESTS:
        first = partial(bench_engine.in_process, run, settings, auto, test)
        first()  # fills the user's cache of compiled programs
        found[(test,)] = Measured(first(), bench_engine.in_process(foretold, settings, auto, test))
    return peak_table(f"Peak memory of tests, {auto.lanes} lanes", ("test",), found)


SECTIONS = {"tests": tests}
