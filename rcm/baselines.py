"""What a study's pipelines are compared with, by the rules of the study protocols."""

import dataclasses
from collections.abc import Sequence

from rcm import config
from rcm.config import DENSE, Distill, Finetune, Pipeline, Replica, Scratch, Study
from rcm.steps import control_name, control_steps, core, repairs, rewinds_weights, trains
from rcm.train import fit


def control_of(pipeline: Pipeline, study: Study) -> Pipeline | None:
    """What a pipeline is compared with, unless that is the dense member: then None.

    The dense member with the extra budget and the repairs of the pipeline's steps or, for a network
    of its own (a student, or one that begins alone), that network trained alone and then for the
    budget of the steps behind it. A study's own pipeline with the same steps is taken for any
    control but plain fine-tuning.
    """
    if any(isinstance(step, Distill | Scratch) for step in pipeline.steps):
        control = alone(pipeline, study)
        return None if _same(pipeline, control, study) else control
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
    """The last network of a pipeline without its teacher, at the network's whole budget."""
    begins = [i for i, step in enumerate(pipeline.steps) if isinstance(step, Distill | Scratch)]
    step, rest = pipeline.steps[begins[-1]], control_steps(pipeline.steps[begins[-1] + 1 :], study)
    return _named(Scratch(step.width, step.name, getattr(step, "steps", 0)), rest, study)


def _named(network: Scratch, rest: tuple, study: Study) -> Pipeline:
    """A network trained alone and then on: the study's own pipeline of these steps, if any."""
    name = "-then-".join([scratch_name(network, study), *([control_name(rest)] if rest else ())])
    found = Pipeline(name, (network, *rest))
    return next((own for own in study.pipelines if _same(own, found, study)), found)


def parent_of(pipeline: Pipeline, study: Study) -> Pipeline | None:
    """The network, trained alone, that a pipeline goes on with; None if that is the dense member or
    the pipeline itself."""
    first, *rest = pipeline.steps
    return _named(first, (), study) if rest and isinstance(first, Scratch) else None


def parent_names(pipelines: Sequence[Pipeline], study: Study) -> dict[str, str]:
    """The pipeline, of these, that each one goes on with, by name: the dense member for most, which
    goes on with itself."""
    found = {p.name: parent_of(p, study) for p in pipelines}
    names = {name: p.name if p else DENSE for name, p in found.items()}
    return {DENSE: DENSE} | {n: p if p in found else DENSE for n, p in names.items()}


def scratch_name(step: Scratch | Distill, study: Study) -> str:
    """The name of a network that is trained alone."""
    model = student_model(step, study)
    budget = f"_{step.steps}_steps" if isinstance(step, Scratch) and step.steps else ""
    return f"{model.name}_w{model.width}{budget}"


def with_controls(study: Study) -> tuple[Pipeline, ...]:
    """The study's pipelines behind the baselines they need."""
    found = [baseline for pipeline in study.pipelines for baseline in _baselines(pipeline, study)]
    needed = {baseline.name: baseline for baseline in found}
    own = {pipeline.name: pipeline for pipeline in study.pipelines}
    return tuple({**needed, **own}.values())


def _baselines(pipeline: Pipeline, study: Study) -> list[Pipeline]:
    """What a pipeline is compared with beside the dense member: nothing to two pipelines."""
    return [p for p in (control_of(pipeline, study), parent_of(pipeline, study)) if p]


def kind_and_baseline(pipeline: Pipeline, study: Study) -> tuple[str, str]:
    """What a pipeline is in `analysis.statistics.KINDS`, and what it is compared with, by the rules
    of the study protocols."""
    if isinstance(pipeline.steps[0], Replica):
        return "replica", DENSE
    first, *rest = pipeline.steps
    if is_control(pipeline.steps) or (isinstance(first, Scratch) and is_control(tuple(rest))):
        return "control", DENSE
    control = control_of(pipeline, study)
    baseline = control.name if control else DENSE
    if any(isinstance(step, Distill) for step in pipeline.steps):
        return "student", baseline
    return "trained" if any(map(trains, pipeline.steps)) else "post_training", baseline


def student_model(step: Scratch | Distill, study: Study) -> config.Model:
    """The network of a step that brings its own. Raises ValueError for an unknown name."""
    name = step.name or study.model.name
    own = dataclasses.replace(study.model, name=name, width=step.width, pretrained="", inputs="")
    return fit.complete(own)


def validate_controls(study: Study) -> None:
    """Raise ValueError if a pipeline takes the name of a baseline that it is not."""
    own = {pipeline.name: pipeline for pipeline in study.pipelines}
    for pipeline in study.pipelines:
        for baseline in _baselines(pipeline, study):
            config.require(
                _same(own.get(baseline.name, baseline), baseline, study),
                f"Pipeline {baseline.name!r}: that name belongs to the control that "
                f"{pipeline.name!r} is compared with; choose another.",
            )


def _same(one: Pipeline, two: Pipeline, study: Study) -> bool:
    """Whether two pipelines are the same steps; a network may be written in more than one way."""
    networks = [
        [(student_model(s, study), s.steps) if isinstance(s, Scratch) else s for s in each.steps]
        for each in (one, two)
    ]
    return networks[0] == networks[1]


def is_control(steps: tuple) -> bool:
    """Whether a pipeline only trains the dense member on, or repairs it."""
    return all(isinstance(core(step), Finetune) or repairs(step) for step in steps)
