"""Tests of changes: by hand, against scipy and statsmodels, and what few seeds leave open."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from rcm.analysis.changes import TESTS, changes_tested, several_tests

ACCURACY = {"dense": [80, 81, 83, 80], "finetune": [81, 83, 84, 82], "prune": [79, 78, 82, 79]}


@pytest.fixture
def table(make_frame, four_pipelines):
    def value(pipeline, ratio, seed, metric):
        found = ACCURACY.get(pipeline)
        return found and found[seed] / 100

    return changes_tested(make_frame(value, ACCURACY, [1], 4), four_pipelines[:3])


def test_changes_are_tested_against_the_baseline_and_the_parent(table):
    rows = table.set_index(["pipeline", "baseline"])
    assert set(rows.index) == {("finetune", "dense"), ("prune", "finetune"), ("prune", "dense")}
    own = rows.loc[("prune", "finetune")]
    differences = np.subtract(ACCURACY["prune"], ACCURACY["finetune"])  # -2 -5 -2 -3
    assert own["mean"] == pytest.approx(-3)
    assert own["p"] == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert own["p_sign_flip"] == own["p_wilcoxon"] == own["smallest_p"] == 2 / 16
    power = TTestPower().power(1 / differences.std(ddof=1), 4, 0.05)
    assert own["power"] == pytest.approx(power, abs=1e-4)
    detectable = TTestPower().solve_power(None, 4, 0.05, 0.8) * differences.std(ddof=1)
    assert own["detectable"] == pytest.approx(detectable, rel=1e-3)


def test_of_one_seed_or_without_spread_only_the_mean_is_told():
    assert np.isnan(list(several_tests(np.array([2.0])).values())).all()
    same = several_tests(np.array([2.0, 2.0, 2.0]))
    assert np.isnan([same[name] for name in ("p", "detectable", "power")]).all()
    assert same["p_sign_flip"] == same["smallest_p"] == 0.25
    assert list(same) == TESTS


def test_no_changes_have_every_column(make_frame, four_pipelines):
    none = changes_tested(make_frame(lambda *_: 0.5, ["dense"], [1], 3), four_pipelines[:1])
    assert none.empty
    assert {"mean", *TESTS} <= set(none.columns)
