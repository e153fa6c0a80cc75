"""Post-hoc logit adjustment (Menon et al. 2021, arXiv 2007.07314): f - tau log pi.

pi are the classes' shares of the member's own training table.

It moves the bias of the last layer and nothing else, so it stands behind every other technique,
quantization included unless that puts biases on an integer grid, and a linear classifier's stored
bytes do not grow. A cosine classifier has no bias and gets one: C numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.compress.base import Compressor, Info, Levels, Variables
from rcm.config import require


class AdjustState(NamedTuple):
    """tau: float32 scalar; bias: float32 [C], what the last layer has from now on."""

    tau: Array
    bias: Array


def adjust(head: str) -> Compressor:
    """The adjustment of the layer `head`; levels {"tau"}, a scalar, and {"log_prior"} [C], float32.

    The bias is fixed when the stage begins.
    """

    def init(key: Array, variables: Variables, levels: Levels) -> AdjustState:
        tau = jnp.asarray(levels["tau"], jnp.float32)
        bias = _bias(variables, head)
        return AdjustState(tau, (0 if bias is None else bias) - tau * levels["log_prior"])

    def update(state: AdjustState, variables: Variables, info: Info):
        return variables, state  # `apply` imposes the bias

    def apply(variables: Variables, state: AdjustState) -> Variables:
        own = _bias(variables, head)
        own = jnp.zeros_like(state.bias) if own is None else own
        bias = jnp.where(state.tau != 0, state.bias, own)
        params = variables["params"]
        return {**variables, "params": {**params, head: {**params[head], "bias": bias}}}

    def check(variables: Variables, state: AdjustState) -> list[str]:
        own = _bias(variables, head)
        if float(state.tau) == 0 or np.array_equal(own, state.bias):
            return []
        return [f"{head}/bias: not the bias that the adjustment gave it."]

    return Compressor(init, update, apply, check)


def _bias(variables: Variables, head: str) -> Any:
    return variables["params"][head].get("bias")


@dataclass(frozen=True)
class Adjust:
    """Technique: logits minus tau times the log of each class's share of the training images."""

    tau: float = 1.0

    trains: ClassVar[bool] = False  # post-training
    repairs: ClassVar[bool] = True  # compresses nothing, so that a control has it, too

    def describe(self) -> str:
        """A short name for people."""
        return f"adjust {self.tau:g}"

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for a number that cannot be used."""
        require(self.tau >= 0, f"{name}: tau must be 0 (off) or above, not {self.tau}.")

    def validate_behind(self, name: str, earlier: Sequence[Any]) -> None:
        """Raise ValueError, starting with `name`, behind biases that must stay on a grid."""
        require(
            all(getattr(technique, "bias_bits", 0) == 0 for technique in earlier),
            f"{name}: adjust moves the last layer's bias off the grid of integer biases; leave "
            "bias_bits of quantize at 0, or adjust the loss instead.",
        )

    @classmethod
    def examples(cls) -> tuple["Adjust", ...]:
        """Settings that together use every word, for the contract tests."""
        return (cls(0.5),)

    def promise(self) -> str:
        """What every later step keeps, in words."""
        return f"the last layer's bias is adjusted by tau {self.tau:g}"

    def static(self) -> tuple:
        """What decides the compiled program."""
        return ("adjust",)

    def levels(self, steps: int, counts: Sequence[int] | np.ndarray) -> Mapping[str, Any]:
        """Traced numbers; counts [C]: training images of each class. The same for any steps."""
        share = np.asarray(counts, np.float64) / np.sum(counts)
        return {"tau": np.float32(self.tau), "log_prior": np.log(share).astype(np.float32)}

    def build(self, earlier: tuple, network: Any) -> Compressor:
        """The compressor for a network, of which it needs the name of the last layer."""
        return adjust(network.edges[-1])
