"""The claims of protocol S5, which joins S1 to S4: do imbalance, compression and corruption add up,
and does a repair of the tail survive compression?

Evidence is one number per seed: the mean over the study's blocks, compressed pipelines and ratios
above 1. Compressed members are compared with their parents, repaired pipelines left out; a repaired
one with those of the same techniques that are not repaired.
"""

import dataclasses
from collections.abc import Callable, Sequence

import pandas as pd

from rcm.analysis.claims import PARENT, Claim, Evidence
from rcm.analysis.claims_corruption import CORRUPTION_CLAIMS
from rcm.analysis.claims_exemplars import EXEMPLAR_CLAIMS
from rcm.analysis.claims_imbalance import IMBALANCE_CLAIMS
from rcm.analysis.claims_shift import SHIFT_CLAIMS
from rcm.analysis.measured import Measured
from rcm.analysis.metrics import CLEAN
from rcm.analysis.statistics import (
    COMPRESSED,
    MEMBER,
    PipelineInfo,
    by_seed,
    difference,
    gap,
    wide,
)

SOURCE = "rcm, protocol S5"


def imbalance_and_corruption(measured: Measured) -> Evidence | None:
    """J1: what corruption adds to clean error beyond the parent's, at a ratio minus at ratio 1."""
    found = measured.corrupted["excess_error"].unstack("pipeline")
    names = [p.name for p in measured.pipelines if p.kind in COMPRESSED and p.name in found]
    return _mean(-gap(found[names]) / 100)  # which is of fractions, and of what is lost


def rare_and_corrupted(measured: Measured) -> Evidence | None:
    """J2: what corruption takes from the recall of rare classes minus that of frequent ones, beyond
    the parent's, at a ratio minus at ratio 1."""
    takes = {}
    for group in ("tail", "head"):
        clean = wide(measured.rows, f"recall_{group}", CLEAN)
        shifted = wide(measured.rows, f"recall_{group}", None, ("shift", "severity"))
        if shifted.empty:
            return None
        takes[group] = clean - shifted.groupby(level=MEMBER).mean()
    more = takes["tail"] - takes["head"]
    pairs = [
        p for p in measured.pipelines if p.kind in COMPRESSED and {p.name, p.parent} <= {*more}
    ]
    beyond = {p.name: difference(more, p.name, p.parent) for p in pairs}
    return _mean(-gap(pd.DataFrame(beyond))) if beyond else None


def repaired(metric: str) -> Callable[[Measured], Evidence | None]:
    """J3, J4: a clean metric of repaired compressed pipelines minus those that are not."""

    def estimate(measured: Measured) -> Evidence | None:
        values = wide(measured.rows, metric)
        values = values[values.index.get_level_values("ratio") > 1]
        pairs = [pair for pair in _repaired(measured.pipelines) if set(pair) <= set(values)]
        found = {one: difference(values, one, other) for one, other in pairs}
        names = ", ".join(f"{one} against {other}" for one, other in pairs)
        evidence = _mean(100 * pd.DataFrame(found)) if found else None
        return evidence._replace(note=names) if evidence else None

    return estimate


def _repaired(pipelines: Sequence[PipelineInfo]) -> list[tuple[str, str]]:
    """(repaired, not repaired) compressed pipelines of the same parent, techniques and numbers;
    without those of which several could be the partner, such as students of two sizes."""
    bare: dict[tuple, list[str]] = {}
    for p in pipelines:
        if p.kind in COMPRESSED and not p.repair:
            bare.setdefault(_made(p), []).append(p.name)
    repaired = [p for p in pipelines if p.kind in COMPRESSED and p.repair]
    return [
        (p.name, partner)
        for p in repaired
        for partner in bare.get(_made(p), ())
        if len(bare[_made(p)]) == 1
    ]


def _made(pipeline: PipelineInfo) -> tuple:
    techniques = tuple(t for t in pipeline.techniques if t != "adjust")
    return pipeline.parent, pipeline.kind, techniques, pipeline.bits, pipeline.sparsity


def _mean(values: pd.DataFrame) -> Evidence | None:
    table = by_seed(values.rename_axis(columns="pipeline").stack()) if values.size else values
    return Evidence(table.mean(axis=1).to_numpy()) if table.size else None


def borrowed() -> tuple[Claim, ...]:
    """The claims of S1 to S4 under names of their own, such as S1.C4a."""
    sets = {"S1": IMBALANCE_CLAIMS, "S2": SHIFT_CLAIMS, "S3": CORRUPTION_CLAIMS}
    sets["S4"] = EXEMPLAR_CLAIMS
    return tuple(
        dataclasses.replace(claim, id=f"{protocol}.{claim.id}")
        for protocol, claims in sets.items()
        for claim in claims
    )


UNREPAIRED = "the same techniques without a repair"
NO_TAIL = "the study has no corrupted images, or no imbalance with balanced members beside it"
JOINT_CLAIMS = (
    Claim(
        "J1",
        "Imbalance and compression together make corruption cost more.",
        SOURCE,
        "What corruption adds to clean error beyond the parent's, at ratios above 1 minus at ratio "
        "1, averaged over compressed pipelines.",
        imbalance_and_corruption,
        contrast=(
            "compressed against dense networks, corrupted against clean images, ratios above 1 "
            "against ratio 1"
        ),
        baseline=PARENT,
        untested=NO_TAIL,
        figure="corruptions",
    ),
    Claim(
        "J2",
        "Corruption takes most from what is rare and compressed.",
        SOURCE,
        "What corruption takes from tail recall minus what it takes from head recall, beyond the "
        "parent's, at ratios above 1 minus at ratio 1.",
        rare_and_corrupted,
        contrast=(
            "rare against frequent classes, compressed against dense, corrupted against clean "
            "images, ratios above 1 against ratio 1"
        ),
        baseline=PARENT,
        untested=NO_TAIL,
        figure="class_excess",
    ),
    Claim(
        "J3",
        "A repair gives compressed networks their tail back.",
        SOURCE,
        "Tail recall of repaired compressed pipelines minus that of the same ones without.",
        repaired("recall_tail"),
        contrast="repaired against unrepaired compressed networks, ratios above 1",
        baseline=UNREPAIRED,
        untested="the study has no compressed pipeline with and without a repair, or no imbalance",
        figure="results",
        repairs=True,
    ),
    Claim(
        "J4",
        "The tail gains more than the head loses.",
        SOURCE,
        "Balanced accuracy of repaired compressed pipelines minus that of the same ones without.",
        repaired("balanced_accuracy"),
        contrast="repaired against unrepaired compressed networks, ratios above 1",
        baseline=UNREPAIRED,
        untested="the study has no compressed pipeline with and without a repair, or no imbalance",
        figure="results",
        repairs=True,
    ),
    *borrowed(),
)
