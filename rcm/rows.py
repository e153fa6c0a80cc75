"""The rows of a results table that the answers to one cell give."""

from typing import NamedTuple

import numpy as np

from rcm.analysis.attacks import (
    FROM_PARENT,
    TO_PARENT,
    Attacked,
    attack_rows,
    transfer_row,
    worst_rows,
)
from rcm.analysis.elsewhere import domain_rows, source_row
from rcm.analysis.forgotten import Known
from rcm.analysis.metrics import (
    TRAINING,
    VALIDATION,
    Cell,
    MemberInfo,
    agreement_rows,
    member_rows,
)
from rcm.analysis.subgroups import subgroup_rows, training_counts, training_rows
from rcm.baselines import parent_names
from rcm.cells import AttackSpec, CellSpec, DomainSpec, OfficialSpec, Spec
from rcm.evaluate import ZERO_GRADIENT
from rcm.plan import Plan
from rcm.populations import End, population_rows, training_image_rows
from rcm.shift.attacks import GRADIENT_FREE

Answers = dict[End, dict[str, np.ndarray]]  # every tested member's stored arrays of one cell


class Context(NamedTuple):
    """What the rows of a cell need besides its answers; the cells before it fill the last three.

    test: the clean test images; at_home: per member bool [test images], whether it answers them
    rightly; attacked: per member, norm and eps which of them, bool [test images], and what every
    attack found; votes: of populations on the clean test images, by ratio.
    """

    plan: Plan
    infos: dict[End, MemberInfo]
    test: Spec
    at_home: dict[End, np.ndarray]
    attacked: dict[tuple[End, str, float], tuple[np.ndarray, dict[str, Attacked]]]
    votes: dict[int, Known]


def cell_rows(context: Context, cell: Spec, answers: Answers) -> list[dict]:
    """The rows of all members, the clean test images first."""
    if isinstance(cell, AttackSpec):
        return (_transfer_rows if cell.source else _attack_rows)(context, cell, answers)
    labels = {end: arrays["label"] for end, arrays in answers.items()}
    if cell.shift == TRAINING:
        return training_image_rows(context.plan, cell, labels, context.infos)
    if isinstance(cell, DomainSpec):
        rows = _domain_rows(context, cell, answers)
    else:
        rows = _natural_rows(context, cell, answers)
    rows += _agreement_rows(context, cell, labels)
    return rows + population_rows(context.plan, cell, labels, context.infos, context.votes)


def _natural_rows(context: Context, cell: CellSpec | OfficialSpec, answers: Answers) -> list[dict]:
    """Of images as they are or corrupted."""
    plan, rows = context.plan, []
    if cell is context.test:
        context.at_home.update({end: a["label"] == cell.labels for end, a in answers.items()})
    group = plan.dataset.test.group if cell.shift != VALIDATION and _aligned(cell) else None
    for end, arrays in answers.items():
        where = (context.infos[end], cell.shift, cell.severity)
        if group is not None:
            own = (arrays["label"], cell.labels, group[cell.ids])
            rows += subgroup_rows(*where, *own, plan.dataset.groups)
            if cell is context.test:
                trained = _trained_on(plan, end[1])
                rows += training_rows(context.infos[end], trained, plan.dataset.groups)
        found = Cell(**{name: arrays[name] for name in Cell._fields})
        groups = plan.tails[end[1]].groups
        rows += member_rows(*where, found, cell.labels, groups, arrays.get("logits"))
    return rows


def _trained_on(plan: Plan, ratio: int) -> np.ndarray:
    """How many training images of each subgroup and class [G, C] a ratio has."""
    data, table = plan.dataset, plan.tails[ratio].table
    assert data.train.group is not None
    sizes = len(data.groups), len(data.classes)
    return training_counts(data.train.labels[table], data.train.group[table], *sizes)


def _agreement_rows(context: Context, cell: Spec, labels: dict[End, np.ndarray]) -> list[dict]:
    """What members answer otherwise than the network, of their ratio and seed, they came from."""
    rows, parents = [], parent_names(context.plan.pipelines, context.plan.study)
    for end, own in labels.items():
        parent = (parents[end[0]], *end[1:])
        if end != parent:
            both = (context.infos[end], context.infos[parent])
            compared = (cell.labels, own, labels[parent])
            rows += agreement_rows(*both, cell.shift, cell.severity, *compared)
    return rows


def _domain_rows(context: Context, cell: DomainSpec, answers: Answers) -> list[dict]:
    rows, like = [], _like(cell, context.test)
    for end, arrays in answers.items():
        info, classes = context.infos[end], len(context.plan.tails[end[1]].groups)
        rows += domain_rows(info, cell.shift, Cell(**arrays), cell.labels, classes)
        rows += source_row(info, cell.shift, 0, context.at_home[end], like)
    return rows


def _attack_rows(context: Context, cell: AttackSpec, answers: Answers) -> list[dict]:
    rows, like = [], _like(cell, context.test)
    for end, arrays in answers.items():
        info, classes = context.infos[end], len(context.plan.tails[end[1]].groups)
        found = _attacked(cell, arrays)
        where = (end, cell.attack.norm, cell.eps)
        context.attacked.setdefault(where, (like, {}))[1][cell.shift] = found
        rows += attack_rows(info, cell.shift, cell.eps, found, classes)
        rows += source_row(info, cell.shift, cell.eps, context.at_home[end], like)
    return rows


def worst_case_rows(context: Context) -> list[dict]:
    """The rows of the worst case over attacks, after the last cell."""
    rows = []
    for (end, norm, eps), (like, by_attack) in context.attacked.items():
        info = context.infos[end]
        worst = worst_rows(info, eps, norm, by_attack)
        for name in {row["shift"] for row in worst}:
            worst += source_row(info, name, eps, context.at_home[end], like)
        rows += worst
    return rows


def _transfer_rows(context: Context, cell: AttackSpec, answers: Answers) -> list[dict]:
    rows, infos = [], context.infos
    parents = parent_names(context.plan.pipelines, context.plan.study)
    for end, arrays in answers.items():
        asked, attacked = infos[end], infos[(cell.source, *end[1:])]
        where = (cell.shift, cell.eps, arrays["label"] == cell.labels)
        if cell.source == parents[end[0]]:
            rows += transfer_row(asked, attacked, FROM_PARENT, *where)
        else:
            rows += transfer_row(attacked, asked, TO_PARENT, *where)
    return rows


def _aligned(cell: Spec) -> bool:
    """Whether a cell's ids are those of test images."""
    return not isinstance(cell, OfficialSpec) or cell.release.order is not None


def _like(cell: AttackSpec | DomainSpec, test: Spec) -> np.ndarray:
    """bool [test images]: those that were attacked, or those of the classes that a domain has."""
    if isinstance(cell, AttackSpec):
        return np.isin(test.ids, cell.ids)
    return np.isin(test.labels, cell.labels)


def _attacked(cell: AttackSpec, arrays: dict[str, np.ndarray]) -> Attacked:
    zero = arrays.pop(ZERO_GRADIENT)
    follows = cell.attack.name not in GRADIENT_FREE
    return Attacked(Cell(**arrays), np.asarray(cell.labels), zero, follows)
