"""Rates by subgroup and their normalised change, by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd

from rcm.analysis.metrics import MemberInfo
from rcm.analysis.statistics import PipelineInfo
from rcm.analysis.subgroups import subgroup_rows, subgroups

INFO = MemberInfo("d", "m", "exp", 1, 0, "dense", "f", (5, 5), 5, 10)
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
GROUP = np.array([0, 0, 1, 1, 0, 0, 1, 1])
DENSE = np.array([0, 0, 0, 1, 1, 1, 1, 0])  # one false positive, one false negative of group 1
PRUNED = np.array([0, 1, 0, 1, 1, 1, 0, 0])  # and one of each kind more
NAMES = ("common", "rare")


def found(rows):
    return {(row["metric"].removeprefix("subgroup_"), row["cls"]): row["value"] for row in rows}


def test_rates_by_hand():
    rates = found(subgroup_rows(INFO, "clean", 0, DENSE, LABELS, GROUP, NAMES))
    assert rates == {
        ("error", "common"): 0, ("error", "rare"): 0.5,
        ("false_positive", "common"): 0, ("false_positive", "rare"): 0.5,
        ("false_negative", "common"): 0, ("false_negative", "rare"): 0.5,
    }  # fmt: skip


def test_many_classes_have_errors_only_and_nothing_is_no_rate():
    many = replace(INFO, train_counts=(5, 5, 5))
    assert set(found(subgroup_rows(many, "clean", 0, DENSE, LABELS, GROUP, NAMES))) == {
        ("error", "common"), ("error", "rare"),
    }  # fmt: skip
    only = subgroup_rows(INFO, "fog", 1, DENSE[:2], LABELS[:2], GROUP[:2], NAMES)
    assert set(found(only)) == {("error", "common"), ("false_positive", "common")}
    gone = replace(INFO, status="diverged")
    assert subgroup_rows(gone, "clean", 0, DENSE, LABELS, GROUP, NAMES) == []


def test_normalised_change_is_paired_and_missing_where_the_parent_makes_no_error():
    rows = []
    for seed, (dense, pruned) in enumerate([(DENSE, PRUNED), (DENSE, DENSE)]):
        for name, answers in (("dense", dense), ("prune", pruned)):
            info = replace(INFO, seed=seed, pipeline=name)
            rows += subgroup_rows(info, "clean", 0, answers, LABELS, GROUP, NAMES)
            rows += subgroup_rows(info, "fog", 3, 1 - answers, LABELS, GROUP, NAMES)
    infos = [PipelineInfo("dense", "dense", "dense"),
             PipelineInfo("prune", "prune", "trained", "dense", "dense")]  # fmt: skip
    table = subgroups(pd.DataFrame(rows), infos)
    own = table[table["pipeline"] == "prune"].set_index(["cls", "quantity"])["mean"]
    assert own["rare", "error"] == 62.5
    assert own["rare", "error_change"] == 25  # +50 % and 0 %
    assert own["rare", "false_negative_change"] == 50
    assert own["common", "false_positive"] == 25
    assert ("common", "error_change") not in own.index


def test_without_subgroups_there_is_nothing():
    rows = [row | {"metric": "accuracy"} for row in subgroup_rows(
        INFO, "clean", 0, DENSE, LABELS, GROUP, NAMES)]  # fmt: skip
    assert subgroups(pd.DataFrame(rows), [PipelineInfo("dense", "dense", "dense")]).empty
