"""A study's pipelines: what steps are called, what they say of themselves, what they may hold."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rcm import config
from rcm.baselines import student_model, validate_controls
from rcm.compress import TECHNIQUES, Adjust, DynamicSparse, Prune, Quantize, validate_chain
from rcm.compress.base import kernels
from rcm.config import DENSE, Distill, Finetune, Pipeline, Replica, Scratch, Study
from rcm.data.datasets import Dataset
from rcm.steps import (
    FromStart,
    Rewound,
    canonical,
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
            not any(isinstance(step, Scratch) for step in steps[1:])
            and (len(steps) == 1 or not any(isinstance(step, Replica) for step in steps)),
            f"{name}: Scratch starts anew and comes first; Replica stands alone.",
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
