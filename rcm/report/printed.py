"""A printed table by itself, for the files beside the page."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from rcm.report.layout import CellText


class Printed(NamedTuple):
    """A file name without ending, a title, what to know to read it, heads of the columns of words,
    heads of the columns of numbers below those that they share ("" for none), (words, numbers) of
    every row, and, of a table of sentences, the shares of a paper's width that its columns take, 0
    for those as wide as what they hold."""

    name: str
    title: str
    note: str
    words: list[str]
    groups: list[tuple[str, list[str]]]
    rows: list[tuple[list[str], list[CellText]]]
    widths: tuple[float, ...] = ()

    @property
    def numbers(self) -> int:
        """How many columns of numbers there are."""
        return sum(len(heads) for _, heads in self.groups)


def plain_table(
    title: str,
    note: str,
    word: str,
    heads: list[str],
    rows: Sequence[tuple[str, list[CellText]]],
) -> Printed:
    """A table with one column of words, and without shared heads."""
    lines = [([label], cells) for label, cells in rows]
    return Printed(file_name(title), title, note, [word], [("", heads)], lines)


def file_name(*parts: str) -> str:
    """Words as part of a file's name."""
    return re.sub(r"[^\w-]+", "_", "_".join(parts).lower()).strip("_")
