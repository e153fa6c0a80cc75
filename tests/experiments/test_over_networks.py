"""Several runs of S3 at once: networks as blocks, and whether larger ones gain more."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

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


def block(over, name, size, mce, gains=()):
    """A run with these mCEs, gains by seed, and nothing else that differs."""
    columns = {"mCE": mce, "relative mCE": 100.0, "effective robustness": np.nan}
    means = pd.DataFrame({**columns, "clean error": mce}, index=NAMES)
    return over.Block(name, size, means, pd.Series(gains, dtype=float))


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


def test_claims_are_decided_by_the_rule_of_every_report(over):
    mces = np.array(
        [[96.0, 98, 100, 103], [97, 98, 101, 102], [95, 99, 100, 102], [94, 98, 99, 103]]
    )
    gains = np.array([[0.0, 0.2, 0.1], [0.5, 0.6, 0.9], [1.3, 1.1, 1.0], [1.4, 1.7, 1.8]])
    blocks = [block(over, f"net{i}", 2.0**i, mces[i], gains[i]) for i in range(4)]
    grows, by_mce, relative, effective = over.decided_over(blocks).rows
    slopes = np.polyfit(range(4), gains, 1)[0]
    alone = (stats.ttest_1samp(slopes, 0).pvalue, stats.friedmanchisquare(*mces.T).pvalue, 1.0)
    corrected = multipletests(alone, method="holm")[1]
    assert (grows[1], by_mce[1]) == ("supported", "supported")
    assert grows[2].startswith(f"{slopes.mean():+.2f} [")
    assert by_mce[2] == f"{mces.mean(0)[3] - mces.mean(0)[0]:+.2f}"
    assert [one[3] for one in (grows, by_mce, relative)] == [f"{p:.3f}" for p in corrected]
    assert relative[1] == "undecided"
    assert effective[1] == "not tested"
    assert "net0 (0 KiB) +0.10" in grows[5]


def test_only_seeds_that_every_network_has_answer(over):
    flat = [100.0] * 4
    two = pd.Series([1.0, 2.0, 9.0], index=[0, 1, 5])
    blocks = [
        block(over, "small", 1.0, flat, pd.Series([0.0, 0.0, 0.0], index=[0, 1, 2])),
        block(over, "large", 4.0, flat, two),
    ]
    np.testing.assert_allclose(over.growing(blocks).points, [0.5, 1.0])  # two doublings apart
    assert over.growing([blocks[0], blocks[1]._replace(size=1.0)]) is None
    assert over.growing([blocks[0], blocks[1]._replace(gains=two[[5]])]) is None


def test_a_run_is_read_as_its_report_reads_it(over):
    tables = load("simulated_tables")
    frame = tables.study(np.random.default_rng(0), seeds=3)
    clean = frame[(frame["metric"] == "accuracy") & (frame["shift"] == "clean")]
    frame = pd.concat([frame, clean.assign(metric="bytes", value=1000.0)], ignore_index=True)
    found = over.block_of(Side("runs/a", Run(frame, {}, tables.INFOS), "", {}))
    measured = Measured(frame, tables.INFOS)
    plain = [p.name for p in tables.INFOS if p.kind in COMPRESSED and not p.repair]
    assert list(found.means.index) == plain != [p.name for p in tables.INFOS if p.techniques]
    mce = per_seed(measured.corrupted["mce"]).mean()
    np.testing.assert_allclose(found.means["mCE"], mce[found.means.index])
    assert found.means["effective robustness"].notna().all()
    assert found.means["clean error"].between(80, 125).all()
    assert found.size == 1000
    gains = 100 - per_seed(measured.corrupted["mce"])[found.means.index].mean(axis="columns")
    np.testing.assert_allclose(found.gains, gains)


def test_a_mistake_ends_in_one_sentence(tmp_path):
    for arguments, sentence in (([], "0 run folders"), ([str(tmp_path)] * 2, "no run folder")):
        command = [sys.executable, "experiments/over_networks.py", *arguments]
        done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True)
        assert done.returncode != 0
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
