"""The results table of a study, from its stored predictions alone."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from rcm.analysis.attacks import (
    FROM_PARENT,
    TO_PARENT,
    Attacked,
    attack_rows,
    transfer_row,
    worst_rows,
)
from rcm.analysis.elsewhere import domain_rows, source_row
from rcm.analysis.metrics import VALIDATION, Cell, MemberInfo, member_rows
from rcm.analysis.subgroups import subgroup_rows, training_rows
from rcm.cells import (
    MADE_BY,
    AttackSpec,
    DomainSpec,
    OfficialSpec,
    Spec,
    is_made_here,
    is_tested,
    shift_source,
)
from rcm.config import DENSE
from rcm.evaluate import ZERO_GRADIENT
from rcm.plan import Plan
from rcm.populations import population_rows
from rcm.records import Damaged
from rcm.shift.attacks import GRADIENT_FREE
from rcm.store import Store

End = tuple[str, int, int]  # pipeline, ratio, seed


def read_results(
    plan: Plan, store: Store, cells: list[Spec], discard: bool = False
) -> pd.DataFrame:
    """The tidy results table of every member, shift and metric, from stored predictions alone.

    Raises Damaged if a file is missing or broken; with `discard`, broken predictions are removed.
    """
    index = store.index()
    missing = sum(fingerprint not in index for fingerprint in plan.ends.values())
    if missing:
        raise Damaged(f"{missing} members of this study are not finished in {store.root}")
    infos = {end: member_info(plan, store, *end) for end in plan.ends}
    rows: list[dict] = []
    attacked: dict[tuple[End, str, float], dict[str, Attacked]] = {}
    at_home: dict[End, np.ndarray] = {}  # whether each clean test image is answered rightly
    test, attacked_images = cells[0], np.zeros(0, bool)
    for cell in cells:
        tested = {end: info for end, info in infos.items() if is_tested(cell, end[0])}
        chunks = {index[info.fingerprint].chunk for info in tested.values()}
        stored = _stored(store, cell, chunks, discard)
        labels: dict[End, np.ndarray] = {}
        for end, info in tested.items():
            place = index[info.fingerprint]
            arrays = {name: array[place.row] for name, array in stored[place.chunk].items()}
            labels[end] = arrays["label"]
            groups = plan.tails[end[1]].groups
            if isinstance(cell, AttackSpec) and cell.source:
                right = arrays["label"] == np.asarray(cell.labels)
                rows += _transferred(cell, info, infos[(cell.source, *end[1:])], right)
                continue
            if isinstance(cell, AttackSpec):
                found = _attacked(cell, arrays)
                where = attacked.setdefault((end, cell.attack.norm, cell.eps), {})
                where[cell.shift] = found
                rows += attack_rows(info, cell.shift, cell.eps, found, len(groups))
                attacked_images = _like(cell, test)  # the same for all attacks
                rows += source_row(info, cell.shift, cell.eps, at_home[end], attacked_images)
                continue
            if isinstance(cell, DomainSpec):
                rows += domain_rows(info, cell.shift, Cell(**arrays), cell.labels, len(groups))
                rows += source_row(info, cell.shift, 0, at_home[end], _like(cell, test))
                continue
            group = plan.dataset.test.group
            if group is not None and cell.shift != VALIDATION and _aligned(cell):
                own = (arrays["label"], np.asarray(cell.labels), group[cell.ids])
                where = (cell.shift, cell.severity)
                rows += subgroup_rows(info, *where, *own, plan.dataset.groups)
                if cell is test:
                    rows += training_rows(info, *_trained_on(plan, end[1]), plan.dataset.groups)
            if cell is test:
                at_home[end] = arrays["label"] == np.asarray(cell.labels)
            logits = arrays.pop("logits", None)
            rows += member_rows(
                info, cell.shift, cell.severity, Cell(**arrays), cell.labels, groups, logits
            )
        rows += population_rows(plan, cell, labels, infos)
    for (end, norm, eps), by_attack in attacked.items():
        worst = worst_rows(infos[end], eps, norm, by_attack)
        for name in {row["shift"] for row in worst}:
            worst += source_row(infos[end], name, eps, at_home[end], attacked_images)
        rows += worst
    return pd.DataFrame(rows)


def _trained_on(plan: Plan, ratio: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and subgroups [N] of a ratio's training images."""
    train, table = plan.dataset.train, plan.tails[ratio].table
    assert train.group is not None
    return train.labels[table], train.group[table]


def _aligned(cell: Spec) -> bool:
    """Whether a cell's ids are those of test images."""
    return not isinstance(cell, OfficialSpec) or cell.release.order is not None


def _transferred(
    cell: AttackSpec, asked: MemberInfo, attacked: MemberInfo, right: np.ndarray
) -> list[dict]:
    where = (cell.shift, cell.eps, right)
    if cell.source == DENSE:
        return transfer_row(asked, attacked, FROM_PARENT, *where)
    return transfer_row(attacked, asked, TO_PARENT, *where)


def _like(cell: AttackSpec | DomainSpec, test: Spec) -> np.ndarray:
    """bool [test images]: those that were attacked, or those of the classes that a domain has."""
    if isinstance(cell, AttackSpec):
        return np.isin(test.ids, cell.ids)
    return np.isin(test.labels, cell.labels)


def _attacked(cell: AttackSpec, arrays: dict[str, Any]) -> Attacked:
    zero = arrays.pop(ZERO_GRADIENT)
    follows = cell.attack.name not in GRADIENT_FREE
    return Attacked(Cell(**arrays), np.asarray(cell.labels), zero, follows)


def _stored(
    store: Store, cell: Spec, chunks: Iterable[str], discard: bool
) -> dict[str, dict[str, Any]]:
    """The chunks' predictions of one cell."""
    stored = {}
    for chunk in sorted(chunks):
        try:
            stored[chunk] = load_cell(store, chunk, cell)
        except Damaged:
            if discard:
                store.drop_predictions(chunk, cell.key)
            raise
    return stored


def load_cell(store: Store, chunk: str, cell: Spec) -> dict[str, Any]:
    """A chunk's predictions of one cell, noted as outdated if other code made the images. Damaged
    if they are not of its members and images."""
    stored = store.load_predictions(chunk, cell.key)
    made_by = str(stored.pop(MADE_BY, ""))
    if is_made_here(cell) and made_by != shift_source():
        store.outdated.add(f"{chunk}/{cell.key}")
    expected = (len(store.record(chunk)["members"]), len(cell.ids))
    extra = (ZERO_GRADIENT,) if isinstance(cell, AttackSpec) else ()
    names = {*Cell._fields, *extra, *(("logits",) if cell.clean else ())}
    if set(stored) != names or any(array.shape[:2] != expected for array in stored.values()):
        raise Damaged(f"Predictions {chunk}/{cell.key} are not those of its members and images")
    return stored


def member_info(plan: Plan, store: Store, pipeline: str, ratio: int, seed: int) -> MemberInfo:
    """Who a member is, and what it weighs."""
    fingerprint = plan.ends[pipeline, ratio, seed]
    place, dense = store.index()[fingerprint], store.index()[plan.ends[DENSE, ratio, seed]]
    notes, counts = store.notes(place.chunk), plan.tails[ratio].counts
    study = plan.study
    return MemberInfo(
        dataset=plan.dataset.name,
        model=f"{study.model.name}-w{study.model.width}",
        imbalance=study.data.imbalance,
        ratio=ratio,
        seed=seed,
        pipeline=pipeline,
        fingerprint=fingerprint,
        train_counts=tuple(int(count) for count in counts),
        n_max=int(counts.max()),
        deflated_bytes=notes["bytes"][place.row],
        parent_bytes=store.notes(dense.chunk)["bytes"][dense.row],
        sizes=notes["sizes"][place.row] if "sizes" in notes else {},
        status="ok" if notes["alive"][place.row] else "diverged",
    )
