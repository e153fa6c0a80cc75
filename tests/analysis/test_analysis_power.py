"""What n seeds can show, against statsmodels where it can be trusted, and by simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from rcm.analysis.power import (
    detectable_effect,
    interval_power,
    paired_power,
    provable_margin,
)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("size", [0.0, 0.3, 1.0])
def test_power_equals_that_of_the_noncentral_t(n, size):
    expected = TTestPower().power(size, n, 0.05)
    assert paired_power(2 * size, 2.0, n) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
def test_detectable_effects_equal_statsmodels(n):
    """11.55 standard deviations at n = 2, 3.26 at 3, 1.68 at 5, 1.00 at 10, 0.53 at 30."""
    expected = TTestPower().solve_power(None, n, 0.05, 0.8)
    assert detectable_effect(0.5, n) == pytest.approx(0.5 * expected, rel=1e-4)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_what_is_called_detectable_is_detected(n):
    draws, rng = 20_000, np.random.default_rng(n)
    values = rng.normal(detectable_effect(2.0, n), 2.0, (draws, n))
    found = (stats.ttest_1samp(values, 0.0, axis=1).pvalue <= 0.05).mean()
    assert found == pytest.approx(0.8, abs=4 * 0.4 / np.sqrt(draws))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_what_is_called_provable_is_proven(n):
    draws, rng = 20_000, np.random.default_rng(n)
    values = rng.normal(0.0, 2.0, (draws, n))
    half = stats.t.ppf(0.975, n - 1) * values.std(axis=1, ddof=1) / np.sqrt(n)
    margin = provable_margin(2.0, n)
    found = (np.abs(values.mean(axis=1)) + half < margin).mean()
    assert found == pytest.approx(0.8, abs=4 * 0.4 / np.sqrt(draws))
    assert interval_power(margin, 2.0, n) == pytest.approx(0.8)


def test_effects_far_out_are_right_where_the_noncentral_t_fails():
    values = np.random.default_rng(0).normal(detectable_effect(1.0, 2, power=0.95), 1, (50_000, 2))
    found = (stats.ttest_1samp(values, 0.0, axis=1).pvalue <= 0.05).mean()
    assert found == pytest.approx(0.95, abs=4 * 0.22 / np.sqrt(50_000))
    assert paired_power(1e3, 1.0, 3) == pytest.approx(1)


def test_without_spread_or_pairs_nothing_is_said():
    for reach in (detectable_effect, provable_margin):
        assert np.isnan(reach(1.0, 1))
        assert np.isnan(reach(0.0, 5))
        assert np.isnan(reach(np.nan, 5))
