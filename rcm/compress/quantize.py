"""Simulated integer quantization of weights and activations, with batch-norm folding.

Weights lie on symmetric grids, one per output channel (the last axis) or one per tensor, or on
asymmetric ones; activations on one asymmetric grid per tensor (Jacob et al. 2018, arXiv 1712.05877)
or, `dynamic`, per image. The layers quantize activations themselves: `apply` only puts `bits`
beside the ranges that calibration left in the collection `quant`, or without a range.

Folding multiplies a kernel by its norm's per-channel multiplier. It commutes with symmetric
per-channel grids (the step is multiplied, the integers stay), but it would turn a codebook shared
by a whole tensor into one per channel. So behind clustering the pipeline has one grid per tensor
and does not fold: such a grid keeps at most K values per tensor, and an integer kernel absorbs the
norm's multiplier in its requantization multiplier. Likewise behind training on grids per tensor,
whose integers folding would change.

Ranges are those of the present weights and rounding is straight-through, so the float weights may
be trained behind the grid; with `fold` only with norms in inference mode, since a folded norm must
not normalise again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.compress import calibration
from rcm.compress.base import (
    Compressor,
    Info,
    Levels,
    Variables,
    kernels,
    map_points,
    with_kernels,
)
from rcm.compress.fold import bias_violations, fold_batch_norm, integer_biases
from rcm.compress.weight_grids import (
    GRANULARITIES,
    PER_CHANNEL,
    Grid,
    best_share,
    layer_bits,
    make_grid,
    on_grid,
    read_steps,
    require_granularity,
    step_of,
    violations,
)
from rcm.config import choose, require

MODES = ("static", "dynamic")
WIDTHS = ("bits", "activation_bits", "edge_bits", "bias_bits")


class Rule(NamedTuple):
    """What is static about quantization: see `Quantize`. edges: modules with `edge_bits` bits."""

    grid: Grid = PER_CHANNEL
    fold: bool = True
    edges: tuple[str, ...] = ()
    weight_range: str = "max"
    activations: str = "static"
    biased: bool = False


USUAL = Rule()


class QuantizeState(NamedTuple):
    """Bit widths, int32 scalars, of weights and activations, of both in the outer layers (0: like
    the others) and of biases; 0 is off. shares: of each kernel's range, where they were chosen."""

    bits: Array
    activation_bits: Array
    edge_bits: Array
    bias_bits: Array
    shares: dict[str, Array]


def quantize(rule: Rule = USUAL) -> Compressor:
    """Quantization; levels {"bits", "activation_bits", "edge_bits", "bias_bits"}, int32.

    init raises ValueError when activations are to be quantized statically (or might be: a traced
    level) but the variables hold no calibrated ranges. Folding is part of weight quantization:
    bits = 0 leaves kernels and norms as they are, to the bit.
    """

    def init(key: Array, variables: Variables, levels: Levels) -> QuantizeState:
        if rule.activations == "static":
            calibration.require_ranges(variables, levels["activation_bits"])
        bits, *rest = (jnp.asarray(levels[name], jnp.int32) for name in WIDTHS)
        state = QuantizeState(bits, rest[0], rest[1], rest[2], {})
        return state._replace(shares=_shares(variables, state, rule))

    def update(state: QuantizeState, variables: Variables, info: Info):
        return variables, state  # the grid is imposed by `apply`; float weights stay behind it

    def apply(variables: Variables, state: QuantizeState) -> Variables:
        variables = _folded(variables, state, rule)
        new, steps = {}, {}
        for name, kernel in kernels(variables["params"]).items():
            how = (bits_of(state, name, "bits", rule.edges), rule.grid, state.shares.get(name))
            new[name], steps[name] = on_grid(kernel, *how), step_of(kernel, *how)
        variables = with_kernels(variables, new)
        if rule.activations == "dynamic":
            bits = partial(bits_of, state, kind="activation_bits", edges=rule.edges)
            return {**variables, "quant": calibration.without_ranges(new, bits)}
        if "quant" not in variables:
            return variables

        def with_bits(name: str, node: Any) -> Any:
            return {**node, "bits": bits_of(state, name, "activation_bits", rule.edges)}

        variables = {**variables, "quant": map_points(with_bits, variables["quant"])}
        if not rule.biased:
            return variables
        return integer_biases(variables, steps, jnp.where(state.bits > 0, state.bias_bits, 0))

    def check(variables: Variables, state: QuantizeState) -> list[str]:
        lines, steps = [], {}
        for name, kernel in kernels(variables["params"]).items():
            bits = int(bits_of(state, name, "bits", rule.edges))
            lines += violations(name, kernel, bits, rule.grid)
            if bits:
                steps[name] = read_steps(np.asarray(kernel), bits, rule.grid)
        return lines + bias_violations(variables, steps, int(state.bias_bits))

    return Compressor(init, update, apply, check)


def bits_of(state: QuantizeState, name: str, kind: str, edges: tuple[str, ...]) -> Array:
    """Bits of the layer or kernel at path `name`; kind: `bits` or `activation_bits`."""
    return layer_bits(getattr(state, kind), state.edge_bits, name, edges)


def _shares(variables: Variables, state: QuantizeState, rule: Rule) -> dict[str, Array]:
    """The share of each kernel's range that is covered; none for the whole of it."""
    if rule.weight_range == "max":
        return {}
    return {
        name: best_share(kernel, bits_of(state, name, "bits", rule.edges), rule.grid)
        for name, kernel in kernels(_folded(variables, state, rule)["params"]).items()
    }


def _folded(variables: Variables, state: QuantizeState, rule: Rule) -> Variables:
    if not rule.fold:
        return variables
    on, folded = state.bits > 0, fold_batch_norm(variables)
    return jax.tree.map(lambda new, old: jnp.where(on, new, old), folded, variables)


@dataclass(frozen=True)
class Quantize:
    """Technique: `bits` for weights, `activation_bits` for activations (0: float).

    weights: grids that are `symmetric` or `asymmetric`, by `granularity` one per `channel` or per
    `tensor`; `auto` is per channel, but per tensor behind clustering or QAT per tensor.
    weight_range: covered is the `max`, or the share of it with the least squared error, `mse`.

    activations: ranges are `static`, of `calibration_images` images of the member's own training
    table by the method `calibration` (`minmax`, `moving_average`, `percentile` with `percentile` in
    per cent, or `mse`), or `dynamic`, those of each image, which need no calibration and make no
    prediction depend on the other images of a batch.

    edge_bits: of weights and activations in the first and the last layer; 0 is like the others.
    bias_bits: 32 puts biases on the grid that integer arithmetic adds them on; 0 leaves them
    float32. The difference is far below a step of any activation.
    """

    bits: int = 8
    activation_bits: int = 8
    calibration_images: int = 200
    weights: str = "symmetric"
    granularity: str = "auto"
    weight_range: str = "max"
    activations: str = "static"
    calibration: str = "minmax"
    percentile: float = 99.9
    edge_bits: int = 0
    bias_bits: int = 0

    trains: ClassVar[bool] = False  # post-training: calibrated, not fine-tuned

    def describe(self) -> str:
        """A short name for people: bits of weights and activations, and what is not usual."""
        words = (self.weights, self.activations, self.calibration, self.granularity)
        usual = ("symmetric", "static", "minmax", "auto")
        told = [word for word, plain in zip(words, usual, strict=True) if word != plain]
        told += [f"{self.percentile:g} %"] * (self.calibration == "percentile")
        told += ["weights mse"] * (self.weight_range == "mse")
        told += [f"edges {self.edge_bits}"] * (self.edge_bits > 0)
        told += [f"bias {self.bias_bits}"] * (self.bias_bits > 0)
        return " ".join([f"int W{self.bits}A{self.activation_bits}", *told])

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for a number or a word that cannot be used."""
        require(
            2 <= self.bits <= 16,
            f"{name}: bits must lie in 2..16, not {self.bits}; a symmetric grid of 1 bit holds "
            "nothing but zero, and to quantize no weights leave the step out.",
        )
        require(
            0 <= self.activation_bits <= 16,
            f"{name}: activation_bits must be 0 (float) or lie in 1..16, "
            f"not {self.activation_bits}.",
        )
        require(
            self.calibration_images >= 1,
            f"{name}: calibration_images must be at least 1, not {self.calibration_images}.",
        )
        choose(f"{name}: weights", self.weights, ("symmetric", "asymmetric"))
        choose(f"{name}: granularity", self.granularity, GRANULARITIES)
        choose(f"{name}: weight_range", self.weight_range, ("max", "mse"))
        choose(f"{name}: activations", self.activations, MODES)
        choose(f"{name}: calibration", self.calibration, calibration.METHODS)
        require(
            50 < self.percentile <= 100,
            f"{name}: percentile must lie in (50, 100], not {self.percentile}; 99.9 leaves out the "
            "largest and the smallest thousandth of the values.",
        )
        require(
            self.edge_bits == 0 or 2 <= self.edge_bits <= 16,
            f"{name}: edge_bits must be 0 (like the other layers) or lie in 2..16, "
            f"not {self.edge_bits}.",
        )
        self._validate_modes(name)

    def _validate_modes(self, name: str) -> None:
        dynamic = self.activations == "dynamic"
        require(
            not dynamic or (self.activation_bits > 0 and self.calibration == "minmax"),
            f"{name}: dynamic activations take each image's own range: they need activation_bits "
            "above 0 and calibration left at 'minmax'.",
        )
        require(
            self.bias_bits == 0 or 8 <= self.bias_bits <= 32,
            f"{name}: bias_bits must be 0 (float32) or lie in 8..32, not {self.bias_bits}.",
        )
        require(
            self.bias_bits == 0 or (self.activation_bits > 0 and not dynamic),
            f"{name}: integer biases need static integer activations, whose step is part of "
            "theirs; use activation_bits above 0 and activations 'static', or bias_bits 0.",
        )

    def validate_behind(self, name: str, earlier: tuple) -> None:
        """Raise ValueError, starting with `name`, for a grid that would break a shared codebook."""
        require_granularity(name, self.granularity, earlier)

    @classmethod
    def examples(cls) -> tuple["Quantize", ...]:
        """Settings that together use every word, for the contract tests."""
        return (
            cls(4, 8),
            cls(4, 4, weights="asymmetric", activations="dynamic", weight_range="mse", edge_bits=8),
            cls(8, 8, weights="asymmetric", granularity="tensor", bias_bits=32),
        )

    def promise(self) -> str:
        """What every later step keeps, in words."""
        return f"weights on {self.weights} grids of {self.bits} bits"

    def static(self) -> tuple:
        """What decides the compiled program (besides the techniques before it)."""
        words = (self.weights, self.granularity, self.weight_range, self.activations)
        return ("quantize", *words, self.calibration, self.bias_bits > 0)

    def levels(self, steps: int) -> Mapping[str, np.generic]:
        """Traced numbers; the same for any number of steps."""
        widths = {name: np.int32(getattr(self, name)) for name in WIDTHS}
        return {**widths, "percentile": np.float32(self.percentile)}

    def observer(self, levels: Levels, network: Any) -> Callable | None:
        """(path, input) -> (lo, hi) of a quantization point, for `calibration.observe`; None for
        `minmax`, which the layers observe themselves."""
        widths = (levels["activation_bits"], levels["edge_bits"])
        bits = partial(layer_bits, *widths, edges=network.edges)
        return calibration.observer(self.calibration, levels["percentile"], bits)

    def grid(self, earlier: tuple) -> Grid:
        """The grid of kernels behind the techniques `earlier`."""
        return make_grid(self.granularity, earlier, self.weights == "symmetric")

    def weight_bits(self, state: QuantizeState, name: str, network: Any) -> int:
        """Bits of the kernel at path `name`; network: None where no layer is told apart."""
        return int(bits_of(state, name, "bits", network.edges if network else ()))

    def build(self, earlier: tuple, network: Any) -> Compressor:
        """The compressor: per channel and folded, but neither behind clustering nor behind training
        on grids per tensor. Without a network no layer is told apart."""
        where = (make_grid("auto", earlier).per_channel, network.edges if network else ())
        words = (self.weight_range, self.activations, self.bias_bits > 0)
        return quantize(Rule(self.grid(earlier), *where, *words))
