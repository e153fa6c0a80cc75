"""What a plan will cost, before it is run: time and disk, from operation counts and table rates."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from rich.table import Table

from rcm import config
from rcm.backend import cores
from rcm.evaluate import CellSpec
from rcm.plan import Plan, Stage
from rcm.sweep import Execution
from rcm.train import fit
from rcm.train.fit import Program

# Useful floating-point operations per second: per core on CPU, where small ResNets train at this
# rate (docs/benchmarks.md), and per device elsewhere, an assumption that no run has confirmed.
RATES = {"cpu": 55e9, "gpu": 4e13, "tpu": 2e13}
COMPILE_SECONDS = {"cpu": 9.0, "gpu": 30.0, "tpu": 30.0}
BACKWARD = 2.0  # the backward pass costs two forward passes


class Cost(NamedTuple):
    """Estimated seconds and bytes on disk."""

    seconds: float
    size: float


@cache
def forward_flops(model: tuple, classes: int, image: tuple[int, int, int]) -> float:
    """Floating-point operations of one image's forward pass, counted by XLA without running it."""
    network = fit.make_model(config.Model(*model), classes)
    images = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    analysis = jax.jit(network.apply).lower(variables, images).cost_analysis()
    return float((analysis or {}).get("flops", 0.0))


def parameters(program: Program) -> int:
    """Numbers in a member's parameters."""
    network = fit.parts_of(program).model
    images = jax.ShapeDtypeStruct((1, *program.image), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def speed(execution: Execution) -> float:
    """Floating-point operations per second of the whole execution."""
    backend = jax.default_backend()
    units = min(execution.devices, cores()) if backend == "cpu" else execution.devices
    return RATES.get(backend, RATES["gpu"]) * units


def rounds(members: int, execution: Execution) -> int:
    """Rounds of lanes that so many members need; incomplete ones cost as much as full ones."""
    return -(-members // execution.lanes)


def stage_cost(stage: Stage, execution: Execution) -> Cost:
    """Training (or calibrating) all of a stage's members, compilation included."""
    job, program = stage.first, stage.first.program
    flops = (1 + BACKWARD) * forward_flops(program.model, program.classes, program.image)
    if program.teacher:
        flops += forward_flops(program.teacher, program.classes, program.image)
    lanes = rounds(len(stage.jobs), execution) * execution.lanes
    compiling = COMPILE_SECONDS.get(jax.default_backend(), 30.0)
    seconds = compiling + lanes * job.steps * program.batch * flops / speed(execution)
    return Cost(seconds, len(stage.jobs) * 4.0 * parameters(program) * (1.5 if job.added else 1))


def evaluation_cost(plan: Plan, cells: Sequence[CellSpec], execution: Execution) -> Cost:
    """Predicting every cell with every member that ends a pipeline."""
    seconds = size = 0.0
    images = sum(len(cell.ids) for cell in cells)
    clean = sum(len(cell.ids) for cell in cells if cell.clean)
    for fingerprint in set(plan.ends.values()):
        program = plan.jobs[fingerprint].program
        flops = forward_flops(program.model, program.classes, program.image)
        seconds += images * flops / speed(execution)
        size += images * 7.0 + clean * 2.0 * program.classes
    return Cost(seconds, size)


def total_cost(plan: Plan, cells: Sequence[CellSpec], execution: Execution) -> Cost:
    """The whole study, as if nothing of it were finished."""
    costs = [stage_cost(stage, execution) for stage in plan.stages]
    costs.append(evaluation_cost(plan, cells, execution))
    return Cost(sum(cost.seconds for cost in costs), sum(cost.size for cost in costs))


def plan_table(plan: Plan, cells: Sequence[CellSpec], execution: Execution) -> Table:
    """The plan for people: stages, members, steps, estimated minutes and megabytes."""
    table = Table(title=f"Plan of {plan.study.name}: {len(plan.jobs)} member-stages")
    for name in ("stage", "network", "members", "rounds", "steps", "estimated min", "estimated MB"):
        table.add_column(name, justify="left" if name in ("stage", "network") else "right")
    for stage in plan.stages:
        name, width, *_ = stage.first.program.model
        numbers = (len(stage.jobs), rounds(len(stage.jobs), execution), stage.first.steps)
        cost = _shown(stage_cost(stage, execution))
        table.add_row(stage.label, f"{name} w{width}", *(f"{n:,}" for n in numbers), *cost)
    members = f"{len(set(plan.ends.values())):,}"
    cost = _shown(evaluation_cost(plan, cells, execution))
    table.add_row(f"test on {len(cells)} cells", "", members, "", "", *cost)
    table.add_section()
    table.add_row("total", "", "", "", "", *_shown(total_cost(plan, cells, execution)))
    return table


def _shown(cost: Cost) -> tuple[str, str]:
    return f"{cost.seconds / 60:,.1f}", f"{cost.size / 1e6:,.1f}"
