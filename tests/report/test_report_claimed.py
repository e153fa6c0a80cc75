"""Claims on the page, in Markdown, and as tables: what was claimed, of what, and by which test."""

import re

import numpy as np
import pytest

from rcm.analysis.claims import TOST, Claim, Evidence, decide
from rcm.analysis.claims_corruption import CORRUPTION_CLAIMS
from rcm.report.claimed import claimed, claims_table, effect, printed_claims, printed_tests
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
    answers, tests = printed_claims(verdicts), printed_tests(verdicts)
    [words, cells], [_, nothing] = answers.rows
    told = ["+2.05", "[+1.84, +2.26]", "points", "4", "1"]  # of two claims one was tested
    assert words == ["X1 It is so.", "not supported"]
    assert [cell.value for cell in cells] == told
    assert [cell.value for cell in nothing] == [NONE, NONE, "points", "0", NONE]
    [words, cells], [_, nothing] = tests.rows
    assert words == [
        "X1", "A mean.", "small against large", "the large ones", "same, within ±0.5 points", TOST
    ]  # fmt: skip
    assert [cell.value for cell in (*cells, *nothing)] == ["1", NONE]
    assert effect(verdicts[0]) == "+2.05 points [+1.84, +2.26], n = 4"
    assert effect(verdicts[1]) == ""


def test_claims_stand_beside_the_page_in_every_format(report):
    for ending in ("csv", "parquet", "md", "tex"):
        assert f"tables/claims.{ending}" in report.files
    table = report.tables["claims"]
    answers, tests = (
        report.files[f"tables/{name}.md"].decode() for name in ("claims", "how_claims_were_tested")
    )
    for markdown in (answers, tests):
        lines = [line for line in markdown.splitlines() if line.startswith("| C")]
        assert len(lines) == len(table) > 5
    for row in table.itertuples():
        assert f"| {row.id} {row.text} | {row.answer} |" in answers
        for told in (row.estimand, row.contrast, row.baseline, row.test):
            assert told in tests


def test_reasons_and_published_numbers_stand_beside_the_page(report):
    """The table of answers has no room for them on paper."""
    table = report.tables["claims"]
    made = report.files["tables/reasons_and_published_numbers.md"].decode()
    lines = [line for line in made.splitlines() if line.startswith("| C")]
    assert lines == [
        f"| {row.id} | {row.answer} | {row.reason} | {row.published} |"
        for row in table.itertuples()
    ]
    assert sum(bool(row.reason) for row in table.itertuples()) > 3


def test_as_latex_their_sentences_are_paragraphs_that_fit_beside_the_numbers(report):
    """Widths of paragraphs add up to what is left of a line; heads are repeated on every page."""
    widest = {"claims": 0.55, "how_claims_were_tested": 0.75, "reasons_and_published_numbers": 0.9}
    for name, most in widest.items():
        made = report.files[f"tables/{name}.tex"].decode()
        [columns] = re.findall(r"\\begin\{longtable\}\{@\{\}(.*)@\{\}\}", made)
        widths = [float(width) for width in re.findall(r"p\{([\d.]+)\\textwidth\}", columns)]
        assert 0.3 < sum(widths) <= most
        kinds = re.sub(r">\{\\raggedright\\arraybackslash\}p\{[\d.]+\\textwidth\}", "p", columns)
        rows = [line.split(" & ") for line in made.splitlines() if " & " in line]
        heads, again, *rows = rows
        assert heads == again
        assert len(rows) == len(report.tables["claims"])
        for row in rows:
            assert len(row) == len(kinds)
            assert all(len(text) < 24 for text, kind in zip(row, kinds, strict=True) if kind != "p")
        order = [
            made.index(f"\\{mark}") for mark in ("caption", "endfirsthead", "endhead", "endfoot")
        ]
        assert order == sorted(order)
        assert "longtable,array" in made.splitlines()[0]


def test_markdown_opens_with_what_each_claim_came_to(report):
    """Behind its text the answer, the effect with its interval, n and the corrected p."""
    _, after = report.markdown.split("## Claims\n", 1)
    head, _, *lines = [line for line in after.splitlines() if line.startswith("|")]
    behind = "| claim | answer | effect | 95 % interval | unit | n | p (Holm) | reason | shown in |"
    assert head == behind
    for line, row in zip(lines, report.tables["claims"].itertuples(), strict=False):
        words = [word.strip() for word in line.strip("|").split("|")]
        assert words[:2] == [f"{row.id} {row.text}", row.answer]
        assert words[4:6] == [row.unit, str(row.n)]
        if row.n:
            assert float(words[2].replace(MINUS, "-")) == pytest.approx(row.mean, abs=0.006)
        if row.lo == row.lo:
            ends = [float(end) for end in words[3].strip("[]").replace(MINUS, "-").split(", ")]
            assert ends == pytest.approx([row.lo, row.hi], abs=0.006)
        p = row.p_holm
        assert words[6] == (NONE if p != p else "<0.001" if p < 0.001 else f"{p:.3g}")
        assert words[7] == row.reason
    assert report.tables["claims"]["n"].max() == 3


def test_the_page_says_of_every_claim_how_it_was_tested(report):
    table = report.tables["claims"]
    items = re.findall(r"<li id=\"claim-.*?</li>", report.html, re.S)
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
