"""Two runs side by side, for the terminal and as a self-contained page."""

from collections import Counter
from typing import Any, NamedTuple

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from rcm.analysis.claims import ALPHA
from rcm.analysis.compare import PAIRED, SAME, WELCH
from rcm.analysis.runs import Run, cautions, config_differences, shared
from rcm.analysis.statistics import BLOCK, records
from rcm.report.layout import MINUS, NONE, CellText, number
from rcm.report.rendering import template
from rcm.report.style import shorten

HEADS = {
    "accuracy": ("Top-1", "clean, points"),
    "recall_tail": ("Tail recall", "clean, points"),
    "gap": ("Gap", "of top-1, points"),
    "did": ("DiD", "vs parent, points"),
    "corrupted_accuracy": ("Top-1", "corrupted, points"),
    "mce": ("mCE", "% of parent's"),
    "excess_error": ("Excess", "vs parent, points"),
    "robust_accuracy": ("Worst case", "points"),
    "bytes": ("Size", "KiB"),
}
IN_TERMINAL = ("accuracy", "recall_tail", "did", "corrupted_accuracy", "robust_accuracy", "bytes")
LONG = 120  # letters of a config's value that are shown

Key = tuple[str, str, float]  # quantity, shift, severity


class Side(NamedTuple):
    """One of the two runs: its folder as given, its results, and what is known of the machine."""

    folder: str
    run: Run
    hardware: str
    versions: dict[str, str]


class Panel(NamedTuple):
    """The changes at one ratio of one block: columns (head, unit), rows (pipeline, cells)."""

    heading: str
    how: str  # of most cells, the others say it themselves
    columns: list[tuple[str, str]]
    rows: list[tuple[str, list[CellText]]]


def compare_pages(a: Side, b: Side, table: pd.DataFrame, command: str) -> tuple[str, str]:
    """(HTML, Markdown) of a table of `analysis.compare.compare`; equal inputs, equal bytes."""
    contents = {
        "a": a,
        "b": b,
        "command": command,
        "facts": side_by_side(a, b),
        "differences": differences(a, b),
        "panels": panels(table),
        "cautions": cautions(a.run, b.run),
        "tests": tests_in_words(table),
    }
    return template("compare.html").render(contents), template("compare.md").render(contents)


def differences(a: Side, b: Side) -> list[tuple[str, str, str]]:
    """`config_differences` with long values cut."""
    found = config_differences(a.run.config, b.run.config)
    return [(name, shorten(one, LONG), shorten(two, LONG)) for name, one, two in found]


def side_by_side(a: Side, b: Side) -> list[tuple[str, str, str]]:
    """(what, A, B): what the two runs are, and what only one of them has."""
    frames = a.run.frame, b.run.frame
    rows = {"folder": [a.folder, b.folder]}
    for name, column in zip(("data", "network", "imbalance"), BLOCK, strict=True):
        rows[name] = [", ".join(sorted(map(str, frame[column].unique()))) for frame in frames]
    rows["seeds"] = [str(frame["seed"].nunique()) for frame in frames]
    for kind, (both, ours, theirs) in shared(a.run, b.run).items():
        rows[kind] = [str(len(both) + len(only)) for only in (ours, theirs)]
        if ours or theirs:
            rows[f"{kind} only here"] = [", ".join(only) or NONE for only in (ours, theirs)]
    if a.hardware or b.hardware:
        rows["hardware"] = [side.hardware or "unknown" for side in (a, b)]
    for name in dict.fromkeys([*a.versions, *b.versions]):
        versions = [side.versions.get(name, "unknown") for side in (a, b)]
        if versions[0] != versions[1]:
            rows[name] = versions
    return [(name, one, two) for name, (one, two) in rows.items()]


def panels(table: pd.DataFrame) -> list[Panel]:
    """One table per block and ratio, the largest ratio of a block first."""
    made = []
    ordered = table.sort_values("ratio", ascending=False, kind="stable")
    for (place, ratio), part in ordered.groupby(["place", "ratio"], sort=False):
        keys, units = _columns(part), dict(zip(part["quantity"], part["unit"], strict=True))
        how = Counter(_how(row) for row in records(part) if row.test != SAME).most_common(1)
        usual = how[0][0] if how else ""
        cells = {(row.pipeline, _key(row)): _cell(row, usual) for row in records(part)}
        rows = [
            (name, [cells[name, key] if (name, key) in cells else CellText(NONE) for key in keys])
            for name in dict.fromkeys(part["pipeline"])
        ]
        heads = [_head(key, str(units[key[0]])) for key in keys]
        made.append(Panel(f"{place} · ratio {ratio:g}", usual, heads, rows))
    return made


def _key(row: Any) -> Key:
    return row.quantity, row.shift, row.severity


def _columns(part: pd.DataFrame) -> list[Key]:
    found = set(map(_key, records(part)))
    return sorted(found, key=lambda key: (list(HEADS).index(key[0]), key[1:]))


def _head(key: Key, measured: str) -> tuple[str, str]:
    """measured: the unit of the change, which says over what mCE is a mean."""
    quantity, shift, severity = key
    head, unit = HEADS[quantity]
    unit += f", {measured.partition(', ')[2]}" if quantity == "mce" else ""
    norm = ", L2" if shift.endswith("_l2") else ""
    return (f"{head}, eps {severity:g}{norm}", unit) if shift else (head, unit)


def _how(row: Any) -> str:
    count = f"n = {row.n_a}" if row.test == PAIRED else f"n = {row.n_a} and {row.n_b}"
    return f"{row.test}, {count}{', unreliable' if row.n == 2 else ''}"


def _cell(row: Any, usual: str) -> CellText:
    """The change, half of its interval, from what to what, and how it is tested if unusually."""
    half = (row.hi - row.lo) / 2
    margin = f"±{half:,.1f}" if half > 1e-9 else ""
    notes = [f"{number(row.a)} → {number(row.b)}"]
    if row.test == SAME:
        return CellText(number(row.mean), "", False, f"{number(row.a)}, {SAME}")
    if _how(row) != usual:
        notes.append(_how(row))
    return CellText(number(row.mean, signed=True), margin, row.p_holm <= ALPHA, ", ".join(notes))


def tests_in_words(table: pd.DataFrame) -> str:
    """How many changes were tested, and how."""
    counts = table.loc[table["p"].notna(), "test"].value_counts()
    by_test = ", ".join(f"{counts[test]} {test}" for test in (PAIRED, WELCH) if test in counts)
    text = f"{counts.sum()} of {len(table)} changes are tested ({by_test or 'none'})"
    same = int((table["test"] == SAME).sum())
    return f"{text}, {same} are of {SAME}" if same else text


def terminal_tables(a: Side, b: Side, table: pd.DataFrame) -> Group:
    """For `rich.print`: what differs in the configs, and the changes of each block at its largest
    ratio, of worst cases at the middle eps, bold where Holm's p is at most 0.05."""
    shown: list[Any] = [f"A: {escape(a.folder)}\nB: {escape(b.folder)}", _config_table(a, b)]
    for _, part in table[table["quantity"].isin(IN_TERMINAL)].groupby("place", sort=False):
        radii = sorted(part.loc[part["shift"] != "", "severity"].unique())
        middle = radii[(len(radii) - 1) // 2] if radii else 0.0
        part = part[(part["shift"] == "") | (part["severity"] == middle)]
        largest = panels(part[part["ratio"] == part["ratio"].max()])[0]
        shown.append(_change_table(largest, tests_in_words(table)))
    return Group(*shown)


def _config_table(a: Side, b: Side) -> Table | str:
    found = differences(a, b)
    if not found:
        return "Their configs do not differ."
    table = Table(title="What differs in the configs", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.title_justify = "left"
    for head in ("field", "A", "B"):
        table.add_column(head)
    for row in found:
        table.add_row(*(escape(shorten(text, 40)) for text in row))
    return table


def _change_table(panel: Panel, tests: str) -> Table:
    told = (panel.how, f"± half of the 95 % interval; bold: Holm's p ≤ {ALPHA:g}", tests)
    caption = "; ".join(told if panel.how else told[2:])  # without a test there is no interval
    table = Table(
        title=escape(f"B {MINUS} A: {panel.heading}"), box=SIMPLE_HEAD, padding=(0, 1, 0, 0),
        caption=caption,
    )  # fmt: skip
    table.title_justify = table.caption_justify = "left"
    table.add_column("pipeline", min_width=12, overflow="fold")
    for head, unit in panel.columns:
        short = unit.removesuffix(", points")
        table.add_column(f"{head}\n{short}", justify="right", no_wrap=True)
    for name, cells in panel.rows:
        texts = [f"{cell.value} {cell.margin}".strip() for cell in cells]
        styled = [f"[bold]{t}[/bold]" if c.strong else t for t, c in zip(texts, cells, strict=True)]
        table.add_row(escape(name), *styled)
    return table
