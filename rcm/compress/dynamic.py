"""Dynamic sparse training: the number of weights stays, which weights there are is learned.

Every `every` steps each kernel drops a share of its weights, the smallest, and grows as many where
there are none: where the gradient is largest (RigL, Evci et al. 2020, arXiv 1911.11134) or anywhere
(SET, Mocanu et al. 2018, arXiv 1707.04780). A grown weight begins at zero. The share falls as half
a cosine to the last change, or stays (SET); the published constants are the defaults: 30 %, every
100 steps, over the first three quarters of the training.

Unlike RigL, the step at which connections change also moves the weights, and the momentum of a
grown weight is what is left of it from before: it fades while the weight is absent, by 0.9^100
between changes, and is whole where a weight is dropped and grown at once. What SET drops are the
smallest positive and the largest negative weights, here simply the smallest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.compress.base import Compressor, Info, Levels, Variables, kernels, with_kernels
from rcm.compress.masks import counts, make_masks, random_scores
from rcm.compress.select import smallest
from rcm.config import choose, require

GROWTHS = ("gradient", "random")
STARTS = ("random", "magnitude")
DECAYS = ("cosine", "constant")
SCOPES = ("erk", "layer")


class Rule(NamedTuple):
    """What is static about dynamic sparse training: see `DynamicSparse`."""

    growth: str = "gradient"
    start: str = "random"
    scope: str = "erk"
    decay: str = "cosine"
    every: int = 100


class DynamicState(NamedTuple):
    """masks: bool, True is present, by kernel; age: int32 scalar, steps since init, in whatever
    stage; levels: the numbers in force."""

    masks: dict[str, Array]
    age: Array
    levels: Levels


def dynamic_sparse(rule: Rule) -> Compressor:
    """Dynamic sparse training; levels {"sparsity", "fraction"}, float32, and {"end"}, int32.

    Each kernel has its share of zeros from init on, by scope as in `masks.py`. In the first `end`
    steps, whenever the step is a multiple of `every`, round(share * present) weights move, at most
    as many as there are absent ones. Effective weights are where(mask, w, 0).
    """

    def init(key: Array, variables: Variables, levels: Levels) -> DynamicState:
        found = kernels(variables["params"], depthwise=False)
        scores = _draw(key, found) if rule.start == "random" else _sizes(found)
        dead = {name: w == 0 for name, w in found.items()}
        masks = make_masks(scores, dead, levels["sparsity"], rule.scope, "weights", 1)
        levels = {name: jnp.asarray(level) for name, level in levels.items()}
        return DynamicState(masks, jnp.int32(0), levels)

    def update(state: DynamicState, variables: Variables, info: Info):
        variables = apply(variables, state)
        age = state.age + 1
        variables, masks = jax.lax.cond(
            (info.step + 1) % rule.every == 0,
            lambda: _move(state._replace(age=age), variables, info, rule),
            lambda: (variables, state.masks),
        )
        return variables, state._replace(masks=masks, age=age)

    def apply(variables: Variables, state: DynamicState) -> Variables:
        found = kernels(variables["params"], depthwise=False)
        masked = {name: jnp.where(state.masks[name], w, 0) for name, w in found.items()}
        return with_kernels(variables, masked)

    def check(variables: Variables, state: DynamicState) -> list[str]:
        return _violations(kernels(variables["params"], depthwise=False), state, rule)

    return Compressor(init, update, apply, check)


def moving_share(levels: Levels, age: Array, decay: str) -> Array:
    """Share of a kernel's present weights that move at `age`, float32: fraction, or fraction / 2 *
    (1 + cos(pi age / end)); 0 from `end` on."""
    progress = age.astype(jnp.float32) / jnp.maximum(levels["end"], 1)
    factor = 0.5 * (1 + jnp.cos(jnp.pi * progress)) if decay == "cosine" else 1.0
    return jnp.where(age < levels["end"], levels["fraction"] * factor, 0)


def _move(
    state: DynamicState, variables: Variables, info: Info, rule: Rule
) -> tuple[Variables, dict[str, Array]]:
    """(variables, dropped and grown weights at zero, and the new masks)."""
    found, masks = kernels(variables["params"], depthwise=False), state.masks
    share = moving_share(state.levels, state.age, rule.decay)
    moving = {}
    for name, mask in masks.items():
        present = mask.sum(dtype=jnp.int32)
        wanted = jnp.round(share * present).astype(jnp.int32)
        moving[name] = jnp.minimum(wanted, mask.size - present)
    weights = {name: jnp.where(masks[name], jnp.abs(w), jnp.inf) for name, w in found.items()}
    dropped = smallest(weights, moving)
    left = {name: masks[name] & ~dropped[name] for name in masks}
    if rule.growth == "gradient":
        promise = _sizes(kernels(info.grads, depthwise=False))
    else:
        promise = _draw(info.key, found)
    candidates = {name: jnp.where(left[name], jnp.inf, -promise[name]) for name in masks}
    grown = smallest(candidates, moving)
    kept = {name: jnp.where(left[name], w, 0) for name, w in found.items()}
    return with_kernels(variables, kept), {name: left[name] | grown[name] for name in masks}


def _sizes(found: dict[str, Array]) -> dict[str, Array]:
    return {name: jnp.abs(x) for name, x in found.items()}


def _draw(key: Array, found: dict[str, Array]) -> dict[str, Array]:
    return random_scores(key, {name: x.shape for name, x in found.items()})


def _violations(found: dict, state: DynamicState, rule: Rule) -> list[str]:
    expected = counts(
        {name: mask.shape for name, mask in state.masks.items()},
        state.levels["sparsity"],
        rule.scope,
    )
    lines = []
    for name, mask in state.masks.items():
        absent = ~np.asarray(mask)
        alive = np.count_nonzero(np.asarray(found[name])[absent])
        if alive:
            lines.append(f"{name}: {alive} absent weights are not zero.")
        if absent.sum() != int(expected[name]):
            lines.append(
                f"{name}: {absent.sum()} weights are absent, expected {int(expected[name])}."
            )
    return lines


@dataclass(frozen=True)
class DynamicSparse:
    """Technique: training with a share `sparsity` of zeros, whose places move.

    growth: by `gradient` (RigL) or `random` (SET). start: which weights are there at first, drawn
    at `random` or the largest by `magnitude`, which suits a network that was trained before. scope:
    `erk` or `layer`. fraction: share of the present weights that move at first; decay: `cosine` or
    `constant`; every: steps between moves; end: share of the stage's steps after which nothing
    moves any more. Depthwise kernels stay dense.
    """

    sparsity: float = 0.9
    growth: str = "gradient"
    start: str = "random"
    scope: str = "erk"
    fraction: float = 0.3
    decay: str = "cosine"
    every: int = 100
    end: float = 0.75

    trains: ClassVar[bool] = True  # the step is followed by fine-tuning

    def describe(self) -> str:
        """A short name for people."""
        return f"{'RigL' if self.growth == 'gradient' else 'SET'} {100 * self.sparsity:g}%"

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for a number or a word that cannot be used."""
        choose(f"{name}: growth", self.growth, GROWTHS)
        choose(f"{name}: start", self.start, STARTS)
        choose(f"{name}: scope", self.scope, SCOPES)
        choose(f"{name}: decay", self.decay, DECAYS)
        require(
            0 <= self.sparsity < 1,
            f"{name}: sparsity must lie in [0, 1), not {self.sparsity}; 0.9 leaves 10 %.",
        )
        require(
            0 <= self.fraction <= 1 and 0 <= self.end <= 1,
            f"{name}: fraction and end are shares in [0, 1], not {self.fraction} and {self.end}.",
        )
        require(self.every >= 1, f"{name}: every must be at least 1 step, not {self.every}.")

    @classmethod
    def examples(cls) -> tuple["DynamicSparse", ...]:
        """Settings that together use every word, for the contract tests."""
        return (
            cls(0.6, every=2),
            cls(0.6, "random", "magnitude", "layer", decay="constant", every=1, end=1.0),
        )

    def promise(self) -> str:
        """What every later step keeps, in words."""
        where = {"layer": "each kernel", "erk": "kernels by ERK"}
        return f"exactly {100 * self.sparsity:g}% zeros in {where[self.scope]}"

    @property
    def rule(self) -> Rule:
        """The static part."""
        return Rule(self.growth, self.start, self.scope, self.decay, self.every)

    def static(self) -> tuple:
        """What decides the compiled program."""
        return ("dynamic_sparse", *self.rule)

    def levels(self, steps: int) -> Mapping[str, np.generic]:
        """Traced numbers for a stage of `steps` steps."""
        return {
            "sparsity": np.float32(self.sparsity),
            "fraction": np.float32(self.fraction),
            "end": np.int32(self.end * steps),
        }

    def build(self, earlier: tuple, network: Any) -> Compressor:
        """The compressor; it depends neither on the chain before it nor on the network."""
        return dynamic_sparse(self.rule)
