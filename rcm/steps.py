"""What a pipeline step may do besides its technique: train by a recipe of its own, or rewind.

`Tuned`, `Rewound` and `FromStart` wrap a step that trains. This is the one place that sees through
them: `core` is what a step does to the network, `recipe_of` how it is trained.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rcm import config
from rcm.config import Finetune, Study, Train
from rcm.validation import validate_recipe


@dataclass(frozen=True)
class Tuned:
    """Pipeline step: `step`, trained by the study's `fine_tune` with some fields changed.

    step: `Finetune` or a technique that trains; changes: pairs of a field of `Train` and its value.
    Written `tuned(step, field=value, ...)`.
    """

    step: Any
    changes: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Rewound:
    """Pipeline step: `step`, trained by the study's main recipe from the share `to` of it on.

    The technique starts on the trained member: magnitudes of trained weights decide the mask. With
    `weights`, the weights then go back to what the dense member's were at step round(to * steps),
    and the rest of the main training is repeated under the mask: at to = 0 the lottery ticket of
    Frankle & Carbin 2019 (arXiv 1803.03635), above it rewinding to an early step (Frankle et al.
    2020, arXiv 1912.05671). Without, only the learning rates go back (Renda et al. 2020, arXiv
    2003.02389). The optimizer starts anew, and batches come in an order of their own, as in every
    later stage: what is rewound is the recipe, not the data.
    """

    step: Any
    to: float = 0.05
    weights: bool = True


@dataclass(frozen=True)
class FromStart:
    """Pipeline step: `step` on the untrained network, trained by the study's main recipe.

    The first of its pipeline. Weights and batches are those of the dense member, which it is
    compared with: sparse training that never was dense (`DynamicSparse`), or pruning at
    initialisation (`Prune` by `taylor` with begin = end = 0 is SNIP).
    """

    step: Any


def tuned(step: Any, **changes: Any) -> Tuned:
    """`step` with a fine-tuning recipe of its own: `tuned(Prune(0.5), loss="logit_adjusted")`.

    Fields of `config.Train` that are not named are those of the study's `fine_tune`; epochs put
    its steps out of force. What cannot be is refused when the plan is made.
    """
    floats = {field.name for field in dataclasses.fields(Train) if field.type is float}
    whole = {k: v for k, v in changes.items() if k in floats and type(v) is int}
    return Tuned(step, tuple({**changes, **{k: float(v) for k, v in whole.items()}}.items()))


WRAPPERS = (Tuned, Rewound, FromStart)


def core(step: Any) -> Any:
    """What a step does to the network: the step itself, taken out of its wrapper."""
    return step.step if isinstance(step, WRAPPERS) else step


def trains(step: Any) -> bool:
    """Whether a step of one network spends a training budget."""
    return isinstance(core(step), Finetune) or getattr(core(step), "trains", False)


def repairs(step: Any) -> bool:
    """Whether a step compresses nothing but repairs a finished network (`Adjust`)."""
    return getattr(step, "repairs", False)


def techniques(steps: Sequence[Any]) -> tuple:
    """The techniques among steps of one network, in order."""
    return tuple(core(step) for step in steps if not isinstance(core(step), Finetune))


def rewinds_weights(step: Any) -> bool:
    """Whether the step begins from weights of the dense member's early training."""
    return isinstance(step, Rewound) and step.weights


def first_step(step: Any, steps: int) -> int:
    """Steps of a recipe of `steps` steps that lie before the stage of a pipeline step; at least one
    is left."""
    return min(round(step.to * steps), steps - 1) if isinstance(step, Rewound) else 0


def recipe_of(step: Any, study: Study) -> Train | None:
    """The recipe that a step of one network is trained by; None if it is not."""
    if not trains(step):
        return None
    if isinstance(step, Rewound | FromStart):
        return canonical(study.train)
    return canonical(changed(study.fine_tune, step.changes if isinstance(step, Tuned) else ()))


def changed(recipe: Train, changes: tuple[tuple[str, Any], ...]) -> Train:
    """The recipe with other fields; epochs without steps put the recipe's steps out of force."""
    fields = dict(changes)
    if "epochs" in fields:
        fields.setdefault("steps", 0)
    return dataclasses.replace(recipe, **fields)


def canonical(recipe: Train) -> Train:
    """The recipe with what plays no part at its default, so that equal trainings are one.

    A mixing of 0 is no teacher, and an ensemble of one is the dense member.
    """
    default = Train()
    if not recipe.teacher or recipe.mixing == 0:
        words = ("teacher", "teachers", "distillation", "temperature", "mixing")
        return dataclasses.replace(recipe, **{name: getattr(default, name) for name in words})
    if recipe.teacher == "ensemble" and recipe.teachers > 1:
        return recipe
    return dataclasses.replace(recipe, teacher="dense", teachers=default.teachers)


def describe_wrapper(step: Any) -> str:
    """What a wrapper adds to the name of its step, such as ` (tau 1.5)`; "" for none."""
    if isinstance(step, Tuned) and step.changes:
        return f" ({', '.join(f'{name} {_shown(value)}' for name, value in step.changes)})"
    if isinstance(step, Rewound):
        what = "rewound" if step.weights else "learning rate rewound"
        return f" ({what} to {100 * step.to:g}%)"
    return " (from the start)" if isinstance(step, FromStart) else ""


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value != "" else "none"


def control_steps(steps: Sequence[Any], study: Study) -> tuple:
    """The dense control of a pipeline: for every step that trains, `Finetune` by its recipe.

    A step from the start has the dense member's own budget and adds nothing. What repairs stays: a
    loss for long tails is part of the control's recipe, so an adjustment after training is, too.
    Recipes are written by their difference from `fine_tune`, so that equal controls are one.
    """
    extra = (step for step in steps if trains(step) or repairs(step))
    return tuple(_control_step(step, study) for step in extra if not isinstance(step, FromStart))


def _control_step(step: Any, study: Study) -> Any:
    if repairs(step):
        return step
    if isinstance(step, Rewound):
        return Rewound(Finetune(), step.to, weights=False)
    if not isinstance(step, Tuned) or recipe_of(step, study) == canonical(study.fine_tune):
        return Finetune()
    recipe = changed(study.fine_tune, step.changes)
    names = [field.name for field in dataclasses.fields(Train)]
    differs = [n for n in names if getattr(recipe, n) != getattr(study.fine_tune, n)]
    if "epochs" in differs and recipe.steps == 0:  # which epochs alone imply
        differs = [name for name in differs if name != "steps"]
    return Tuned(Finetune(), tuple((name, getattr(recipe, name)) for name in differs))


def control_name(steps: Sequence[Any]) -> str:
    """The name of a dense control with these steps: `finetune`, `finetune2`,
    `finetune_loss-logit_adjusted_tau-1.5`, `finetune_from-0.05`, `finetune-then-adjust-1`; letters,
    digits, '_', '-', '.'."""
    runs: list[list] = []
    for step in steps:
        if runs and runs[-1][0] == step:
            runs[-1][1] += 1
        else:
            runs.append([step, 1])
    return "-then-".join(_name(step, count) for step, count in runs)


def _name(step: Any, count: int) -> str:
    if repairs(step):
        return step.describe().replace(" ", "-")
    name = "finetune" if count == 1 else f"finetune{count}"
    if isinstance(step, Rewound):
        return f"{name}_from-{step.to!r}"
    changes = step.changes if isinstance(step, Tuned) else ()
    return "_".join([name, *(f"{field}-{_plain(value)}" for field, value in changes)])


def _plain(value: Any) -> str:
    return repr(value) if isinstance(value, float) else _shown(value)


def validate_wrapper(name: str, step: Any, study: Study) -> None:
    """Raise ValueError, starting with `name`, for a wrapper whose step does not train or whose
    recipe cannot be trained by. Steps without a wrapper pass."""
    if not isinstance(step, WRAPPERS):
        return
    config.require(
        trains(step),
        f"{name}: {type(step).__name__} holds {core(step)!r}, which is not fine-tuned: expected "
        "Finetune or a technique that trains; write other steps without it.",
    )
    if isinstance(step, FromStart):
        config.require(
            not isinstance(core(step), Finetune),
            f"{name}: FromStart(Finetune()) is the dense member itself; leave it out.",
        )
        return
    if isinstance(step, Rewound):
        config.require(0 <= step.to < 1, f"{name}: Rewound needs to in [0, 1), not {step.to}.")
        return
    pairs = isinstance(step.changes, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 for pair in step.changes
    )
    config.require(
        pairs, f"{name}: Tuned holds {step.changes!r}: write it as tuned(step, field=value)."
    )
    for field, _ in step.changes:
        config.choose(f"field of {name}: tuned", field, Train.__dataclass_fields__)
    recipe = changed(study.fine_tune, step.changes)
    config.require_types(f"{name}: tuned", recipe)
    validate_recipe(f"{name}: tuned", recipe)
