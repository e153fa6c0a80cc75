"""The files beside the page: tables for programs and for papers, figures for print."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from rcm.report.latex import latex
from rcm.report.printed import Printed
from rcm.report.rendering import template
from rcm.report.style import Figure


def table_files(tables: Mapping[str, pd.DataFrame]) -> dict[str, bytes]:
    """Every long table as CSV and Parquet, by path in the run folder."""
    files = {}
    for name, table in tables.items():
        files[f"tables/{name}.csv"] = table.to_csv(index=False).encode()
        files[f"tables/{name}.parquet"] = table.to_parquet(index=False)
    return files


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
