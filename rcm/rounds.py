"""Rounds of training: several members side by side, from their first states to their last.

A round's lanes run one program (`rcm.sweep`); what differs between members is data.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rcm import heap, sweep
from rcm.data.longtail import Balance, batch_indices
from rcm.sweep import Execution
from rcm.train import fit
from rcm.train.fit import Program
from rcm.train.step import Batch, Hyper, Metrics, TrainState, train_step

INDEX_BLOCK = 64  # steps of the index schedule made at once
AHEAD = 2  # calls whose metrics nobody has waited for: bounds the queue, and the device stays busy


class Pool(NamedTuple):
    """The training images all lanes share: uint8 [N, H, W, 3] and int32 [N]."""

    images: Any
    labels: Any


class Lane(NamedTuple):
    """One member-stage, ready to run; arrays are numpy.

    seed keys the initial weights, stage_seed everything else in this stage; table holds indices
    into the pool; parent is one member's tree or None, early the variables that its weights go back
    to or None, teacher a tuple of effective variables (an ensemble's members) or None; levels are
    those of the techniques that this stage adds; calibration is uint8 [n, H, W, 3], what quantizers
    observe.
    """

    seed: int
    stage_seed: int
    table: np.ndarray
    learning_rates: np.ndarray
    hyper: Hyper
    levels: tuple
    parent: TrainState | None = None
    teacher: tuple | None = None
    calibration: np.ndarray | None = None
    alive: bool = True  # False: a teacher or the member with its early weights diverged
    early: Any = None
    balance: Balance | None = None  # class-balanced sampling
    weights: Any = None  # what every lane of its program begins from, beside its own draws


@cache
def compiled_step(program: Program, execution: Execution, streamed: bool) -> sweep.Precisely:
    """(pool, step, state, teacher, hyper, batches, rates) -> (state, metrics), all lanes, K steps.

    `batches` is int32 [L, K, B] into the pool or, when streamed, (images, labels) with these axes.
    """
    parts = fit.parts_of(program)

    def one(pool, teacher, hyper, state, scanned):
        step, batch, rate = scanned
        images, labels = batch if streamed else (pool.images[batch], pool.labels[batch])
        return train_step(parts, state, teacher, hyper, Batch(images, labels, rate), step)

    def lane(pool, step, state, teacher, hyper, batches, rates):
        run = partial(one, pool, teacher, hyper)
        if execution.steps_per_call > 1:
            steps = step + jnp.arange(execution.steps_per_call)
            return lax.scan(run, state, (steps, batches, rates))
        state, metrics = run(state, (step, jax.tree.map(lambda x: x[0], batches), rates[0]))
        return state, jax.tree.map(lambda x: x[None], metrics)

    call = sweep.over_lanes(lane, execution, 2, ("step", program, execution))
    return sweep.with_precision(program, jax.jit(call, donate_argnums=2))


class StepMemory(NamedTuple):
    """Bytes that a call is given (states, batches), that it makes, and of the pool of images."""

    given: int
    made: int
    pool: int


def lower_step(
    program: Program, execution: Execution, pool: Pool, lane: Lane, streamed: bool
) -> jax.stages.Lowered:
    """The program that trains lanes like this one, before it is compiled. `Members.outline` of a
    lane will do: only shapes are read."""
    lanes, steps, size = execution.lanes, execution.steps_per_call, program.batch
    kind, own = first_call(lane, lambda field: sweep.alike(field(lane), lanes))
    begin = compiled_begin(program, sweep.one_call(execution), kind)
    state = jax.eval_shape(begin, lane.weights, *own)
    batch: Any = np.empty((lanes, steps, size), np.int32)
    if streamed:
        batch = (np.empty((*batch.shape, *program.image), np.uint8), batch)
    rates = np.empty((lanes, steps), np.float32)
    fixed = sweep.alike((lane.teacher, lane.hyper), lanes)
    given = sweep.shapes(execution, (state, *fixed, batch, rates))
    images = None if streamed else sweep.shapes(execution, pool, shared=True)
    return compiled_step(program, execution, streamed).lower(images, np.int32(0), *given)


def step_memory(
    program: Program, execution: Execution, pool: Pool, lane: Lane, streamed: bool
) -> StepMemory:
    """What a call takes of each device; the arguments are those of `lower_step`."""
    kept = 0 if streamed else sum(leaf.nbytes for leaf in pool)
    return planned_memory(lower_step(program, execution, pool, lane, streamed), kept)


def planned_memory(program: jax.stages.Lowered, kept: int = 0) -> StepMemory:
    """What a call takes of each device, as XLA plans it for the program, which is compiled for it;
    kept: bytes of the pool among the arguments."""
    found = program.compile().memory_analysis()
    if found is None:  # a backend that tells nothing
        return StepMemory(0, 0, kept)
    made = found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return StepMemory(found.argument_size_in_bytes - kept, made, kept)


@cache
def compiled_begin(program: Program, execution: Execution, kind: str) -> Callable:
    """(weights, parents, seeds, stage seeds, levels, images, early variables) -> first states.

    kind is `fresh`, `continue`, `calibrate` (continue, observing the images) or `rewind`.
    """

    def begin(weights, parent, seed, stage_seed, levels, images, early):
        if kind == "fresh":
            return fit.fresh(program, seed, levels, weights)
        return fit.begin(program, parent, stage_seed, levels, images, early)

    return sweep.with_precision(
        program, jax.jit(sweep.over_lanes(begin, execution, 1, (kind, program)))
    )


def first_call(one: Lane, stack: Callable[[Callable[[Lane], Any]], Any]) -> tuple[str, tuple]:
    """The kind of `compiled_begin` for lanes like this one, and its arguments but the weights.

    stack: what makes a field of a lane that of all lanes.
    """
    kind = "fresh" if one.parent is None else "continue"
    kind = kind if one.calibration is None else "calibrate"
    kind = kind if one.early is None else "rewind"
    return kind, (
        None if kind == "fresh" else stack(lambda lane: lane.parent),
        stack(lambda lane: np.uint32(lane.seed)),
        stack(lambda lane: np.uint32(lane.stage_seed)),
        stack(lambda lane: lane.levels),
        None if kind != "calibrate" else stack(lambda lane: lane.calibration),
        None if kind != "rewind" else stack(lambda lane: lane.early),
    )


def calls_per_stage(execution: Execution, steps: int) -> Execution:
    """The execution with the largest number of steps per call that divides `steps`."""
    most = min(execution.steps_per_call, max(steps, 1))
    per_call = max(k for k in range(1, most + 1) if steps % k == 0)
    return execution._replace(steps_per_call=per_call)


def begin_round(program: Program, execution: Execution, lanes: Sequence[Lane]) -> TrainState:
    """The states [L, ...] with which the lanes of a round start."""
    lanes = sweep.pad(lanes, execution.lanes)
    kind, own = first_call(lanes[0], lambda field: sweep.stack([field(lane) for lane in lanes]))
    weights = sweep.share(execution, lanes[0].weights)
    state = compiled_begin(program, sweep.one_call(execution), kind)(
        weights, *sweep.place(execution, own)
    )
    alive = np.asarray(state.alive) & np.array([lane.alive for lane in lanes])
    return state._replace(alive=sweep.place(execution, alive))


Schedule = Callable[[int, int], np.ndarray]
Feed = Callable[[Schedule, int, int], Iterator[Any]]


def index_schedule(lanes: Sequence[Lane], batch: int) -> Schedule:
    """(start, steps) -> int32 [steps, L, B]: the images of these steps."""

    def block(start: int, steps: int) -> np.ndarray:
        made = [batch_indices(m.stage_seed, m.table, batch, start, steps, m.balance) for m in lanes]
        return np.stack(made, axis=1)

    return block


def indices(schedule: Schedule, start: int, stop: int) -> Iterator[np.ndarray]:
    """The feed for images that live on the device: their indices, int32 [L, B] a step."""
    for block in range(start, stop, INDEX_BLOCK):
        yield from schedule(block, min(INDEX_BLOCK, stop - block))


def run_round(
    program: Program,
    execution: Execution,
    pool: Pool | None,
    lanes: Sequence[Lane],
    state: TrainState,
    start: int,
    after_call: Callable[[int, TrainState, collections.deque[Metrics]], None],
    feed: Feed | None = None,
) -> TrainState:
    """Train the lanes from step `start` to the end of their learning rates.

    after_call(steps done, states, metrics [L, K] of the calls that nobody has taken, the first
    first) may read the states (they are donated to the next call) and take metrics; what it leaves
    beyond `AHEAD` is dropped. It is called once more at the end. `feed` makes (images, labels) of
    the index schedule on the host; without it images are gathered from the pool on the device.
    """
    lanes = sweep.pad(lanes, execution.lanes)
    steps = len(lanes[0].learning_rates)
    function = compiled_step(program, execution, feed is not None)
    teacher = None if lanes[0].teacher is None else sweep.stack([m.teacher for m in lanes])
    fixed = sweep.place(execution, (teacher, sweep.stack([m.hyper for m in lanes])))
    rates = np.stack([m.learning_rates for m in lanes])
    batches = (feed or indices)(index_schedule(lanes, program.batch), start, steps)
    flight: collections.deque[Metrics] = collections.deque()
    for step in range(start, steps, execution.steps_per_call):
        span = range(step, step + execution.steps_per_call)
        block = jax.tree.map(lambda *x: np.stack(x, axis=1), *[next(batches) for _ in span])
        inputs = sweep.place(execution, (block, rates[:, span.start : span.stop]))
        state, metrics = function(
            pool, np.int32(step), sweep.place(execution, state), *fixed, *inputs
        )
        heap.HOLES.close()
        flight.append(metrics)
        after_call(span.stop, state, flight)
        while len(flight) > AHEAD:
            jax.block_until_ready(flight.popleft())
    after_call(steps, state, flight)
    return state
