"""Two runs on one page: the numbers of the runs' own pages, complete and safe."""

import re

import numpy as np
import pandas as pd
import pytest
from study_table import study_rows

from rcm.analysis.compare import SAME, compare
from rcm.analysis.corruption import corruption_summary
from rcm.analysis.runs import Run
from rcm.analysis.statistics import gap_table, stacked
from rcm.report.compare import Side, compare_pages, side_by_side, terminal_tables
from rcm.report.layout import NONE
from rcm.report.tables import clean_means

QUANTITIES = {"accuracy", "recall_tail", "gap", "did", "corrupted_accuracy", "mce", "excess_error",
              "bytes"}  # fmt: skip


@pytest.fixture(scope="module")
def sides(frame, pipelines) -> tuple[Side, Side]:
    other = pd.DataFrame(study_rows(seeds=3, ratios=(1.0, 10.0, 100.0), noise=0.03))
    configs = ({"seeds": 3, "train": {"steps": n}, "title": "<b>"} for n in (5, 6))
    return (
        Side("runs/a-1", Run(frame, next(configs), pipelines), "2 CPU cores", {"jax": "0.10.2"}),
        Side("runs/b-2", Run(other, next(configs), pipelines), "one GPU", {"jax": "0.11.2"}),
    )


@pytest.fixture(scope="module")
def table(sides) -> pd.DataFrame:
    return compare(sides[0].run, sides[1].run)


def test_changes_are_those_of_the_runs_own_pages(sides, table, pipelines):
    """With the same seeds in both runs, means of B - A are those of B minus those of A."""
    keys = ["ratio", "pipeline", "quantity"]
    parents = {p.name: p.parent for p in pipelines}
    means = []
    for side in sides:
        own = side.run.frame
        gaps = gap_table(own, pipelines).query("unit == 'points'")
        main = stacked([clean_means(own), gaps, corruption_summary(own, pipelines)[1]])
        of_parent = main["baseline"] == main["pipeline"].map(parents)
        main = main[(main["baseline"] == "") | of_parent]
        means.append(main.drop_duplicates(keys).set_index(keys)["mean"])
    found = table.set_index(keys)
    assert set(table["quantity"]) == QUANTITIES
    for column, own in zip("ab", means, strict=True):
        np.testing.assert_allclose(found[column], own.reindex(found.index))
    np.testing.assert_allclose(found["mean"], (means[1] - means[0]).reindex(found.index))
    assert (table["test"] == "paired").all()


def test_page_has_every_change_and_refers_to_nothing_outside(sides, table):
    html, markdown = compare_pages(*sides, table, "python launch.py --compare a b")
    assert "src=" not in html
    assert "http" not in html
    assert "<b>" not in html.replace("<br>", "")
    assert set(re.findall(r'href="#(.*?)"', html)) <= set(re.findall(r'id="(.*?)"', html))
    for words in ("train.steps", "one GPU", "0.11.2", "runs/b-2", "--compare a b"):
        assert words in html
        assert words in markdown or words == "one GPU"
    for body in re.findall(r"<table.*?</table>", html, re.S):
        assert len({row.count("<td") + row.count("<th") for row in body.split("<tr>")[1:]}) == 1
    cells = re.findall(r"→", html)
    assert len(cells) == len(table) == markdown.count("→")
    assert html.count(" strong") == (table["p_holm"] <= 0.05).sum()
    assert compare_pages(*sides, table, "x") == compare_pages(*sides, table, "x")


def test_what_the_runs_are_stands_side_by_side(sides, frame):
    fewer = frame[(frame["pipeline"] != "int4") & (frame["ratio"] < 100)]
    b = sides[1]._replace(run=sides[1].run._replace(frame=fewer))
    found = {name: rest for name, *rest in side_by_side(sides[0], b)}
    assert found["pipelines"] == ["12", "11"]
    assert found["pipelines only here"] == ["int4", NONE]
    assert found["ratios only here"] == ["100", NONE]
    assert found["jax"] == ["0.10.2", "0.11.2"]
    assert "shifts only here" not in found


def test_terminal_has_a_row_per_pipeline(sides, table):
    folders, config, changes = terminal_tables(*sides, table).renderables
    assert folders == "A: runs/a-1\nB: runs/b-2"
    assert config.row_count == 1
    assert changes.row_count == table["pipeline"].nunique()
    assert changes.title is not None
    assert "ratio 100" in str(changes.title)
    alike = (sides[0], sides[1]._replace(run=sides[0].run))
    assert terminal_tables(*alike, table).renderables[1] == "Their configs do not differ."


def test_of_worst_cases_the_terminal_has_the_middle_one(sides, table):
    worst = [table[table["quantity"] == "accuracy"].assign(quantity="robust_accuracy",
             shift="worst", severity=eps) for eps in (1.0, 4.0, 8.0)]  # fmt: skip
    changes = terminal_tables(*sides, pd.concat([table, *worst])).renderables[2]
    assert [c.header for c in changes.columns if "Worst" in str(c.header)] == [
        "Worst case, eps 4\npoints"
    ]


def test_of_the_very_same_members_the_caption_tells_of_no_intervals(sides, table):
    same = table.assign(test=SAME, p=np.nan, p_holm=np.nan)
    caption = terminal_tables(*sides, same).renderables[2].caption
    count = len(table)
    assert caption == f"0 of {count} changes are tested (none), {count} are of {SAME}"
    usual = terminal_tables(*sides, table).renderables[2].caption
    assert usual.startswith("paired, n = 3; ± half of the 95 % interval; ")
