"""Several runs of S3 at once: networks as blocks, and whether larger ones gain more."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rcm.analysis.measured import Measured
from rcm.analysis.runs import Run
from rcm.analysis.statistics import COMPRESSED, per_seed
from rcm.report.compare import Side
from tests.experiments.test_experiments import FOLDER, load

NAMES = ["prune", "cluster", "qat", "both"]


@pytest.fixture(scope="module")
def over(module_path):
    return load("over_networks")


@pytest.fixture(scope="module")
def module_path():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def block(over, name, size, mce, clean=None):
    """A run with these mCEs, and nothing else that differs."""
    columns = {"mCE": mce, "relative mCE": 100.0, "effective robustness": np.nan}
    means = pd.DataFrame({**columns, "clean error": mce if clean is None else clean}, index=NAMES)
    return over.Block(name, size, means)


def test_techniques_are_ranked_over_networks(over):
    blocks = [block(over, f"net{i}", 1.0, [96.0 + i, 98, 100 + i, 102 + i]) for i in range(3)]
    table = over.ranked(blocks)
    mce, relative, effective = table.rows
    expected = stats.friedmanchisquare(*np.array([b.means["mCE"] for b in blocks]).T)
    assert mce[:5] == ("mCE", "3", "4", f"{expected.statistic:.2f}", f"{expected.pvalue:.3f}")
    assert mce[5] in ("prune", "cluster")
    assert relative[4] == "1.000"  # all alike
    assert effective[5] == "not in all runs"
    assert "r = 1.00" in table.notes[0]


@pytest.mark.parametrize(
    ("n", "sign", "answer"),
    [(3, 1, "undecided (n = 3"), (5, 1, ": supported"), (5, -1, ": not supported")],
)
def test_larger_networks_gain_more_or_not(over, n, sign, answer):
    blocks = [block(over, f"net{i}", 2.0**i, 98 - sign * 0.5 * i) for i in range(n)]
    words = over.trend(blocks)
    assert answer in words
    assert f"Kendall's tau {sign:.2f}" in words
    assert "net0 (0 KiB) +2.00" in words


def test_a_run_is_read_as_its_report_reads_it(over):
    tables = load("simulated_tables")
    frame = tables.study(np.random.default_rng(0), seeds=3)
    clean = frame[(frame["metric"] == "accuracy") & (frame["shift"] == "clean")]
    frame = pd.concat([frame, clean.assign(metric="bytes", value=1000.0)], ignore_index=True)
    found = over.block_of(Side("runs/a", Run(frame, {}, tables.INFOS), "", {}))
    measured = Measured(frame, tables.INFOS)
    assert list(found.means.index) == [p.name for p in tables.INFOS if p.kind in COMPRESSED]
    mce = per_seed(measured.corrupted["mce"]).mean()
    np.testing.assert_allclose(found.means["mCE"], mce[found.means.index])
    assert found.means["effective robustness"].notna().all()
    assert found.means["clean error"].between(80, 125).all()
    assert found.size == 1000


def test_a_mistake_ends_in_one_sentence(tmp_path):
    for arguments, sentence in (([], "0 run folders"), ([str(tmp_path)] * 2, "no run folder")):
        command = [sys.executable, "experiments/over_networks.py", *arguments]
        done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True)
        assert done.returncode != 0
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
