"""How far other test images would have moved accuracies, the members as they are."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rcm.analysis.forgotten import Answers
from rcm.analysis.resampling import image_intervals, resampled_accuracy
from rcm.analysis.statistics import PipelineInfo

COLUMNS = ["dataset", "model", "imbalance", "ratio", "pipeline", "n", "images", "accuracy",
           "lo", "hi", "parent", "change", "change_lo", "change_hi"]  # fmt: skip


def image_table(answers: Answers, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """One row per pipeline that answered: n members, their mean accuracy, percent, and its change
    against the parent's, points, of the seeds that both have; with the 95 % intervals over images
    of `image_intervals`. No change is NaN."""
    known = {name: members for name, members in answers.labels.items() if members}
    if not known:
        return pd.DataFrame(columns=pd.Index(COLUMNS))
    ends = [(name, seed) for name, members in known.items() for seed in members]
    right = np.stack([known[name][seed] for name, seed in ends]) == answers.truth
    drawn, rows = 100 * resampled_accuracy(right), []
    values = np.vstack([100 * right.mean(axis=1), drawn])  # what was measured comes first
    places = {end: place for place, end in enumerate(ends)}
    for pipeline in (p for p in pipelines if p.name in known):
        own = [places[pipeline.name, seed] for seed in known[pipeline.name]]
        both = set(known[pipeline.name]) & set(known.get(pipeline.parent, ()))
        changes = [
            values[:, places[pipeline.name, s]] - values[:, places[pipeline.parent, s]]
            for s in sorted(both)
        ]
        change = np.mean(changes, axis=0) if changes else np.full(len(values), np.nan)
        rows.append(
            (*answers.place[:4], pipeline.name, len(own), right.shape[1],
             *_interval(values[:, own].mean(axis=1)), pipeline.parent, *_interval(change))
        )  # fmt: skip
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """What was measured, the first, and the interval of what was drawn."""
    low, high = image_intervals(values[1:])
    return float(values[0]), float(low), float(high)
