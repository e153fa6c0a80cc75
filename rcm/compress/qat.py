"""Quantization-aware training: weights and activations are on their grids while it trains.

Weights have symmetric grids that follow their present ranges, activations asymmetric ones whose
ranges begin at calibrated values and then follow a moving average of each batch's (Jacob et al.
2018, arXiv 1712.05877, section 3); gradients pass straight through rounding. Batch norms stay what
they are: a per-channel grid takes a norm's multiplier into its steps without moving an integer, so
nothing is lost by not folding while it trains. Behind clustering, kernels have one grid per tensor,
for the reason given in `quantize.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.compress.base import Compressor, Info, Levels, Variables, kernels, with_kernels
from rcm.compress.quantize import Quantize, on_grid, require_ranges, violations
from rcm.config import require


class QATState(NamedTuple):
    """The levels, and `active`: bool scalar, whether activations are quantized yet."""

    levels: Levels
    active: Array


def qat(edges: tuple[str, ...], per_channel: bool = True) -> Compressor:
    """Training-aware quantization; levels {"bits", "activation_bits", "edge_bits", "delay"}, int32,
    and {"decay"}, float32.

    edges: modules with `edge_bits` bits wherever the others have any. Activations stay float for
    the first `delay` steps of the stage, while their ranges are already followed: lo and hi become
    decay * old + (1 - decay) * the batch's. init raises ValueError without calibrated ranges.
    """

    def init(key: Array, variables: Variables, levels: Levels) -> QATState:
        require_ranges(variables, levels["activation_bits"])
        levels = {name: jnp.asarray(level) for name, level in levels.items()}
        return QATState(levels, levels["delay"] <= 0)

    def update(state: QATState, variables: Variables, info: Info):
        active = state.active | (info.step + 1 >= state.levels["delay"])
        return variables, state._replace(active=active)

    def apply(variables: Variables, state: QATState) -> Variables:
        found = kernels(variables["params"])
        gridded = {
            name: on_grid(kernel, bits_of(state, name, "bits", edges), per_channel)
            for name, kernel in found.items()
        }
        variables = with_kernels(variables, gridded)
        if "quant" not in variables:
            return variables

        def points(node: Any, name: str) -> Any:
            if "lo" not in node:
                return {part: points(child, name or part) for part, child in node.items()}
            bits = jnp.where(state.active, bits_of(state, name, "activation_bits", edges), 0)
            return {**node, "bits": bits, "decay": state.levels["decay"]}

        return {**variables, "quant": points(variables["quant"], "")}

    def check(variables: Variables, state: QATState) -> list[str]:
        found = kernels(variables["params"]).items()
        return [
            line
            for name, kernel in found
            for line in violations(
                {name: kernel}, int(bits_of(state, name, "bits", edges)), per_channel
            )
        ]

    return Compressor(init, update, apply, check)


def bits_of(state: QATState, name: str, kind: str, edges: tuple[str, ...]) -> Array:
    """Bits of the layer or kernel at path `name`; kind: `bits` or `activation_bits`."""
    bits = state.levels[kind]
    if name.split("/")[0] not in edges:
        return bits
    return jnp.where(bits > 0, state.levels["edge_bits"], 0)


@dataclass(frozen=True)
class QAT:
    """Technique: training on with `bits` for weights and `activation_bits` for activations (0:
    float), of the first and the last layer `edge_bits`.

    delay: share of the stage's steps before activations are quantized; decay: of the moving
    average of their ranges, which begin at those of `calibration_images` images of the member's
    own training table.
    """

    bits: int = 8
    activation_bits: int = 8
    edge_bits: int = 8
    delay: float = 0.0
    decay: float = 0.999
    calibration_images: int = 200

    trains: ClassVar[bool] = True  # the step is followed by fine-tuning

    def describe(self) -> str:
        """A short name for people: bits of weights and activations."""
        return f"QAT W{self.bits}A{self.activation_bits}"

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for a number that cannot be used."""
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

    def static(self) -> tuple:
        """What decides the compiled program (besides the techniques before it)."""
        return ("qat",)

    def levels(self, steps: int) -> Mapping[str, np.generic]:
        """Traced numbers for a stage of `steps` steps."""
        return {
            "bits": np.int32(self.bits),
            "activation_bits": np.int32(self.activation_bits),
            "edge_bits": np.int32(self.edge_bits),
            "delay": np.int32(self.delay * steps),
            "decay": np.float32(self.decay),
        }

    def build(self, earlier: tuple, network: Any) -> Compressor:
        """The compressor for a network, of which it needs the names of the outermost layers."""
        return qat(network.edges, Quantize.per_channel(earlier))
