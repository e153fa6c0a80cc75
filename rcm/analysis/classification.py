"""Right and wrong answers, counted: recall, precision and their means. numpy only.

Values are fractions. A class without test images has recall NaN, one that is never answered has
precision NaN; both are left out of means over classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]
Floats = NDArray[np.floating]
Counts = NDArray[np.int64]

GROUPS = ("head", "medium", "tail")


def confusion_matrix(labels_true: Labels, labels_pred: Labels, classes: int) -> Counts:
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


def accuracy(counts: Counts) -> float:
    """Share of images answered rightly (top-1) of a confusion matrix [C, C]; NaN without images."""
    images = counts.sum()
    return float(np.trace(counts) / images) if images else float("nan")


def recall(counts: Counts) -> Floats:
    """Share of each class's images that are answered rightly, TP / (TP + FN), float64 [C]."""
    return _ratio(np.diag(counts), counts.sum(axis=1))


def precision(counts: Counts) -> Floats:
    """Share of each class's answers that are right, TP / (TP + FP), float64 [C]."""
    return _ratio(np.diag(counts), counts.sum(axis=0))


def macro_f1(counts: Counts) -> float:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN) (Sokolova & Lapalme 2009).

    A class that is neither present nor predicted has no F1 and is left out.
    """
    return mean_present(_ratio(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1)))


def g_mean(recalls: Floats) -> float:
    """Geometric mean of the present classes' recalls [C] (Kubat & Matwin 1997); 0 if one is 0."""
    present = recalls[~np.isnan(recalls)]
    if present.size == 0:
        return float("nan")
    return 0.0 if present.min() == 0 else float(np.exp(np.log(present).mean()))


def per_class_recall(labels_true: Labels, labels_pred: Labels, classes: int) -> Floats:
    """`recall` of labels [N] and answers [N], float64 [C]."""
    return recall(confusion_matrix(labels_true, labels_pred, classes))


def balanced_accuracy(labels_true: Labels, labels_pred: Labels, classes: int) -> float:
    """Mean recall over the classes present (Brodersen et al. 2010)."""
    return mean_present(per_class_recall(labels_true, labels_pred, classes))


def group_recalls(recalls: Floats, groups: Sequence[str]) -> dict[str, float]:
    """Mean recall of each group of classes: recalls [C], groups [C] of "head", "medium", "tail".

    A group that no class belongs to is absent (`step` tails have no medium).
    """
    if len(recalls) != len(groups) or not set(groups) <= set(GROUPS):
        raise ValueError(
            f"groups are {tuple(groups)} for {len(recalls)} classes, expected one of "
            f"{', '.join(GROUPS)} per class; take them from the training counts"
        )
    names = np.asarray(groups)
    return {name: mean_present(recalls[names == name]) for name in GROUPS if name in groups}


def agreement(labels_true: Labels, labels_pred: Labels, labels_parent: Labels) -> dict[str, float]:
    """How a member's answers [N] differ from its parent's [N], as shares of all images.

    agreement: the same answer; churn: another one, 1 - agreement (Milani Fard et al. 2016, "Launch
    and Iterate"); negative_flips: the parent is right and the member wrong (Yan et al. 2021, arXiv
    2011.09161); positive_flips: the reverse. Accuracies differ by positive minus negative flips;
    what is left of the churn are wrong answers that became other wrong ones. ValueError on unequal
    shapes.
    """
    true, own, other = (np.asarray(part) for part in (labels_true, labels_pred, labels_parent))
    if not true.shape == own.shape == other.shape:
        raise ValueError(
            f"labels have shapes {true.shape} (true), {own.shape} (predicted) and {other.shape} "
            "(the parent's), expected one length; compare answers to the same images"
        )
    if not true.size:
        return {}
    differ, right, parent_right = own != other, own == true, other == true
    churn = float(differ.mean())
    return {
        "agreement": 1.0 - churn,
        "churn": churn,
        "negative_flips": float((differ & parent_right).mean()),
        "positive_flips": float((differ & right).mean()),
    }


def mean_present(values: Floats) -> float:
    """Mean over what is not NaN; NaN, without a warning, where nothing is left."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def _ratio(part: NDArray, whole: NDArray) -> Floats:
    whole = whole.astype(np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
