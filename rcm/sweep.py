"""The only file that knows there are many members: lanes, loop / vmap, devices.

A round runs `lanes` members side by side. Lanes are split over devices with `shard_map`; on a
device either one lane runs as written (`loop`) or several run as one program (`vmap`). Both are the
same code path, without any collective, so that a member's result depends on the execution record
but never on its companions: an incomplete round is padded to the full lane count.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rcm.data.longtail import Balance, batch_indices
from rcm.train import attack, curvature, fit
from rcm.train.fit import Program
from rcm.train.step import Batch, Hyper, Metrics, TrainState, train_step

TRACES: collections.Counter = collections.Counter()  # (kind, program) -> traces; a test counts them
INDEX_BLOCK = 64  # steps of the index schedule made at once


class Execution(NamedTuple):
    """How members are run, part of the execution record: within it results repeat bit by bit."""

    strategy: str  # loop: one lane per device; vmap: lanes / devices lanes per device
    lanes: int
    devices: int
    steps_per_call: int


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
def mesh_of(devices: int) -> Mesh:
    """The first `devices` local devices, as one axis of members."""
    return Mesh(np.array(jax.local_devices()[:devices]), ("members",))


def over_lanes(function: Callable, execution: Execution, shared: int, name: tuple) -> Callable:
    """`function` of one member as a function of all lanes, before jit.

    The first `shared` arguments are the same for every lane; all others, and the result, gain a
    leading lane axis.
    """
    per_device = execution.lanes // execution.devices

    def on_device(*arguments):
        TRACES[name] += 1
        common, own = arguments[:shared], arguments[shared:]
        if per_device > 1:
            axes = (None,) * shared + (0,) * len(own)
            return jax.vmap(function, in_axes=axes)(*common, *own)
        result = function(*common, *jax.tree.map(lambda x: x[0], own))
        return jax.tree.map(lambda x: x[None], result)

    def call(*arguments):
        specs = (P(),) * shared + (P("members"),) * (len(arguments) - shared)
        mesh = mesh_of(execution.devices)
        return jax.shard_map(
            on_device, mesh=mesh, in_specs=specs, out_specs=P("members"), check_vma=False
        )(*arguments)

    return call


def with_precision(program: Program, function: Callable) -> Callable:
    """`function`, traced and called under the program's matrix-multiplication precision."""
    name = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}[program.precision]

    def call(*arguments):
        with jax.default_matmul_precision(name):
            return function(*arguments)

    return call


@cache
def compiled_step(program: Program, execution: Execution, streamed: bool) -> Callable:
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

    call = over_lanes(lane, execution, 2, ("step", program, execution))
    return with_precision(program, jax.jit(call, donate_argnums=2))


@cache
def compiled_begin(program: Program, execution: Execution, kind: str) -> Callable:
    """(weights, parents, seeds, stage seeds, levels, images, early variables) -> first states.

    kind is `fresh`, `continue`, `calibrate` (continue, observing the images) or `rewind`.
    """

    def begin(weights, parent, seed, stage_seed, levels, images, early):
        if kind == "fresh":
            return fit.fresh(program, seed, levels, weights)
        return fit.begin(program, parent, stage_seed, levels, images, early)

    return with_precision(program, jax.jit(over_lanes(begin, execution, 1, (kind, program))))


@cache
def compiled_predict(program: Program, execution: Execution) -> Callable:
    """(images uint8 [B, H, W, 3], states) -> logits float32 [L, B, C]."""

    def predict(images, state):
        return fit.predict(program, state, images)

    call = over_lanes(predict, execution, 1, ("predict", program))
    return with_precision(program, jax.jit(call))


@cache
def compiled_attack(
    program: Program, source: Program | None, execution: Execution, name: str, norm: str
) -> Callable:
    """(key, images uint8 [B, H, W, 3], labels, ids, numbers, states) -> what `attack` returns, with
    the lane axis; states: of the members and, if there is one, of the source's members."""
    attacked = partial(attack.attack, program, source, name, norm)
    call = over_lanes(attacked, execution, 5, ("attack", program, source, name, norm))
    return with_precision(program, jax.jit(call))


@cache
def compiled_curvature(program: Program, execution: Execution) -> tuple[Callable, Callable]:
    """`curvature.start` and `curvature.turn` of all lanes: states -> vectors [L, parameters];
    (label, images uint8 [L, n, H, W, 3], weights [L, n], states, vectors) -> (`Curvature` [L],
    vectors)."""
    start = over_lanes(partial(curvature.start, program), execution, 0, ("start", program))
    turn = over_lanes(partial(curvature.turn, program), execution, 1, ("curvature", program))
    return jax.jit(start), with_precision(program, jax.jit(turn))


@cache
def compiled_effective(program: Program, execution: Execution) -> Callable:
    """states -> effective variables, with the lane axis."""
    effective = partial(fit.effective_variables, program)
    call = over_lanes(effective, execution, 0, ("effective", program))
    return with_precision(program, jax.jit(call))


def place(execution: Execution, tree: Any) -> Any:
    """A tree with a leading lane axis, on the devices of its lanes."""
    return jax.device_put(tree, NamedSharding(mesh_of(execution.devices), P("members")))


def share(execution: Execution, tree: Any) -> Any:
    """A tree that all lanes read, on every device."""
    return jax.device_put(tree, NamedSharding(mesh_of(execution.devices), P()))


def stack(trees: Sequence[Any]) -> Any:
    """Members' numpy trees -> one tree with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def pad(items: Sequence, lanes: int) -> list:
    """`items`, the last one repeated up to the full lane count."""
    return [*items, *[items[-1]] * (lanes - len(items))]


def one_call(execution: Execution) -> Execution:
    """The execution as programs without steps see it, so that K never compiles them again."""
    return execution._replace(steps_per_call=1)


def calls_per_stage(execution: Execution, steps: int) -> Execution:
    """The execution with the largest number of steps per call that divides `steps`."""
    most = min(execution.steps_per_call, max(steps, 1))
    per_call = max(k for k in range(1, most + 1) if steps % k == 0)
    return execution._replace(steps_per_call=per_call)


def begin_round(program: Program, execution: Execution, lanes: Sequence[Lane]) -> TrainState:
    """The states [L, ...] with which the lanes of a round start."""
    lanes = pad(lanes, execution.lanes)
    kind = "fresh" if lanes[0].parent is None else "continue"
    kind = kind if lanes[0].calibration is None else "calibrate"
    kind = kind if lanes[0].early is None else "rewind"
    own = (
        None if kind == "fresh" else stack([lane.parent for lane in lanes]),
        np.array([lane.seed for lane in lanes], np.uint32),
        np.array([lane.stage_seed for lane in lanes], np.uint32),
        stack([lane.levels for lane in lanes]),
        None if kind != "calibrate" else np.stack([lane.calibration for lane in lanes]),
        None if kind != "rewind" else stack([lane.early for lane in lanes]),
    )
    weights = share(execution, lanes[0].weights)
    state = compiled_begin(program, one_call(execution), kind)(weights, *place(execution, own))
    alive = np.asarray(state.alive) & np.array([lane.alive for lane in lanes])
    return state._replace(alive=place(execution, alive))


def effective(program: Program, execution: Execution, members: Sequence[TrainState]) -> list[Any]:
    """Each member's effective variables, numpy."""
    function = compiled_effective(fit.without_recipe(program), one_call(execution))
    made = []
    for start in range(0, len(members), execution.lanes):
        group = members[start : start + execution.lanes]
        result = function(place(execution, stack(pad(group, execution.lanes))))
        made += unstack(result, len(group))
    return made


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
    after_call: Callable[[int, TrainState, Metrics], None],
    feed: Feed | None = None,
) -> TrainState:
    """Train the lanes from step `start` to the end of their learning rates.

    after_call(steps done, states, metrics [L, K] of two calls ago, of the last two at the end) may
    read the states (they are donated to the next call). `feed` makes (images, labels) of the index
    schedule on the host; without it images are gathered from the pool on the device.
    """
    lanes = pad(lanes, execution.lanes)
    steps = len(lanes[0].learning_rates)
    function = compiled_step(program, execution, feed is not None)
    teacher = None if lanes[0].teacher is None else stack([m.teacher for m in lanes])
    fixed = place(execution, (teacher, stack([m.hyper for m in lanes])))
    rates = np.stack([m.learning_rates for m in lanes])
    batches = (feed or indices)(index_schedule(lanes, program.batch), start, steps)
    flight: collections.deque = collections.deque()
    for step in range(start, steps, execution.steps_per_call):
        span = range(step, step + execution.steps_per_call)
        block = jax.tree.map(lambda *x: np.stack(x, axis=1), *[next(batches) for _ in span])
        inputs = place(execution, (block, rates[:, span.start : span.stop]))
        state, metrics = function(pool, np.int32(step), place(execution, state), *fixed, *inputs)
        flight.append(metrics)
        if len(flight) > 2:  # bounds the dispatch queue and keeps the device busy meanwhile
            after_call(span.stop, state, jax.tree.map(np.asarray, flight.popleft()))
    for metrics in flight:
        after_call(steps, state, jax.tree.map(np.asarray, metrics))
    return state


def unstack(state: Any, count: int) -> list[Any]:
    """The first `count` members of a stacked tree, as numpy trees."""
    host = jax.tree.map(np.asarray, state)
    return [jax.tree.map(lambda x, i=i: x[i], host) for i in range(count)]
