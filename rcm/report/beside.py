"""The files beside the page: tables for programs and for papers, figures for print."""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from rcm.report.latex import latex
from rcm.report.printed import Printed
from rcm.report.rendering import template
from rcm.report.style import Figure

REPEATING = {"float64", "int64", "bool", "str"}  # kinds of columns, whose values are told apart


def table_files(tables: Mapping[str, pd.DataFrame]) -> dict[str, bytes]:
    """Every long table as CSV and Parquet, by path in the run folder."""
    files = {}
    for name, table in tables.items():
        files[f"tables/{name}.csv"] = comma_separated(table)
        files[f"tables/{name}.parquet"] = table.to_parquet(index=False)
    return files


def comma_separated(table: pd.DataFrame) -> bytes:
    """What `table.to_csv(index=False)` is, five times as fast: in a long table values repeat, and
    each is turned into text once. Other kinds of columns, and text with commas, quotes or line
    breaks, are left to pandas."""
    if set(map(str, table.dtypes)) <= REPEATING:
        texts = pa.table({name: _texts(column) for name, column in table.items()})
        buffer, plain = io.BytesIO(), csv.WriteOptions(quoting_style="none", quoting_header="none")
        with contextlib.suppress(pa.ArrowInvalid):
            csv.write_csv(texts, buffer, plain)
            return buffer.getvalue()
    return table.to_csv(index=False).encode()


def _texts(column: pd.Series) -> pa.Array:
    """A column's values as words, missing ones empty."""
    if column.dtype == np.float64:  # by their bits, which tell 0 from -0
        codes, bits = pd.factorize(column.to_numpy().view(np.int64))
        distinct = bits.view(np.float64)
    else:
        codes, distinct = pd.factorize(column, use_na_sentinel=False)
    pairs = zip(distinct.tolist(), pd.isna(distinct), strict=True)
    words = ["" if missing else str(value) for value, missing in pairs]
    return pa.array(words, pa.string()).take(pa.array(codes))


def printed_files(printed: Iterable[Printed]) -> dict[str, bytes]:
    """Every printed table as Markdown and LaTeX, by path in the run folder."""
    files, markdown = {}, template("printed.md")
    for table in printed:
        files[f"tables/{table.name}.md"] = markdown.render(printed=table).encode()
        files[f"tables/{table.name}.tex"] = latex(table).encode()
    return files


def figure_files(figures: Sequence[Figure]) -> dict[str, bytes]:
    """Every figure as PNG, SVG and PDF, by path in the run folder."""
    files = {}
    for figure in figures:
        for ending in ("png", "svg", "pdf"):
            files[f"figures/{figure.name}.{ending}"] = getattr(figure, ending)
    return files
