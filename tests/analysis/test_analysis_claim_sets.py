"""What every claim says of itself: its source, contrast, baseline, estimand, test and figure."""

import re

import pytest

from rcm.analysis.claims import DIRECTIONS, FRIEDMAN, PAIRED_T, TOST
from rcm.analysis.claims_joint import JOINT_CLAIMS  # which hold those of S1 to S4

TESTS = {"greater": PAIRED_T, "less": PAIRED_T, "same": TOST, "any": FRIEDMAN}


def test_there_is_a_test_for_every_direction():
    assert set(TESTS) == set(DIRECTIONS)


@pytest.mark.parametrize("claim", JOINT_CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_says_all_it_takes_to_judge_it(claim):
    for said in (claim.text, claim.source, claim.contrast, claim.baseline, claim.estimand):
        assert said
    assert claim.estimate
    assert claim.test == TESTS[claim.direction]
    assert claim.figure


def test_claims_are_told_apart_by_their_ids():
    ids = [claim.id for claim in JOINT_CLAIMS]
    assert len(ids) == len(set(ids)) > 50


@pytest.mark.parametrize(("study", "count"), [("S1", 7), ("S2", 6), ("S3", 8), ("S4", 10)])
def test_every_claim_of_a_protocol_is_asked(study, count):
    """Whole, or in parts a, b, ..., and beyond it controls only."""
    ids = [claim.id.partition(".")[2] for claim in JOINT_CLAIMS if claim.id.startswith(study)]
    split = [re.fullmatch(r"C(\d+)([a-h]?)", name).groups() for name in ids]
    asked = {int(number) for number, _ in split}
    assert asked >= set(range(1, count + 1))
    assert asked <= set(range(1, count + 2))  # S3's C9 is the study's own
    for number in asked:
        parts = "".join(part for other, part in split if int(other) == number)
        assert "abcdefgh".startswith(parts)
