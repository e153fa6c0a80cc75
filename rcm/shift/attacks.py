"""Adversarial images: what a model answers when pixels are moved against it, within a ball.

An attack is a pure function (logits, images, labels, keys, budget) -> images of one model, jitted
and vectorised by its caller; eps, steps and step sizes are traced. `logits` maps float32 images
[B, H, W, C] in [0, 1] to [B, K] and treats every image on its own. A compressed model is attacked
through the straight-through gradients of its layers (the gradient of a true integer graph is zero
nearly everywhere); `zero_gradients` measures where that fails, and `square` asks for no gradient.

- fgsm: one step along the sign of the gradient (Goodfellow et al. 2015, arXiv 1412.6572).
- pgd: projected steps from a random start, the best of several (Madry et al. 2018, 1706.06083).
- apgd: steps that shrink where they stop helping, with momentum (Croce & Hein 2020, 2003.01690);
  losses: cross-entropy, the difference of logits ratio, and its targeted form.
- square: random search by squares of +-eps (Andriushchenko et al. 2020, 1912.00049), L-inf.

A new attack is one function and one line in `ATTACKS`.
"""

import math
from collections.abc import Sequence

from jax import Array, lax

from rcm import config
from rcm.shift.apgd import TARGETS, apgd_ce, apgd_dlr, apgd_targeted
from rcm.shift.ball import (
    Budget,
    Found,
    Logits,
    better,
    cross_entropy,
    direction,
    fold,
    gradient_of,
    margin,
    project,
    random_start,
)
from rcm.shift.square import square


def zero_gradients(logits: Logits, images: Array, labels: Array) -> Array:
    """Share of exact zeros in the cross-entropy's gradient by the pixels of each image, [B]."""
    gradient = gradient_of(logits, images, lambda z: cross_entropy(z, labels))
    return (gradient == 0).mean((1, 2, 3))


def fgsm(logits: Logits, images: Array, labels: Array, keys: Array, budget: Budget) -> Array:
    """One step of length eps; draws nothing."""
    del keys
    gradient = gradient_of(logits, images, lambda z: cross_entropy(z, labels))
    moved = images + budget.eps * direction(gradient, budget.norm)
    return project(moved, images, budget)


def pgd(logits: Logits, images: Array, labels: Array, keys: Array, budget: Budget) -> Array:
    """The end of each restart is judged; an image that fools the model stays."""

    def step(_: Array, x: Array) -> Array:
        gradient = gradient_of(logits, x, lambda z: cross_entropy(z, labels))
        moved = x + budget.step_size * budget.eps * direction(gradient, budget.norm)
        return project(moved, images, budget)

    def restart(i: Array, found: Found) -> Found:
        x = random_start(fold(keys, i), images, budget)
        x = lax.fori_loop(0, budget.steps, step, x)
        return better(found, Found(x, margin(logits(x), labels)))

    start = Found(images, margin(logits(images), labels))
    return lax.fori_loop(0, budget.restarts, restart, start).images


ATTACKS = {
    "fgsm": fgsm,
    "pgd": pgd,
    "apgd_ce": apgd_ce,
    "apgd_dlr": apgd_dlr,
    "apgd_targeted": apgd_targeted,
    "square": square,
}
GRADIENT_FREE = ("square",)
NORMS = ("linf", "l2")
SMALLEST = 0.1  # eps; less is meant as a share of the range
CLASSES = {"apgd_dlr": 3, "apgd_targeted": 4}  # the fewest that an attack's loss is made of


def validate(attacks: Sequence[config.Attack], classes: int) -> None:
    """Raise ValueError for an attack that is unknown, impossible or without effect.

    classes: of the data set.
    """
    for attack in attacks:
        require, name = config.require, attack.name
        config.require_types("shift.attacks", attack)
        config.choose("attack", name, ATTACKS)
        config.choose(f"norm of the attack {name}", attack.norm, NORMS)
        require(
            isinstance(attack.eps, tuple)
            and len(attack.eps) > 0
            and all(type(eps) in (int, float) and 0 < eps < math.inf for eps in attack.eps),
            f"shift.attacks: eps of {name} must be positive 255ths, as (1, 2), not {attack.eps!r}; "
            "clean images are always tested.",
        )
        require(
            min(attack.eps) >= SMALLEST and (attack.norm != "linf" or max(attack.eps) <= 255),
            f"shift.attacks: eps of {name} counts 255ths of a pixel's range, from {SMALLEST} to "
            f"255, not {attack.eps}: 8 is what others write as 8/255.",
        )
        require(
            len({f"{eps:g}" for eps in attack.eps}) == len(attack.eps),
            f"shift.attacks: eps of {name} repeats itself: {attack.eps}.",
        )
        require(
            attack.restarts == 1 or name == "pgd",
            f"shift.attacks: {name} has no restarts; leave them at 1, or use pgd.",
        )
        require(
            0 < attack.steps < 2**31
            and 0 < attack.restarts < 2**31
            and 0 < attack.step_size < math.inf,
            f"shift.attacks: {name} needs at least one step and one restart, fewer than 2^31 of "
            "both, and a positive step size.",
        )
        require(
            name != "square" or attack.norm == "linf",
            "shift.attacks: square searches L-inf balls only; leave norm at linf.",
        )
        require(
            classes >= CLASSES.get(name, 2),
            f"shift.attacks: the loss of {name} compares {CLASSES.get(name)} classes, and the data "
            f"has {classes}; use apgd_ce.",
        )


def passes(attack: config.Attack, classes: int) -> float:
    """Forward passes for one image, a gradient counting as three; zero gradients included."""
    gradients = {"fgsm": 1, "pgd": attack.restarts * attack.steps, "square": attack.steps / 3}
    targets = min(TARGETS, classes - 1) if attack.name == "apgd_targeted" else 1
    return 3.0 * gradients.get(attack.name, targets * attack.steps) + 5
