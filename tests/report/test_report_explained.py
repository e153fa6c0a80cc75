"""What stands above the main table is about the columns that it has."""

from rcm.report.explained import MEANINGS, explained
from rcm.report.layout import COLUMN_GROUPS, Column


def test_only_columns_that_are_there_are_explained():
    assert explained([Column("accuracy", "Top-1", "%")]) == ""
    words = explained(
        [Column("did", "DiD", ""), Column("ece", "ECE", "%"), Column("did", "DiD", "")]
    )
    assert words.startswith("DiD: ")
    assert words.count("DiD: ") == words.count("ECE: ") == 1
    assert "Effective" not in words


def test_every_meaning_is_of_a_column():
    columns = {column.quantity for _, group in COLUMN_GROUPS for column in group}
    assert {quantity for quantities, _ in MEANINGS for quantity in quantities} <= columns
