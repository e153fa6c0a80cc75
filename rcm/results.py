"""The results table of a study, from its stored predictions alone."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from rcm.analysis.metrics import Cell, MemberInfo
from rcm.cells import MADE_BY, AttackSpec, Spec, is_made_here, is_tested, shift_source
from rcm.config import DENSE
from rcm.evaluate import ZERO_GRADIENT
from rcm.plan import Plan
from rcm.predictors import predictor_rows
from rcm.records import Damaged
from rcm.rows import Answers, Context, End, cell_rows, worst_case_rows
from rcm.store import Store


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
    context = Context(plan, infos, cells[0], {}, {}, {})
    tables = [  # a cell's dictionaries are gone before those of the next are made
        pd.DataFrame(cell_rows(context, cell, _answers(store, cell, infos, discard)))
        for cell in cells
    ]
    tables.append(pd.DataFrame(worst_case_rows(context)))
    tables.append(pd.DataFrame(predictor_rows(plan, store, infos, discard)))
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def _answers(store: Store, cell: Spec, infos: dict[End, MemberInfo], discard: bool) -> Answers:
    index = store.index()
    places = {
        end: index[info.fingerprint] for end, info in infos.items() if is_tested(cell, end[0])
    }
    stored = _stored(store, cell, {place.chunk for place in places.values()}, discard)
    return {
        end: {name: array[place.row] for name, array in stored[place.chunk].items()}
        for end, place in places.items()
    }


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
