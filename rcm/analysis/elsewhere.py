"""What members lose under attack and in other domains, and what of it compression explains.

Accuracies there have names of their own (`robust_accuracy`, `domain_accuracy`), so that nothing
which averages over corrupted images takes them in.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rcm.analysis.classification import Labels, per_class_recall
from rcm.analysis.metrics import Cell, MemberInfo, result_row
from rcm.analysis.statistics import PipelineInfo, difference, estimates, usable, wide

SHIFTED = ("robust_accuracy", "domain_accuracy")
SOURCE = "source_accuracy"
BY = ("shift", "severity")


def domain_rows(
    info: MemberInfo, domain: str, found: Cell, labels: Labels, classes: int
) -> list[dict]:
    """Rows of one domain: accuracy and recall by class (only of classes that occur)."""
    if info.status == "diverged":
        return [result_row(info, domain, 0, "diverged", 1.0)]
    right = np.asarray(found.label) == np.asarray(labels)
    recall = per_class_recall(labels, found.label, classes)
    return [result_row(info, domain, 0, "domain_accuracy", float(right.mean()))] + [
        result_row(info, domain, 0, "domain_recall", float(value), str(class_id))
        for class_id, value in enumerate(recall)
        if np.isfinite(value)
    ]


def source_row(
    info: MemberInfo, shift: str, severity: float, right: np.ndarray, like: np.ndarray
) -> list[dict]:
    """The accuracy at home that a shift is compared with: of clean test images, `right` bool [N],
    those that are `like` the shifted ones, bool [N] (the attacked images, the shared classes)."""
    if info.status == "diverged" or not like.any():
        return []
    return [result_row(info, shift, severity, SOURCE, float(right[like].mean()))]


def robustness(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """Long estimates by shift and severity: shifted_accuracy and source_accuracy in percent; drop,
    source minus shifted accuracy in points; relative_robustness, the share of source accuracy that
    is kept, over the same of the parent, paired by seed; shifted_change, minus the primary
    baseline's shifted accuracy, in points.

    Protocol S2: D(m) = acc(m, source) - acc(m, shifted); RR(m) = [acc_shift / acc_source](m) /
    [acc_shift / acc_source](parent), missing where the parent keeps nothing. No rows without
    attacks and domains.
    """
    rows = usable(frame)
    shifted = rows[rows["metric"].isin(SHIFTED)].assign(metric="shifted")
    if shifted.empty or not (rows["metric"] == SOURCE).any():
        return pd.DataFrame(columns=pd.Index([*BY, *estimates({}).columns]))
    away = wide(shifted, "shifted", None, BY)
    home = wide(rows, SOURCE, None, BY).reindex(away.index)
    kept = away / home.where(home > 0)
    parts = {}
    for pipeline in (p for p in pipelines if p.name in away):
        name = pipeline.name
        parts[name, "shifted_accuracy", "", "percent"] = 100 * away[name]
        parts[name, SOURCE, "", "percent"] = 100 * home[name]
        parts[name, "drop", "", "points"] = 100 * (home[name] - away[name])
        if pipeline.parent in kept:
            reference = kept[pipeline.parent].where(kept[pipeline.parent] > 0)
            ratio = kept[name] / reference
            parts[name, "relative_robustness", pipeline.parent, "times the parent"] = ratio
        if pipeline.baseline in away:
            change = 100 * difference(away, name, pipeline.baseline)
            parts[name, "shifted_change", pipeline.baseline, "points"] = change
    return estimates(parts)
