"""A small claim engine: per-seed evidence in, supported / not supported / undecided out.

A claim is *supported* when its two-sided 95 % interval lies wholly on the claimed side beyond the
margin and Holm's p over the study's claims is at most 0.05; *not supported* when the interval
lies wholly on the other side; otherwise *undecided*, with the reason. Where points and percent
disagree in sign, or where no test could reach 0.05, the answer is *undecided* as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from rcm.analysis.measured import Measured
from rcm.analysis.power import detectable_effect, provable_margin
from rcm.analysis.ranks import friedman
from rcm.analysis.significance import tost
from rcm.analysis.statistics import (
    Estimate,
    PipelineInfo,
    holm,
    no_spread,
    paired_t,
    summarise,
)

ALPHA = 0.05
SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
NOT_TESTED, UNDECIDED_FOR_FEW = "not tested", "undecided (n)"
LARGEST = {"correlation": 1.0}  # that an effect in this unit can be
DIRECTIONS = ("greater", "less", "same", "any")
PAIRED_T = "two-sided paired t test over seeds"
TOST = "two one-sided t tests over seeds (TOST)"
FRIEDMAN = "Friedman's test, seeds as blocks; of two pipelines a paired t test"
PARENT = "the dense parent of the same seed"
PRIMARY = (
    "dense with the same further steps; of what is not trained the parent; of students the teacher"
)


class Evidence(NamedTuple):
    """What a claim's estimand gives on a results table.

    points: one value per seed, the effect in the claim's unit; percent: the same effect on the
    relative scale, or empty where there is none; p: of an omnibus test that replaces the t test
    of `points` (NaN: no replacement); smallest_p: the least p the test could have given; note: a
    remark for the reader ("" for none); missing: of evidence without points why there are none, if
    the claim's own `untested` would not be true.
    """

    points: np.ndarray
    percent: np.ndarray = np.empty(0)
    p: float = np.nan
    smallest_p: float = 0.0
    note: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Claim:
    """One statement and how it is tested.

    contrast: the populations that are compared; baseline: what the claimed ones are held against.
    direction: "greater" or "less" than 0 by `margin`, "same" (within +-margin, two one-sided
    tests), or "any" (an omnibus test, which has no interval and cannot show equality); test: its
    name for people. Every p is corrected by Holm's method over the study's claims.
    estimate(measured) -> Evidence, or None where the study lacks what it takes; `estimate`
    None marks a claim outside the study, with `untested` as the reason.
    repairs: whether it is about repairs of long tails; all others do not see repaired pipelines.
    published: what the source reports, in its own unit, for orientation only; figure: the name of
    the report's figure, or the anchor of its section, that shows what the claim is about.
    """

    id: str
    text: str
    source: str
    estimand: str
    estimate: Callable[[Measured], Evidence | None] | None
    direction: str = "greater"
    margin: float = 0.0
    unit: str = "points"
    untested: str = "the study lacks the pipelines, ratios or metrics that it takes"
    published: str = ""
    figure: str = ""
    contrast: str = ""
    baseline: str = ""
    test: str = PAIRED_T
    repairs: bool = False


@dataclass(frozen=True)
class Verdict:
    """A decided claim: the answer, its reason, the effect with interval and n, p before and after
    Holm's correction (NaN where there is none), and the `note` of its evidence. detectable: the
    effect from which on so many seeds of this spread support the claim with 80 % power, before
    Holm's correction; for "same" the margin within which they would show equality."""

    claim: Claim
    answer: str
    reason: str
    effect: Estimate
    p: float
    p_holm: float
    note: str = ""
    detectable: float = float("nan")

    @property
    def why(self) -> str:
        """The reason and the note, whichever there are."""
        return "; ".join(filter(None, (self.reason, self.note)))


def decide(
    claims: Sequence[Claim], frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> list[Verdict]:
    """One verdict per claim, in order; Holm's correction runs over the claims that have a p.

    `frame` is the tidy results table without diverged members' measurements. ValueError for an
    unknown direction or an equivalence claim without a margin.
    """
    for claim in claims:
        if claim.direction not in DIRECTIONS or (claim.direction == "same" and claim.margin <= 0):
            raise ValueError(
                f"claim {claim.id} has direction {claim.direction!r} and margin {claim.margin:g}, "
                f"expected one of {', '.join(DIRECTIONS)}, with a positive margin for 'same'"
            )
    measured = Measured(frame, pipelines)
    evidence = [
        claim.estimate(measured if claim.repairs else measured.unrepaired)
        if claim.estimate
        else None
        for claim in claims
    ]
    return decided(claims, evidence)


def decided(claims: Sequence[Claim], evidence: Sequence[Evidence | None]) -> list[Verdict]:
    """`decide` by evidence that is at hand, one of each claim."""
    p_values = [_p_value(claim, found) for claim, found in zip(claims, evidence, strict=True)]
    corrected = holm(p_values)
    return [
        _verdict(claim, found, p, float(p_holm))
        for claim, found, p, p_holm in zip(claims, evidence, p_values, corrected, strict=True)
    ]


def differing(table: pd.DataFrame, pipelines: Sequence[PipelineInfo], what: str) -> Evidence | None:
    """Do the columns of `table` [seeds, pipelines] differ? Needs two pipelines.

    Friedman's test with seeds as blocks (paired t for two pipelines). The effect is the spread
    between the pipelines' means, repeated for every seed. Seeds that lack a value are left out.
    """
    table = table.dropna(axis="columns", how="all").dropna()
    n, k = table.shape
    if k < 2 or n == 0:
        return None
    means = table.mean()
    labels = {p.name: p.label for p in pipelines}
    ends = labels[str(means.idxmax())], labels[str(means.idxmin())]
    note = f"largest {what}: {ends[0]}, smallest: {ends[1]}"
    spread = np.full(n, means.max() - means.min())
    if n < 2:
        return Evidence(spread, smallest_p=1.0, note=note)
    if k == 2:
        return Evidence(spread, p=paired_t(table.iloc[:, 0] - table.iloc[:, 1]), note=note)
    found = friedman(table, larger_is_better=True)
    return Evidence(spread, p=found.p, smallest_p=found.smallest_p, note=note)


def _p_value(claim: Claim, found: Evidence | None) -> float:
    """Two-sided p of the claim's test; for "same" the larger p of the two one-sided tests."""
    if found is None:
        return float("nan")
    if claim.direction == "any":
        return found.p
    points = found.points[~np.isnan(found.points)]
    if claim.direction in ("greater", "less"):
        shift = claim.margin if claim.direction == "greater" else -claim.margin
        return paired_t(points - shift)
    return tost(points, claim.margin)


def _detectable(claim: Claim, found: Evidence) -> float:
    points = found.points[~np.isnan(found.points)]
    if claim.direction == "any" or points.size < 2 or no_spread(points):
        return float("nan")
    spread = (float(points.std(ddof=1)), points.size)
    if claim.direction == "same":
        return provable_margin(*spread, ALPHA)
    reach = claim.margin + detectable_effect(*spread, ALPHA)
    return reach if claim.direction == "greater" else -reach


def _reach(claim: Claim, detectable: float, n: int) -> str:
    """What the seeds could have shown, in words; "" where that is not known."""
    if np.isnan(detectable):
        return ""
    if detectable > LARGEST.get(claim.unit, np.inf):
        return f"no {claim.unit} is large enough for 80 % power at n = {n}"
    way = "to show equality within" if claim.direction == "same" else "from"
    value = f"{detectable:.2g}" if abs(detectable) < 10 else f"{detectable:.0f}"
    return f"80 % power {way} {value} {claim.unit} at n = {n}"


def _verdict(claim: Claim, found: Evidence | None, p: float, p_holm: float) -> Verdict:
    if found is None or np.isnan(found.points).all():
        reason = (found.missing if found else "") or claim.untested
        return Verdict(claim, NOT_TESTED, reason, summarise([]), np.nan, np.nan)
    effect = summarise(found.points)
    if claim.direction == "any":  # the spread between techniques is never negative
        effect = effect._replace(lo=np.nan, hi=np.nan)
    answer, reason = _undecidable(effect, found, p) or _by_interval(claim, effect, p_holm)
    detectable = _detectable(claim, found)
    reach = _reach(claim, detectable, effect.n) if answer == UNDECIDED else ""
    reasons = "; ".join(filter(None, [reason, reach, effect.note if effect.n == 2 else ""]))
    return Verdict(claim, answer, reasons, effect, p, p_holm, found.note, detectable)


def _undecidable(effect: Estimate, found: Evidence, p: float) -> tuple[str, str] | None:
    if effect.n < 2 or found.smallest_p > ALPHA:
        return UNDECIDED, f"(n) {effect.n} seed(s) cannot reach p = {ALPHA:g}"
    if np.isnan(p):
        return UNDECIDED, "(degenerate) the seeds do not differ, so there is no test"
    percent = summarise(found.percent).mean
    if percent * effect.mean < 0:
        sign = "positive" if percent > 0 else "negative"
        return UNDECIDED, f"(scale) the effect is {sign} in percent and the opposite in points"
    return None


def _by_interval(claim: Claim, effect: Estimate, p_holm: float) -> tuple[str, str]:
    if claim.direction == "any":
        if p_holm <= ALPHA:
            return SUPPORTED, ""
        return UNDECIDED, "no difference shown, which does not show equality"
    sign = -1 if claim.direction == "less" else 1
    near, far = sorted((sign * effect.lo, sign * effect.hi))
    if claim.direction == "same":
        inside, outside = (
            -claim.margin < near and far < claim.margin,
            (near > claim.margin or far < -claim.margin),
        )
    else:
        inside, outside = near > claim.margin, far < claim.margin
    if inside and p_holm <= ALPHA:
        return SUPPORTED, ""
    if inside:
        return UNDECIDED, "the interval agrees, but not the p corrected over all claims"
    if outside:
        return NOT_SUPPORTED, "the interval lies wholly on the other side"
    return UNDECIDED, f"the interval includes {'the margin' if claim.margin else '0'}"
