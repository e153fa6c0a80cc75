"""Pruning of weights by a score, one-shot or gradual; `masks.py` says which weights go.

Scores (the lowest go first; a weight that is zero goes before all others):
- magnitude: |w| (Han et al. 2015, arXiv 1506.02626);
- random: uniform, drawn once;
- taylor: sum over steps of |w g|, the first-order change of the loss (Molchanov et al. 2017, arXiv
  1611.06440). On an untrained network with the mask cut at the first step this is SNIP (Lee et al.
  2019, arXiv 1810.02340);
- movement: -sum over steps of w g, weights that move away from zero (Sanh et al. 2020, arXiv
  2005.07683).

The gradual schedule is that of Zhu & Gupta 2017 (arXiv 1710.01878). A pruned weight never grows
back: its gradient is zero and it goes before all others, so masks are nested over time. That makes
`movement` the nested form of the paper's, where pruned weights may return.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.compress.base import Compressor, Info, Levels, Variables, kernels, with_kernels
from rcm.compress.masks import (
    SCOPES,
    STRUCTURES,
    make_masks,
    pruned_and_expected,
    random_scores,
)
from rcm.config import choose, require

SCORES = ("magnitude", "random", "taylor", "movement")
FROM_GRADIENTS = ("taylor", "movement")
SCHEDULES = ("oneshot", "cubic")
LARGEST_GROUP = 64


class Rule(NamedTuple):
    """What is static about pruning: see `Prune`."""

    score: str = "magnitude"
    scope: str = "layer"
    structure: str = "weights"
    group: int = 1
    schedule: str = "oneshot"
    every: int = 1


class PruneState(NamedTuple):
    """masks: bool, True is kept, by kernel; sparsity: float32 scalar in force; levels: the goal;
    scores: float32, by kernel, what was drawn or summed up so far; empty for `magnitude`."""

    masks: dict[str, Array]
    sparsity: Array
    levels: Levels
    scores: dict[str, Array]


def prune(rule: Rule) -> Compressor:
    """Pruning; levels {"sparsity"}, float32, and for `cubic` {"begin", "end"}, int32 steps.

    `oneshot` fixes the mask at init; `cubic` raises the sparsity from step begin to step end as
    1 - (1 - t)^3 of the goal and recomputes the mask when the step is a multiple of `every`, never
    to a lower sparsity than is in force, so a state may be carried into a later stage. Scores from
    gradients are sums over the stage so far, the present step included: they need `cubic`, and
    nothing is pruned at init. Effective weights are where(mask, w, 0): the gradient of pruned
    weights is zero.
    """

    def init(key: Array, variables: Variables, levels: Levels) -> PruneState:
        found = kernels(variables["params"], depthwise=False)
        sparsity = _target(levels, jnp.int32(0), rule)
        if rule.score in FROM_GRADIENTS:
            sparsity = jnp.zeros_like(sparsity)
        state = PruneState({}, sparsity, levels, _first_scores(key, found, rule.score))
        return state._replace(masks=_masks(found, state, rule))

    def advance(state: PruneState, variables: Variables, step: Array) -> PruneState:
        sparsity = jnp.maximum(_target(state.levels, step, rule), state.sparsity)
        found = kernels(apply(variables, state)["params"], depthwise=False)
        state = state._replace(sparsity=sparsity)
        return state._replace(masks=_masks(found, state, rule))

    def update(state: PruneState, variables: Variables, info: Info):
        if rule.score in FROM_GRADIENTS:
            state = state._replace(scores=_add_scores(state, info, rule.score))
        if rule.schedule == "cubic":
            state = jax.lax.cond(
                info.step % rule.every == 0,
                lambda: advance(state, variables, info.step),
                lambda: state,
            )
        return apply(variables, state), state

    def apply(variables: Variables, state: PruneState) -> Variables:
        found = kernels(variables["params"], depthwise=False)
        masked = {name: jnp.where(state.masks[name], w, 0) for name, w in found.items()}
        return with_kernels(variables, masked)

    def check(variables: Variables, state: PruneState) -> list[str]:
        return _violations(kernels(variables["params"], depthwise=False), state, rule)

    return Compressor(init, update, apply, check)


def cubic_sparsity(final: Array, begin: Array, end: Array, step: Array) -> Array:
    """s_f (1 - (1 - t)^3) with t = (step - begin)/(end - begin) clipped to [0, 1] (Zhu & Gupta).

    float32 scalar. When end <= begin the sparsity jumps to `final` at step `begin`.
    """
    step, begin, end = (jnp.asarray(x, jnp.float32) for x in (step, begin, end))
    ramp = (step - begin) / jnp.maximum(end - begin, 1)
    progress = jnp.where(end > begin, jnp.clip(ramp, 0, 1), (step >= begin).astype(jnp.float32))
    return final * (1 - (1 - progress) ** 3)


def _target(levels: Levels, step: Array, rule: Rule) -> Array:
    if rule.schedule == "oneshot":
        return jnp.asarray(levels["sparsity"], jnp.float32)
    return cubic_sparsity(levels["sparsity"], levels["begin"], levels["end"], step)


def _first_scores(key: Array, found: dict[str, Array], score: str) -> dict[str, Array]:
    if score == "magnitude":
        return {}
    if score in FROM_GRADIENTS:
        return {name: jnp.zeros(w.shape) for name, w in found.items()}
    return random_scores(key, {name: w.shape for name, w in found.items()})


def _add_scores(state: PruneState, info: Info, score: str) -> dict[str, Array]:
    """The sums with this step's terms, of the weights at which the gradients were taken: those
    that the optimizer left would put the step itself, of the order of g^2, into the product."""
    weights = kernels(info.before, depthwise=False)
    gradients = kernels(info.grads, depthwise=False)
    change = {name: weights[name] * gradients[name] for name in weights}
    sign = jnp.abs if score == "taylor" else jnp.negative
    return {name: state.scores[name] + sign(change[name]) for name in weights}


def _masks(found: dict[str, Array], state: PruneState, rule: Rule) -> dict[str, Array]:
    scores = state.scores or {name: jnp.abs(w) for name, w in found.items()}
    dead = {name: w == 0 for name, w in found.items()}
    return make_masks(scores, dead, state.sparsity, rule.scope, rule.structure, rule.group)


def _violations(found: dict, state: PruneState, rule: Rule) -> list[str]:
    masks = {name: np.asarray(mask) for name, mask in state.masks.items()}
    lines = []
    for name, mask in masks.items():
        alive = np.count_nonzero(np.asarray(found[name])[~mask])
        if alive:
            lines.append(f"{name}: {alive} pruned weights are not zero.")
    for name, pruned, expected in pruned_and_expected(
        masks, state.sparsity, rule.scope, rule.structure, rule.group
    ):
        if pruned != expected and rule.structure == "n_of_m":
            lines.append(f"{name}: {pruned} zeros too many or too few in groups of {rule.group}.")
        elif pruned != expected:
            lines.append(f"{name}: {pruned} weights are pruned, expected {expected}.")
    return lines


@dataclass(frozen=True)
class Prune:
    """Technique: pruning to `sparsity` in [0, 1); the words are those of the module and `masks`.

    group: size of a block or of an N:M group, of which round(sparsity * group) are pruned. begin
    and end (shares of the stage's steps) and every (steps) matter to the cubic schedule only, which
    cuts at once where begin = end. Depthwise kernels stay dense.
    """

    sparsity: float = 0.5
    scope: str = "layer"
    schedule: str = "oneshot"
    begin: float = 0.0
    end: float = 0.75
    every: int = 10
    score: str = "magnitude"
    structure: str = "weights"
    group: int = 4

    trains: ClassVar[bool] = True  # the step is followed by fine-tuning

    def describe(self) -> str:
        """A short name for people."""
        pattern = {
            "weights": "",
            "block": f" blocks of {self.group}",
            "n_of_m": f" {self.group - self.of_group}:{self.group}",
        }
        scope = "" if self.scope == "layer" else f" {self.scope}"
        score = "" if self.score == "magnitude" else f" {self.score}"
        return f"prune {100 * self.sparsity:g}%{scope}{score}{pattern[self.structure]}"

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for a number or a word that cannot be used."""
        choose(f"{name}: scope", self.scope, SCOPES)
        choose(f"{name}: schedule", self.schedule, SCHEDULES)
        choose(f"{name}: score", self.score, SCORES)
        choose(f"{name}: structure", self.structure, STRUCTURES)
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
        require(
            self.score not in FROM_GRADIENTS or self.schedule == "cubic",
            f"{name}: the score {self.score!r} needs gradients, which come with training: use "
            "schedule='cubic' (with begin = end the mask is cut at once).",
        )
        require(
            2 <= self.group <= LARGEST_GROUP,
            f"{name}: group must lie in 2..{LARGEST_GROUP}, not {self.group}.",
        )
        require(
            self.structure != "n_of_m" or self.scope == "layer",
            f"{name}: an N:M pattern prunes every group alike; leave scope at 'layer'.",
        )
        require(
            self.structure != "n_of_m" or self.sparsity == 0 or 0 < self.of_group < self.group,
            f"{name}: a sparsity of {self.sparsity} would prune {self.of_group} of every "
            f"{self.group} weights; choose one that leaves some and takes some.",
        )

    @classmethod
    def examples(cls) -> tuple["Prune", ...]:
        """Settings that together use every word, for the contract tests."""
        return (
            cls(0.7),
            cls(0.7, scope="global"),
            cls(0.9, schedule="cubic", end=1.0, every=2),
            cls(0.7, scope="erk", score="random"),
            cls(0.5, structure="n_of_m", group=2),
            cls(0.5, "layer", "cubic", 0.0, 1.0, 2, score="taylor", structure="block"),
            cls(0.5, schedule="cubic", end=1.0, every=1, score="movement"),
        )

    def promise(self) -> str:
        """What every later step keeps, in words."""
        where = {"layer": "each kernel", "global": "all kernels together", "erk": "kernels by ERK"}
        if self.structure == "n_of_m":
            return (
                f"exactly {self.of_group} zeros in every {self.group} neighbouring inputs of each "
                "kernel that divides into them"
            )
        blocks = f" that divide into blocks of {self.group}" if self.structure == "block" else ""
        return f"exactly {100 * self.sparsity:g}% zeros in {where[self.scope]}{blocks}"

    @property
    def of_group(self) -> int:
        """Pruned weights of an N:M group."""
        return round(float(np.float32(self.sparsity) * np.float32(self.group)))

    @property
    def rule(self) -> Rule:
        """The static part, without what plays no role."""
        return Rule(
            score=self.score,
            scope=self.scope,
            structure=self.structure,
            group=1 if self.structure == "weights" else self.group,
            schedule=self.schedule,
            every=self.every if self.schedule == "cubic" else 1,
        )

    def static(self) -> tuple:
        """What decides the compiled program."""
        return ("prune", *self.rule)

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

    def build(self, earlier: tuple, network: Any) -> Compressor:
        """The compressor; it depends neither on the chain before it nor on the network."""
        return prune(self.rule)
