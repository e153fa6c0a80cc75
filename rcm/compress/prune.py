"""Magnitude pruning (Han et al. 2015, arXiv 1506.02626), one-shot or gradual.

Kept weights are exactly k = n - round(s n), per kernel or over the whole network; the product is
taken in float32 and halves round to even. Among equal magnitudes the lowest index (in row-major
order, kernels in tree order) is pruned first.

The gradual schedule is that of Zhu & Gupta 2017 (arXiv 1710.01878). A pruned weight never grows
back: its gradient is zero and the ranking sees it as zero, so masks are nested over time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.compress.base import Compressor, Info, Levels, Variables, kernels, with_kernels
from rcm.config import choose, require

SCOPES = ("layer", "global")
SCHEDULES = ("oneshot", "cubic")


class PruneState(NamedTuple):
    """masks: bool, True is kept, by kernel; sparsity: float32 scalar in force; levels: the goal."""

    masks: dict[str, Array]
    sparsity: Array
    levels: Levels


def prune(scope: str = "layer", schedule: str = "oneshot", every: int = 1) -> Compressor:
    """Magnitude pruning; levels {"sparsity"}, float32, and for `cubic` {"begin", "end"}.

    scope: `layer` prunes every kernel to the sparsity, `global` all of them together.
    schedule: `oneshot` fixes the mask at init; `cubic` raises the sparsity from step begin to step
    end as 1 - (1 - t)^3 of the goal and recomputes the mask when the step is a multiple of `every`,
    never to a lower sparsity than is in force, so a state may be carried into a later stage.
    Effective weights are where(mask, w, 0): the gradient of pruned weights is zero.
    """

    def init(key: Array, variables: Variables, levels: Levels) -> PruneState:
        sparsity = _target(levels, jnp.int32(0), schedule)
        return PruneState(
            magnitude_masks(kernels(variables["params"]), sparsity, scope), sparsity, levels
        )

    def advance(state: PruneState, variables: Variables, step: Array) -> PruneState:
        sparsity = jnp.maximum(_target(state.levels, step, schedule), state.sparsity)
        masked = kernels(apply(variables, state)["params"])
        return PruneState(magnitude_masks(masked, sparsity, scope), sparsity, state.levels)

    def update(state: PruneState, variables: Variables, info: Info):
        if schedule == "cubic":
            state = jax.lax.cond(
                info.step % every == 0,
                lambda: advance(state, variables, info.step),
                lambda: state,
            )
        return apply(variables, state), state

    def apply(variables: Variables, state: PruneState) -> Variables:
        found = kernels(variables["params"])
        masked = {name: jnp.where(state.masks[name], w, 0) for name, w in found.items()}
        return with_kernels(variables, masked)

    def check(variables: Variables, state: PruneState) -> list[str]:
        return _violations(kernels(variables["params"]), state, scope)

    return Compressor(init, update, apply, check)


def cubic_sparsity(final: Array, begin: Array, end: Array, step: Array) -> Array:
    """s_f (1 - (1 - t)^3) with t = (step - begin)/(end - begin) clipped to [0, 1] (Zhu & Gupta).

    float32 scalar. When end <= begin the sparsity jumps to `final` at step `begin`.
    """
    step, begin, end = (jnp.asarray(x, jnp.float32) for x in (step, begin, end))
    ramp = (step - begin) / jnp.maximum(end - begin, 1)
    progress = jnp.where(end > begin, jnp.clip(ramp, 0, 1), (step >= begin).astype(jnp.float32))
    return final * (1 - (1 - progress) ** 3)


def pruned_count(sparsity: Array | float, size: int) -> Array:
    """round(sparsity * size), half to even, product in float32; int32 scalar."""
    return jnp.round(jnp.asarray(sparsity, jnp.float32) * np.float32(size)).astype(jnp.int32)


def magnitude_masks(weights: dict[str, Array], sparsity: Array, scope: str) -> dict[str, Array]:
    """bool masks that prune the `pruned_count` smallest |w| of each kernel, or of all together."""
    if scope == "layer":
        return {name: _mask(w.ravel(), sparsity).reshape(w.shape) for name, w in weights.items()}
    flat = _mask(jnp.concatenate([w.ravel() for w in weights.values()]), sparsity)
    ends = np.cumsum([w.size for w in weights.values()])
    parts = jnp.split(flat, ends[:-1])
    pairs = zip(weights.items(), parts, strict=True)
    return {name: part.reshape(w.shape) for (name, w), part in pairs}


def _mask(flat: Array, sparsity: Array) -> Array:
    order = jnp.argsort(jnp.abs(flat), stable=True)
    kept = jnp.arange(flat.size) >= pruned_count(sparsity, flat.size)
    return jnp.zeros(flat.size, bool).at[order].set(kept, unique_indices=True)


def _target(levels: Levels, step: Array, schedule: str) -> Array:
    if schedule == "oneshot":
        return jnp.asarray(levels["sparsity"], jnp.float32)
    return cubic_sparsity(levels["sparsity"], levels["begin"], levels["end"], step)


def _violations(found: dict, state: PruneState, scope: str) -> list[str]:
    masks = {name: np.asarray(mask) for name, mask in state.masks.items()}
    lines = []
    for name, mask in masks.items():
        alive = np.count_nonzero(np.asarray(found[name])[~mask])
        if alive:
            lines.append(f"{name}: {alive} pruned weights are not zero.")
    if scope == "global":
        masks = {"all kernels": np.concatenate([mask.ravel() for mask in masks.values()])}
    for name, mask in masks.items():
        pruned, expected = np.count_nonzero(~mask), int(pruned_count(state.sparsity, mask.size))
        if pruned != expected:
            lines.append(f"{name}: {pruned} weights are pruned, expected {expected}.")
    return lines


@dataclass(frozen=True)
class Prune:
    """Technique: magnitude pruning to `sparsity` in [0, 1).

    begin and end (shares of the stage's steps) and every (steps) matter to the cubic schedule only.
    """

    sparsity: float = 0.5
    scope: str = "layer"
    schedule: str = "oneshot"
    begin: float = 0.0
    end: float = 0.75
    every: int = 10

    trains: ClassVar[bool] = True  # the step is followed by fine-tuning

    def describe(self) -> str:
        """A short name for people."""
        scope = " global" if self.scope == "global" else ""
        return f"prune {self.sparsity:.0%}{scope}"

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for a number or a word that cannot be used."""
        choose(f"{name}: scope", self.scope, SCOPES)
        choose(f"{name}: schedule", self.schedule, SCHEDULES)
        require(
            0 <= self.sparsity < 1,
            f"{name}: sparsity must lie in [0, 1), not {self.sparsity}; 0.9 prunes 90 %.",
        )
        require(
            0 <= self.begin <= self.end <= 1,
            f"{name}: begin and end are shares of the fine-tuning with 0 <= begin <= end <= 1, "
            f"not {self.begin} and {self.end}.",
        )
        require(self.every >= 1, f"{name}: every must be at least 1 step, not {self.every}.")

    def static(self) -> tuple:
        """What decides the compiled program."""
        return ("prune", self.scope, self.schedule, self.every if self.schedule == "cubic" else 0)

    def levels(self, steps: int) -> Mapping[str, np.generic]:
        """Traced numbers for a stage of `steps` steps; 0 steps prunes at once.

        The schedule's end is rounded down to a step at which the mask is recomputed and that the
        stage reaches, so that the final sparsity is always met exactly.
        """
        sparsity = {"sparsity": np.float32(self.sparsity)}
        if self.schedule == "oneshot":
            return sparsity
        end = max(min(int(self.end * steps), steps - 1), 0) // self.every * self.every
        begin = min(int(self.begin * steps), end)
        return {**sparsity, "begin": np.int32(begin), "end": np.int32(end)}

    def build(self, earlier: tuple) -> Compressor:
        """The compressor; it does not depend on what stands before it in the chain."""
        return prune(self.scope, self.schedule, self.every)
