"""Interleaved rounds, ratios and the document, and the whole benchmark at smoke scale."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    import bench_tables

    return bench_tables


def test_a_round_measures_every_candidate_once_in_changing_order(tables):
    calls = []
    candidates = {name: lambda name=name: calls.append(name) or float(len(calls)) for name in "abc"}
    values = tables.interleaved(candidates, rounds=8)
    assert calls[:3] == ["a", "b", "c"]  # the uncounted warm-up
    rounds = [tuple(calls[i : i + 3]) for i in range(3, len(calls), 3)]
    assert len(rounds) == 8
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len(set(rounds)) > 1
    for name in "abc":
        positions = [3 * i + names.index(name) + 4 for i, names in enumerate(rounds)]
        np.testing.assert_array_equal(values[name], positions)


def test_ratios_of_one_round_cancel_a_drifting_machine(tables):
    """A candidate that costs twice as much has ratio 2 though the machine gets 8 times slower."""
    slow, used = [1.0], set()

    def measure(name, cost):
        if name in used:  # the next round begins
            used.clear()
            slow[0] *= 2
        used.add(name)
        return cost * slow[0]

    candidates = {name: lambda n=name, c=cost: measure(n, c) for name, cost in (("a", 1), ("b", 2))}
    values = tables.interleaved(candidates, rounds=3)
    assert values["a"].max() / values["a"].min() == 4
    np.testing.assert_array_equal(values["b"] / values["a"], [2, 2, 2])


def test_one_round_has_no_spread(tables):
    with pytest.raises(ValueError, match="at least 2"):
        tables.interleaved({"a": lambda: 0.0}, rounds=1)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.98765, "0.988"), (1.0567, "1.06"), (45.25, "45.2"), (4210.4, "4,210")]
)
def test_numbers_keep_three_digits(tables, value, shown):
    assert tables.number(value) == shown


def test_spread_is_median_and_quartiles(tables):
    assert tables.spread(np.array([5.0, 1, 2, 4, 3])) == "3.00 (2.00 to 4.00)"


def test_verdict_judges_the_median(tables):
    values = np.array([1.0, 1.04, 9.0])
    assert "at most 1.05, met" in tables.verdict("x", values, at_most=1.05)
    assert "at most 1.03, missed" in tables.verdict("x", values, at_most=1.03)
    assert "at least 1.05, missed" in tables.verdict("x", values, at_least=1.05)
    assert "goal" not in tables.verdict("x", values)
    assert "n = 3" in tables.verdict("x", values)


def test_best_is_the_smallest_median(tables):
    rows = {"mean": np.array([2.0, 2, 2]), "median": np.array([1.0, 1, 99])}
    assert tables.best(rows) == "median"


def test_markdown_is_a_table_with_notes(tables):
    table = tables.Table("Speed", ("what", "ms"), [("a", "1"), ("b", "2")], ["A note."])
    assert tables.markdown(table) == (
        "### Speed\n\n| what | ms |\n| --- | ---: |\n| a | 1 |\n| b | 2 |\n\n- A note.\n"
    )


def test_a_block_replaces_only_itself(tables):
    document = tables.with_block("# Title\n\nBy hand.\n", "cpu", "old")
    document = tables.with_block(document + "\nMore by hand.\n", "gpu", "other")
    again = tables.with_block(document, "cpu", "new\n")
    assert again == document.replace("old", "new")
    assert tables.with_block(again, "cpu", "new") == again
    assert again.startswith("# Title\n\nBy hand.\n")
    assert "More by hand." in again


@pytest.mark.parametrize(
    "document",
    [
        "<!-- bench cpu: begin -->",
        "<!-- bench cpu: end -->\n<!-- bench cpu: begin -->",
        "<!-- bench cpu: begin --> <!-- bench cpu: end -->" * 2,
    ],
)
def test_broken_markers_are_refused(tables, document):
    with pytest.raises(ValueError, match="leave one of each"):
        tables.with_block(document, "cpu", "new")


def test_the_page_has_room_for_its_block(tables):
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    new = tables.with_block(page, "cpu", "NEW")
    assert new.count("NEW") == 1
    assert not new.rstrip().endswith("<!-- bench cpu: end -->")  # in its place, not appended


def bench(tmp_path, *arguments):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "experiments/bench.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=500
    )


def measured(tmp_path, *sections):
    """The page that a smoke run of these sections writes, and what it shows."""
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- bench cpu: begin -->\n<!-- bench cpu: end -->\nAfter.\n")
    arguments = ("--smoke", f"--sections={','.join(sections)}", f"--document={page}")
    done = bench(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    written = page.read_text()
    assert written.startswith("Before.\n<!-- bench cpu: begin -->\n")
    assert written.endswith("<!-- bench cpu: end -->\nAfter.\n")
    if (ROOT / ".git").exists():
        assert re.search(r", commit [0-9a-f]{7,}(-dirty)?\n", written)
    return written, done.stdout


@pytest.mark.long
def test_smoke_measures_and_writes(tmp_path):
    written, shown = measured(tmp_path, "pytorch", "evaluation", "shifts", "memory", "tests")
    for title in ("PyTorch", "Evaluation", "Peak memory", "Peak memory of tests, 2 lanes"):
        assert f"### {title}\n" in written
        assert title in shown
    assert "Not measured: the baseline is a CIFAR ResNet" in written
    rows = [line.split("|")[1:-1] for line in written.splitlines() if line.startswith("| loop")]
    assert rows
    peak, before, foretold = (float(cell.replace(",", "")) for cell in rows[-1][4:7])
    assert 50 < before < peak < 5000  # megabytes of a process with JAX in it
    assert 50 < foretold < 5000


@pytest.mark.long
def test_smoke_measures_what_needs_many_processes(tmp_path):
    written, _ = measured(tmp_path, "training", "choices", "compilation", "steps", "shrinking")
    assert "auto = loop" in written
    for row in ("| as shipped |", "| memory that malloc gives back |", "| cold |", "| cached |"):
        assert row in written


@pytest.mark.long
def test_smoke_measures_networks(tmp_path):
    written, _ = measured(tmp_path, "networks", "peaks")
    *rows, peak = [
        line.split("|")[1:-1] for line in written.splitlines() if line.startswith("| tiny")
    ]
    assert 0.2 < float(peak[4]) < 5  # foretold over what was taken
    kinds = {tuple(cell.strip() for cell in row[1:5]) for row in rows}
    assert kinds == {
        (precision, *strategy, "as shipped")
        for precision in ("float32", "bfloat16")
        for strategy in (("loop", "1"), ("vmap", "2"))
    }
    for row in rows:
        assert float(row[5].split("(")[0]) > 0
        assert 0 < float(row[9].strip(" %")) <= 100  # of the larger floor


@pytest.mark.long
def test_smoke_measures_whole_studies(tmp_path):
    written, _ = measured(tmp_path, "store", "population", "storing", "foretold")
    assert "| 100 |" in written
    assert "| 4 |" in written
    assert "| a study with a checkpoint a second |" in written
    (row,) = [line for line in written.splitlines() if line.startswith("| distribution_shift.py")]
    assert 0.5 < float(row.split("|")[5]) < 2  # foretold over taken


def test_a_mistake_ends_in_one_sentence_before_anything_runs(tmp_path):
    done = bench(tmp_path, "--sections=trianing", "--document=")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "did you mean 'training'" in done.stderr
