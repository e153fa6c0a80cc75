"""The table of training curves: what `history` kept of every member."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rcm.config import DENSE
from rcm.plan import Plan
from rcm.records import Place

COLUMNS = ("stage", "pipeline", "ratio", "seed", "step", "loss", "accuracy", "status")


def training_table(
    plan: Plan, index: Mapping[str, Place], noted: Mapping[str, dict]
) -> pd.DataFrame:
    """Loss and accuracy on training batches, means over spans of steps that end at `step`, of every
    trained member of the plan whose round kept them: those of earlier versions did not.

    index: where finished member-stages lie; noted: `store.notes` by chunk. pipeline: `dense` for the
    dense members, "" for all others.
    """
    rows = []
    dense = {end for (pipeline, *_), end in plan.ends.items() if pipeline == DENSE}
    for job in plan.jobs.values():
        place = index[job.fingerprint]
        found = noted[place.chunk]
        if "history" not in found:
            continue
        batches, loss, accuracy = (
            np.array(found["history"][name]) for name in ("batches", "loss", "accuracy")
        )
        points = len(batches)
        status = "ok" if found["alive"][place.row] else "diverged"
        pipeline = DENSE if job.fingerprint in dense else ""
        for i in np.flatnonzero(batches):
            step = -(-(int(i) + 1) * job.steps // points)
            values = (loss[place.row, i] / batches[i], accuracy[place.row, i] / batches[i])
            rows.append((job.label, pipeline, job.ratio, job.seed, step, *values, status))
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))
