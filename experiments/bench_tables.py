"""Interleaved rounds and what is made of them: medians, paired ratios, tables, the document.

Used by `bench.py`; numpy and rich only. A machine's speed drifts from second to second, so every
candidate is measured once a round, in an order that is shuffled anew, and two candidates are
compared by the ratios of the same rounds.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

Name = TypeVar("Name", bound=Hashable)
EXECUTION = ("strategy", "lanes", "devices", "steps per call")


class Table(NamedTuple):
    """One section's result: rows under a header, and sentences below them."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str] = ()


def cells(execution: Sequence) -> tuple[str, ...]:
    """An execution as cells of a row under the header `EXECUTION`."""
    return tuple(map(str, execution))


def interleaved(
    candidates: Mapping[Name, Callable[[], float]], rounds: int, seed: int = 0
) -> dict[Name, np.ndarray]:
    """float64 [rounds] of every candidate: what it returned in each round.

    Every candidate is called once before, uncounted: compilation and caches. ValueError for fewer
    than 2 rounds, of which there is no spread.
    """
    if rounds < 2:
        raise ValueError(f"{rounds} rounds have no spread: give --rounds of at least 2.")
    for candidate in candidates.values():
        candidate()
    names, draw = list(candidates), np.random.default_rng(seed)
    values: dict[Name, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for position in draw.permutation(len(names)):
            values[names[position]].append(candidates[names[position]]())
    return {name: np.array(row, np.float64) for name, row in values.items()}


def number(value: float) -> str:
    """At least three significant digits, no exponent: 0.983, 45.3, 4,210."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.{2 if abs(value) >= 1 else 3}f}"


def spread(values: np.ndarray) -> str:
    """`median (first quartile to third quartile)`."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{number(median)} ({number(low)} to {number(high)})"


def verdict(
    what: str, values: np.ndarray, at_most: float | None = None, at_least: float | None = None
) -> str:
    """One sentence: the median of `values`, its quartiles and n and, with a limit, goal or not."""
    median = float(np.median(values))
    text = f"{what}: {spread(values)}, n = {len(values)}"
    if at_most is not None:
        text += f"; goal: at most {number(at_most)}, {'met' if median <= at_most else 'missed'}"
    if at_least is not None:
        text += f"; goal: at least {number(at_least)}, {'met' if median >= at_least else 'missed'}"
    return text + "."


def best(values: Mapping[Name, np.ndarray]) -> Name:
    """The candidate with the smallest median."""
    return min(values, key=lambda name: float(np.median(values[name])))


def show(table: Table, console: Console) -> None:
    """Print a table and its notes on the terminal."""
    shown = RichTable(title=table.title, title_justify="left")
    for i, name in enumerate(table.header):
        shown.add_column(name, justify="right" if i else "left")
    for row in table.rows:
        shown.add_row(*row)
    if table.rows:
        console.print(shown)
    else:
        console.print(table.title)
    for note in table.notes:
        console.print(note, highlight=False, soft_wrap=True)
    console.print()


def markdown(table: Table) -> str:
    """The table and its notes as Markdown under a heading of the third level."""
    lines = [f"### {table.title}", ""]
    if table.rows:
        bars = ["---", *["---:"] * (len(table.header) - 1)]
        lines += [f"| {' | '.join(cells)} |" for cells in (table.header, bars, *table.rows)]
        lines.append("")
    lines += [f"- {note}" for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def with_block(document: str, name: str, block: str) -> str:
    """The document with the generated block `name` replaced, or appended if it has none.

    A block stands between `<!-- bench NAME: begin -->` and `<!-- bench NAME: end -->`; everything
    else is kept to the letter. ValueError if the markers are not one pair in this order.
    """
    begin, end = f"<!-- bench {name}: begin -->", f"<!-- bench {name}: end -->"
    found = (document.count(begin), document.count(end))
    if found == (0, 0):
        space = "\n" if document else ""
        return f"{document}{space}{begin}\n{block.strip()}\n{end}\n"
    before, _, rest = document.partition(begin)
    _, marker, after = rest.partition(end)
    if found != (1, 1) or not marker:
        raise ValueError(
            f"The document has no single pair of the markers {begin!r} and {end!r}: leave one of "
            "each, in this order, or remove both."
        )
    return f"{before}{begin}\n{block.strip()}\n{end}{after}"
