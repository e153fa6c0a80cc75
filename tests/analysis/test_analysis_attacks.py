"""Rows of attacks, by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd

from rcm.analysis.attacks import Attacked, attack_rows, transfer, transfer_row, worst_rows
from rcm.analysis.metrics import Cell, MemberInfo

LABELS = np.array([0, 0, 1, 1])
INFO = MemberInfo("d", "m", "exp", 1, 0, "int8", "f", (2, 2), 2, 10)


def attacked(answers, zero=0.0, gradient=True):
    some = np.zeros(4, np.float16)
    cell = Cell(np.array(answers, np.uint8), some, some, some)
    return Attacked(cell, LABELS, np.full(4, zero, np.float16), gradient)


def values(rows):
    frame = pd.DataFrame(rows)
    return {(r.shift, r.metric, r.cls): r.value for r in frame.itertuples()}


def test_robust_accuracy_recall_and_hidden_gradients():
    found = values(attack_rows(INFO, "pgd10", 4, attacked([0, 1, 1, 1], zero=0.25), 2))
    assert found["pgd10", "robust_accuracy", ""] == 0.75
    assert found["pgd10", "robust_recall", "0"] == 0.5
    assert found["pgd10", "robust_recall", "1"] == 1.0
    assert found["pgd10", "zero_gradients", ""] == 0.25
    assert found["pgd10", "hidden_gradients", ""] == 1
    few = values(attack_rows(INFO, "pgd10", 4, attacked([0, 1, 1, 1], zero=0.05), 2))
    assert few["pgd10", "hidden_gradients", ""] == 0
    without = values(attack_rows(INFO, "square9", 4, attacked([0] * 4, 0.5, gradient=False), 2))
    assert ("square9", "hidden_gradients", "") not in without


def test_the_worst_case_needs_every_attack_to_fail_and_masking_is_marked():
    pgd, square = attacked([0, 1, 1, 1]), attacked([1, 0, 0, 1], gradient=False)
    found = values(worst_rows(INFO, 4, "linf", {"pgd10": pgd, "square9": square}))
    assert found["worst", "robust_accuracy", ""] == 0.25
    assert found["worst", "masked_gradients", ""] == 1  # 2 of 4 against 3 of 4
    weaker = attacked([0, 0, 1, 1], gradient=False)
    found = values(worst_rows(INFO, 4, "linf", {"pgd10": pgd, "square9": weaker}))
    assert found["worst", "masked_gradients", ""] == 0
    alone = values(worst_rows(INFO, 4, "l2", {"pgd10_l2": pgd}))
    assert alone == {("worst_l2", "robust_accuracy", ""): 0.75}


def test_transfer_by_hand():
    """A row belongs to the member with a parent, whichever of the two was attacked."""
    rows = []
    for seed, right in enumerate(([1, 1, 0, 0], [1, 1, 1, 0])):
        info, parent = replace(INFO, seed=seed), replace(INFO, seed=seed, pipeline="dense")
        found = np.array(right, bool)
        rows += transfer_row(info, parent, "from_parent", "pgd10", 4, found)
        rows += transfer_row(info, parent, "to_parent", "pgd10", 4, ~found)
        gone = replace(parent, status="diverged")
        assert transfer_row(info, gone, "from_parent", "pgd10", 4, found) == []
    table = transfer(pd.DataFrame(rows)).set_index("quantity")
    assert set(table["pipeline"]) == {"int8"}
    assert table["mean"].to_dict() == {"from_parent": 62.5, "to_parent": 37.5}
    assert transfer(pd.DataFrame(attack_rows(INFO, "fgsm", 1, attacked([0] * 4), 2))).empty


def test_a_diverged_member_is_named_and_not_measured():
    gone = MemberInfo("d", "m", "exp", 1, 0, "int8", "f", (2, 2), 2, 10, status="diverged")
    rows = attack_rows(gone, "fgsm", 1, attacked([0] * 4), 2)
    assert [(row["metric"], row["value"]) for row in rows] == [("diverged", 1.0)]
    assert worst_rows(gone, 1, "linf", {"fgsm": attacked([0] * 4)}) == []
