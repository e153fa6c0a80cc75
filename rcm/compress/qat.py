"""Quantization-aware training: weights and activations are on their grids while it trains.

Weights have symmetric grids that follow their present ranges, activations asymmetric ones whose
ranges begin at calibrated values and then follow a moving average of each batch's (Jacob et al.
2018, arXiv 1712.05877, section 3); or the steps of all grids are learned, see `lsq.py`. Gradients
pass straight through rounding. Batch norms stay what they are: a per-channel grid takes a norm's
multiplier into its steps without moving an integer, so nothing is lost by not folding while it
trains. Towards the end they can be frozen: they normalise by their running statistics, which they
keep, as they will at inference (Krishnamoorthi 2018, arXiv 1806.08342). Behind clustering, kernels
have one grid per tensor, for the reason given in `quantize.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm import numerics
from rcm.compress import lsq
from rcm.compress.base import (
    Compressor,
    Info,
    Levels,
    Variables,
    kernels,
    map_points,
    with_kernels,
)
from rcm.compress.calibration import require_ranges
from rcm.compress.lsq import Step
from rcm.compress.quantize import Quantize
from rcm.compress.weight_grids import (
    GRANULARITIES,
    PER_CHANNEL,
    Grid,
    layer_bits,
    make_grid,
    on_grid,
    require_granularity,
    violations,
)
from rcm.config import choose, require


class Rule(NamedTuple):
    """What is static about QAT. edges: modules with `edge_bits` bits wherever the others have any;
    learned: whether steps are; freezes: whether batch norms ever are frozen."""

    edges: tuple[str, ...]
    grid: Grid = PER_CHANNEL
    learned: bool = False
    freezes: bool = False


class QATState(NamedTuple):
    """The levels; `active`: bool scalar, whether activations are quantized yet; `frozen`: likewise,
    of batch norms; learned steps by kernel and by quantization point, empty where none are."""

    levels: Levels
    active: Array
    frozen: Array
    weights: dict[str, Step]
    points: dict[str, Step]


def qat(rule: Rule) -> Compressor:
    """Training-aware quantization; levels {"bits", "activation_bits", "edge_bits", "delay",
    "freeze"}, int32, and {"decay"}, float32.

    Activations stay float for the first `delay` steps of the stage, while their ranges are already
    followed: lo and hi become decay * old + (1 - decay) * the batch's. From step `freeze` on batch
    norms are frozen. Learned steps need `info.learning_rate`, `before` and `quant_grads`; where
    these are None they stay. init raises ValueError without calibrated ranges.
    """

    def init(key: Array, variables: Variables, levels: Levels) -> QATState:
        require_ranges(variables, levels["activation_bits"])
        levels = {name: jnp.asarray(level) for name, level in levels.items()}
        state = QATState(levels, levels["delay"] <= 0, levels["freeze"] <= 0, {}, {})
        if not rule.learned:
            return state
        begun = lsq.begin(variables, partial(bits_of, state, edges=rule.edges), rule.grid)
        return state._replace(weights=begun[0], points=begun[1])

    def update(state: QATState, variables: Variables, info: Info):
        step = info.step + 1
        active = state.active | (step >= state.levels["delay"])
        frozen = state.frozen | (step >= state.levels["freeze"])
        moved = state.weights, state.points
        if rule.learned and info.learning_rate is not None:
            bits = partial(bits_of, state, edges=rule.edges)
            moved = lsq.learn(*moved, variables["params"], info, bits, rule.grid)
        return variables, QATState(state.levels, active, frozen, *moved)

    def apply(variables: Variables, state: QATState) -> Variables:
        found = kernels(variables["params"])
        new = {name: _gridded(rule, state, name, kernel) for name, kernel in found.items()}
        variables = with_kernels(variables, new)
        if "quant" in variables:
            quant = map_points(partial(_point, rule, state), variables["quant"])
            variables = {**variables, "quant": quant}
        if not rule.freezes:
            return variables
        on = (state.levels["bits"] > 0) | (state.levels["activation_bits"] > 0)
        frozen = _beside_norms(variables.get("batch_stats", {}), state.frozen & on)
        return {**variables, "quant": _merged(variables.get("quant", {}), frozen)}

    def check(variables: Variables, state: QATState) -> list[str]:
        lines = []
        for name, kernel in kernels(variables["params"]).items():
            bits = int(bits_of(state, name, "bits", rule.edges))
            lines += violations(name, kernel, bits, rule.grid)
        return lines

    return Compressor(init, update, apply, check, learns_ranges=rule.learned)


def _gridded(rule: Rule, state: QATState, name: str, kernel: Array) -> Array:
    bits = bits_of(state, name, "bits", rule.edges)
    if not rule.learned:
        return on_grid(kernel, bits, rule.grid)
    size = lsq.within(state.weights[name].size, kernel, bits, rule.grid)
    return numerics.fake_quant_symmetric(kernel, size, bits)


def _point(rule: Rule, state: QATState, name: str, node: Any) -> Any:
    """A quantization point as the layers see it."""
    bits = bits_of(state, name, "activation_bits", rule.edges)
    seen = {**node, "bits": jnp.where(state.active, bits, 0)}
    if not rule.learned:
        return {**seen, "decay": state.levels["decay"]}
    lo, hi = lsq.range_of(state.points[name], bits)
    lo, hi = jnp.where(bits > 0, lo, node["lo"]), jnp.where(bits > 0, hi, node["hi"])
    return {**seen, "lo": lo, "hi": hi, "learned": jnp.bool_(True)}


def bits_of(state: QATState, name: str, kind: str, edges: tuple[str, ...]) -> Array:
    """Bits of the layer or kernel at path `name`; kind: `bits` or `activation_bits`."""
    return layer_bits(state.levels[kind], state.levels["edge_bits"], name, edges)


def _beside_norms(stats: Any, frozen: Array) -> Any:
    """The entry `frozen` at the path of every norm."""
    if "mean" in stats:
        return {"frozen": frozen}
    return {name: _beside_norms(node, frozen) for name, node in stats.items()}


def _merged(first: Any, second: Any) -> Any:
    """Two nests of dicts as one; at a leaf of both the second's."""
    if not (isinstance(first, Mapping) and isinstance(second, Mapping)):
        return second
    shared = {name: _merged(first[name], second[name]) for name in first.keys() & second.keys()}
    return {**first, **second, **shared}


@dataclass(frozen=True)
class QAT:
    """Technique: training on with `bits` for weights and `activation_bits` for activations (0:
    float), of the first and the last layer `edge_bits`.

    step: grids follow the `ranges` of weights and activations, or their steps are `learned` (LSQ).
    delay: share of the stage's steps before activations are quantized; decay: of the moving average
    of their ranges, which begin at those of `calibration_images` images of the member's own
    training table (learned steps begin there and follow no average). freeze: share of the stage's
    steps after which batch norms are frozen; 1 is never. granularity: as that of `Quantize`.
    """

    bits: int = 8
    activation_bits: int = 8
    edge_bits: int = 8
    delay: float = 0.0
    decay: float = 0.999
    calibration_images: int = 200
    step: str = "ranges"
    freeze: float = 1.0
    granularity: str = "auto"

    trains: ClassVar[bool] = True  # the step is followed by fine-tuning

    def describe(self) -> str:
        """A short name for people."""
        name = "LSQ" if self.step == "learned" else "QAT"
        words = [f"{name} W{self.bits}A{self.activation_bits}"]
        words += [f"per {self.granularity}"] * (self.granularity != "auto")
        words += [f"frozen norms from {self.freeze:g}"] * (self.freeze < 1)
        return " ".join(words)

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for a number or a word that cannot be used."""
        Quantize(self.bits, self.activation_bits, self.calibration_images).validate(
            name, smallest_kernel
        )
        require(
            2 <= self.edge_bits <= 16,
            f"{name}: edge_bits must lie in 2..16, not {self.edge_bits}.",
        )
        require(
            0 <= self.delay <= 1 and 0 <= self.decay < 1,
            f"{name}: delay must lie in [0, 1] and decay in [0, 1), not {self.delay} and "
            f"{self.decay}.",
        )
        choose(f"{name}: step", self.step, ("ranges", "learned"))
        choose(f"{name}: granularity", self.granularity, GRANULARITIES)
        require(
            0 <= self.freeze <= 1,
            f"{name}: freeze must lie in [0, 1], not {self.freeze}; 0.8 freezes batch norms for "
            "the last fifth of the steps, 1 never.",
        )

    def validate_behind(self, name: str, earlier: tuple) -> None:
        """Raise ValueError, starting with `name`, for a grid that would break a shared codebook."""
        require_granularity(name, self.granularity, earlier)

    @classmethod
    def examples(cls) -> tuple["QAT", ...]:
        """Settings that together use every word, for the contract tests."""
        return (
            cls(4, 4),
            cls(4, 8, delay=0.5, granularity="tensor"),
            cls(4, 4, step="learned", freeze=0.5),
        )

    def promise(self) -> str:
        """What every later step keeps, in words."""
        edges = f", of the first and the last layer {self.edge_bits}" if self.edge_bits else ""
        return f"weights on symmetric grids of {self.bits} bits{edges}"

    def static(self) -> tuple:
        """What decides the compiled program (besides the techniques before it)."""
        return ("qat", self.step, self.granularity, self.freeze < 1)

    def levels(self, steps: int) -> Mapping[str, np.generic]:
        """Traced numbers for a stage of `steps` steps."""
        return {
            "bits": np.int32(self.bits),
            "activation_bits": np.int32(self.activation_bits),
            "edge_bits": np.int32(self.edge_bits),
            "delay": np.int32(self.delay * steps),
            "decay": np.float32(self.decay),
            "freeze": np.int32(self.freeze * steps),
        }

    def grid(self, earlier: tuple) -> Grid:
        """The grid of kernels behind the techniques `earlier`."""
        return make_grid(self.granularity, earlier)

    def weight_bits(self, state: QATState, name: str, network: Any) -> int:
        """Bits of the kernel at path `name` of a network."""
        return int(bits_of(state, name, "bits", network.edges))

    def build(self, earlier: tuple, network: Any) -> Compressor:
        """The compressor for a network, of which it needs the names of the outermost layers."""
        rule = Rule(network.edges, self.grid(earlier), self.step == "learned", self.freeze < 1)
        return qat(rule)
