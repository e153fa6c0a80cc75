"""What fits into memory, foretold before a study trains; for what did not, see `exhausted`."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from rcm import config, evaluate, heap, programs, rounds
from rcm.backend import device_memory, used_memory
from rcm.cells import AttackSpec, Spec
from rcm.estimate import forward_bytes
from rcm.members import Members
from rcm.plan import Job, Plan
from rcm.rounds import Lane, Pool, StepMemory, planned_memory, step_memory
from rcm.shift.corruptions import BATCH
from rcm.sweep import Execution
from rcm.train.fit import Program, without_recipe

SMALL = 0.25  # of the memory: what certainly takes less is not compiled to see what it takes
# On CPU, where malloc keeps what is freed, into which the next call's buffers do not always fit
# (all measured: docs/benchmarks.md): times what a call is planned to make, and bytes beside it.
OVER_PLAN, OVER_PLAN_OF_TESTS = 1.6, 1.4
BESIDE = 125 * 10**6
BACKWARD = 3  # arrays that training keeps for each that a forward pass reads or writes, at most


class Need(NamedTuple):
    """Bytes that training takes at its peak and bytes there are, on the fullest device or, on CPU,
    in this process with all its virtual devices; the most lanes that fit; and what further
    programs keep, of the peak."""

    peak: float
    limit: float
    lanes: int
    programs: float = 0.0


def there(sharing: int) -> float:
    """Bytes of a device or, on CPU, of this process: as much of the host's memory as each other of
    the `sharing` processes that run on it has."""
    return device_memory() / (sharing if jax.default_backend() == "cpu" else 1)


class Compiled(NamedTuple):
    """What XLA plans of a program, and bytes of this process: what it keeps once it is compiled,
    and what compiling took at its peak beyond what was there."""

    plan: StepMemory
    kept: float
    compiling: float


def foretell(
    program: Program,
    execution: Execution,
    pool: Pool,
    lane: Lane,
    streamed: bool,
    sharing: int = 1,
    others: int = 0,
) -> Need:
    """What training lanes like this one takes: XLA's own plan of the program, which is compiled for
    it (training finds it in the cache), on CPU `OVER_PLAN` times what it makes and `BESIDE`; and
    what is used then. Of the lane only shapes are read (`Members.outline`).
    others: programs like it that will have been compiled, too, and are kept until then."""
    compiled = _compiled(lambda: step_memory(program, execution, pool, lane, streamed))
    return _need(compiled, execution, sharing, OVER_PLAN, others=others)


def foretell_test(
    lowered: jax.stages.Lowered,
    execution: Execution,
    sharing: int = 1,
    held: float = 0.0,
    others: int = 0,
) -> Need:
    """The same of a program that tests (`evaluate.lower_cell`); held: bytes that stay meanwhile."""
    compiled = _compiled(lambda: planned_memory(lowered))
    return _need(compiled, execution, sharing, OVER_PLAN_OF_TESTS, held, others)


def _compiled(plan: Callable[[], StepMemory]) -> Compiled:
    heap.HOLES.give_back()
    seen = heap.forget_peak() and jax.default_backend() == "cpu"  # else it is the host's
    before, found = used_memory(), plan()
    compiling = heap.peak() - before if seen else 0
    heap.HOLES.give_back()
    return Compiled(found, max(0, used_memory() - before), max(0, compiling))


def _need(
    compiled: Compiled,
    execution: Execution,
    sharing: int,
    over: float,
    held: float = 0.0,
    others: int = 0,
) -> Need:
    used, limit = used_memory(), there(sharing)  # with what the compiled program keeps
    kept = min(others * compiled.kept, max(0.0, programs.SHARE * limit - used - held))
    one_memory = jax.default_backend() == "cpu"  # of all devices
    plan, devices = compiled.plan, execution.devices if one_memory else 1
    fixed = used + kept + held + devices * plan.pool
    call = plan.given + plan.made * (over if one_memory else 1.0)
    peak = fixed + devices * call
    if one_memory:
        fixed, peak = fixed + BESIDE, peak + BESIDE
        peak = max(peak, fixed + devices * plan.given - compiled.kept + compiled.compiling)
    each = call * execution.devices / execution.lanes
    compiles = fixed - compiled.kept + compiled.compiling <= limit  # however few the lanes
    fitting = int(max(0.0, limit - fixed) / max(each, 1.0)) if compiles else 0
    fitting *= 1 if one_memory else execution.devices
    even = fitting // execution.devices * execution.devices
    return Need(peak, limit, even or fitting, kept)


def require(
    jobs: Iterable[Job],
    plan: Plan,
    members: Members,
    execution: Execution,
    sharing: int = 1,
    exactly: bool = False,
) -> Need | None:
    """What training takes of some jobs of a plan, at most; None if that is certainly little, unless
    it is asked for `exactly`, which compiles. sharing: processes of this run on this machine.
    Raises ValueError if a job does not fit, with the most lanes that would."""
    training = [job for job in jobs if job.steps]
    bound = max(map(_bound, training), default=0.0) * execution.lanes + _taken()
    if not training or (not exactly and bound < SMALL * there(sharing)):
        return None
    pool = Pool(np.asarray(plan.dataset.train.images), np.asarray(plan.labels))
    streamed, others, needs = members.feed is not None, len({job.program for job in training}), []
    for job in _heaviest(training, pool, members, execution):
        given, others = (job.program, execution, pool, members.outline(job)), others - 1
        need = foretell(*given, streamed, sharing, others)
        refuse(need, f"Training {job.label}", execution, "train.batch")
        needs.append(need)
    return max(needs, key=lambda need: need.peak)


def require_tests(
    plan: Plan,
    cells: Sequence[Spec],
    members: Members,
    execution: Execution,
    held: float,
    sharing: int = 1,
    exactly: bool = False,
) -> Need | None:
    """What testing the largest members of a plan takes, of a batch of the cell that asks most, as
    `require` tells it of training; held: bytes of states and answers in the meantime."""
    job, cell = _largest(plan, plan.ends), max(cells, key=_asks)
    other = isinstance(cell, AttackSpec) and cell.source
    attacked = _largest(plan, [end for end in plan.ends if end[0] == other]) if other else None
    bound = max(map(_forward, [job, *([attacked] if attacked else [])]))
    bound *= BATCH * (BACKWARD if _asks(cell)[0] > 1 else 1) * execution.lanes
    if not exactly and bound + _taken() + held < SMALL * there(sharing):
        return None
    source = (attacked.program, members.template(attacked)) if attacked else None
    lowered = evaluate.lower_cell(job.program, execution, members.template(job), cell, source)
    tested = {without_recipe(plan.jobs[end].program) for end in plan.ends.values()}
    kinds = {(c.attack.name, c.attack.norm, c.source) for c in cells if isinstance(c, AttackSpec)}
    others = len(tested) * max(1, len(kinds)) - 1
    need = foretell_test(lowered, execution, sharing, held, others)
    refuse(need, f"Testing {job.label} on {cell.shift}", execution, "--eval_memory")
    return need


def _taken() -> float:
    """Bytes that are taken whatever is compiled, with what malloc keeps."""
    return used_memory() + (BESIDE if jax.default_backend() == "cpu" else 0)


def _largest(plan: Plan, ends: Iterable[tuple[str, int, int]]) -> Job:
    """The last job of these that reads and writes most for an image."""
    jobs = [plan.jobs[fingerprint] for fingerprint in {plan.ends[end] for end in ends}]
    return max(jobs, key=lambda job: (_forward(job), len(job.program.static), job.fingerprint))


def _asks(cell: Spec) -> tuple[int, bool]:
    """Orders cells by what they ask of memory: a forward pass, one for each try of an attack, a
    gradient, and what is remembered between gradients; and whether others are attacked."""
    if not isinstance(cell, AttackSpec):
        return 0, False
    kinds = {"square": 1, "fgsm": 2, "pgd": 3}
    return kinds.get(cell.attack.name, 4), bool(cell.source)


def refuse(need: Need, what: str, execution: Execution, field: str) -> None:
    """Raise ValueError if it does not fit; field: what else to lower."""
    advice = f"give --strategy=vmap --lanes={need.lanes}, the most that fit,"
    config.require(
        need.peak <= need.limit,
        f"{what} takes {need.peak / 2**30:,.1f} GiB of memory in {execution.lanes} lanes, and "
        f"there are {need.limit / 2**30:,.1f}: "
        f"{advice if need.lanes else 'choose a smaller model'} or lower {field}.",
    )


def _heaviest(jobs: Iterable[Job], pool: Pool, members: Members, execution: Execution) -> list[Job]:
    """The job whose step reads and writes most, as XLA counts it before it compiles, without
    teachers and with: of what these read little is kept, so the two cannot be compared."""
    alone = execution._replace(strategy="loop", lanes=1, devices=1, steps_per_call=1)
    found: dict[bool, tuple[float, Job]] = {}
    for job in _longest_chains(jobs):
        lowered = rounds.lower_step(job.program, alone, pool, members.outline(job), False)
        size = float((lowered.cost_analysis() or {}).get("bytes accessed", 0.0))
        taught = bool(job.teachers)
        found[taught] = max(found.get(taught, (-1.0, job)), (size, job), key=lambda one: one[0])
    return [job for _, job in found.values()]


def _longest_chains(jobs: Iterable[Job]) -> list[Job]:
    """A job of every program, without those that do less than another: large networks take seconds
    to be lowered."""
    kinds = {(job.program, bool(job.parent), len(job.teachers)): job for job in jobs}
    chains = {
        job.fingerprint: (
            dataclasses.replace(job.program, static=(), techniques=()),
            len(job.teachers),
            frozenset(job.program.static),
        )
        for job in kinds.values()
    }

    def less(one: Job) -> bool:
        *base, chain = chains[one.fingerprint]
        return any(other == base and chain < more for *other, more in chains.values())

    return [job for job in kinds.values() if not less(job)]


def told(training: Need | None, testing: Need | None, sharing: int = 1) -> str:
    """A line for people; None takes nothing."""
    found = f"{there(sharing) / 2**30:,.1f} GiB there are"
    found += f" for each of {sharing} processes on this machine" if sharing > 1 else ""
    one, other = (
        f"some {need.peak / 2**30:,.2f} GiB" if need else "nothing" for need in (training, testing)
    )
    return f"Memory: training takes {one}, testing {other} of the {found}."


def _bound(job: Job) -> float:
    """Bytes that a lane takes at most: a dozen times what XLA plans for a ResNet-8 with learned
    steps, the heaviest technique."""
    program = job.program
    size = BACKWARD * _forward(job)
    if program.teacher:
        counted = (program.classes, program.image, jax.default_backend())
        size += len(job.teachers) * forward_bytes(program.teacher, *counted)
    return program.batch * size


def _forward(job: Job) -> float:
    program = job.program
    return forward_bytes(program.model, program.classes, program.image, jax.default_backend())
