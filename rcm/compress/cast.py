"""Weights in a shorter float format, float16 or bfloat16, at 2 bytes each.

The forward pass computes in the network's own precision with weights that the format holds. Zeros
stay zeros and equal weights stay equal, so casting can follow pruning and clustering. Rounding is
straight-through, so the float32 weights may be trained behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm import numerics
from rcm.compress.base import Compressor, Info, Levels, Variables, kernels, map_kernels
from rcm.config import choose

FORMATS = numerics.FLOAT_FORMATS[1:]


class CastState(NamedTuple):
    """code: int32 scalar, the place of the format in `numerics.FLOAT_FORMATS`; 0 is off."""

    code: Array


def cast() -> Compressor:
    """Casting; levels {"code"}, int32, 0 (off), 1 (float16) or 2 (bfloat16)."""

    def init(key: Array, variables: Variables, levels: Levels) -> CastState:
        return CastState(jnp.asarray(levels["code"], jnp.int32))

    def update(state: CastState, variables: Variables, info: Info):
        return variables, state  # nothing to restore: `apply` imposes the format

    def apply(variables: Variables, state: CastState) -> Variables:
        params = map_kernels(lambda w: numerics.fake_cast(w, state.code), variables["params"])
        return {**variables, "params": params}

    def check(variables: Variables, state: CastState) -> list[str]:
        code, lines = int(state.code), []
        for name, kernel in kernels(variables["params"]).items() if code else ():
            kernel = np.asarray(kernel)
            off = np.count_nonzero(kernel != from_halves(halves(kernel, code), code))
            if off:
                lines.append(
                    f"{name}: {off} weights are no {numerics.FLOAT_FORMATS[code]} numbers."
                )
        return lines

    return Compressor(init, update, apply, check)


def halves(kernel: np.ndarray, code: int) -> np.ndarray:
    """The bit patterns, uint16, of float32 numbers that the format holds; others are rounded
    (float16, beyond its range to infinity) or cut off (bfloat16)."""
    kernel = np.asarray(kernel, np.float32)
    if code == 1:
        with np.errstate(over="ignore"):
            return kernel.astype(np.float16).view(np.uint16)
    return (kernel.view(np.uint32) >> 16).astype(np.uint16)


def from_halves(patterns: np.ndarray, code: int) -> np.ndarray:
    """The float32 numbers of `halves`."""
    if code == 1:
        return patterns.view(np.float16).astype(np.float32)
    return (patterns.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class Cast:
    """Technique: kernels as `float16` or `bfloat16`; norms and biases stay float32."""

    format: str = "float16"

    trains: ClassVar[bool] = False  # post-training

    def describe(self) -> str:
        """A short name for people."""
        return self.format

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for an unknown format."""
        choose(f"{name}: format", self.format, FORMATS)

    @classmethod
    def examples(cls) -> tuple["Cast", ...]:
        """Settings that together use every word, for the contract tests."""
        return (
            cls("bfloat16"),
            cls("float16"),
        )

    def promise(self) -> str:
        """What every later step keeps, in words."""
        return f"weights are {self.format} numbers"

    def static(self) -> tuple:
        """What decides the compiled program."""
        return ("cast",)

    def levels(self, steps: int) -> Mapping[str, np.generic]:
        """Traced numbers; the same for any number of steps."""
        return {"code": np.int32(numerics.FLOAT_FORMATS.index(self.format))}

    def build(self, earlier: tuple, network: Any) -> Compressor:
        """The compressor; it depends neither on the chain before it nor on the network."""
        return cast()
