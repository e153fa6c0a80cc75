"""A study's pipelines: what steps are called, which controls they need, what they may hold."""

import dataclasses
import re
from typing import Any

import jax
import numpy as np

from rcm import config
from rcm.compress import TECHNIQUES, Quantize, validate_chain
from rcm.config import Distill, Finetune, Pipeline, Scratch, Study
from rcm.data.datasets import Dataset
from rcm.train import fit


def trains(step: Any) -> bool:
    """Whether a pipeline step spends a fine-tuning budget."""
    return isinstance(step, Finetune) or getattr(step, "trains", False)


def control_name(trained_steps: int) -> str:
    """The name of the dense control with the same extra budget as so many fine-tuned steps."""
    return "finetune" if trained_steps == 1 else f"finetune{trained_steps}"


def scratch_name(step: Scratch | Distill, study: Study) -> str:
    """The name of the student architecture trained alone."""
    model = student_model(step, study)
    return f"{model.name}_w{model.width}"


def with_controls(study: Study) -> tuple[Pipeline, ...]:
    """The study's pipelines behind the baselines they need: the dense control for every fine-tuning
    budget, and the student trained alone for every distillation."""
    needed: dict[str, Pipeline] = {}
    for pipeline in study.pipelines:
        count = sum(trains(step) for step in pipeline.steps)
        students = [step for step in pipeline.steps if isinstance(step, Distill)]
        if count and not students:
            name = control_name(count)
            needed[name] = Pipeline(name, (Finetune(),) * count)
        for step in students:
            name = scratch_name(step, study)
            needed[name] = Pipeline(name, (Scratch(step.width, step.name),))
    own = {pipeline.name: pipeline for pipeline in study.pipelines}
    return tuple({**needed, **own}.values())


def describe(step: Any) -> str:
    """A short name of a pipeline step, such as `prune 0.5` or `quantize 8/8`."""
    if isinstance(step, Finetune):
        return "finetune"
    if isinstance(step, Scratch):
        return f"alone {step.name} width {step.width}".replace("  ", " ")
    if isinstance(step, Distill):
        return f"distill {step.name} width {step.width} T{step.temperature:g}".replace("  ", " ")
    return step.describe()


def smallest_kernel(network: Any, dataset: Dataset) -> int:
    """Weights in a network's smallest compressible tensor (counted without running it)."""
    image = jax.ShapeDtypeStruct((1, *dataset.train.images.shape[1:]), np.float32)
    shapes: Any = jax.eval_shape(network.init, jax.random.key(0), image)
    leaves = jax.tree_util.tree_leaves_with_path(shapes["params"])
    return min(leaf.size for path, leaf in leaves if path[-1].key == "kernel")


def segments(pipeline: Pipeline, study: Study) -> list[tuple[config.Model, list]]:
    """(network, steps) of each stretch of a pipeline on one network."""
    found: list[tuple[config.Model, list]] = [(study.model, [])]
    for step in pipeline.steps:
        if isinstance(step, Scratch | Distill):
            found.append((student_model(step, study), []))
        else:
            found[-1][1].append(step)
    return found


def validate_step(name: str, step: Any) -> None:
    """Raise ValueError, starting with `name`, for what is no step or a network that cannot train.

    The numbers of techniques are checked with their chain.
    """
    config.require(
        isinstance(step, (Finetune, Scratch, Distill, *TECHNIQUES.values())),
        f"{name} holds {step!r}: expected Finetune, Scratch, Distill or a technique of "
        "rcm.compress.",
    )
    config.require_types(f"{name}, {type(step).__name__}", step)
    if isinstance(step, Scratch | Distill):
        config.require(step.width >= 0, f"{name}: width must be at least 0, not {step.width}.")
    if isinstance(step, Distill):
        config.require(
            0 <= step.mixing <= 1 and step.temperature > 0,
            f"{name}: distillation needs mixing in [0, 1] and a temperature above 0, not "
            f"{step.mixing} and {step.temperature}.",
        )


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
            validate_step(name, step)
        config.require(
            not re.fullmatch(r"finetune\d*", pipeline.name) or is_control(steps),
            f"{name}: that name belongs to the control that is only fine-tuned; choose another.",
        )
        config.require(
            len(steps) == 1 or not any(isinstance(step, Scratch) for step in steps),
            f"{name}: Scratch starts anew and stands alone; compress its network in a study of it.",
        )
        for model, part in segments(pipeline, study):
            techniques = tuple(step for step in part if not isinstance(step, Finetune))
            network: Any = fit.make_model(model, len(dataset.classes))
            smallest = smallest_kernel(network, dataset)
            validate_chain(name, techniques, smallest, network.channels())
            config.require(
                not any(isinstance(step, Quantize) for step in part[:-1]),
                f"{name}: nothing can follow quantization, because it would leave the grid; put it "
                "last.",
            )


def is_control(steps: tuple) -> bool:
    """Whether a pipeline only trains the dense member on."""
    return all(isinstance(step, Finetune) for step in steps)
