"""What a page says of its claims: the effect, what was claimed of it, and the printed table."""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.claims import Claim, Verdict
from rcm.report.layout import NONE, CellText, number
from rcm.report.printed import Printed, file_name
from rcm.report.rendering import p_value

NOTE = (
    "Effects with 95 % intervals over n seeds; p after Holm's correction over all claims. A claim "
    "is supported if its interval lies wholly on the claimed side and this p is at most 0.05; "
    "undecided is an answer about the power of this study."
)
TESTED = (
    "What is measured, what is compared with what, what is claimed of it, and by which test; p "
    "before Holm's correction."
)
HEADS = ["effect", "95 % interval", "unit", "n", "p (Holm)"]
REASONS = (
    "Why a claim is undecided or was not tested, and what its source reports, of other networks "
    "and recipes: for orientation only."
)
TESTED_WORDS = ["claim", "measured", "contrast", "baseline", "claimed", "test"]


def claims_table(claims: Sequence[Verdict]) -> pd.DataFrame:
    """One row per claim: id, text, source, contrast, baseline, estimand, direction, margin, test,
    unit, answer, reason, mean, lo, hi, n, note, p, p_holm, the effect that was detectable,
    published, figure."""
    first, last = ("id", "text", "source", "contrast", "baseline"), ("published", "figure")
    said = (*first, "estimand", "direction", "margin", "test", "unit")
    return pd.DataFrame(
        [
            {name: getattr(verdict.claim, name) for name in said}
            | {"answer": verdict.answer, "reason": verdict.why, **verdict.effect._asdict()}
            | {name: getattr(verdict, name) for name in ("p", "p_holm", "detectable")}
            | {name: getattr(verdict.claim, name) for name in last}
            for verdict in claims
        ]
    )


def claimed(claim: Claim) -> str:
    """Direction and margin in words, such as "less, below −0.5 points"."""
    if claim.direction == "any":
        return "any difference, no margin"
    if claim.direction == "same":
        return f"same, within ±{claim.margin:g} {claim.unit}"
    end = claim.margin if claim.direction == "greater" else -claim.margin
    digits = len(f"{abs(end):g}".partition(".")[2])
    word = "above" if claim.direction == "greater" else "below"
    return f"{claim.direction}, {word} {number(end, digits)} {claim.unit}"


def effect(verdict: Verdict) -> str:
    """Effect, interval and n of a verdict in words; "" if nothing was measured."""
    if verdict.effect.n == 0:
        return ""
    value, interval = _numbers(verdict)
    between = f" {interval}" if interval != NONE else ""
    return f"{value} {verdict.claim.unit}{between}, n = {verdict.effect.n}"


def printed_claims(claims: Sequence[Verdict]) -> Printed:
    """The table of claims by itself: what is answered, by which numbers."""
    rows = []
    for verdict in claims:
        words = [f"{verdict.claim.id} {verdict.claim.text}", verdict.answer]
        numbers = [*_numbers(verdict), verdict.claim.unit, str(verdict.effect.n)]
        rows.append((words, [*map(CellText, numbers), CellText(p_value(verdict.p_holm))]))
    widths = (0.27, 0.11, 0.0, 0.0, 0.14, 0.0, 0.0)
    return Printed("claims", "Claims", NOTE, ["claim", "answer"], [("", HEADS)], rows, widths)


def printed_tests(claims: Sequence[Verdict]) -> Printed:
    """How each claim was tested, in the order of `printed_claims`, beside which it stands because
    one table of both is wider than any paper."""
    rows = []
    for verdict in claims:
        claim = verdict.claim
        words = [claim.id, claim.estimand, claim.contrast, claim.baseline, claimed(claim)]
        rows.append(([*words, claim.test], [CellText(p_value(verdict.p))]))
    title, widths = "How claims were tested", (0.0, 0.18, 0.18, 0.13, 0.11, 0.12, 0.0)
    return Printed(file_name(title), title, TESTED, TESTED_WORDS, [("", ["p"])], rows, widths)


def printed_reasons(claims: Sequence[Verdict]) -> Printed:
    """Why each answer, and what the source reports: in files alone, since on the page both stand in
    the table of answers, which on paper has no room for them."""
    rows = [([v.claim.id, v.answer, v.why, v.claim.published], []) for v in claims]
    title, words = "Reasons and published numbers", ["claim", "answer", "reason", "published"]
    return Printed(file_name(title), title, REASONS, words, [], rows, (0.0, 0.13, 0.42, 0.3))


def _numbers(verdict: Verdict) -> tuple[str, str]:
    """Mean and interval as printed, a dash where there is none."""
    mean, low, high, n, _ = verdict.effect
    signed = verdict.claim.direction != "any"
    interval = f"[{number(low, 2, signed)}, {number(high, 2, signed)}]" if low == low else NONE
    return number(mean, 2, signed) if n else NONE, interval
