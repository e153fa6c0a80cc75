"""A study's pipelines: what steps are called, which controls they need, what they may hold."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rcm import config
from rcm.compress import TECHNIQUES, Adjust, DynamicSparse, Prune, Quantize, validate_chain
from rcm.compress.base import kernels
from rcm.config import DENSE, Distill, Finetune, Pipeline, Replica, Scratch, Study
from rcm.data.datasets import Dataset
from rcm.steps import (
    FromStart,
    Rewound,
    canonical,
    control_name,
    control_steps,
    core,
    describe_wrapper,
    recipe_of,
    repairs,
    rewinds_weights,
    techniques,
    trains,
    validate_wrapper,
)
from rcm.train import fit
from rcm.validation import validate_distillation

REPAIRS = ("loss", "tau", "weights", "sampling", "defer")  # what in a recipe helps rare classes


def control_of(pipeline: Pipeline, study: Study) -> Pipeline | None:
    """What a pipeline is compared with, unless that is the dense member: then None.

    The dense member with the extra budget and the repairs of the pipeline's steps or, for a
    student, its own network trained alone and then for the budget of the steps behind it. A study's
    own pipeline with the same steps is taken for any dense control but plain fine-tuning.
    """
    if any(isinstance(step, Distill) for step in pipeline.steps):
        return alone(pipeline, study)
    steps = control_steps(pipeline.steps, study)
    if not steps:
        return None
    if any(not isinstance(step, Finetune) for step in steps):
        for own in study.pipelines:
            dense = is_control(own.steps) and not any(rewinds_weights(s) for s in own.steps)
            if dense and control_steps(own.steps, study) == steps:
                return own
    return Pipeline(control_name(steps), steps)


def alone(pipeline: Pipeline, study: Study) -> Pipeline:
    """The last student of a pipeline without its teacher, at the student's whole budget."""
    last = max(i for i, step in enumerate(pipeline.steps) if isinstance(step, Distill))
    step, rest = pipeline.steps[last], control_steps(pipeline.steps[last + 1 :], study)
    name = "-then-".join([scratch_name(step, study), *([control_name(rest)] if rest else ())])
    return Pipeline(name, (Scratch(step.width, step.name), *rest))


def scratch_name(step: Scratch | Distill, study: Study) -> str:
    """The name of the student architecture trained alone."""
    model = student_model(step, study)
    return f"{model.name}_w{model.width}"


def with_controls(study: Study) -> tuple[Pipeline, ...]:
    """The study's pipelines behind the baselines they need."""
    controls = [control_of(pipeline, study) for pipeline in study.pipelines]
    needed = {control.name: control for control in controls if control}
    own = {pipeline.name: pipeline for pipeline in study.pipelines}
    return tuple({**needed, **own}.values())


def describe(step: Any) -> str:
    """A short name of a pipeline step, such as `prune 50%` or `finetune (tau 1.5)`."""
    if isinstance(core(step), Finetune):
        return "finetune" + describe_wrapper(step)
    if isinstance(step, Replica):
        return f"{DENSE} of other seeds"
    if isinstance(step, Scratch):
        budget = f" {step.steps} steps" if step.steps else ""
        return f"alone {step.name} width {step.width}{budget}".replace("  ", " ")
    if isinstance(step, Distill):
        kind = "" if step.kind == "hinton" else step.kind
        seeds = f" {step.teachers} teachers" if step.teachers > 1 else ""
        name = f"distill {kind} {step.name} width {step.width} T{step.temperature:g}{seeds}"
        return " ".join(name.split())
    return core(step).describe() + describe_wrapper(step)


def kind_and_baseline(pipeline: Pipeline, study: Study) -> tuple[str, str]:
    """What a pipeline is in `analysis.statistics.KINDS`, and what it is compared with, by the rules
    of the study protocols."""
    if isinstance(pipeline.steps[0], Replica):
        return "replica", DENSE
    if is_control(pipeline.steps) or isinstance(pipeline.steps[0], Scratch):
        return "control", DENSE
    control = control_of(pipeline, study)
    baseline = control.name if control else DENSE
    if any(isinstance(step, Distill) for step in pipeline.steps):
        return "student", baseline
    return "trained" if any(map(trains, pipeline.steps)) else "post_training", baseline


def label_of(pipeline: Pipeline, study: Study) -> str:
    """A pipeline's name for people: its own, but in words for an added control with a recipe."""
    wrapped = any(step is not core(step) for step in pipeline.steps)
    if pipeline in study.pipelines or not wrapped:
        return pipeline.name
    return " > ".join(describe(step) for step in pipeline.steps)


def mean_bits(steps: tuple) -> float:
    """Bits of weights and activations behind the last quantizing step, in the mean; 0 is float."""
    found = [core(step) for step in steps if hasattr(core(step), "activation_bits")]
    return (found[-1].bits + found[-1].activation_bits) / 2 if found else 0.0


def last_sparsity(steps: tuple) -> float:
    """The share of weights that the last pruning step of a pipeline takes; 0 without any."""
    found = [core(step).sparsity for step in steps if isinstance(core(step), Prune | DynamicSparse)]
    return found[-1] if found else 0.0


def repair_of(steps: tuple[Any, ...], study: Study) -> str:
    """How a pipeline repairs a long tail beyond the study's own fine-tuning, in words; "" if it
    does not."""
    plain = canonical(study.fine_tune)
    found = []
    for step in steps:
        recipe = recipe_of(step, study) if trains(step) else None
        if recipe and not isinstance(step, Rewound | FromStart):  # whose recipe is the main one
            names = [n for n in REPAIRS if getattr(recipe, n) != getattr(plain, n)]
            found += [f"{name} {getattr(recipe, name)}" for name in names]
        if repairs(step):
            found.append(describe(step))
    return ", ".join(dict.fromkeys(found))


@functools.cache
def kernel_sizes(network: Any, image: tuple[int, int, int]) -> Mapping[str, int]:
    """Weights of a network's compressible tensors by path (counted without running it); image: its
    height, width and channels."""
    images = jax.ShapeDtypeStruct((1, *image), np.float32)
    shapes: Any = jax.eval_shape(network.init, jax.random.key(0), images)
    return {name: leaf.size for name, leaf in kernels(shapes["params"]).items()}


def segments(pipeline: Pipeline, study: Study) -> list[tuple[config.Model, list]]:
    """(network, steps) of each stretch of a pipeline on one network."""
    found: list[tuple[config.Model, list]] = [(study.model, [])]
    for step in pipeline.steps:
        if isinstance(step, Scratch | Distill):
            found.append((student_model(step, study), []))
        elif not isinstance(step, Replica):
            found[-1][1].append(step)
    return found


def validate_step(name: str, step: Any, study: Study) -> None:
    """Raise ValueError, starting with `name`, for what is no step or a network that cannot train.

    The numbers of techniques are checked with their chain.
    """
    config.require(
        isinstance(core(step), (Finetune, Scratch, Replica, Distill, *TECHNIQUES.values())),
        f"{name} holds {step!r}: expected Finetune, Scratch, Replica, Distill or a technique of "
        "rcm.compress, or one of them in `tuned`, `Rewound` or `FromStart`.",
    )
    for part in (step, core(step)):
        config.require_types(f"{name}, {type(part).__name__}", part)
    validate_wrapper(name, step, study)
    if isinstance(step, Scratch | Distill):
        config.require(step.width >= 0, f"{name}: width must be at least 0, not {step.width}.")
    if isinstance(step, Scratch):
        config.require(step.steps >= 0, f"{name}: steps must be at least 0, not {step.steps}.")
    if isinstance(step, Distill):
        validate_distillation(name, step)


def student_model(step: Scratch | Distill, study: Study) -> config.Model:
    """The network of a step that brings its own. Raises ValueError for an unknown name."""
    name = step.name or study.model.name
    own = dataclasses.replace(study.model, name=name, width=step.width, pretrained="", inputs="")
    return fit.complete(own)


def validate_pipelines(study: Study, dataset: Dataset) -> None:
    """Raise ValueError for a pipeline that these models cannot undergo or that takes a name."""
    for pipeline in study.pipelines:
        name, steps = f"Pipeline {pipeline.name!r}", pipeline.steps
        for step in steps:
            validate_step(name, step, study)
        config.require(
            not re.fullmatch(r"finetune\d*", pipeline.name)
            or all(isinstance(step, Finetune) for step in steps),
            f"{name}: that name belongs to the control that is only fine-tuned; choose another.",
        )
        config.require(
            len(steps) == 1 or not any(isinstance(step, Scratch | Replica) for step in steps),
            f"{name}: Scratch and Replica start anew and stand alone; compress such a network in a "
            "study of it.",
        )
        for i, (model, part) in enumerate(segments(pipeline, study)):
            network: Any = fit.make_model(model, len(dataset.classes))
            sizes = kernel_sizes(network, dataset.train.images.shape[1:])
            chain = techniques(part)
            validate_chain(name, chain, min(sizes.values()), network.channels(), sizes)
            validate_rewinding(name, part, dense=i == 0)
            unadjusted = [step for step in part if not isinstance(step, Adjust)]
            config.require(
                not any(isinstance(step, Quantize) for step in unadjusted[:-1]),
                f"{name}: nothing can follow quantization, because it would leave the grid; put it "
                "last.",
            )
            config.require(
                Adjust not in map(type, part[:-1]),
                f"{name}: nothing can follow the adjustment of logits, which training would undo; "
                "put it last.",
            )
    validate_controls(study)


def validate_rewinding(name: str, steps: list, dense: bool) -> None:
    """Raise ValueError, starting with `name`, if weights cannot go back at a step of one network.

    dense: whether that network is the dense member's, whose early weights can be had.
    """
    for i, step in enumerate(steps):
        config.require(
            not isinstance(step, FromStart) or (dense and i == 0),
            f"{name}: FromStart begins with the dense member's untrained weights; put it first.",
        )
        if not rewinds_weights(step):
            continue
        config.require(
            dense,
            f"{name}: weights go back to those of the dense member, not of a student: use "
            "Rewound(..., weights=False) behind Distill.",
        )
        fixed = (
            isinstance(t, Prune) and t.schedule == "oneshot" for t in techniques(steps[: i + 1])
        )
        config.require(
            all(fixed),
            f"{name}: weights go back under masks that stay as they are, which only one-shot Prune "
            "has: use Rewound(..., weights=False) with other techniques.",
        )


def validate_controls(study: Study) -> None:
    """Raise ValueError if a pipeline takes the name of a control that it is not."""
    own = {pipeline.name: pipeline for pipeline in study.pipelines}
    for pipeline in study.pipelines:
        control = control_of(pipeline, study)
        config.require(
            control is None or _same(own.get(control.name, control), control, study),
            f"Pipeline {control.name if control else ''!r}: that name belongs to the control that "
            f"{pipeline.name!r} is compared with; choose another.",
        )


def _same(one: Pipeline, two: Pipeline, study: Study) -> bool:
    """Whether two pipelines are the same steps; a network may be written in more than one way."""
    networks = [
        [student_model(step, study) if isinstance(step, Scratch) else step for step in each.steps]
        for each in (one, two)
    ]
    return networks[0] == networks[1]


def is_control(steps: tuple) -> bool:
    """Whether a pipeline only trains the dense member on, or repairs it."""
    return all(isinstance(core(step), Finetune) or repairs(step) for step in steps)
