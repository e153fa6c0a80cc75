"""The main table's numbers, as data and as printed."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from rcm.analysis.statistics import wide
from rcm.report.layout import (
    Column,
    balanced_test_set,
    cell_text,
    columns_with_data,
    corruption_note,
    number,
    rows_at,
)
from rcm.report.tables import all_tables

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def main(frame, pipelines):
    """The main table of the planted study."""
    return all_tables(frame, pipelines)["main"]


def estimate(mean, half=math.nan, n=3):
    return SimpleNamespace(mean=mean, lo=mean - half, hi=mean + half, n=n, note="")


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (71.26, 1, False, "71.3"),
        (-0.04, 1, True, "0.0"),
        (-2.5, 1, True, f"{MINUS}2.5"),
        (2.5, 2, True, "+2.50"),
        (12345.6, 0, False, "12,346"),
    ],
)
def test_numbers(value, digits, signed, text):
    assert number(value, digits, signed) == text


def test_cells_show_margin_strength_and_an_unusual_n():
    did = Column("did", "DiD", "", signed=True)
    assert cell_text(estimate(2.0, 0.5), did, 3) == ("+2.0", "±0.5", True, "")
    assert cell_text(estimate(2.0, 2.5, 2), did, 3) == ("+2.0", "±2.5", False, "n = 2")
    assert cell_text(estimate(70.0, 0.5), Column("accuracy", "", ""), 3).strong is False
    assert cell_text(estimate(2.0), did, 3)[:3] == ("+2.0", "", False)
    assert cell_text(None, did, 3).value == "\N{EN DASH}"


def test_main_table_agrees_with_the_planted_study(main):
    at = main[(main["ratio"] == 100) & (main["pipeline"] == "prune_90")]
    row = at[(at["quantity"] == "bytes")].iloc[0]
    assert (row["mean"], row["unit"]) == (pytest.approx(311_000 * 0.16 / 1024), "KiB")
    did = at[(at["quantity"] == "did") & (at["unit"] == "points") & (at["baseline"] == "finetune")]
    assert did["mean"].item() == pytest.approx(6, abs=1.5)  # planted: .03 per decade, two decades
    assert did["n"].item() == 3
    assert did["lo"].item() < did["mean"].item() < did["hi"].item()


def test_changes_are_paired_by_seed_with_each_reference(main, frame):
    values = wide(frame, "recall_tail").xs(10.0, level="ratio")
    for other in ("finetune", "dense"):
        row = main[
            (main["ratio"] == 10) & (main["pipeline"] == "prune_90") & (main["baseline"] == other)
            & (main["quantity"] == "tail_change")
        ].iloc[0]  # fmt: skip
        each = 100 * (values["prune_90"] - values[other])
        half = 4.302653 * each.std() / 3**0.5  # t of 2 degrees of freedom
        assert (row["mean"], row["unit"], row["n"]) == (pytest.approx(each.mean()), "points", 3)
        assert [row["lo"], row["hi"]] == pytest.approx([each.mean() - half, each.mean() + half])
    parents = main[(main["pipeline"] == "int8") & (main["quantity"] == "accuracy_change")]
    assert set(parents["baseline"]) == {"dense"}
    assert len(parents) == main["ratio"].nunique()  # also where there is no gap: at ratio 1


def test_printed_rows_name_their_baseline(main, pipelines):
    part = main[main["ratio"] == 100]
    columns = [column for _, group in columns_with_data(part) for column in group]
    rows = {row.label: row for row in rows_at(part, pipelines, columns)}
    assert rows["int8"].baseline == "dense"
    assert rows["prune 90 %"].baseline == "fine-tuned, same extra steps"
    heads = [(column.quantity, column.against) for column in columns]
    dense = dict(zip(heads, rows["dense"].cells, strict=True))
    assert dense["did", "baseline"].value == "\N{EN DASH}"
    assert dense["mce", ""].value == "100.0"
    pruned, int8 = (
        dict(zip(heads, rows[label].cells, strict=True)) for label in ("prune 90 %", "int8")
    )
    assert pruned["mce", "baseline"] != pruned["mce", ""]
    assert int8["mce", "baseline"] == int8["mce", ""]  # its baseline is the parent
    assert corruption_note(part) == (
        "mCE against the parent, or what each is compared with: unrounded, mean of 6 corruptions."
    )
    alone = part[~part["unit"].str.startswith("percent of the baseline")]
    assert 0 < len(alone) < len(part)
    assert ("mce", "baseline") not in [
        (c.quantity, c.against) for _, group in columns_with_data(alone) for c in group
    ]


def test_balanced_accuracy_is_printed_only_where_it_differs(main):
    assert balanced_test_set(main)
    shifted = main.copy()
    shifted.loc[shifted["quantity"] == "balanced_accuracy", "mean"] += 1
    assert not balanced_test_set(shifted)
    names = [column.quantity for _, group in columns_with_data(shifted) for column in group]
    assert "balanced_accuracy" in names


def test_what_is_answered_otherwise_than_by_the_parent_is_printed(frame, pipelines):
    """It is measured of every pipeline but the dense one, whose cells stay empty."""
    accuracies = frame[frame["metric"].isin(("accuracy", "bytes")) & (frame["shift"] == "clean")]
    accuracies = accuracies[accuracies["pipeline"].isin(("dense", "int8"))]
    int8 = (accuracies["pipeline"] == "int8") & (accuracies["metric"] == "accuracy")
    churn = accuracies[int8].assign(metric="churn", value=0.125)
    shown = [p for p in pipelines if p.name in ("dense", "int8")]
    table = all_tables(pd.concat([accuracies, churn]), shown)["main"]
    columns = [column for _, group in columns_with_data(table) for column in group]
    place = [column.quantity for column in columns].index("churn")
    rows = rows_at(table[table["ratio"] == 100], shown, columns)
    assert [row.cells[place].value for row in rows] == ["\N{EN DASH}", "12.5"]


def test_mce_of_fifteen_and_nineteen_corruptions_are_columns_of_their_own(main):
    heads = {"mce_15": "mCE of 15", "mce_19": "mCE of 19"}
    both = [main[main["quantity"] == "mce"].assign(quantity=quantity) for quantity in heads]
    table = pd.concat([main[main["quantity"] != "mce"], *both])
    found = [c for _, group in columns_with_data(table) for c in group if "mce_1" in c.quantity]
    assert {column.quantity: column.head for column in found} == heads


def test_multiply_accumulates_are_printed_where_pipelines_differ_in_them(main):
    part = main[(main["ratio"] == 100) & (main["quantity"] == "accuracy")]
    for counts, printed in ((3e6, False), (part["mean"], True)):
        macs = part.assign(quantity="macs", unit="millions", mean=counts)
        groups = columns_with_data(pd.concat([part, macs]))
        assert ("macs" in [c.quantity for _, columns in groups for c in columns]) == printed
