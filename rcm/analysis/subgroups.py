"""Errors by subgroup of the images, and what compression adds to them (protocol S4, claim C10)."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from rcm.analysis.classification import Labels
from rcm.analysis.metrics import CLEAN, MemberInfo, result_row
from rcm.analysis.statistics import PipelineInfo, estimates, usable, wide

RATES = ("error", "false_positive", "false_negative")


def subgroup_rows(
    info: MemberInfo,
    shift: str,
    severity: float,
    answers: Labels,
    labels: Labels,
    group: Labels,
    names: Sequence[str],
) -> list[dict]:
    """Rows by subgroup (Hooker et al. 2020, arXiv 2010.03058), its name in `cls`: `subgroup_error`,
    the share of wrong answers and, of two classes, `subgroup_false_positive`, that of images of
    class 0, and `subgroup_false_negative`, that of class 1. Rates of nothing are left out.

    answers, labels, group: [N], a member's answers to images, their classes and their subgroups.
    """
    if info.status == "diverged":
        return []
    wrong, labels = np.asarray(answers) != labels, np.asarray(labels)
    return [
        result_row(info, shift, severity, f"subgroup_{rate}", float(wrong[chosen].mean()), name)
        for name, rate, chosen in _parts(labels, group, names, len(info.train_counts))
        if chosen.any()
    ]


def training_counts(labels: Labels, group: Labels, groups: int, classes: int) -> np.ndarray:
    """How many images of each subgroup and class there are: int [groups, classes]."""
    counts = np.zeros((groups, classes), np.int64)
    np.add.at(counts, (np.asarray(group), np.asarray(labels)), 1)
    return counts


def training_rows(info: MemberInfo, counts: np.ndarray, names: Sequence[str]) -> list[dict]:
    """How many training images of a member stand behind each of those rates: rows of the clean
    images, `subgroup_error_train` and so on. counts: those of `training_counts`."""
    if info.status == "diverged":
        return []
    group, labels = (places.ravel() for places in np.indices(counts.shape))
    return [
        result_row(info, CLEAN, 0, f"subgroup_{rate}_train", float(counts.flat[chosen].sum()), name)
        for name, rate, chosen in _parts(labels, group, names, counts.shape[1])
    ]


def _parts(
    labels: Labels, group: Labels, names: Sequence[str], classes: int
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(subgroup, rate, bool [N]: the images whose wrong answers make it)."""
    of_class = {"error": np.ones(len(labels), bool)}
    if classes == 2:
        of_class |= {"false_positive": labels == 0, "false_negative": labels == 1}
    for place, name in enumerate(names):
        for rate, among in of_class.items():
            yield name, rate, among & (np.asarray(group) == place)


def subgroups(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """Long estimates on clean test images by subgroup (`cls`): rates in percent and, paired by
    seed, their normalised change 100 (m - m_parent) / m_parent in percent of the parent's (S4),
    missing where the parent makes no such error. No rows without subgroups."""
    rows, parts = usable(frame), {}
    for rate in RATES:
        values = wide(rows, f"subgroup_{rate}", by=("cls",))
        for pipeline in (p for p in pipelines if p.name in values):
            own = values[pipeline.name]
            parts[pipeline.name, rate, "", "percent"] = 100 * own
            if pipeline.parent in values:
                parent = values[pipeline.parent].where(values[pipeline.parent] > 0)
                change = 100 * (own / parent - 1)
                parts[pipeline.name, f"{rate}_change", pipeline.parent, "percent of it"] = change
    if not parts:
        return pd.DataFrame(columns=pd.Index(["cls", *estimates({}).columns]))
    return estimates(parts)
