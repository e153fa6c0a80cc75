"""The table of training curves: what `history` kept of every member."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rcm.plan import Plan
from rcm.records import Place

COLUMNS = ("stage", "pipeline", "ratio", "seed", "step", "loss", "accuracy", "status")


def training_table(
    plan: Plan, index: Mapping[str, Place], noted: Mapping[str, dict]
) -> pd.DataFrame:
    """Loss and accuracy on training batches, means over spans of steps that end at `step`, of every
    trained member of the plan whose round kept them: those of earlier versions did not.

    index: where finished member-stages lie; noted: `store.notes` by chunk. pipeline: that of
    which a stage is the last, the first of several, "" for a stage within pipelines.
    """
    ends = {end: pipeline for (pipeline, *_), end in reversed(plan.ends.items())}
    kept = {
        chunk: [np.array(notes["history"][name]) for name in ("batches", "loss", "accuracy")]
        for chunk, notes in noted.items()
        if "history" in notes
    }
    rows = []
    for job in plan.jobs.values():
        place = index[job.fingerprint]
        if place.chunk not in kept:
            continue
        batches, *sums = kept[place.chunk]
        spans = np.flatnonzero(batches)
        steps = -(-(spans + 1) * job.steps // len(batches))
        loss, accuracy = (one[place.row, spans] / batches[spans] for one in sums)
        status = "ok" if noted[place.chunk]["alive"][place.row] else "diverged"
        about = (job.label, ends.get(job.fingerprint, ""), job.ratio, job.seed)
        for point in zip(steps.tolist(), loss.tolist(), accuracy.tolist(), strict=True):
            rows.append((*about, *point, status))
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))
