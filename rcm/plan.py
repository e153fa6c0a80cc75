"""From a study to the graph of member-stages it needs: who, in which order, under which identity.

Nothing here trains or writes. Pipelines that begin alike share their first stages, because a
member-stage is identified by what it is (its config, its parent, its data), not by who asked.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rcm import config
from rcm.compress import TECHNIQUES, Quantize, validate_chain
from rcm.config import Distill, Finetune, Pipeline, Scratch, Study
from rcm.data import longtail
from rcm.data.datasets import Dataset
from rcm.train import fit
from rcm.train.fit import Program

DENSE = "dense"


@dataclass(frozen=True)
class Tail:
    """The training data of one imbalance ratio: images per class [C], indices into the training
    split, and each class's group (head, medium, tail)."""

    counts: np.ndarray
    table: np.ndarray
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One member-stage. `parent` and `teacher` are fingerprints of other jobs or "".

    `depth` counts the stages continued from a fresh start. It keys batches and augmentation, so
    that members of one seed are paired: a student with the same network trained alone, a pruned
    member with its control.
    """

    fingerprint: str
    label: str  # the pipeline so far, for people
    depth: int
    program: Program
    recipe: config.Train | None  # None: nothing is trained (post-training)
    steps: int
    seed: int
    ratio: int
    parent: str = ""
    teacher: str = ""
    added: tuple = ()  # techniques that this stage adds to the chain
    distill: Distill | None = None


@dataclass
class Stage:
    """Jobs that run as one population: same program, same kind of start, same number of steps."""

    key: str
    jobs: list[Job]

    @property
    def first(self) -> Job:
        return self.jobs[0]

    @property
    def label(self) -> str:
        names = list(dict.fromkeys(job.label for job in self.jobs))
        return " / ".join(names)


@dataclass
class Plan:
    """Everything a study will do. `ends` maps (pipeline, ratio, seed) to its last job."""

    study: Study
    dataset: Dataset
    tails: dict[int, Tail]
    validation: np.ndarray
    pipelines: tuple[Pipeline, ...]
    jobs: dict[str, Job]
    ends: dict[tuple[str, int, int], str]
    stages: list[Stage]


def trains(step: Any) -> bool:
    """Whether a pipeline step spends a fine-tuning budget."""
    return isinstance(step, Finetune) or getattr(step, "trains", False)


def control_name(trained_steps: int) -> str:
    """The name of the dense control with the same extra budget as so many fine-tuned steps."""
    return "finetune" if trained_steps == 1 else f"finetune{trained_steps}"


def scratch_name(step: Scratch | Distill, study: Study) -> str:
    """The name of the student architecture trained alone."""
    return f"{step.name or study.model.name}_w{step.width}"


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


def make_tails(study: Study, dataset: Dataset) -> tuple[dict[int, Tail], np.ndarray]:
    """(tail of each ratio, validation indices). Raises ValueError for impossible ratios.

    Groups are read off the largest ratio's counts, and are the same at every ratio.
    """
    data, labels, classes = study.data, dataset.train.labels, len(dataset.classes)
    per_class = None if data.val_per_class < 0 else data.val_per_class
    pool, validation = longtail.validation_split(labels, per_class, data.data_seed)
    n_max = int(np.bincount(labels[pool], minlength=classes).min())
    order = longtail.class_order(data.class_order, classes, data.data_seed)
    kind, minority = data.imbalance, data.minority
    counts = {
        ratio: longtail.class_counts(kind, n_max, ratio, classes, minority, order)
        for ratio in data.ratios
    }
    rarest = counts[max(data.ratios)]
    groups = tuple(str(g) for g in longtail.groups(rarest, kind, order, minority))
    tables = {r: longtail.tail_table(labels, pool, c, data.data_seed) for r, c in counts.items()}
    return {ratio: Tail(counts[ratio], tables[ratio], groups) for ratio in counts}, validation


def steps_per_epoch(recipe: config.Train, tail: Tail) -> int:
    """Steps of an epoch: of the balanced set's, or (budget `epochs`) of this tail's own."""
    if recipe.budget == "epochs":
        return -(-int(tail.counts.sum()) // recipe.batch)
    return longtail.steps_per_epoch(len(tail.counts), int(tail.counts.max()), recipe.batch)


def steps_of(recipe: config.Train, tail: Tail) -> int:
    """Steps of a recipe for members of this tail."""
    return recipe.steps or max(1, round(recipe.epochs * steps_per_epoch(recipe, tail)))


class Planner:
    """Walks the pipelines of every seed and ratio and collects the jobs, each once."""

    def __init__(self, study: Study, dataset: Dataset, tails: dict[int, Tail]):
        self.study, self.dataset, self.tails = study, dataset, tails
        self.jobs: dict[str, Job] = {}

    def add(self, seed: int, ratio: int, model: config.Model, chain: tuple, **rest: Any) -> Job:
        """The job of these parts, its identity computed; `rest` are fields of Job."""
        recipe, teacher = rest["recipe"], rest.get("teacher", "")
        shaped_by = recipe or config.Train()  # nothing is trained: any recipe gives the program
        program = fit.make_program(
            model,
            config.Model(*self.jobs[teacher].program.model) if teacher else None,
            shaped_by,
            chain,
            len(self.dataset.classes),
            self.dataset.train.images.shape[1:],
        )
        identity = config.fingerprint(
            {
                "schema": config.SCHEMA,
                "data": self.dataset.fingerprint,
                "tail": dataclasses.replace(
                    self.study.data, name="", data_dir="", feed="", ratios=(ratio,)
                ),
                "model": model,
                "chain": chain,
                "recipe": recipe,
                "seed": seed,
                **{k: rest.get(k) for k in ("depth", "steps", "parent", "teacher", "distill")},
            }
        )
        job = Job(fingerprint=identity, program=program, seed=seed, ratio=ratio, **rest)
        return self.jobs.setdefault(identity, job)

    def dense(self, seed: int, ratio: int) -> Job:
        """The uncompressed parent."""
        recipe = self.study.train
        steps = steps_of(recipe, self.tails[ratio])
        return self.add(
            seed, ratio, self.study.model, (), recipe=recipe, steps=steps, depth=0, label=DENSE
        )

    def next(self, job: Job, step: Any) -> Job:
        """The job that `step` makes of `job`."""
        study, depth = self.study, job.depth + 1
        label = describe(step) if job.label == DENSE else f"{job.label} > {describe(step)}"
        if isinstance(step, Scratch | Distill):
            steps = steps_of(study.train, self.tails[job.ratio])
            distill = step if isinstance(step, Distill) else None
            model = student_model(step, study)
            return self.add(
                job.seed, job.ratio, model, (), recipe=study.train, steps=steps,
                depth=0, label=label if distill else describe(step),
                teacher=job.fingerprint if distill else "", distill=distill,
            )  # fmt: skip
        recipe = study.fine_tune if trains(step) else None
        added = () if isinstance(step, Finetune) else (step,)
        return self.add(
            job.seed, job.ratio, config.Model(*job.program.model),
            (*job.program.techniques, *added), recipe=recipe,
            steps=steps_of(recipe, self.tails[job.ratio]) if recipe else 0,
            depth=depth, label=label, parent=job.fingerprint, added=added,
        )  # fmt: skip


def describe(step: Any) -> str:
    """A short name of a pipeline step, such as `prune 0.5` or `quantize 8/8`."""
    if isinstance(step, Finetune):
        return "finetune"
    if isinstance(step, Scratch):
        return f"alone {step.name} width {step.width}".replace("  ", " ")
    if isinstance(step, Distill):
        return f"distill {step.name} width {step.width} T{step.temperature:g}".replace("  ", " ")
    return step.describe()


def smallest_kernel(model: config.Model, dataset: Dataset) -> int:
    """Weights in a model's smallest compressible tensor (counted without running it)."""
    network = fit.make_model(model, len(dataset.classes))
    image = jax.ShapeDtypeStruct((1, *dataset.train.images.shape[1:]), np.float32)
    shapes: Any = jax.eval_shape(network.init, jax.random.key(0), image)
    leaves = jax.tree_util.tree_leaves_with_path(shapes["params"])
    return min(leaf.size for path, leaf in leaves if path[-1].key == "kernel")


def segments(pipeline: Pipeline, study: Study) -> list[tuple[config.Model, list]]:
    """(network, steps) of each stretch of a pipeline on one network.

    Raises ValueError for what is no step, and for a network that cannot be trained so.
    """
    found: list[tuple[config.Model, list]] = [(study.model, [])]
    name = f"Pipeline {pipeline.name!r}"
    for step in pipeline.steps:
        if isinstance(step, Scratch | Distill):
            config.require(step.width >= 1, f"{name}: width must be at least 1, not {step.width}.")
            found.append((student_model(step, study), []))
        elif isinstance(step, (Finetune, *TECHNIQUES.values())):
            found[-1][1].append(step)
        else:
            raise ValueError(
                f"{name} holds {step!r}: expected Finetune, Scratch, Distill or a technique of "
                "rcm.compress."
            )
        if isinstance(step, Distill):
            config.require(
                0 <= step.mixing <= 1 and step.temperature > 0,
                f"{name}: distillation needs mixing in [0, 1] and a temperature above 0, not "
                f"{step.mixing} and {step.temperature}.",
            )
    return found


def student_model(step: Scratch | Distill, study: Study) -> config.Model:
    """The network of a step that brings its own."""
    return dataclasses.replace(study.model, name=step.name or study.model.name, width=step.width)


def validate_pipelines(study: Study, dataset: Dataset) -> None:
    """Raise ValueError for a pipeline that these models cannot undergo or that takes a name."""
    for pipeline in study.pipelines:
        name, steps = f"Pipeline {pipeline.name!r}", pipeline.steps
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
            validate_chain(name, techniques, smallest_kernel(model, dataset))
            config.require(
                not any(isinstance(step, Quantize) for step in part[:-1]),
                f"{name}: nothing can follow quantization, because it would leave the grid; put it "
                "last.",
            )


def is_control(steps: tuple) -> bool:
    """Whether a pipeline only trains the dense member on."""
    return all(isinstance(step, Finetune) for step in steps)


def group_stages(jobs: dict[str, Job]) -> list[Stage]:
    """Jobs in the order they must run, those of one population together."""
    stages: dict[str, Stage] = {}
    for job in sorted(jobs.values(), key=lambda job: (job.depth, bool(job.teacher))):
        key = config.fingerprint(
            {
                "program": dataclasses.astuple(dataclasses.replace(job.program, techniques=())),
                "depth": job.depth,
                "steps": job.steps,
                "start": (bool(job.parent), bool(job.teacher), len(job.added)),
                "calibrate": [getattr(t, "calibration_images", 0) for t in job.added],
            }
        )
        stages.setdefault(key, Stage(key, [])).jobs.append(job)
    return list(stages.values())


def make_plan(study: Study, dataset: Dataset) -> Plan:
    """The whole plan of a study. Raises ValueError for anything that could not run."""
    validate_pipelines(study, dataset)
    tails, validation = make_tails(study, dataset)
    pipelines = with_controls(study)
    planner = Planner(study, dataset, tails)
    ends = {}
    for seed in range(study.seeds):
        for ratio in study.data.ratios:
            dense = planner.dense(seed, ratio)
            ends[DENSE, ratio, seed] = dense.fingerprint
            for pipeline in pipelines:
                job = dense
                for step in pipeline.steps:
                    job = planner.next(job, step)
                ends[pipeline.name, ratio, seed] = job.fingerprint
    stages = group_stages(planner.jobs)
    return Plan(study, dataset, tails, validation, pipelines, planner.jobs, ends, stages)
