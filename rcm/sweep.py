"""The only file that knows how one member's function runs for many: lanes, loop / vmap, devices.

`lanes` members run side by side. They are split over devices with `shard_map`; on a device either
one lane runs as written (`loop`) or several run as one program (`vmap`). Both are the same code
path, without any collective, so that a member's result depends on the execution record but never on
its companions: an incomplete round is padded to the full lane count.
"""

import collections
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rcm.train import attack, curvature, fit
from rcm.train.fit import Program
from rcm.train.step import TrainState

# what JAX calls the precision of matrix products and convolutions, by that of a model
MATMUL = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}
TRACES: collections.Counter = collections.Counter()  # (kind, program) -> traces; a test counts them


class Execution(NamedTuple):
    """How members are run, part of the execution record: within it results repeat bit by bit."""

    strategy: str  # loop: one lane per device; vmap: lanes / devices lanes per device
    lanes: int
    devices: int
    steps_per_call: int


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


@dataclass(frozen=True)
class Precisely:
    """A function, traced and called under a matrix-multiplication precision."""

    function: Any
    name: str

    def __call__(self, *arguments: Any) -> Any:
        with jax.default_matmul_precision(self.name):
            return self.function(*arguments)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """As that of a jitted function."""
        with jax.default_matmul_precision(self.name):
            return self.function.lower(*arguments)


def with_precision(program: Program, function: Callable) -> Precisely:
    """`function` under the program's precision."""
    return Precisely(function, MATMUL[program.precision])


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


def shapes(execution: Execution, tree: Any, shared: bool = False) -> Any:
    """What `place`, or `share`, makes of a tree of arrays or shapes, without making it."""
    sharding = NamedSharding(mesh_of(execution.devices), P() if shared else P("members"))

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(shape, tree)


def share(execution: Execution, tree: Any) -> Any:
    """A tree that all lanes read, on every device."""
    return jax.device_put(tree, NamedSharding(mesh_of(execution.devices), P()))


def stack(trees: Sequence[Any]) -> Any:
    """Members' numpy trees -> one tree with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def alike(tree: Any, lanes: int) -> Any:
    """Shapes of what `stack` makes of so many members like one, given as arrays or shapes."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((lanes, *leaf.shape), leaf.dtype), tree)


def pad(items: Sequence, lanes: int) -> list:
    """`items`, the last one repeated up to the full lane count."""
    return [*items, *[items[-1]] * (lanes - len(items))]


def one_call(execution: Execution) -> Execution:
    """The execution as programs without steps see it, so that K never compiles them again."""
    return execution._replace(steps_per_call=1)


def effective(program: Program, execution: Execution, members: Sequence[TrainState]) -> list[Any]:
    """Each member's effective variables, numpy."""
    function = compiled_effective(fit.without_recipe(program), one_call(execution))
    made = []
    for start in range(0, len(members), execution.lanes):
        group = members[start : start + execution.lanes]
        result = function(place(execution, stack(pad(group, execution.lanes))))
        made += unstack(result, len(group))
    return made


def unstack(state: Any, count: int) -> list[Any]:
    """The first `count` members of a stacked tree, as numpy trees."""
    host = jax.tree.map(np.asarray, state)
    return [jax.tree.map(lambda x, i=i: x[i], host) for i in range(count)]
