"""What a run says on the terminal at its end."""

import io

import pandas as pd
from rich.console import Console

from rcm.analysis.statistics import PipelineInfo
from rcm.report.tables import all_tables
from rcm.report.terminal import terminal_table


def printed(frame: pd.DataFrame, pipelines: list[PipelineInfo]) -> str:
    """The tables of results as they are printed, 80 columns wide."""
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal_table(all_tables(frame, pipelines), pipelines))
    return console.export_text()


def test_the_table_fits_80_columns_and_escapes_markup(frame, pipelines):
    shown = [
        PipelineInfo(p.name, "[red]int8[/]" if p.name == "int8" else p.label, p.kind, p.baseline,
                     p.parent)
        for p in pipelines
    ]  # fmt: skip
    text = printed(frame[frame["ratio"] > 1], shown)
    assert "[red]int8[/]" in text
    assert "ratio 100" in text
    assert "ratio 10\n" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in text  # no number was cut


def test_names_that_differ_at_their_ends_are_told_apart(frame, pipelines):
    """However narrow they are: the planted table has as many columns as there can be."""
    longer = [
        PipelineInfo(p.name, f"prune80_cluster16_{i}", p.kind, p.baseline, p.parent)
        for i, p in enumerate(pipelines)
    ]
    lines = printed(frame[frame["ratio"] == 100], longer).splitlines()
    assert max(map(len, lines)) <= 80
    first = "".join(line.split()[0] for line in lines if line.strip())
    assert [info.label for info in longer if info.label not in first] == []


def test_no_class_is_called_rare_where_all_are_equally_frequent(frame, pipelines):
    assert "Tail" in printed(frame, pipelines)
    balanced = frame[frame["ratio"] == 1]
    counts = balanced[balanced["metric"] == "train_count"]
    assert counts["value"].nunique() == 1
    assert (balanced["metric"] == "recall_tail").any()
    assert "Tail" not in printed(balanced, pipelines)
