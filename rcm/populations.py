"""The answers of whole populations to one cell, and what is doubtful about its images."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rcm.analysis.exemplars import LEAST
from rcm.analysis.forgotten import Answers, Known, disagreement, forgotten_rows
from rcm.analysis.metrics import Labels, MemberInfo
from rcm.cells import CellSpec, OfficialSpec, Spec
from rcm.config import DENSE, Replica
from rcm.data import human
from rcm.plan import Plan

End = tuple[str, int, int]  # pipeline, ratio, seed


def compared(plan: Plan, cell: Spec) -> bool:
    """Whether exemplars are looked for in a cell: it shows all members the same images, the test
    set's, and the study has members enough for a population."""
    aligned = isinstance(cell, OfficialSpec) and cell.release.order is not None
    own = isinstance(cell, CellSpec) and cell.shift != "clean_val"
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
    return Answers(by_pipeline, np.asarray(cell.labels), len(plan.dataset.classes), place)


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
        answers = answers_at(plan, cell, ratio, labels, infos)
        who = {(name, seed): info for (name, own, seed), info in infos.items() if own == ratio}
        given = (DENSE, replicas(plan), doubts(plan, answers, cell))
        home = (clean.setdefault(ratio, {}), cell.ids)
        rows += forgotten_rows(answers, who, *given, home)
    return rows


def doubts(plan: Plan, answers: Answers, cell: Spec) -> dict[str, np.ndarray]:
    """What is doubtful about a cell's images, by name, between 0 and 1 [N]: `replica`, the share of
    the members of an independent dense population that do not give its modal label; `human`, the
    entropy of people's answers over its largest value, where CIFAR-10H has been prepared."""
    found = {}
    for name in replicas(plan)[:1]:
        if answers.labels.get(name):
            found["replica"] = disagreement(answers.labels[name])
    if plan.dataset.name == "cifar10" and _has_people(plan.study.data.data_dir):
        shares = human.label_shares(plan.dataset.test, plan.study.data.data_dir)[cell.ids]
        logs = np.log(np.where(shares > 0, shares, 1))
        found["human"] = -(shares * logs).sum(1) / np.log(shares.shape[1])
    return found


def _has_people(data_dir: str) -> bool:
    """Whether CIFAR-10H lies beside the data: a report downloads nothing."""
    folder = data_dir or os.environ.get("TFDS_DATA_DIR", "")
    return bool(folder) and (Path(folder) / "cifar10_h").is_dir()
