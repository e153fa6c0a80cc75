"""How far other test images would have moved accuracies, the members as they are."""

from collections.abc import Iterable, Mapping, Sequence

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
    right = {
        name: {seed: label == answers.truth for seed, label in members.items()}
        for name, members in answers.labels.items()
        if members
    }
    told = [pipeline for pipeline in pipelines if pipeline.name in right]
    if not told:
        return pd.DataFrame(columns=pd.Index(COLUMNS))
    own = [_share(right[p.name], right[p.name]) for p in told]
    changes = [_change(right[p.name], right.get(p.parent, {}), answers.truth.size) for p in told]
    shares = 100 * np.stack([*own, *changes])  # by image; their mean is the accuracy
    values = np.vstack([shares.mean(axis=1), resampled_accuracy(shares)])  # measured, then drawn
    rows = [
        (*answers.place[:4], pipeline.name, len(right[pipeline.name]), answers.truth.size,
         *_interval(values[:, i]), pipeline.parent, *_interval(values[:, len(told) + i]))
        for i, pipeline in enumerate(told)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _change(
    own: Mapping[int, np.ndarray], parents: Mapping[int, np.ndarray], images: int
) -> np.ndarray:
    """How much larger the share of members who are right is than that of their parents, of the
    seeds that both have, [images]; NaN without any."""
    both = sorted(set(own) & set(parents))
    return _share(own, both) - _share(parents, both) if both else np.full(images, np.nan)


def _share(right: Mapping[int, np.ndarray], seeds: Iterable[int]) -> np.ndarray:
    """Of the members of these seeds those who are right, a fraction by image."""
    return np.mean([right[seed] for seed in seeds], axis=0)


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """What was measured, the first, and the interval of what was drawn."""
    low, high = image_intervals(values[1:])
    return float(values[0]), float(low), float(high)
