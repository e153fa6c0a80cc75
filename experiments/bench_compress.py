"""Compression under measurement: masks and codebooks of a large network, steps with a chain, and
what shrinking gains, for `bench.py`."""

import time
from typing import Any

import bench_engine
import jax
import jax.numpy as jnp
import numpy as np
from bench_engine import Settings, Trainer
from bench_tables import Table, interleaved, number, spread, verdict

from rcm import backend, config, rounds, sweep
from rcm.compress import QAT, Cluster, Prune, PruneFilters, build_chain
from rcm.compress.base import kernels
from rcm.compress.filters import shrink
from rcm.data.augment import to_float
from rcm.models.count import count
from rcm.sweep import Execution
from rcm.train import fit

CALIBRATION = 200  # images
LARGE = "resnet50"
GOALS = {"prune": 1.05, "QAT": 1.35, "cluster": 1.25}  # of a step over the dense one


def compressors(settings: Settings) -> Table:
    """Seconds to begin a technique on every kernel of a ResNet-50, compiled before."""
    name = LARGE if settings.model != "tiny" else settings.model
    network: Any = fit.make_model(config.Model(name), 1000)
    image = jax.ShapeDtypeStruct((1, settings.image, settings.image, 3), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)
    draw = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: draw.normal(0, 0.1, x.shape).astype(np.float32), shapes)
    clusters = 16 if settings.model != "tiny" else 4
    techniques = {
        "prune 90 %, every layer": Prune(0.9),
        "prune 90 %, global": Prune(0.9, scope="global"),
        f"{clusters} clusters, every layer": Cluster(clusters),
    }
    begun = {label: _Begin(variables, technique) for label, technique in techniques.items()}
    values = interleaved(begun, max(2, settings.rounds // 3))
    seconds = dict(zip(techniques, (2.0, 2.0, 20.0), strict=True))
    weights = sum(kernel.size for kernel in kernels(variables["params"]).values())
    rows = [
        (label, spread(row), number(begun[label].copies), str(len(row)))
        for label, row in values.items()
    ]
    judged, notes = settings.judged, []
    for label, row in values.items():
        copies = np.array([begun[label].copies])
        limits = (seconds[label], 3.0) if judged else (None, None)
        notes.append(verdict(f"{label}, seconds", row, at_most=limits[0]))
        notes.append(verdict(f"{label}, copies in memory", copies, at_most=limits[1]))
    title = f"Techniques on {name}, {weights:,} weights"
    header = ("begin", "seconds", "memory, copies of the variables", "n")
    return Table(title, header, rows, notes)


class _Begin:
    """A call returns the seconds in which a technique decides about all kernels; `copies` is what
    its program takes in memory, arguments and results included, over the size of the variables."""

    def __init__(self, variables: Any, technique: Any):
        chain = build_chain((technique,))
        self.arguments = (jax.random.key(0), jax.device_put(variables), (technique.levels(100),))
        self.init = jax.jit(chain.init).lower(*self.arguments).compile()
        found = self.init.memory_analysis()
        parts = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
        self.copies = sum(getattr(found, part, 0) for part in parts) / size

    def __call__(self) -> float:
        start = time.perf_counter()
        jax.block_until_ready(self.init(*self.arguments))
        return time.perf_counter() - start


class CompressedTrainer(Trainer):
    """`Trainer` of members that continue from a dense one with a chain of techniques."""

    def __init__(self, settings: Settings, execution: Execution, techniques: tuple):
        super().__init__(settings, execution)
        if not techniques:
            return
        dense = sweep.unstack(self.state, execution.lanes)
        self.program = bench_engine.program_of(settings, techniques=techniques)
        images = bench_engine.random_pool(settings).images[:CALIBRATION]
        self.lanes = [
            lane._replace(
                parent=parent._replace(optimizer=()),
                levels=tuple(technique.levels(self.steps) for technique in techniques),
                calibration=images if _calibrates(techniques) else None,
            )
            for lane, parent in zip(self.lanes, dense, strict=True)
        ]
        self.state = rounds.begin_round(self.program, execution, self.lanes)


def _calibrates(techniques: tuple) -> bool:
    return any(getattr(technique, "calibration_images", 0) for technique in techniques)


def steps(settings: Settings) -> Table:
    """ms per member and step with each technique in the step, over the same without."""
    settings = settings._replace(model="resnet20" if settings.model != "tiny" else "tiny")
    clusters = 16 if settings.model != "tiny" else 4
    chains = {
        "dense": (),
        "prune": (Prune(0.9),),
        "QAT": (QAT(8, 8),),
        "cluster": (Cluster(clusters),),
        "prune, cluster, QAT": (Prune(0.5), Cluster(clusters), QAT(8, 8)),
    }
    auto = backend.choose_execution()
    trainers = {name: CompressedTrainer(settings, auto, chain) for name, chain in chains.items()}
    values = interleaved(trainers, settings.rounds)
    rows = [
        (name, spread(row), spread(row / values["dense"]), str(len(row)))
        for name, row in values.items()
    ]
    judged = settings.width == 16 and settings.batch == 128 and jax.default_backend() == "cpu"
    notes = [
        verdict(f"{name} over dense", values[name] / values["dense"], at_most=limit)
        for name, limit in GOALS.items()
        if judged
    ]
    header = ("chain", "ms per member and step", "over dense", "n")
    return Table(f"Steps of {settings.model} with a chain", header, rows, notes)


def shrinking(settings: Settings) -> Table:
    """images/s of a network whose filters were pruned: masked, and shrunk by `shrink`."""
    settings = settings._replace(model="resnet20" if settings.model != "tiny" else "tiny")
    program = bench_engine.program_of(settings)
    network: Any = fit.parts_of(program).model
    image = (settings.image, settings.image, 3)
    variables: Any = network.init(jax.random.key(0), jnp.zeros((1, *image)))
    pool = bench_engine.random_pool(settings)
    images = to_float(jnp.asarray(pool.images[: settings.eval_images // 8]))
    candidates, sizes = {"dense": _Images(network, variables, images)}, {}
    sizes["dense"] = count(network, image)
    for name, rates in (("v1", (0.6, 0.5, 0.3)), ("v2", (0.7, 0.6, 0.4))):
        technique = PruneFilters(rates)
        chain = technique.build((), network)
        state = chain.init(jax.random.key(0), variables, technique.levels(1))
        masked = chain.apply(variables, state)
        smaller, taken = shrink(network, masked, state.keep)
        candidates[f"filters {name}, masked"] = _Images(network, masked, images)
        candidates[f"filters {name}, shrunk"] = _Images(smaller, taken, images)
        sizes[f"filters {name}, masked"] = sizes["dense"]
        sizes[f"filters {name}, shrunk"] = count(smaller, image)
    values = interleaved(candidates, settings.rounds)
    rows = [
        (
            name,
            f"{sizes[name].parameters:,}",
            f"{sizes[name].macs / 1e6:,.1f}",
            spread(row),
            spread(row / values["dense"]),
            str(len(row)),
        )
        for name, row in values.items()
    ]
    header = ("network", "parameters", "million MACs", "images/s", "over dense", "n")
    notes = [
        verdict(f"images/s of {name} over dense, one device", values[name] / values["dense"])
        for name in ("filters v2, masked", "filters v2, shrunk")
    ]
    return Table(f"Filter pruning of {settings.model}", header, rows, notes)


class _Images:
    """A call returns images/s of predictions."""

    def __init__(self, network: Any, variables: Any, images: jax.Array):
        self.arguments = (jax.device_put(variables), images)
        self.apply = jax.jit(network.apply)

    def __call__(self) -> float:
        start = time.perf_counter()
        jax.block_until_ready(self.apply(*self.arguments))
        return len(self.arguments[1]) / (time.perf_counter() - start)


SECTIONS = {"compressors": compressors, "steps": steps, "shrinking": shrinking}
