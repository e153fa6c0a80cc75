"""What every claim says of itself: its source, contrast, baseline, estimand, test and figure."""

import pytest

from rcm.analysis.claims import DIRECTIONS, FRIEDMAN, PAIRED_T, TOST, UNTESTED
from rcm.analysis.claims_joint import JOINT_CLAIMS  # which hold those of S1 to S4

TESTS = {"greater": PAIRED_T, "less": PAIRED_T, "same": TOST, "any": FRIEDMAN}


def test_there_is_a_test_for_every_direction():
    assert set(TESTS) == set(DIRECTIONS)


@pytest.mark.parametrize("claim", JOINT_CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_says_all_it_takes_to_judge_it(claim):
    for said in (claim.text, claim.source, claim.contrast, claim.baseline, claim.estimand):
        assert said
    assert claim.test == (TESTS[claim.direction] if claim.estimate else UNTESTED)
    assert claim.figure


def test_claims_are_told_apart_by_their_ids():
    ids = [claim.id for claim in JOINT_CLAIMS]
    assert len(ids) == len(set(ids)) > 50
