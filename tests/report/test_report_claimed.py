"""Claims on the page, in Markdown, and as tables: what was claimed, of what, and by which test."""

import re

import numpy as np
import pytest

from rcm.analysis.claims import TOST, Claim, Evidence, decide
from rcm.analysis.claims_corruption import CORRUPTION_CLAIMS
from rcm.report.claimed import claimed, claims_table, effect, printed_claims
from rcm.report.layout import MINUS, NONE

ABOUT = {"contrast": "small against large", "baseline": "the large ones", "figure": "results"}


def claim(direction, margin=0.0, points=(2.0, 2.2, 1.9, 2.1), **more):
    found = Evidence(np.array(points)) if len(points) else None
    return Claim("X1", "It is so.", "A. Source", "A mean.", lambda _: found, direction, margin,
                 **ABOUT, **more)  # fmt: skip


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (claim("greater"), "greater, above 0 points"),
        (claim("greater", 12.0), "greater, above 12 points"),
        (claim("less", unit="percent"), "less, below 0 percent"),
        (claim("less", -0.5), "less, below 0.5 points"),
        (claim("less", 0.25), f"less, below {MINUS}0.25 points"),
        (claim("same", 0.5), "same, within ±0.5 points"),
        (claim("any"), "any difference, no margin"),
    ],
)
def test_direction_and_margin_in_words(made, words):
    assert claimed(made) == words


def test_a_margin_in_words_is_the_margin_of_the_decision():
    """An effect of 0.3 is below 0.5, as the words of that claim say, and not below 0."""
    lower = claim("less", -0.5, (0.3, 0.31, 0.29, 0.3, 0.28))
    [verdict] = decide([lower], None, [])
    assert (verdict.answer, claimed(lower)) == ("supported", "less, below 0.5 points")


def test_the_table_of_claims_says_what_the_claims_say():
    verdicts = decide([claim("same", 0.5, test=TOST), claim("greater", points=())], None, [])
    row, untested = claims_table(verdicts).to_dict("records")
    told = {"direction": "same", "margin": 0.5, "test": TOST, "estimand": "A mean.",
            "source": "A. Source", "unit": "points"} | ABOUT  # fmt: skip
    assert told.items() <= row.items()
    assert row["mean"] == pytest.approx(2.05)
    assert (row["answer"], untested["answer"]) == ("not supported", "not tested")
    printed = printed_claims(verdicts)
    [words, cells], [_, nothing] = printed.rows
    assert words[2:] == ["small against large", "the large ones", "same, within ±0.5 points", TOST]
    assert len(words) == len(printed.words)
    assert len(cells) == len(nothing) == printed.numbers
    assert [cell.value for cell in cells[:2]] == ["+2.05", "[+1.84, +2.26]"]
    assert [cell.value for cell in nothing[:2]] == [NONE, NONE]
    assert effect(verdicts[0]) == "+2.05 points [+1.84, +2.26], n = 4"
    assert effect(verdicts[1]) == ""


def test_claims_stand_beside_the_page_in_every_format(report):
    for ending in ("csv", "parquet", "md", "tex"):
        assert f"tables/claims.{ending}" in report.files
    table = report.tables["claims"]
    markdown = report.files["tables/claims.md"].decode()
    lines = [line for line in markdown.splitlines() if line.startswith("| C")]
    assert len(lines) == len(table) > 5
    for row in table.itertuples():
        for told in (row.text, row.contrast, row.baseline, row.test):
            assert told in markdown


def test_the_page_says_of_every_claim_how_it_was_tested(report):
    table = report.tables["claims"]
    items = re.findall(r"<li>\s*<span class=\"id\">.*?</li>", report.html, re.S)
    assert len(items) == len(table)
    for item, row in zip(items, table.itertuples(), strict=True):
        for name, told in (("contrast", row.contrast), ("baseline", row.baseline),
                           ("test", row.test.replace("'", "&#39;"))):  # fmt: skip
            assert f"<dt>{name}</dt><dd>{told}</dd>" in item
        assert f"<dt>claimed</dt><dd>{row.direction.replace('any', 'any difference')}," in item
        assert row.contrast in report.markdown
        assert row.estimand in report.markdown


def test_the_front_that_s3_claims_is_among_the_trade_offs(report):
    [claim] = [claim for claim in CORRUPTION_CLAIMS if claim.id == "C6"]
    _, section = report.markdown.split(f"## {claim.figure.capitalize()}\n", 1)
    [head] = [line for line in section.splitlines() if line.startswith("| pipeline")][:1]
    assert "size, mCE, accuracy" in head
