"""What members answer under attack, from stored predictions.

Accuracies on attacked images have names of their own, `robust_...`, so that nothing which averages
over shifted images mistakes them for natural ones.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from rcm.analysis.classification import Floats, Labels, per_class_recall
from rcm.analysis.metrics import Cell, MemberInfo, result_row
from rcm.analysis.statistics import estimates, usable, wide

HIDDEN = 0.1  # mean share above which attacks that follow gradients are not to be trusted
FROM_PARENT, TO_PARENT = "from_parent", "to_parent"
WORST = "worst"  # the shift in whose name the worst case over attacks is given


class Attacked(NamedTuple):
    """One member under one attack at one eps.

    cell: its answers; labels: [N], true classes; zero: float16 [N], share of the clean image's
    pixels without a gradient, NaN where that is not known; gradient: whether the attack follows
    gradients.
    """

    cell: Cell
    labels: Labels
    zero: Floats
    gradient: bool

    @property
    def right(self) -> np.ndarray:
        """bool [N], whether the answer is still the true class."""
        return np.asarray(self.cell.label) == np.asarray(self.labels)


def attack_rows(
    info: MemberInfo, attack: str, eps: float, found: Attacked, classes: int
) -> list[dict]:
    """Rows of one attack: robust accuracy and recall by class, mean share of zero gradients, and
    `hidden_gradients` 1 where that is above `HIDDEN` for an attack that follows gradients."""
    if info.status == "diverged":
        return [result_row(info, attack, eps, "diverged", 1.0)]
    zero = float(np.mean(np.asarray(found.zero, np.float64)))
    values = {"robust_accuracy": float(found.right.mean())}
    values |= {} if np.isnan(zero) else {"zero_gradients": zero}
    if found.gradient and not np.isnan(zero):
        values["hidden_gradients"] = float(zero > HIDDEN)
    recall = per_class_recall(found.labels, found.cell.label, classes)
    rows = [result_row(info, attack, eps, name, value) for name, value in values.items()]
    return rows + [
        result_row(info, attack, eps, "robust_recall", float(value), str(class_id))
        for class_id, value in enumerate(recall)
    ]


def transfer_row(
    info: MemberInfo, parent: MemberInfo, way: str, attack: str, eps: float, right: np.ndarray
) -> list[dict]:
    """A row of a member with a parent: the accuracy, `right` bool [N], of one on the images that
    were attacked for the other (Papernot et al. 2016, arXiv 1605.07277); way: `FROM_PARENT`, the
    parent's images, or `TO_PARENT`."""
    if "diverged" in (info.status, parent.status):
        return []
    return [result_row(info, attack, eps, way, float(right.mean()))]


def transfer(frame: pd.DataFrame) -> pd.DataFrame:
    """Long estimates by attack and eps, percent: `from_parent` and `to_parent`, see `transfer_row`;
    no rows where no attack was transferred."""
    rows = usable(frame)
    parts = {}
    for metric in (FROM_PARENT, TO_PARENT):
        if (rows["metric"] == metric).any():
            values = 100 * wide(rows, metric, None, ("shift", "severity"))
            parts |= {(name, metric, "", "percent"): values[name] for name in values.columns}
    if not parts:
        return pd.DataFrame(columns=pd.Index(["shift", "severity", *estimates({}).columns]))
    return estimates(parts)


def worst_rows(
    info: MemberInfo, eps: float, norm: str, found: Mapping[str, Attacked]
) -> list[dict]:
    """Rows of the worst case over the attacks in one ball: an image counts where all failed.

    `masked_gradients` is 1 where an attack without gradients leaves less accuracy than the best of
    those that follow them (Athalye et al. 2018, arXiv 1802.00420, section 3.1): the gradient hides
    how weak the model is.
    """
    if info.status == "diverged" or not found:
        return []
    name = WORST if norm == "linf" else f"{WORST}_{norm}"
    right = np.stack([one.right for one in found.values()])
    rows = [result_row(info, name, eps, "robust_accuracy", float(right.all(0).mean()))]
    by_kind = {
        kind: [one.right.mean() for one in found.values() if one.gradient == kind]
        for kind in (True, False)
    }
    if by_kind[True] and by_kind[False]:
        masked = min(by_kind[False]) < min(by_kind[True])
        rows.append(result_row(info, name, eps, "masked_gradients", float(masked)))
    return rows
