"""What a round's training looked like, in few points: loss and accuracy of its batches by step."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from rcm.config import DENSE
from rcm.plan import Plan
from rcm.store import Store

POINTS = 50
COLUMNS = ("stage", "pipeline", "ratio", "seed", "step", "loss", "accuracy", "status")
History = dict[str, np.ndarray]


def start(members: int, steps: int, earlier: Mapping[str, Any] | None = None) -> History:
    """Nothing seen yet of a round of `steps` steps, or `earlier`, what was seen of it.

    Sums over spans of steps, as many as fit into `POINTS`: `batches` [P], `loss` and `accuracy`
    [members, P], float64.
    """
    if earlier:
        return {name: np.array(values, np.float64) for name, values in earlier.items()}
    points = min(POINTS, steps)
    shapes = {"batches": (points,), "loss": (members, points), "accuracy": (members, points)}
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def add(history: History, steps: int, first: int, loss: np.ndarray, accuracy: np.ndarray) -> None:
    """Count the batches from step `first` on in; loss and accuracy: [members or more, K]."""
    members, points = history["loss"].shape
    spans = np.arange(first, first + loss.shape[1]) * points // steps
    np.add.at(history["batches"], spans, 1)
    for name, values in (("loss", loss), ("accuracy", accuracy)):
        np.add.at(history[name].T, spans, np.asarray(values[:members], np.float64).T)


def plain(history: History) -> dict[str, list]:
    """As JSON; six digits are more than a curve shows."""
    return {name: [*map(_rounded, values)] for name, values in history.items()}


def _rounded(values: np.ndarray) -> Any:
    return [float(f"{value:.6g}") for value in values] if values.ndim else float(values)


def training_table(plan: Plan, store: Store) -> pd.DataFrame:
    """Loss and accuracy on training batches, means over spans of steps that end at `step`, of every
    trained member of the plan whose round kept them: those of earlier versions did not.

    pipeline: `dense` for the dense members, "" for all others.
    """
    index, rows = store.index(), []
    dense = {end for (pipeline, *_), end in plan.ends.items() if pipeline == DENSE}
    notes = {chunk: store.notes(chunk) for chunk in {index[job].chunk for job in plan.jobs}}
    for job in plan.jobs.values():
        place = index[job.fingerprint]
        found = notes[place.chunk]
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
