"""What fits into memory, foretold before a study trains; for what did not, see `exhausted`."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

from rcm import config, heap
from rcm.backend import device_memory, used_memory
from rcm.estimate import forward_bytes
from rcm.members import Members
from rcm.plan import Job, Plan
from rcm.rounds import Lane, Pool, step_memory
from rcm.sweep import Execution
from rcm.train.fit import Program

SMALL = 0.25  # of the memory: what certainly takes less is not compiled to see what it takes
# On CPU, where malloc keeps what is freed, into which the next call's buffers do not always fit
# (both measured: docs/benchmarks.md): times what a call is planned to make, and bytes beside it.
OVER_PLAN = 1.6
BESIDE = 125 * 10**6
BACKWARD = 3  # arrays that training keeps for each that a forward pass reads or writes, at most


class Need(NamedTuple):
    """Bytes that training takes at its peak and bytes there are, on the fullest device or, on CPU,
    in this process with all its virtual devices; and the most lanes that fit."""

    peak: float
    limit: float
    lanes: int


def foretell(
    program: Program, execution: Execution, pool: Pool, lane: Lane, streamed: bool
) -> Need:
    """What training fresh lanes like this one takes: XLA's own plan of the program, which is
    compiled for it (training finds it in the cache), on CPU `OVER_PLAN` times what it makes and
    `BESIDE`; and what is used then."""
    plan = step_memory(program, execution, pool, lane, streamed)
    heap.HOLES.give_back()
    used = used_memory()  # with what the compiled program takes and compiling has left
    one_memory = jax.default_backend() == "cpu"  # of all devices
    call = plan.given + plan.made * (OVER_PLAN if one_memory else 1.0)
    devices = execution.devices if one_memory else 1
    fixed, limit = used + devices * plan.pool, device_memory()
    fixed += BESIDE if one_memory else 0
    each = call * execution.devices / execution.lanes
    fitting = int(max(0.0, limit - fixed) / max(each, 1.0))
    fitting *= 1 if one_memory else execution.devices
    even = fitting // execution.devices * execution.devices
    return Need(fixed + devices * call, limit, even or fitting)


def require(jobs: Iterable[Job], plan: Plan, members: Members, execution: Execution) -> Need | None:
    """What training the largest fresh network of some jobs of a plan takes; None if that is
    certainly little. Raises ValueError if it does not fit, with the most lanes that would."""
    job = max((job for job in jobs if job.steps and not job.needs), key=_bound, default=None)
    if job is None or _bound(job) * execution.lanes < SMALL * device_memory():
        return None
    pool = Pool(np.asarray(plan.dataset.train.images), np.asarray(plan.labels))
    streamed = members.feed is not None
    need = foretell(job.program, execution, pool, members.lane(job), streamed)
    advice = f"give --strategy=vmap --lanes={need.lanes}, the most that fit,"
    config.require(
        need.peak <= need.limit,
        f"Training {job.label} takes {need.peak / 2**30:,.1f} GiB of memory in {execution.lanes} "
        f"lanes, and there are {need.limit / 2**30:,.1f}: "
        f"{advice if need.lanes else 'choose a smaller model'} or lower train.batch.",
    )
    return need


def told(need: Need | None) -> str:
    """A line for people."""
    there = f"{device_memory() / 2**30:,.1f} GiB there are"
    if need is None:
        return f"Memory: training takes less than {SMALL:.0%} of the {there}."
    return f"Memory: training takes some {need.peak / 2**30:,.1f} GiB of the {there}."


def _bound(job: Job) -> float:
    """Bytes that a lane takes at most."""
    program = job.program
    image = forward_bytes(program.model, program.classes, program.image, jax.default_backend())
    return BACKWARD * program.batch * image
