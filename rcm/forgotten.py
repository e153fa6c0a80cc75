"""What single test images tell a study's report: intervals over them, and forgotten ones."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from rcm.analysis.forgotten_shifts import middle, shift_overlaps
from rcm.analysis.forgotten_tables import (
    chosen_by,
    forgotten_tables,
    over_ratios,
    populations,
)
from rcm.analysis.images import image_table
from rcm.analysis.metrics import Labels, MemberInfo
from rcm.analysis.statistics import PipelineInfo
from rcm.cells import Spec
from rcm.config import DENSE
from rcm.pictures import pictures
from rcm.plan import Plan
from rcm.populations import End, answers_at, compared, doubts, replicas
from rcm.report.gallery import Picture
from rcm.results import load_cell, member_infos
from rcm.store import Store


class Forgotten(NamedTuple):
    """Tables by name, and pictures at the largest ratio by the label of a pipeline, none where
    exemplars are not looked for."""

    tables: dict[str, pd.DataFrame]
    pictures: dict[str, list[Picture]]


def forgotten(
    plan: Plan, store: Store, cells: Sequence[Spec], pipelines: list[PipelineInfo]
) -> Forgotten:
    """From stored predictions for the clean test images, the first cell, how far other images would
    have moved accuracies (the table image_intervals), and what the populations of a plan forget,
    among them and under corruptions (`shift_overlaps`). Raises Damaged as `results.load_cell`."""
    cell = cells[0]
    infos = member_infos(plan, store)
    labels, confidence = _stored(plan, store, cell)
    intervals, parts, shown = [], [], {}
    for ratio in sorted(plan.tails):
        answers = answers_at(plan, cell, ratio, labels, infos)
        intervals.append(image_table(answers, pipelines))
        if not compared(plan, cell):
            continue
        given = (replicas(plan), doubts(plan, answers, cell))
        parts.append(forgotten_tables(answers, pipelines, *given))
        found = populations(answers, pipelines)
        sure = {(p, seed): values for (p, own, seed), values in confidence.items() if own == ratio}
        images = partial(_image, plan, cell)
        given = (answers, found, DENSE, images, plan.dataset.classes, sure)
        shown = pictures(*given)  # of the last, largest ratio
    tables = {"image_intervals": pd.concat(intervals, ignore_index=True)}
    tables |= _between_corruptions(plan, store, cells, pipelines, infos)
    return Forgotten(tables | over_ratios(parts), shown)


def _image(plan: Plan, cell: Spec, place: int) -> np.ndarray:
    """uint8 [H, W, 3], the clean test image at a place of a cell."""
    return plan.dataset.test.images[int(cell.ids[place])]


def _between_corruptions(
    plan: Plan,
    store: Store,
    cells: Sequence[Spec],
    pipelines: list[PipelineInfo],
    infos: Mapping[End, MemberInfo],
) -> dict[str, pd.DataFrame]:
    """`shift_overlaps` at the middle severity."""
    found = [c for c in cells if compared(plan, c) and c.severity > 0]
    chosen = {}
    for cell in (c for c in found if c.severity == middle([c.severity for c in found])):
        if not np.array_equal(cell.ids, found[0].ids):
            continue
        labels, _ = _stored(plan, store, cell)
        for ratio in sorted(plan.tails):
            answers = answers_at(plan, cell, ratio, labels, infos)
            chosen[answers.place] = chosen_by(answers, pipelines)
    return shift_overlaps(chosen, replicas(plan))


def _stored(
    plan: Plan, store: Store, cell: Spec
) -> tuple[dict[End, Labels], dict[End, np.ndarray]]:
    """Labels and confidences [N] of every member."""
    index, chunks = store.index(), {}
    labels, confidence = {}, {}
    for end, fingerprint in plan.ends.items():
        place = index[fingerprint]
        if place.chunk not in chunks:
            chunks[place.chunk] = load_cell(store, place.chunk, cell)
        arrays = chunks[place.chunk]
        labels[end] = arrays["label"][place.row]
        confidence[end] = np.exp(arrays["logp_pred"][place.row].astype(np.float32))
    return labels, confidence
