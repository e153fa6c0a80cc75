"""What a plan will cost, before it is run: time and disk, from operation counts and table rates."""

import contextlib
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from rich.table import Table

from rcm import config
from rcm.backend import cores
from rcm.cells import AttackSpec, Spec, computed_images, forward_passes, is_tested
from rcm.models.convolution import plain_convolutions
from rcm.plan import Job, Plan, Stage
from rcm.predictors import dense_jobs
from rcm.shifted import can_be_kept, stored_bytes
from rcm.sweep import Execution
from rcm.train import fit
from rcm.train.curvature import TURNS
from rcm.train.fit import Program


class Rate(NamedTuple):
    """What a core (CPU) or a device (elsewhere) gets through in a second: a pass over an image
    takes the time of its arithmetic and that of its memory traffic, one after the other."""

    operations: float
    size: float  # bytes read and written before fusion, as XLA counts them


# CPU: the shape is fitted to ResNet-8 of width 16, 8 and 4 on one core of an AMD EPYC, the height
# to widths 16 and 8 with both cores at work (230 and 114 ms a step of batch 128; 143 on a worse
# day). GPU: ResNet-20 of width 16 in tf32 on an H200, one member at a time (2.14 ms); compiling is
# 30 s for the first program of a process and some 9 s for another. TPU: assumed, never run.
RATES = {"cpu": Rate(1.6e11, 1.34e10), "gpu": Rate(5.6e13, 2.8e12), "tpu": Rate(2e13, 1e12)}
COMPILE_SECONDS = {"cpu": 9.0, "gpu": 12.0, "tpu": 30.0}
# Of testing: a program that predicts is compiled in a second, one that attacks in 4 to 15; two
# cores make 10,000 corrupted images of 32 x 32 pixels a second (docs/benchmarks.md).
PREDICTING = 1 / 6  # of COMPILE_SECONDS
PIXELS = {"cpu": 1e7, "gpu": 1e8, "tpu": 1e8}  # corrupted in a second
BATCH = 128  # images counted at once, which share the weights' traffic
BACKWARD = 2.0  # the backward pass costs two forward passes
TURN = 10.0  # forward passes of a gradient and a product with the Hessian (9 to 12 on CPU)


class Machine(NamedTuple):
    """Where a plan is run: how, and on what kind of backend, one of `RATES`."""

    execution: Execution
    backend: str

    @property
    def compiling(self) -> float:
        """Seconds for a program that trains."""
        return COMPILE_SECONDS.get(self.backend, 30.0)

    @property
    def pixels(self) -> float:
        """Corrupted in a second."""
        return PIXELS.get(self.backend, 1e8)

    @property
    def units(self) -> int:
        """Cores or devices at work."""
        devices = self.execution.devices
        return min(devices, cores()) if self.backend == "cpu" else devices


# One process that trains one member after the other, 25 steps a call.
H200 = Machine(Execution("loop", 1, 1, 25), "gpu")


def here(execution: Execution) -> Machine:
    """This machine."""
    return Machine(execution, jax.default_backend())


class Cost(NamedTuple):
    """Estimated seconds and bytes on disk."""

    seconds: float
    size: float


def forward_seconds(model: tuple, classes: int, image: tuple[int, int, int], backend: str) -> float:
    """One image's forward pass on one core or device, from XLA's counts without running it."""
    operations, size = forward_counts(model, classes, image, backend)
    rate = RATES.get(backend, RATES["gpu"])
    return operations / rate.operations + size / rate.size


def forward_bytes(model: tuple, classes: int, image: tuple[int, int, int], backend: str) -> float:
    """Read and written in one image's forward pass, before fusion."""
    return forward_counts(model, classes, image, backend)[1]


@cache
def forward_counts(
    model: tuple, classes: int, image: tuple[int, int, int], backend: str
) -> tuple[float, float]:
    """Operations and bytes of one image's forward pass in a batch, as XLA counts them."""
    network = fit.make_model(config.Model(*model), classes)
    images = jax.ShapeDtypeStruct((BATCH, *image), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    with contextlib.nullcontext() if backend == "cpu" else plain_convolutions():
        counts = jax.jit(network.apply).lower(variables, images).cost_analysis() or {}
    return float(counts.get("flops", 0)) / BATCH, float(counts.get("bytes accessed", 0)) / BATCH


def parameters(program: Program) -> int:
    """Numbers in a member's parameters."""
    network = fit.parts_of(program).model
    images = jax.ShapeDtypeStruct((1, *program.image), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def rounds(members: int, execution: Execution) -> int:
    """Rounds of lanes that so many members need; incomplete ones cost as much as full ones."""
    return -(-members // execution.lanes)


def stage_cost(stage: Stage, machine: Machine) -> Cost:
    """Training (or calibrating) all of a stage's members, compilation included."""
    job = stage.first
    lanes = rounds(len(stage.jobs), machine.execution) * machine.execution.lanes
    seconds = machine.compiling + lanes * member_seconds(job, machine)
    size = len(stage.jobs) * 4.0 * parameters(job.program)
    return Cost(seconds, size * (1.5 if job.added else 1))


def member_seconds(job: Job, machine: Machine) -> float:
    """Training one member-stage, of as many side by side as the machine has cores or devices."""
    program = job.program
    image = (1 + BACKWARD) * forward_seconds(
        program.model, program.classes, program.image, machine.backend
    )
    if program.teacher:
        teacher = forward_seconds(program.teacher, program.classes, program.image, machine.backend)
        image += len(job.teachers) * teacher
    return job.steps * program.batch * image / machine.units


def evaluation_cost(plan: Plan, cells: Sequence[Spec], machine: Machine) -> Cost:
    """Predicting every cell with every member that ends a pipeline, in rounds that are filled up;
    compilation included, and the making of corrupted images, once for every stage unless they are
    kept."""
    seconds, size = _compiling(plan, cells, machine) + _shifting(plan, cells, machine), 0.0
    clean = sum(len(cell.ids) for cell in cells if cell.clean)
    ends = {job: end for end, job in plan.ends.items()}
    for stage in plan.stages:
        tested = [job for job in stage.jobs if job.fingerprint in ends]
        lanes = rounds(len(tested), machine.execution) * machine.execution.lanes
        for job in tested:
            program = job.program
            own = [cell for cell in cells if is_tested(cell, ends[job.fingerprint][0])]
            passes = sum(
                computed_images(len(cell.ids)) * forward_passes(cell, program.classes)
                for cell in own
            )
            image = forward_seconds(program.model, program.classes, program.image, machine.backend)
            seconds += passes * image / machine.units * lanes / len(tested)
            numbers = sum(
                len(cell.ids) * (9.0 if isinstance(cell, AttackSpec) else 7.0) for cell in own
            )
            size += numbers + clean * 2.0 * program.classes
    return Cost(seconds, size)


def _compiling(plan: Plan, cells: Sequence[Spec], machine: Machine) -> float:
    """Seconds for a program that predicts and one for each attack and kind of its source, of every
    kind of member that is tested."""
    tested = {fit.without_recipe(plan.jobs[job].program) for job in plan.ends.values()}
    attacks = {
        (cell.attack.name, cell.attack.norm, bool(cell.source))
        for cell in cells
        if isinstance(cell, AttackSpec)
    }
    return len(tested) * machine.compiling * (PREDICTING + len(attacks))


def _shifting(plan: Plan, cells: Sequence[Spec], machine: Machine) -> float:
    """Seconds for the corrupted images of all stages whose members are tested."""
    ends = set(plan.ends.values())
    stages = sum(any(job.fingerprint in ends for job in stage.jobs) for stage in plan.stages)
    times = 1 if plan.study.shift.cache else stages
    height, width = plan.dataset.test.images.shape[1:3]
    made = sum(len(cell.ids) for cell in cells if can_be_kept(cell))
    return times * made * height * width / machine.pixels


def predictors_cost(plan: Plan, machine: Machine) -> Cost:
    """Turning a vector under the Hessian of every class of every dense member."""
    jobs = dense_jobs(plan)
    if not jobs:
        return Cost(0.0, 0.0)
    program, classes = jobs[0].program, len(plan.dataset.classes)
    image = TURN * forward_seconds(program.model, program.classes, program.image, machine.backend)
    images = len(jobs) * classes * plan.study.predictor_images
    seconds = images * TURNS * image / machine.units
    return Cost(seconds + machine.compiling, len(jobs) * 2000.0)


def total_cost(plan: Plan, cells: Sequence[Spec], machine: Machine) -> Cost:
    """The whole study, as if nothing of it were finished."""
    costs = [stage_cost(stage, machine) for stage in plan.stages]
    costs.append(evaluation_cost(plan, cells, machine))
    costs.append(predictors_cost(plan, machine))
    costs.append(Cost(0.0, stored_bytes(cells) if plan.study.shift.cache else 0.0))
    return Cost(sum(cost.seconds for cost in costs), sum(cost.size for cost in costs))


def plan_table(plan: Plan, cells: Sequence[Spec], machine: Machine) -> Table:
    """The plan for people: stages, members, steps, estimated minutes and megabytes."""
    table = Table(title=f"Plan of {plan.study.name}: {len(plan.jobs)} member-stages")
    for name in ("stage", "network", "members", "rounds", "steps", "estimated min", "estimated MB"):
        table.add_column(name, justify="left" if name in ("stage", "network") else "right")
    for stage in plan.stages:
        name, width, *_ = stage.first.program.model
        numbers = (len(stage.jobs), rounds(len(stage.jobs), machine.execution), stage.first.steps)
        cost = _shown(stage_cost(stage, machine))
        table.add_row(stage.label, f"{name} w{width}", *(f"{n:,}" for n in numbers), *cost)
    members = f"{len(set(plan.ends.values())):,}"
    cost = _shown(evaluation_cost(plan, cells, machine))
    table.add_row(f"test on {len(cells)} cells", "", members, "", "", *cost)
    jobs = dense_jobs(plan)
    if jobs:
        cost = _shown(predictors_cost(plan, machine))
        table.add_row("predictors of harm", "", f"{len(jobs):,}", "", "", *cost)
    if plan.study.shift.cache:
        megabytes = f"{stored_bytes(cells) / 1e6:,.1f}"
        table.add_row("corrupted images, kept in the cache", "", "", "", "", "", megabytes)
    table.add_section()
    table.add_row("total", "", "", "", "", *_shown(total_cost(plan, cells, machine)))
    return table


def _shown(cost: Cost) -> tuple[str, str]:
    return f"{cost.seconds / 60:,.1f}", f"{cost.size / 1e6:,.1f}"
