"""The answers of whole populations to one cell, and what is doubtful about its images."""

from collections.abc import Mapping

import numpy as np

from rcm.analysis.exemplars import LEAST
from rcm.analysis.forgotten import Answers, Known, disagreement, forgotten_rows, indecision
from rcm.analysis.metrics import TRAINING, VALIDATION, Labels, MemberInfo
from rcm.analysis.mislabelled import mislabelled_rows
from rcm.baselines import parent_names
from rcm.cells import CellSpec, OfficialSpec, Spec
from rcm.config import DENSE, Replica
from rcm.data import human
from rcm.plan import Plan

End = tuple[str, int, int]  # pipeline, ratio, seed


def compared(plan: Plan, cell: Spec) -> bool:
    """Whether exemplars are looked for in a cell: it shows all members the same images, the test
    set's, and the study has members enough for a population."""
    aligned = isinstance(cell, OfficialSpec) and cell.release.order is not None
    own = isinstance(cell, CellSpec) and cell.shift not in (VALIDATION, TRAINING)
    return plan.study.seeds >= LEAST and (own or aligned)


def replicas(plan: Plan) -> list[str]:
    """The pipelines that are dense populations of other seeds."""
    return [p.name for p in plan.pipelines if isinstance(p.steps[0], Replica)]


def answers_at(
    plan: Plan,
    cell: Spec,
    ratio: int,
    labels: Mapping[End, Labels],
    infos: Mapping[End, MemberInfo],
) -> Answers:
    """The answers [N] of a ratio's members to a cell, without diverged ones, as `analysis` takes
    them."""
    by_pipeline: dict[str, dict[int, Labels]] = {}
    for (pipeline, own, seed), label in labels.items():
        if own == ratio and infos[pipeline, own, seed].status == "ok":
            by_pipeline.setdefault(pipeline, {})[seed] = label
    info = infos[DENSE, ratio, 0]
    place = (info.dataset, info.model, info.imbalance, float(ratio), cell.shift, cell.severity)
    groups = plan.tails[ratio].groups
    return Answers(by_pipeline, np.asarray(cell.labels), len(plan.dataset.classes), place, groups)


def population_rows(
    plan: Plan,
    cell: Spec,
    labels: Mapping[End, Labels],
    infos: Mapping[End, MemberInfo],
    clean: dict[int, Known],
) -> list[dict]:
    """`forgotten_rows` of every ratio of a cell; none where exemplars are not looked for. clean: of
    each ratio the votes on all clean test images, which come first and fill them in."""
    rows: list[dict] = []
    for ratio in plan.tails if compared(plan, cell) else ():
        answers = answers_at(plan, cell, ratio, _of_dense(plan, labels), infos)
        given = (DENSE, replicas(plan), doubts(plan, answers, cell))
        home = (clean.setdefault(ratio, {}), cell.ids)
        rows += forgotten_rows(answers, _who(infos, ratio), *given, home)
    return rows


def training_image_rows(
    plan: Plan, cell: Spec, labels: Mapping[End, Labels], infos: Mapping[End, MemberInfo]
) -> list[dict]:
    """`mislabelled_rows` of every ratio of a cell of training images."""
    rows: list[dict] = []
    given = (DENSE, replicas(plan), other_labels(plan, cell))
    for ratio in plan.tails:
        answers = answers_at(plan, cell, ratio, _of_dense(plan, labels), infos)
        rows += mislabelled_rows(answers, _who(infos, ratio), *given)
    return rows


def _of_dense(plan: Plan, labels: Mapping[End, Labels]) -> dict[End, Labels]:
    """Without pipelines that compress other networks: these have no population of the dense one's
    to forget what it knew."""
    parents = parent_names(plan.pipelines, plan.study)
    return {end: own for end, own in labels.items() if parents[end[0]] == DENSE}


def _who(infos: Mapping[End, MemberInfo], ratio: int) -> dict[tuple[str, int], MemberInfo]:
    return {(name, seed): info for (name, own, seed), info in infos.items() if own == ratio}


def other_labels(plan: Plan, cell: Spec) -> dict[str, Labels]:
    """What a cell's training images are called beside the data set's labels, by name [N]: `planted`
    are the labels that members were trained with, where some are wrong; `human`, what most of three
    people say, where CIFAR-10N has been prepared."""
    found = {}
    if plan.study.data.label_noise:
        found["planted"] = np.asarray(plan.labels)[cell.ids]
    if human.answered("cifar10_n", plan.dataset.name, plan.study.data.data_dir):
        said = human.noisy_labels(plan.dataset.train, "aggre_label", plan.study.data.data_dir)
        found["human"] = said[cell.ids]
    return found


def doubts(plan: Plan, answers: Answers, cell: Spec) -> dict[str, np.ndarray]:
    """What is doubtful about a cell's images, by name, between 0 and 1 [N]: `replica`, the share of
    the members of an independent dense population that do not give its modal label; `human`, the
    entropy of people's answers over its largest value, where CIFAR-10H has been prepared."""
    found = {}
    for name in replicas(plan)[:1]:
        if answers.labels.get(name):
            found["replica"] = disagreement(answers.labels[name])
    if human.answered("cifar10_h", plan.dataset.name, plan.study.data.data_dir):
        shares = human.label_shares(plan.dataset.test, plan.study.data.data_dir)[cell.ids]
        found["human"] = indecision(shares)
    return found
