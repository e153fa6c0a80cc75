"""Recall by class: of every pipeline, against the parent, and what corruption takes from it."""

from collections.abc import Mapping, Sequence

import pandas as pd

from rcm.analysis.statistics import (
    BLOCK,
    MEMBER,
    PipelineInfo,
    difference,
    estimates,
    usable,
    wide,
)


def class_recall(frame: pd.DataFrame) -> pd.DataFrame:
    """Recall of each class of every pipeline, percent; columns as in `recall_change`."""
    rows = usable(frame)
    recall = 100 * wide(rows, "recall", by=("cls",))
    return _counted({(n, "recall", "", "percent"): recall[n] for n in recall}, rows)


def recall_change(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """Recall of each class minus the parent's, points, paired by seed; long, with `cls` and the
    class's `train_count` (mean over members)."""
    rows = usable(frame)
    recall = wide(rows, "recall", by=("cls",))
    return _by_class(recall, "recall_change", pipelines, rows)


def class_excess(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """What corruption takes from the recall of each class beyond what it takes from the parent's,
    points, mean over all corrupted cells, paired by seed; columns as in `recall_change`."""
    rows = usable(frame)
    clean = wide(rows, "recall", by=("cls",))
    corrupted = wide(rows, "recall", None, ("shift", "severity", "cls"))
    over = corrupted.groupby(level=[*MEMBER, "cls"])
    cells = corrupted.reset_index()[["shift", "severity"]].drop_duplicates()
    means = over.mean().where(over.count() == len(cells))  # of members that have them all
    return _by_class(clean - means, "class_excess", pipelines, rows)


def rare_classes(table: pd.DataFrame) -> bool:
    """Whether any class is rarer than another: the one rule by which a report speaks of head and
    tail or does not. table: `ratio` and `train_count` of classes, as in `class_recall`."""
    return bool((table.groupby("ratio")["train_count"].nunique() > 1).any())


def _by_class(
    values: pd.DataFrame, quantity: str, pipelines: Sequence[PipelineInfo], rows: pd.DataFrame
) -> pd.DataFrame:
    """Each pipeline's fractions by class minus the parent's, points."""
    changes = {
        (p.name, quantity, p.parent, "points"): 100 * difference(values, p.name, p.parent)
        for p in pipelines
        if p.parent and p.name in values and p.parent in values
    }
    return _counted(changes, rows)


def _counted(parts: Mapping, rows: pd.DataFrame) -> pd.DataFrame:
    """`estimates` by class, with the training counts."""
    table = estimates(parts)
    if table.empty:
        return table.assign(cls=[], train_count=[])
    counts = rows[rows["metric"] == "train_count"]
    by_class = counts.groupby([*BLOCK, "ratio", "cls"])["value"].mean().rename("train_count")
    return table.merge(by_class, how="left", on=[*BLOCK, "ratio", "cls"])
