"""Metrics of one member on one shift cell, and the tidy rows they become. numpy only.

Predictions are the border: whatever made them, these functions need only a `Cell`. Accuracy-like
values are fractions here; reports show percent. A class without test images has recall NaN and is
left out of class averages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]
Floats = NDArray[np.floating]

CLEAN = "clean"
VALIDATION = "clean_val"
GROUPS = ("head", "medium", "tail")
STATUSES = ("ok", "diverged")


class Cell(NamedTuple):
    """Stored predictions of one member on N images of one shift at one severity."""

    label: Labels  # [N] uint8 or uint16, the predicted class
    logp_pred: Floats  # [N] float16, log-probability (natural) of the predicted class
    logp_true: Floats  # [N] float16, log-probability (natural) of the true class
    sum_p2: Floats  # [N] float16, sum over classes of p^2


@dataclass(frozen=True)
class MemberInfo:
    """Who was tested.

    `model` names the study's block, the architecture of the dense parent: a student keeps its
    teacher's, so that pairs stay in one block. `train_counts` [C] are images per class id.
    `deflated_bytes` is the stored size; `parent_bytes` the dense parent's (0: no ratio is given);
    `sizes` other counts of it, by metric (members of earlier versions have none).
    """

    dataset: str
    model: str
    imbalance: str
    ratio: float
    seed: int
    pipeline: str
    fingerprint: str
    train_counts: tuple[int, ...]
    n_max: int
    deflated_bytes: int
    parent_bytes: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    status: str = "ok"


def confusion_matrix(labels_true: Labels, labels_pred: Labels, classes: int) -> NDArray[np.int64]:
    """Counts [C, C], rows true, columns predicted. ValueError on unequal shapes or ids >= C."""
    true, pred = np.asarray(labels_true), np.asarray(labels_pred)
    if true.ndim != 1 or true.shape != pred.shape:
        raise ValueError(
            f"labels have shapes {true.shape} (true) and {pred.shape} (predicted), expected two "
            "vectors of one length; pass the predictions of exactly these images"
        )
    if true.size and (min(true.min(), pred.min()) < 0 or max(true.max(), pred.max()) >= classes):
        raise ValueError(
            f"labels reach outside 0..{classes - 1}; pass the number of classes of the data set"
        )
    pairs = true.astype(np.int64) * classes + pred.astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def accuracy(labels_true: Labels, labels_pred: Labels) -> float:
    """Share of images predicted right (top-1), a fraction; NaN without images."""
    right = np.asarray(labels_true) == np.asarray(labels_pred)
    return float(right.mean()) if right.size else float("nan")


def per_class_recall(labels_true: Labels, labels_pred: Labels, classes: int) -> Floats:
    """Share of each class's images predicted right, float64 [C]; NaN for a class without images."""
    counts = confusion_matrix(labels_true, labels_pred, classes)
    return _ratio(np.diag(counts), counts.sum(axis=1))


def balanced_accuracy(labels_true: Labels, labels_pred: Labels, classes: int) -> float:
    """Mean recall over the classes present (Brodersen et al. 2010), a fraction."""
    return _mean(per_class_recall(labels_true, labels_pred, classes))


def macro_f1(labels_true: Labels, labels_pred: Labels, classes: int) -> float:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN) (Sokolova & Lapalme 2009), a fraction.

    A class that is neither present nor predicted has no F1 and is left out.
    """
    counts = confusion_matrix(labels_true, labels_pred, classes)
    return _mean(_ratio(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1)))


def g_mean(labels_true: Labels, labels_pred: Labels, classes: int) -> float:
    """Geometric mean of the present classes' recalls (Kubat & Matwin 1997); 0 if one is 0."""
    recall = per_class_recall(labels_true, labels_pred, classes)
    recall = recall[~np.isnan(recall)]
    if recall.size == 0:
        return float("nan")
    return 0.0 if recall.min() == 0 else float(np.exp(np.log(recall).mean()))


def group_recalls(recall: Floats, groups: tuple[str, ...] | list[str]) -> dict[str, float]:
    """Mean recall of each group of classes: recall [C], groups [C] of "head", "medium", "tail".

    A group that no class belongs to is absent (`step` tails have no medium).
    """
    if len(recall) != len(groups) or not set(groups) <= set(GROUPS):
        raise ValueError(
            f"groups are {tuple(groups)} for {len(recall)} classes, expected one of "
            f"{', '.join(GROUPS)} per class; take them from the training counts"
        )
    names = np.asarray(groups)
    return {name: _mean(recall[names == name]) for name in GROUPS if name in groups}


def expected_calibration_error(
    labels_true: Labels, labels_pred: Labels, logp_pred: Floats, bins: int = 15
) -> float:
    """Sum over equal-width bins (lo, hi] of the confidence of |B|/N |acc(B) - conf(B)|.

    The confidence is exp(logp_pred), the probability of the predicted class. A fraction.
    Source: Guo et al. 2017 (arXiv 1706.04599), equation 3, with their 15 bins.
    """
    confidence = np.exp(np.asarray(logp_pred, np.float64))
    if not np.isfinite(confidence).all() or confidence.size == 0:
        return float("nan")
    surplus = (np.asarray(labels_true) == np.asarray(labels_pred)) - confidence
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(which, surplus, minlength=bins)).sum() / confidence.size)


def nll(logp_true: Floats) -> float:
    """Mean negative log-likelihood of the true class, in nats; a NaN prediction makes it NaN."""
    logp_true = np.asarray(logp_true, np.float64)
    return float(-logp_true.mean()) if logp_true.size else float("nan")


def brier(logp_true: Floats, sum_p2: Floats) -> float:
    """Mean of sum_c (p_c - y_c)^2 = 1 - 2 p_true + sum_c p_c^2 (Brier 1950), between 0 and 2."""
    p_true = np.exp(np.asarray(logp_true, np.float64))
    score = 1 - 2 * p_true + np.asarray(sum_p2, np.float64)
    return float(score.mean()) if score.size else float("nan")


def posthoc(logits: Floats, log_prior: Floats, tau: float = 1.0) -> Labels:
    """Labels [N] after post-hoc logit adjustment: argmax of logits [N, C] - tau log_prior [C].

    log_prior is the natural log of the training class shares. Source: Menon et al. 2021
    (arXiv 2007.07314), equation 8. Ties go to the smallest class id.
    """
    logits, prior = np.asarray(logits, np.float32), np.asarray(log_prior, np.float32)
    if logits.ndim != 2 or prior.shape != logits.shape[1:]:
        raise ValueError(
            f"logits have shape {logits.shape} and the prior {prior.shape}, expected [N, C] and "
            "[C]; pass one log share per class"
        )
    return np.argmax(logits - np.float32(tau) * prior[None, :], axis=1)


def member_rows(
    info: MemberInfo,
    shift: str,
    severity: float,
    cell: Cell,
    labels_true: Labels,
    groups: tuple[str, ...],
    logits: Floats | None = None,
) -> list[dict]:
    """Tidy rows of one member on one shift cell, one per metric (and class, in `cls`).

    `shift` is "clean" or "clean_val" (severity 0) or a corruption's name. Sizes and training
    counts are given with "clean" only, `posthoc_balanced_accuracy` with "clean" and logits [N, C].
    A diverged member gives the single row `diverged`, which names it and carries no measurement.
    """
    if info.status not in STATUSES:
        raise ValueError(f"status is {info.status!r}, expected one of {', '.join(STATUSES)}")
    if (shift in (CLEAN, VALIDATION)) != (severity == 0):
        raise ValueError(
            f"shift {shift!r} has severity {severity}, expected 0 for clean images and more for "
            "shifted ones"
        )
    if info.status == "diverged":
        return [result_row(info, shift, severity, "diverged", 1.0)]
    values = cell_metrics(cell, labels_true, groups)
    if shift == CLEAN:
        values |= _clean_metrics(info, labels_true, logits)
    recall = per_class_recall(labels_true, cell.label, len(groups))
    by_class = [("recall", recall)]
    if shift == CLEAN:
        by_class.append(("train_count", np.asarray(info.train_counts, np.float64)))
    rows = [result_row(info, shift, severity, name, value) for name, value in values.items()]
    return rows + [
        result_row(info, shift, severity, name, float(value), str(class_id))
        for name, vector in by_class
        for class_id, value in enumerate(vector)
    ]


def cell_metrics(cell: Cell, labels_true: Labels, groups: tuple[str, ...]) -> dict[str, float]:
    """Every scalar metric that a stored cell allows, by its name in the results table."""
    lengths = {name: len(column) for name, column in zip(Cell._fields, cell, strict=True)}
    if set(lengths.values()) != {len(labels_true)}:
        raise ValueError(
            f"the cell holds {lengths} values for {len(labels_true)} labels, expected one of each "
            "per image; the stored predictions belong to other images"
        )
    classes = len(groups)
    recall = per_class_recall(labels_true, cell.label, classes)
    by_group = group_recalls(recall, groups)
    return {
        "accuracy": accuracy(labels_true, cell.label),
        "balanced_accuracy": _mean(recall),
        "macro_f1": macro_f1(labels_true, cell.label, classes),
        "g_mean": g_mean(labels_true, cell.label, classes),
        **{f"recall_{name}": value for name, value in by_group.items()},
        "ece": expected_calibration_error(labels_true, cell.label, cell.logp_pred),
        "nll": nll(cell.logp_true),
        "brier": brier(cell.logp_true, cell.sum_p2),
    }


def _clean_metrics(info: MemberInfo, labels_true: Labels, logits: Floats | None) -> dict:
    values: dict[str, float] = {"bytes": float(info.deflated_bytes)}
    values |= {name: float(size) for name, size in info.sizes.items()}
    if info.parent_bytes and info.deflated_bytes:
        values["compression_ratio"] = info.parent_bytes / info.deflated_bytes
    if logits is not None and min(info.train_counts) > 0:
        counts = np.asarray(info.train_counts, np.float64)
        adjusted = posthoc(logits, np.log(counts / counts.sum()))
        values["posthoc_balanced_accuracy"] = balanced_accuracy(labels_true, adjusted, counts.size)
    return values


def result_row(
    info: MemberInfo, shift: str, severity: float, metric: str, value: float, cls: str = ""
) -> dict:
    return {
        "dataset": info.dataset,
        "model": info.model,
        "imbalance": info.imbalance,
        "ratio": float(info.ratio),
        "seed": info.seed,
        "pipeline": info.pipeline,
        "shift": shift,
        "severity": float(severity),
        "metric": metric,
        "cls": cls,
        "value": value,
        "n_max": info.n_max,
        "realised_ratio": max(info.train_counts) / max(min(info.train_counts), 1),
        "status": info.status,
        "fingerprint": info.fingerprint,
    }


def _ratio(part: NDArray, whole: NDArray) -> Floats:
    whole = whole.astype(np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean(values: Floats) -> float:
    """Mean over what is not NaN; NaN, without a warning, where nothing is left."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
