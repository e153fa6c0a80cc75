"""The engine under measurement: members that train and predict, and memory, for `bench.py`."""

import contextlib
import dataclasses
import functools
import importlib.util
import math
import pathlib
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any, NamedTuple

import jax
import numpy as np

from rcm import backend, calibrate, config, evaluate, heap, memory, rounds, sweep
from rcm.cells import CellSpec
from rcm.compress import QAT, Cluster, Prune, levels_of
from rcm.models.convolution import plain_convolutions
from rcm.rounds import Lane, Pool
from rcm.sweep import Execution
from rcm.train import fit
from rcm.train.losses import LossHyper
from rcm.train.step import Hyper

POOL = 5000  # random training images
STAGES: dict[str, tuple[tuple, str, int]] = {  # techniques, the teacher's network, how many teach
    "dense": ((), "", 0),
    "prune 80 %": ((Prune(0.8, schedule="cubic"),), "", 0),
    "16 clusters": ((Cluster(16),), "", 0),
    "QAT W8A8": ((QAT(8, 8),), "", 0),
    "LSQ W4A4": ((QAT(4, 4, step="learned"),), "", 0),
    "taught by a ResNet-56": ((), "resnet56", 1),
    "taught by three ResNet-20": ((), "resnet20", 3),
}
BASELINES = tuple(f"resnet{depth}" for depth in (8, 20, 32, 44, 56, 110))  # in PyTorch, too


class Settings(NamedTuple):
    """What is measured."""

    model: str
    width: int
    batch: int
    precision: str
    image: int  # height and width in pixels
    rounds: int
    lanes_per_device: tuple[int, ...]  # of vmap
    steps_per_call: tuple[int, ...]
    member_steps: int  # of one measurement
    eval_images: int
    platform: str
    networks: tuple[str, ...]  # of the section of that name, with these precisions
    precisions: tuple[str, ...]

    @property
    def judged(self) -> bool:
        """Whether the goals speak of this setting."""
        network = (self.model, self.width, self.batch, self.image, self.precision)
        return network == ("resnet8", 16, 128, 32, "float32") and jax.default_backend() == "cpu"


def why_no_torch(settings: Settings) -> str:
    """Why PyTorch cannot be measured beside these settings; "" if it can."""
    if settings.model not in BASELINES or settings.image != 32:
        return "the baseline is a CIFAR ResNet on 32 x 32 images."
    if jax.default_backend() == "cpu" and settings.precision != "float32":
        return "the baseline is float32 on the CPU."
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed (pip install -e .[bench])."
    return ""


def program_of(
    settings: Settings, augment: str = "crop_flip", techniques: tuple = (), teacher: str = ""
) -> fit.Program:
    """The program of the settings: SGD with Nesterov momentum and L2 in the gradient; teacher: a
    network of the same width."""
    model = config.Model(settings.model, settings.width, precision=settings.precision)
    recipe = config.Train(batch=settings.batch, augment=augment)
    image = (settings.image, settings.image, 3)
    taught = dataclasses.replace(model, name=teacher) if teacher else None
    return fit.make_program(model, taught, recipe, techniques, 10, image)


def stage_of(settings: Settings, stage: str, steps: int) -> tuple[fit.Program, Lane]:
    """The program and a lane of one of `STAGES`; parents and teachers are untrained."""
    techniques, teacher, count = STAGES[stage]
    lane, fresh = make_lane(0, steps), functools.partial(_untrained, settings)
    if techniques:
        observed = [getattr(technique, "calibration_images", 0) for technique in techniques]
        images = random_pool(settings).images[: max(observed)] if any(observed) else None
        levels = levels_of(techniques, steps, np.ones(10))
        lane = lane._replace(parent=fresh(), levels=levels, calibration=images)
    if teacher:
        taught = fresh(model=teacher).variables
        lane = lane._replace(teacher=(taught,) * count)
    return program_of(settings, techniques=techniques, teacher=teacher), lane


def _untrained(settings: Settings, **other: Any) -> Any:
    program = program_of(settings._replace(**other))
    state = jax.jit(functools.partial(fit.fresh, program, levels=()))(np.uint32(0))
    return fit.settled(jax.tree.map(np.asarray, state))


def random_pool(settings: Settings) -> Pool:
    """Random images and labels, the same for every candidate."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (POOL, settings.image, settings.image, 3), np.uint8)
    return Pool(images, draw.integers(0, 10, POOL, np.int32))


def make_lane(seed: int, steps: int) -> Lane:
    """A dense member on all images of the pool, with a rate so small that it cannot diverge."""
    ones, zeros = np.ones(10, np.float32), np.zeros(10, np.float32)
    loss = LossHyper(ones, zeros, np.float32(0), np.float32(0), np.float32(1))
    hyper = Hyper(np.uint32(seed), np.float32(5e-4), loss)
    table, rates = np.arange(POOL, dtype=np.int32), np.full(steps, 0.01, np.float32)
    return Lane(seed, seed, table, rates, hyper, ())


def calibrated(settings: Settings, auto: Execution) -> Execution:
    """What `auto` becomes in a long plan, measured anew and not kept."""
    program, pool = program_of(settings), random_pool(settings)
    executions = calibrate.candidates(auto)
    seconds = calibrate.measure(program, executions, make_lane(0, 1), pool)
    many = math.lcm(*(execution.lanes for execution in executions))  # members that fill every one
    return calibrate.winner(seconds, auto, many)


class Trainer:
    """Trains one round of lanes through the engine; a call returns ms per member and step.

    A measurement is `settings.member_steps` member-steps, but at least two calls of the program.
    """

    def __init__(
        self,
        settings: Settings,
        execution: Execution,
        augment: str = "crop_flip",
        stage: str = "dense",
    ):
        self.execution = execution
        per_call = execution.lanes * execution.steps_per_call
        calls = max(2, -(-settings.member_steps // per_call))
        self.steps = calls * execution.steps_per_call
        self.program, lane = program_of(settings, augment), make_lane(0, self.steps)
        if stage != "dense":
            self.program, lane = stage_of(settings, stage, self.steps)
        seeds = range(execution.lanes)
        self.lanes = [lane._replace(seed=seed, stage_seed=seed) for seed in seeds]
        self.pool = sweep.share(execution, random_pool(settings))
        self.state = rounds.begin_round(self.program, execution, self.lanes)

    def __call__(self) -> float:
        start = time.perf_counter()
        arguments = (self.program, self.execution, self.pool, self.lanes, self.state, 0)
        self.state = jax.block_until_ready(rounds.run_round(*arguments, lambda *_: None))
        return 1e3 * (time.perf_counter() - start) / (self.steps * len(self.lanes))


class Predictor:
    """Predicts a cell with one member per lane; a call returns images/s, summed over members."""

    def __init__(self, settings: Settings, execution: Execution, cell: CellSpec):
        self.program, self.execution, self.cell = program_of(settings), execution, cell
        lanes = [make_lane(seed, 1) for seed in range(execution.lanes)]
        self.states = rounds.begin_round(self.program, execution, lanes)

    def __call__(self) -> float:
        start = time.perf_counter()
        arguments = (self.program, self.execution, [self.states], self.cell, lambda _: None)
        labels = evaluate.predict_cell(*arguments)["label"]
        return labels.size / (time.perf_counter() - start)


CHOICES = {  # what `Without` can leave out of the set-up on CPU
    "nothing": "as shipped",
    "malloc": "memory that malloc gives back",
    "convolutions": "convolutions and their gradients as XLA lowers them",
}


class Without:
    """`Trainer` with the machine's own strategy, in a process of its own, without one choice."""

    def __init__(self, settings: Settings, choice: str):
        self.arguments, self.process = (settings, choice), start_process()

    def __call__(self) -> float:
        return self.process.submit(_train_without, *self.arguments).result()


def _train_without(settings: Settings, choice: str) -> float:
    return _trainer_without(settings, choice)()


@cache
def _trainer_without(settings: Settings, choice: str) -> Trainer:
    if choice == "malloc":
        setattr(heap, "keep_freed_memory", lambda: None)  # noqa: B010
    backend.set_up(settings.platform)
    with plain_convolutions() if choice == "convolutions" else contextlib.nullcontext():
        trainer = Trainer(settings, backend.choose_execution())
        trainer()
    return trainer


def fixed_executions(settings: Settings) -> list[Execution]:
    """loop on one and on all devices, vmap with every number of lanes per device."""
    devices = jax.local_device_count()
    made = []
    for steps in settings.steps_per_call:
        made += [Execution("loop", used, used, steps) for used in sorted({1, devices})]
        lanes = settings.lanes_per_device
        made += [Execution("vmap", each * devices, devices, steps) for each in lanes]
    return made


def start_process() -> ProcessPoolExecutor:
    """One fresh interpreter that runs what is submitted."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def in_process(function: Callable, *arguments: Any) -> Any:
    """function(*arguments), in a process of its own."""
    with start_process() as process:
        return process.submit(function, *arguments).result()


class FirstStep(NamedTuple):
    """Seconds from the call to the first result; bytes at the peak and before the call."""

    seconds: float
    peak: int
    before: int


def first_step(
    settings: Settings,
    execution: Execution,
    cache_folder: str,
    more: int = 0,
    stage: str = "dense",
) -> FirstStep:
    """Initialise a round and train two calls, in a process that has not used JAX before; the peak
    is that of twice as many calls `more`, as memory that malloc keeps grows with the first few.

    Compiled programs are kept in `cache_folder`; "" is the user's own.
    """
    backend.set_up(settings.platform)
    if cache_folder:
        jax.config.update("jax_compilation_cache_dir", cache_folder)
    before = peak_bytes()
    start = time.perf_counter()
    trainer = Trainer(settings._replace(member_steps=0), execution, stage=stage)
    trainer()
    seconds = time.perf_counter() - start
    for _ in range(more):
        trainer()
    return FirstStep(seconds, peak_bytes(), before)


def foretold(settings: Settings, execution: Execution, stage: str = "dense") -> float:
    """Bytes at the peak of such a process, as a plan foretells them."""
    backend.set_up(settings.platform)
    program, lane = stage_of(settings, stage, 1)
    return memory.foretell(program, execution, random_pool(settings), lane, streamed=False).peak


def peak_bytes() -> int:
    """Largest memory so far: of the fullest device, or on CPU of this process.

    On Linux not `getrusage`, whose peak a child process inherits from its parent.
    """
    if jax.default_backend() != "cpu":
        stats = [device.memory_stats() or {} for device in jax.local_devices()]
        return max(stat.get("peak_bytes_in_use", 0) for stat in stats)
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return 1024 * int(next(x for x in lines if x.startswith("VmHWM")).split()[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
