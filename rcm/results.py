"""The results table of a study, from its stored predictions alone."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from rcm.analysis.metrics import Cell, MemberInfo
from rcm.baselines import parent_names
from rcm.cells import MADE_BY, AttackSpec, Spec, is_made_here, is_tested, shift_source
from rcm.evaluate import ZERO_GRADIENT
from rcm.plan import Plan
from rcm.predictors import predictor_rows
from rcm.records import Damaged, Place
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
    infos = member_infos(plan, store)
    context = Context(plan, infos, cells[0], {}, {}, {})
    tables = [  # a cell's dictionaries are gone before those of the next are made
        pd.DataFrame(cell_rows(context, cell, answers_to(store, cell, infos, discard)))
        for cell in cells
    ]
    tables.append(pd.DataFrame(worst_case_rows(context)))
    tables.append(pd.DataFrame(predictor_rows(plan, store, infos, discard)))
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def answers_to(
    store: Store, cell: Spec, infos: Mapping[End, MemberInfo], discard: bool = False
) -> Answers:
    """What the members of `infos` that answer a cell have answered. Damaged if a file is broken,
    which is removed with `discard`."""
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


def member_infos(plan: Plan, store: Store) -> dict[End, MemberInfo]:
    """Who every member at the end of a pipeline is, and what it weighs."""
    index = store.index()
    chunks = {index[fingerprint].chunk for fingerprint in plan.ends.values()}
    notes = {chunk: store.notes(chunk) for chunk in chunks}
    parents = parent_names(plan.pipelines, plan.study)
    return {end: _member_info(plan, end, parents[end[0]], index, notes) for end in plan.ends}


def _member_info(
    plan: Plan, end: End, parent: str, index: Mapping[str, Place], notes: Mapping[str, dict]
) -> MemberInfo:
    pipeline, ratio, seed = end
    fingerprint, study, counts = plan.ends[end], plan.study, plan.tails[ratio].counts
    place, above = index[fingerprint], index[plan.ends[parent, ratio, seed]]
    own = notes[place.chunk]
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
        deflated_bytes=own["bytes"][place.row],
        parent_bytes=notes[above.chunk]["bytes"][above.row],
        sizes=own["sizes"][place.row] if "sizes" in own else {},
        status="ok" if own["alive"][place.row] else "diverged",
    )
