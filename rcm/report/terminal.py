"""The short tables that a run ends with on the terminal."""

from collections.abc import Mapping, Sequence

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from rcm.analysis.by_class import rare_classes
from rcm.analysis.statistics import BLOCK, PipelineInfo
from rcm.report.layout import COLUMN_GROUPS, MCE, Column, Row, columns_with_data, rows_at


def terminal_table(
    tables: Mapping[str, pd.DataFrame], pipelines: Sequence[PipelineInfo], title: str = "Results"
) -> Group:
    """Short tables for the end of a run, for `rich.print`: each block of the table `main` at its
    largest ratio, with half of the 95 % interval after accuracy and DiD."""
    shown, rare = [], rare_classes(tables["class_recall"])
    for block, part in tables["main"].groupby(BLOCK, sort=False):
        ratio = part["ratio"].max()
        part = part[part["ratio"] == ratio]
        columns = [
            column
            for _, group in columns_with_data(part, rare)
            for column in group
            if column in _TERMINAL_COLUMNS
        ]
        heading = f"{title}: {' · '.join(map(str, block))}, ratio {ratio:g}"
        shown.append(_terminal_block(heading, columns, rows_at(part, pipelines, columns)))
    return Group(*shown)


_TERMINAL_COLUMNS = tuple(
    column
    for _, columns in COLUMN_GROUPS
    for column in columns
    if column.quantity
    in ("accuracy", "accuracy_change", "recall_tail", "gap", "did", "mce", "mce_15", "bytes")
    and column.against != "parent"
    and not (column.quantity in MCE and column.against)
)


def _terminal_block(heading: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    counts = sorted({row.n for row in rows})
    caption = f"means over n = {' to '.join(counts)} seeds; ± half of the 95 % interval"
    table = Table(title=escape(heading), caption=caption, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.title_justify = table.caption_justify = "left"
    table.add_column("pipeline", overflow="fold")  # what is cut off could be all that differs
    for column in columns:
        unit = column.unit.replace("of ", "of\n")  # a narrow head leaves the names room
        table.add_column(f"{column.head}\n{unit}", justify="right", no_wrap=True)
    for row in rows:
        pairs = zip(row.cells, columns, strict=True)
        cells = [
            f"{cell.value} {cell.margin}".strip()
            if column.quantity in ("accuracy", "accuracy_change", "did")
            else cell.value
            for cell, column in pairs
        ]
        table.add_row(escape(row.label), *cells)
    return table
