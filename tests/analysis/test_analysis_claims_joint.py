"""Claims of S5 on a table with planted effects, by hand."""

import numpy as np
import pandas as pd
import pytest

from rcm.analysis import claims_joint
from rcm.analysis.claims import SUPPORTED, decide
from rcm.analysis.claims_joint import JOINT_CLAIMS
from rcm.analysis.statistics import PipelineInfo

PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("prune", "prune", "trained", "dense", "dense", ("prune",), 0.0, 0.8),
    PipelineInfo("loss", "loss", "trained", "dense", "dense", ("prune",), 0.0, 0.8, "loss ldam"),
    PipelineInfo(
        "after", "after", "trained", "dense", "dense", ("prune", "adjust"), 0.0, 0.8, "adjust 1"
    ),
    PipelineInfo("other", "other", "trained", "dense", "dense", ("cluster",), 0.0, 0.0, "adjust 1"),
]


def planted(seeds: int = 5) -> pd.DataFrame:
    """Fog takes 10 points of everything; of pruned members 2 more, and at ratio 10 another 3, of
    the tail 5 more than that. Repaired, the tail gains 8 points and the mean class 1, which costs 4
    of accuracy, and corruption takes 6 less of it: nothing of this is compression's."""
    rng, rows = np.random.default_rng(0), []
    for seed in range(seeds):
        for ratio in (1.0, 10.0):
            for p in PIPELINES:
                pruned, rare = p.kind == "trained", ratio > 1
                gains = bool(p.repair) and rare
                clean = {"accuracy": 0.6, "recall_head": 0.7, "recall_tail": 0.5 - 0.2 * rare}
                clean["accuracy"] -= 0.04 * gains
                clean["recall_tail"] += 0.08 * gains
                clean["balanced_accuracy"] = 0.6 + 0.01 * gains
                takes = 0.1 + 0.02 * pruned + 0.03 * (pruned and rare) - 0.06 * gains
                where = {"dataset": "d", "model": "m", "imbalance": "exp", "ratio": ratio,
                         "seed": seed, "pipeline": p.name, "cls": "", "status": "ok"}  # fmt: skip
                luck = {name: rng.normal(0, 0.001) for name in clean}
                for name, value in clean.items():
                    own = where | {"metric": name, "value": value + luck[name]}
                    rows.append(own | {"shift": "clean", "severity": 0.0})
                    more = 0.05 * (pruned and rare) if name == "recall_tail" else 0
                    fog = own | {"shift": "fog", "severity": 3.0}
                    rows.append(fog | {"value": value - takes - more + rng.normal(0, 0.001)})
    return pd.DataFrame(rows)


def test_planted_effects_are_found():
    found = {v.claim.id: v for v in decide(JOINT_CLAIMS, planted(), PIPELINES)}
    expected = {"J1": 3.0, "J2": 5.0, "J3": 8.0, "J4": 1.0}
    for name, effect in expected.items():
        assert found[name].effect.mean == pytest.approx(effect, abs=0.35)
        assert found[name].answer == SUPPORTED
    assert "loss against prune, after against prune" in found["J3"].why
    assert "other" not in found["J3"].why  # without a partner that is not repaired


def test_a_repair_is_compared_with_what_it_repairs_alone():
    """Not with another network's pipeline of the same techniques, nor with one of two students."""
    about = ("trained", "dense", "wide", ("prune",), 0.0, 0.8)
    wide = [PipelineInfo("wide", "wide", "control", "dense", "dense"),
            PipelineInfo("wide_prune", "wide_prune", *about)]  # fmt: skip
    students = [
        PipelineInfo(name, name, "student", "dense", "dense", ("distill",), 0.0, 0.0, repair)
        for name, repair in (("s4", ""), ("s8", ""), ("s8_loss", "loss ldam"))
    ]
    found = {v.claim.id: v for v in decide(JOINT_CLAIMS, planted(), [*PIPELINES, *wide, *students])}
    assert found["J3"].note == "loss against prune, after against prune"
    pairs = claims_joint._repaired([*PIPELINES, *wide, *students])
    assert pairs == [("loss", "prune"), ("after", "prune")]
    assert claims_joint._repaired([*PIPELINES, *students[1:]])[-1] == ("s8_loss", "s8")


def test_claims_have_names_of_their_own():
    names = [claim.id for claim in JOINT_CLAIMS]
    assert len(names) == len(set(names))
    assert {"J1", "S1.C4b", "S3.C8c", "S4.C10"} < set(names)
