"""From a study to the graph of member-stages it needs: who, in which order, under which identity.

Nothing here trains or writes. Pipelines that begin alike share their first stages, because a
member-stage is identified by what it is (its config, its parent, its data), not by who asked.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rcm import config
from rcm.baselines import student_model, with_controls
from rcm.config import DENSE, Distill, Pipeline, Replica, Scratch, Study
from rcm.data.datasets import Dataset
from rcm.models import pretrained
from rcm.models.pretrained import Pretrained
from rcm.pipelines import describe, validate_pipelines
from rcm.steps import (
    FromStart,
    Rewound,
    canonical,
    first_step,
    recipe_of,
    rewinds_weights,
    techniques,
)
from rcm.tails import Tail, given_labels, make_tails, steps_of, tail_identity
from rcm.train import fit
from rcm.train.fit import Program


@dataclass(frozen=True)
class Job:
    """One member-stage. `parent`, `early` and `teachers` are fingerprints of other jobs or empty.

    `depth` counts the stages continued from a fresh start. It keys batches and augmentation, so
    that members of one seed are paired: a student with the same network trained alone, a pruned
    member with its control. A rewound stage repeats the steps of its recipe from `begin` on; with
    `early` its weights are those of that job. `rank` is the longest way to a job that needs none.
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
    early: str = ""
    teachers: tuple[str, ...] = ()
    added: tuple = ()  # techniques that this stage adds to the chain
    distill: Distill | None = None
    begin: int = 0
    whole: int = 0  # steps of the whole recipe; those of the stage where nothing is cut off
    rank: int = 0

    @property
    def needs(self) -> set[str]:
        """The jobs that must be finished before this one."""
        return {self.parent, self.early, *self.teachers} - {""}


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
    """Everything a study will do. `labels` are what training images are said to be, int32 [N] of
    the training split; `ends` maps (pipeline, ratio, seed) to its last job."""

    study: Study
    dataset: Dataset
    tails: dict[int, Tail]
    validation: np.ndarray
    labels: np.ndarray
    pipelines: tuple[Pipeline, ...]
    jobs: dict[str, Job]
    ends: dict[tuple[str, int, int], str]
    stages: list[Stage]
    weights: Pretrained | None = None  # what its dense members begin from

    @property
    def largest(self) -> int:
        """Members of the largest population."""
        return max(len(stage.jobs) for stage in self.stages)


def with_weights(
    model: config.Model, inputs: str, dataset: Dataset
) -> tuple[config.Model, Pretrained | None]:
    """The model as members are identified by it, and the weights that it begins from, if any.

    A file's path becomes the identity of its content; `inputs`, where the user left them open,
    become those of the weights. Raises ValueError for weights of another network.
    """
    if not model.pretrained:
        return model, None
    network = fit.make_model(model, len(dataset.classes))
    found = pretrained.load(model.pretrained, network, dataset.train.images.shape[1:])
    inputs = inputs or found.inputs
    return dataclasses.replace(model, pretrained=found.identity, inputs=inputs), found


class Planner:
    """Walks the pipelines of every seed and ratio and collects the jobs, each once."""

    def __init__(self, study: Study, dataset: Dataset, tails: dict[int, Tail]):
        self.study, self.dataset, self.tails = study, dataset, tails
        self.jobs: dict[str, Job] = {}
        self._dense: dict[tuple[int, int], Job] = {}  # asked for by every stage of a member

    def add(self, seed: int, ratio: int, model: config.Model, chain: tuple, **rest: Any) -> Job:
        """The job of these parts, its identity computed; `rest` are fields of Job."""
        rest = {"parent": "", "early": "", "teachers": (), "distill": None, "begin": 0, **rest}
        rest.setdefault("whole", rest["steps"])
        recipe, teachers = rest["recipe"], rest["teachers"]
        shaped_by = recipe or config.Train()  # nothing is trained: any recipe gives the program
        program = fit.make_program(
            model,
            config.Model(*self.jobs[teachers[0]].program.model) if teachers else None,
            shaped_by,
            chain,
            len(self.dataset.classes),
            self.dataset.train.images.shape[1:],
            rest["distill"].kind if rest["distill"] else "hinton",
        )
        parts = ("depth", "steps", "begin", "whole", "parent", "early", "teachers", "distill")
        identity = config.fingerprint(
            {
                "schema": config.SCHEMA,
                "data": self.dataset.fingerprint,
                "tail": tail_identity(self.study.data, ratio),
                "model": model,
                "chain": chain,
                # their steps are below, whether they were given as steps or as epochs
                "recipe": recipe and dataclasses.replace(recipe, steps=0, epochs=0.0),
                "seed": seed,
                **{k: rest[k] for k in parts},
            }
        )
        job = Job(fingerprint=identity, program=program, seed=seed, ratio=ratio, **rest)
        rank = 1 + max((self.jobs[needed].rank for needed in job.needs), default=-1)
        return self.jobs.setdefault(identity, dataclasses.replace(job, rank=rank))

    def dense(self, seed: int, ratio: int) -> Job:
        """The uncompressed parent."""
        if (seed, ratio) not in self._dense:
            recipe = canonical(self.study.train)
            steps = steps_of(recipe, self.tails[ratio])
            self._dense[seed, ratio] = self.add(
                seed, ratio, self.study.model, (), recipe=recipe, steps=steps, depth=0, label=DENSE
            )
        return self._dense[seed, ratio]

    def early(self, dense: Job, step: Rewound) -> Job:
        """The first steps of the uncompressed parent's training, as a job of its own."""
        label = f"{DENSE}, first {100 * step.to:g}%" if step.to else f"{DENSE}, untrained"
        return self.add(
            dense.seed, dense.ratio, self.study.model, (), recipe=dense.recipe, depth=0,
            steps=first_step(step, dense.steps), whole=dense.steps, label=label,
        )  # fmt: skip

    def member(self, seed: int, ratio: int, steps: tuple) -> Job:
        """The last job of a member that underwent these steps; those before it are added, too."""
        job = self.dense(seed, ratio)
        for i, step in enumerate(steps):
            if isinstance(step, Replica):
                job = self.dense(seed + self.study.seeds, ratio)
            elif isinstance(step, Scratch | Distill):
                job = self.student(job, steps[:i], step)
            else:
                job = self.stage(job, step)
        return job

    def student(self, job: Job, before: tuple, step: Scratch | Distill) -> Job:
        """A network of its own, trained alone or by `job` (which underwent `before`) and mates."""
        recipe, seeds, distill = canonical(self.study.train), (), None
        label = describe(step if isinstance(step, Scratch) else Scratch(step.width, step.name))
        steps = (isinstance(step, Scratch) and step.steps) or steps_of(
            recipe, self.tails[job.ratio]
        )
        if isinstance(step, Distill) and step.mixing > 0:
            distill, seeds, label = step, mates(job.seed, step.teachers), job_label(job, step)
        teachers = [job if s == job.seed else self.member(s, job.ratio, before) for s in seeds]
        return self.add(
            job.seed, job.ratio, student_model(step, self.study), (), recipe=recipe,
            steps=steps, depth=0, label=label,
            teachers=tuple(teacher.fingerprint for teacher in teachers), distill=distill,
        )  # fmt: skip

    def stage(self, job: Job, step: Any) -> Job:
        """The next stage of `job` on its own network."""
        recipe, added = recipe_of(step, self.study), techniques((step,))
        whole = steps_of(recipe, self.tails[job.ratio]) if recipe else 0
        begin, early, teachers = first_step(step, whole), "", self.teachers(job, recipe)
        label, depth, dense = job_label(job, step), job.depth + 1, self.dense(job.seed, job.ratio)
        if rewinds_weights(step):
            early = self.early(dense, step).fingerprint
        if isinstance(step, FromStart):  # its batches are those of the dense member
            job, depth = self.early(dense, Rewound(step, 0.0)), 0
        return self.add(
            job.seed, job.ratio, config.Model(*job.program.model),
            (*job.program.techniques, *added), recipe=recipe, steps=whole - begin, begin=begin,
            whole=whole, depth=depth, label=label, added=added,
            parent=job.fingerprint, early=early, teachers=teachers,
            distill=config.taught(recipe) if recipe and teachers else None,
        )  # fmt: skip

    def teachers(self, job: Job, recipe: config.Train | None) -> tuple[str, ...]:
        """The dense members that teach the next stage of `job`, if its recipe asks for any."""
        if recipe is None or not recipe.teacher:
            return ()
        seeds = mates(job.seed, recipe.teachers if recipe.teacher == "ensemble" else 1)
        return tuple(self.dense(seed, job.ratio).fingerprint for seed in seeds)


def mates(seed: int, count: int) -> range:
    """The seeds of an ensemble of `count` that `seed` is one of: blocks of consecutive seeds, so
    that nothing depends on how many seeds a study has."""
    first = seed // count * count
    return range(first, first + count)


def job_label(job: Job, step: Any) -> str:
    """What people call the stage that `step` makes of `job`."""
    return describe(step) if job.label == DENSE else f"{job.label} > {describe(step)}"


class Kind(NamedTuple):
    """What jobs of one population have in common; `program` without its techniques' levels."""

    program: Program
    rank: int  # no job of a stage needs another of it
    depth: int
    steps: int
    start: tuple[bool, bool, int, int]
    calibrate: tuple[int, ...]

    @property
    def key(self) -> str:
        """What identifies a stage."""
        parts = {**self._asdict(), "program": dataclasses.astuple(self.program)}
        return config.fingerprint(parts)


def kind_of(job: Job) -> Kind:
    """The kind of a job's stage."""
    start = (bool(job.parent), bool(job.early), len(job.teachers), len(job.added))
    calibrate = tuple(getattr(t, "calibration_images", 0) for t in job.added)
    program = dataclasses.replace(job.program, techniques=())
    return Kind(program, job.rank, job.depth, job.steps, start, calibrate)


def group_stages(jobs: dict[str, Job]) -> list[Stage]:
    """Jobs in an order in which they can run, those of one population together."""
    stages: dict[Kind, Stage] = {}
    for job in sorted(jobs.values(), key=lambda job: (job.rank, job.depth)):
        kind = kind_of(job)
        if kind not in stages:
            stages[kind] = Stage(kind.key, [])
        stages[kind].jobs.append(job)
    return list(stages.values())


def make_plan(study: Study, dataset: Dataset) -> Plan:
    """The whole plan of a study. Raises ValueError for anything that could not run."""
    model, weights = with_weights(fit.complete(study.model), study.model.inputs, dataset)
    study = dataclasses.replace(study, model=model)
    validate_pipelines(study, dataset)
    tails, validation = make_tails(study, dataset)
    labels = given_labels(study, dataset, tails)
    pipelines = with_controls(study)
    planner = Planner(study, dataset, tails)
    ends = {}
    for seed in range(study.seeds):
        for ratio in study.data.ratios:
            ends[DENSE, ratio, seed] = planner.dense(seed, ratio).fingerprint
            for pipeline in pipelines:
                job = planner.member(seed, ratio, pipeline.steps)
                ends[pipeline.name, ratio, seed] = job.fingerprint
    given = (study, dataset, tails, validation, labels, pipelines)
    return Plan(*given, planner.jobs, ends, group_stages(planner.jobs), weights)
