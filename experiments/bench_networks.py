"""Networks, precisions, strategies and lowerings of convolutions, for `bench.py`; PyTorch beside.

Each candidate has a process of its own.
On an accelerator all candidates are compiled side by side, on a CPU those of one network at a time;
then they are measured one after the other, in interleaved rounds.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import bench_engine
import jax
import jax.numpy as jnp
import numpy as np
import torch_baseline
from bench_engine import Settings, Trainer
from bench_tables import Table, interleaved, number, spread
from jax import Array

from rcm import backend, config
from rcm.models import layers, packed
from rcm.models.convolution import convolve, product
from rcm.models.count import count
from rcm.sweep import MATMUL, Execution
from rcm.train.fit import make_model

LANES = {  # side by side on one accelerator
    "tiny": 4, "resnet8": 16, "resnet20": 16, "mobilenet_v2": 16,
    "resnet18": 4, "vgg19": 4, "wrn16_8": 4, "resnet50": 4,
}  # fmt: skip
NETWORKS = tuple(LANES)[1:]
SCANNED = 5  # steps of a call on a CPU, where usually one is
LONG = 200  # member-steps of one measurement on an accelerator; on a CPU two calls
PASSES = 14  # over the activations that a training step cannot do without
BACKWARD = 3  # forward passes of arithmetic in a step
MATRIX, VECTOR = 8192, 2**28  # sizes of what ceilings are measured by, on an accelerator


class Candidate(NamedTuple):
    """What is measured; lanes are those of one device."""

    network: str
    precision: str
    strategy: str  # loop, vmap, or a way to use PyTorch
    lanes: int
    lowering: str = "as shipped"
    steps: int = 0  # of one call; 0: the settings' largest


def im2col(x: Array, kernel: Array, stride: int, groups: int = 1) -> Array:
    """`convolve` as one product with all pixels' neighbourhoods, laid out in memory."""
    return packed.plain(x, kernel, stride, groups) if groups > 1 else product(x, kernel, stride)


def pointwise(x: Array, kernel: Array, stride: int, groups: int = 1) -> Array:
    """`convolve`, but kernels of one pixel are products."""
    alone = kernel.shape[0] == 1 and groups == 1
    return product(x, kernel, stride) if alone else convolve(x, kernel, stride, groups)


def block_diagonal(x: Array, kernel: Array, stride: int, groups: int = 1) -> Array:
    """`convolve`, with members packed into groups, which is shipped for GPUs alone."""
    if groups > 1:
        return convolve(x, kernel, stride, groups)
    return packed.convolve_packed(x, kernel, stride)


LOWERINGS: dict[str, Callable] = {
    "as shipped": convolve,
    "block diagonal": block_diagonal,
    "lax": packed.plain,
    "im2col": im2col,
    "1 x 1 as a product": pointwise,
}


def candidates(network: str, precisions: Sequence[str]) -> list[Candidate]:
    """All that is compared of a network here."""
    accelerated = jax.default_backend() != "cpu"
    lanes = LANES[network] if accelerated else 2
    small = network in ("tiny", "resnet8", "resnet20")
    found = []
    for precision in precisions if small else precisions[-2:]:
        found.append(Candidate(network, precision, "loop", 1))
        found.append(Candidate(network, precision, "vmap", lanes))
    others = {"resnet20": ("lax", "im2col"), "mobilenet_v2": ("1 x 1 as a product",)}
    if not accelerated:  # which is what accelerators are shipped with
        others["resnet20"] += ("block diagonal",)
    for lowering in others.get(network, ()):
        found.append(Candidate(network, precisions[-1], "vmap", lanes, lowering))
    if not accelerated and small:
        found.append(Candidate(network, precisions[-1], "vmap", 2 * lanes))
        found.append(Candidate(network, precisions[-1], "loop", 1, steps=SCANNED))
    return found


def pytorch(network: str, precisions: Iterable[str]) -> list[Candidate]:
    """What a user of PyTorch would do."""
    ways = ("PyTorch", "PyTorch, compiled")
    return [Candidate(network, precision, way, 1) for precision in precisions for way in ways]


class Worker:
    """A candidate's process. `prepare` compiles; a call returns ms per member and step."""

    def __init__(self, candidate: Candidate, settings: Settings):
        self.candidate, self.seconds, self.peak, self.error = candidate, 0.0, 0, ""
        self.settings, self.process = settings, bench_engine.start_process()

    def prepare(self) -> None:
        """Seconds from the first call to its result, or why there is none; bytes at the peak."""
        made = self.process.submit(_prepare, self.candidate, self.settings).result()
        self.seconds, self.peak, self.error = made

    def __call__(self) -> float:
        return self.process.submit(_measure).result()


_measured: list[Callable[[], float]] = []  # of the process: the one that it measures


def _measure() -> float:
    return _measured[0]()


def _prepare(candidate: Candidate, settings: Settings) -> tuple[float, int, str]:
    torch = candidate.strategy.startswith("PyTorch")
    start = time.perf_counter()
    try:
        _measured.append((_torch if torch else _trainer)(candidate, settings))
        _measure()
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        return 0.0, 0, str(error).splitlines()[0][:80]
    return time.perf_counter() - start, 0 if torch else bench_engine.peak_bytes(), ""


def _torch(candidate: Candidate, settings: Settings) -> Callable[[], float]:
    depth, compiled = (
        int(candidate.network.removeprefix("resnet")),
        "compiled" in candidate.strategy,
    )
    numbers = (depth, settings.width, settings.batch, max(2, settings.member_steps))
    how = (backend.cores(), compiled, candidate.precision)
    return partial(torch_baseline.milliseconds_per_step, *numbers, *how)


def _trainer(candidate: Candidate, settings: Settings) -> Trainer:
    backend.set_up(settings.platform)
    setattr(layers, "convolve", LOWERINGS[candidate.lowering])  # noqa: B010
    devices = jax.local_device_count()
    lanes, steps = candidate.lanes * devices, _steps(candidate, settings)
    return Trainer(settings, Execution(candidate.strategy, lanes, devices, steps))


def _steps(candidate: Candidate, settings: Settings) -> int:
    return candidate.steps or settings.steps_per_call[-1]


class Ceilings(NamedTuple):
    """What all devices together get through in a second: operations by precision, bytes."""

    operations: dict[str, float]
    size: float


def ceilings(settings: Settings, precisions: Sequence[str]) -> Ceilings:
    """Measured by products of matrices and by an addition, the best of five."""
    backend.set_up(settings.platform)
    devices, cpu = jax.local_device_count(), jax.default_backend() == "cpu"
    n, many = (MATRIX // 4, VECTOR // 8) if cpu else (MATRIX, VECTOR)
    mesh = jax.make_mesh((devices,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("devices"))
    draw = jax.jit(jax.random.normal, static_argnums=(1, 2), out_shardings=sharding)
    rates = {}
    for name in precisions:
        matrix = draw(jax.random.key(0), (devices, n, n), _dtype(name))
        with jax.default_matmul_precision(MATMUL[name]):
            rates[name] = 2 * devices * n**3 / _fastest(jax.jit(jnp.matmul), matrix, matrix)
    vector = draw(jax.random.key(0), (devices, many), jnp.float32)
    size = 2 * vector.nbytes / _fastest(jax.jit(lambda x: x + 1), vector)
    return Ceilings(rates, size)


def _fastest(function: Callable, *arguments: Array) -> float:
    seconds = []
    for _ in range(6):  # the first compiles
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _dtype(precision: str) -> Any:
    return jnp.bfloat16 if precision == "bfloat16" else jnp.float32


def floors(
    settings: Settings, network: str, precision: str, found: Ceilings
) -> tuple[float, float]:
    """ms per member and step that arithmetic takes, and traffic, at the ceilings."""
    model = config.Model(network, precision=precision)
    of_image = count(make_model(model, 10), (settings.image, settings.image, 3))
    operations = BACKWARD * 2 * of_image.macs * settings.batch
    size = PASSES * of_image.outputs * settings.batch * jnp.dtype(_dtype(precision)).itemsize
    return 1e3 * operations / found.operations[precision], 1e3 * size / found.size


def networks(settings: Settings) -> Table:
    """ms per member and step, over one member after the other, and the share of the floors."""
    long = 1 if jax.default_backend() == "cpu" else LONG
    settings = settings._replace(member_steps=min(long, settings.member_steps))
    precisions = settings.precisions
    found = bench_engine.in_process(ceilings, settings, precisions)
    groups = [candidates(name, precisions) for name in settings.networks]
    first = settings.networks[0]
    if not bench_engine.why_no_torch(settings._replace(model=first)):
        groups[0] += pytorch(first, precisions[-2:])
    if jax.default_backend() != "cpu":
        groups = [[each for group in groups for each in group]]
    rows: list[tuple[str, ...]] = []
    for group in groups:
        rows += _rows(group, settings, found)
    rates = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in found.operations.items())
    notes = [
        f"Ceilings measured here: {rates} TFLOP/s (products of matrices); {found.size / 1e9:,.0f} "
        "GB/s (read and written).",
        f"Floors: {BACKWARD} x 2 x multiply-accumulates, and {PASSES} passes over what layers put "
        "out; share: the larger of the two over the time.",
        "Seconds are to the first result, with the others compiling beside; peak memory includes "
        "compilation.",
    ]
    header = (
        "network", "precision", "strategy", "lanes", "steps per call", "lowering",
        "ms per member and step", "over loop", "floor: arithmetic", "traffic", "share", "seconds",
        "peak, MB", "n",
    )  # fmt: skip
    return Table("Networks", header, rows, notes)


def _rows(group: list[Candidate], settings: Settings, found: Ceilings) -> list[tuple[str, ...]]:
    workers = {c: Worker(c, settings._replace(**_network(c))) for c in group}
    with ThreadPoolExecutor(2 * backend.cores()) as pool:  # tuning waits for the device
        list(pool.map(lambda worker: worker.prepare(), workers.values()))
    values = interleaved({c: w for c, w in workers.items() if not w.error}, settings.rounds)
    rows = [_row(worker, values, settings, found) for worker in workers.values()]
    for worker in workers.values():
        worker.process.shutdown()
    return rows


def _network(candidate: Candidate) -> dict[str, Any]:
    width = {"tiny": 4, "resnet8": 16, "resnet20": 16}.get(candidate.network, 0)  # 0: published
    return {"model": candidate.network, "precision": candidate.precision, "width": width}


def _row(
    worker: Worker, values: dict[Candidate, np.ndarray], settings: Settings, found: Ceilings
) -> tuple[str, ...]:
    candidate = worker.candidate
    torch = candidate.strategy.startswith("PyTorch")
    words = (candidate.network, candidate.precision, candidate.strategy, str(candidate.lanes))
    words += ("" if torch else str(_steps(candidate, settings)),)
    if worker.error:
        return (*words, candidate.lowering, worker.error, *[""] * 6, "0")
    times = values[candidate]
    loop = values.get(Candidate(candidate.network, candidate.precision, "loop", 1))
    limits = floors(settings, candidate.network, candidate.precision, found)
    return (
        *words,
        "" if torch else candidate.lowering,
        spread(times),
        "" if loop is None else spread(times / loop),
        *map(number, limits),
        f"{number(100 * max(limits) / float(np.median(times)))} %",
        number(worker.seconds),
        "" if torch else number(worker.peak / 1e6),
        str(len(times)),
    )


SECTIONS = {"networks": networks}
