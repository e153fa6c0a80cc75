"""Metrics of one member on one shift cell, and the tidy rows they become. numpy only.

Predictions are the border: whatever made them, these functions need only a `Cell`. Accuracy-like
values are fractions here; reports show percent. A class without test images has recall NaN and is
left out of class averages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rcm.analysis.calibration import (
    brier,
    calibration_errors,
    classwise_calibration_error,
    nll,
    reliability,
    softmax,
)
from rcm.analysis.classification import (
    Counts,
    Floats,
    Labels,
    accuracy,
    agreement,
    balanced_accuracy,
    confusion_matrix,
    g_mean,
    group_recalls,
    macro_f1,
    mean_present,
    precision,
    recall,
)

CLEAN = "clean"
VALIDATION = "clean_val"
TRAINING = "clean_train"
STATUSES = ("ok", "diverged")
HALF_MAX = 6e4  # float16 ends at 65,504


class Cell(NamedTuple):
    """Stored predictions of one member on N images of one shift at one severity."""

    label: Labels  # [N] uint8 or uint16, the predicted class
    logp_pred: Floats  # [N] float16, log-probability (natural) of the predicted class
    logp_true: Floats  # [N] float16, log-probability (natural) of the true class
    sum_p2: Floats  # [N] float16, sum over classes of p^2


def bounded(logits: Floats) -> Floats:
    """float32 numbers that float16 can hold: a diverged member's logits may be anything."""
    return np.clip(np.nan_to_num(np.asarray(logits, np.float32)), -HALF_MAX, HALF_MAX)


def cell_of(logits: Floats, labels_true: Labels) -> Cell:
    """What logits float [..., N, C] say to images of the true classes int [N]: fields [..., N]."""
    logits = bounded(logits)
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = np.maximum(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)), -HALF_MAX)
    label = logits.argmax(-1)
    true = np.broadcast_to(labels_true[:, None], (*label.shape, 1))
    return Cell(
        label.astype(np.uint8 if logits.shape[-1] <= 256 else np.uint16),
        np.take_along_axis(log_p, label[..., None], -1)[..., 0].astype(np.float16),
        np.take_along_axis(log_p, true, -1)[..., 0].astype(np.float16),
        np.exp(2 * log_p).sum(-1).astype(np.float16),
    )


@dataclass(frozen=True)
class MemberInfo:
    """Who was tested.

    `model` names the study's block, the architecture of the dense parent: a student keeps its
    teacher's, so that pairs stay in one block. `train_counts` [C] are images per class id.
    `deflated_bytes` is the stored size; `parent_bytes` its own parent's (0: no ratio is given);
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

    @cached_property  # of many rows
    def realised_ratio(self) -> float:
        """Images of the most frequent class over those of the rarest."""
        return max(self.train_counts) / max(min(self.train_counts), 1)


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
    """Tidy rows of one member on one shift cell, one per metric (and class or bin, in `cls`).

    `shift` is "clean" or "clean_val" (severity 0) or a corruption's name. Sizes, training counts,
    precision by class and the bins of `reliability` are given with "clean" only,
    `posthoc_balanced_accuracy` with "clean" and logits [N, C], `ece_classwise` wherever there are
    logits.
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
    counts = _counted(cell, labels_true, len(groups))
    values = cell_metrics(counts, cell, labels_true, groups)
    by_class = {"recall": recall(counts)}
    if logits is not None:
        values["ece_classwise"] = classwise_calibration_error(labels_true, softmax(logits))
    if shift == CLEAN:
        values |= _clean_metrics(info, labels_true, logits)
        by_class["precision"] = precision(counts)
        by_class["train_count"] = np.asarray(info.train_counts, np.float64)
        by_class |= reliability(labels_true, cell.label, cell.logp_pred)
    rows = [result_row(info, shift, severity, name, value) for name, value in values.items()]
    return rows + [
        result_row(info, shift, severity, name, float(value), str(class_id))
        for name, vector in by_class.items()
        for class_id, value in enumerate(vector)
    ]


def agreement_rows(
    info: MemberInfo,
    parent: MemberInfo,
    shift: str,
    severity: float,
    labels_true: Labels,
    answers: Labels,
    parents: Labels,
) -> list[dict]:
    """Rows of `agreement` of a member's answers [N] with its parent's [N] to the same images."""
    if "diverged" in (info.status, parent.status):
        return []
    found = agreement(labels_true, answers, parents)
    return [result_row(info, shift, severity, name, value) for name, value in found.items()]


def cell_metrics(
    counts: Counts, cell: Cell, labels_true: Labels, groups: tuple[str, ...]
) -> dict[str, float]:
    """Every scalar metric that a stored cell allows, by its name in the results table; counts: the
    cell's confusion matrix."""
    recalls = recall(counts)
    by_group = group_recalls(recalls, groups)
    width, mass = calibration_errors(labels_true, cell.label, cell.logp_pred)
    return {
        "accuracy": accuracy(counts),
        "balanced_accuracy": mean_present(recalls),
        "macro_f1": macro_f1(counts),
        "g_mean": g_mean(recalls),
        **{f"recall_{name}": value for name, value in by_group.items()},
        "ece": width,
        "ece_equal_mass": mass,
        "nll": nll(cell.logp_true),
        "brier": brier(cell.logp_true, cell.sum_p2),
    }


def _counted(cell: Cell, labels_true: Labels, classes: int) -> Counts:
    """The confusion matrix of a cell. ValueError if it is of other images."""
    lengths = {name: len(column) for name, column in zip(Cell._fields, cell, strict=True)}
    if set(lengths.values()) != {len(labels_true)}:
        raise ValueError(
            f"the cell holds {lengths} values for {len(labels_true)} labels, expected one of each "
            "per image; the stored predictions belong to other images"
        )
    return confusion_matrix(labels_true, cell.label, classes)


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
        "realised_ratio": info.realised_ratio,
        "status": info.status,
        "fingerprint": info.fingerprint,
    }
