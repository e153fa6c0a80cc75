"""Tests of differences against enumeration, scipy and statsmodels, and what few seeds allow."""

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from rcm.analysis import significance
from rcm.analysis.significance import (
    benjamini_hochberg,
    sign_flip,
    smallest_p,
    tost,
    welch,
    wilcoxon,
)
from rcm.analysis.statistics import holm, paired_t


def test_sign_flips_by_hand():
    """Of the 8 sums of +-1, +-2 and +-4 four are as far from 0 as 5: 5, 7, -5 and -7."""
    assert sign_flip([-1.0, 2.0, 4.0]).p == pytest.approx(4 / 8)
    assert sign_flip([1.0, 2.0, np.nan, 4.0]) == (pytest.approx(2 / 8), pytest.approx(2 / 8))
    assert sign_flip([0.0, 1.0, 2.0]).smallest_p == 2 / 4  # flipping nothing changes nothing
    assert np.isnan(sign_flip([1.0])).all()


@pytest.mark.parametrize("seed", range(3))
def test_signed_ranks_with_ties_equal_their_enumeration(seed):
    values = np.random.default_rng(seed).integers(-3, 5, 8).astype(float)
    nonzero = values[values != 0]
    ranks = stats.rankdata(np.abs(nonzero))
    sums = np.array([ranks @ flips for flips in itertools.product((1, -1), repeat=len(ranks))])
    found = ranks @ np.sign(nonzero)
    p = np.mean(np.abs(sums) >= abs(found) - 1e-9)
    assert wilcoxon(values) == (pytest.approx(p), 2 * 0.5 ** len(ranks))


@pytest.mark.parametrize("n", [5, 10, 20])
def test_signed_ranks_without_ties_equal_scipys_exact_ones(n):
    values = np.random.default_rng(n).normal(0.4, 1, n)
    assert wilcoxon(values).p == pytest.approx(stats.wilcoxon(values, method="exact").pvalue)


def test_differences_that_are_all_zero_say_nothing():
    assert wilcoxon([0.0, 0.0, 0.0]) == (1, 1)
    assert sign_flip([0.0, 0.0, 0.0]) == (1, 1)
    assert np.isnan(wilcoxon([2.0])).all()


def test_the_least_p_is_that_of_equal_signs_and_five_seeds_do_not_reach_significance():
    for n in (3, 5, 6, 8):
        values = np.arange(1, n + 1) / 10
        for found in (sign_flip(values), wilcoxon(values)):
            assert found.p == pytest.approx(found.smallest_p) == pytest.approx(smallest_p(n))
    assert smallest_p(5) > 0.05 >= smallest_p(6)
    many = sign_flip(np.arange(1, 31))
    assert many.p == many.smallest_p == 2 / (significance.DRAWS + 1)


@pytest.mark.parametrize("n", [significance.EXACT + 1, 40, 200])
def test_drawn_flips_equal_those_of_whole_numbers_and_scipys(n):
    """Accuracies on 60 images, so that many flips tie; sums of whole numbers tie exactly."""
    signs = np.tile([1, -1], (significance.DRAWS, n, 1))
    flips = np.random.default_rng(significance.SEED).permuted(signs, axis=-1)[..., 0]
    for seed in range(8):
        images = np.random.default_rng(seed).integers(-9, 11, n)
        sums, found = flips @ images, images.sum()
        least = min(np.count_nonzero(sums <= found), np.count_nonzero(sums >= found))
        p = min(1, 2 * (least + 1) / (significance.DRAWS + 1))
        assert sign_flip(100 * images / 60).p == p
        scipys = stats.permutation_test(
            (images.astype(float),), lambda x, axis: x.sum(axis), permutation_type="samples",
            n_resamples=significance.DRAWS, rng=np.random.default_rng(significance.SEED),
        )  # fmt: skip
        assert scipys.pvalue == p


def test_drawn_flips_agree_with_the_t_test_of_normal_differences():
    values = np.random.default_rng(0).normal(0.4, 1, 30)
    assert sign_flip(values).p == pytest.approx(paired_t(values), abs=0.01)


def test_welch_and_what_it_does_without_spread():
    rng = np.random.default_rng(0)
    one, two = rng.normal(0, 1, 6), rng.normal(1, 3, 9)
    assert welch(one, two) == pytest.approx(stats.ttest_ind(one, two, equal_var=False).pvalue)
    assert welch([2.0, 2.0], [2.0, 2.0, 2.0]) == 1
    assert np.isnan(welch([2.0, 2.0], [3.0, 3.0]))
    assert np.isnan(welch([2.0, 1.0], [3.0]))
    assert welch([2.0, 2.0], [3.0, 4.0, 5.0]) < 0.1  # spread in one group is enough


def test_equivalence_equals_statsmodels():
    values = np.random.default_rng(1).normal(0.1, 0.3, 7)
    p, *_ = DescrStatsW(values).ttost_mean(-0.5, 0.5)
    assert tost(values, 0.5) == pytest.approx(p)
    assert np.isnan(tost([0.1, 0.1, 0.1], 0.5))


def test_corrections_equal_statsmodels_and_leave_missing_ones():
    p = np.random.default_rng(2).uniform(0, 0.2, 12)
    for own, name in ((benjamini_hochberg, "fdr_bh"), (holm, "holm")):
        expected = multipletests(p, method=name)[1]
        np.testing.assert_allclose(own(np.insert(p, 3, np.nan)), np.insert(expected, 3, np.nan))
    # sorted .01 .02 .03 .5: times 4/1, 4/2, 4/3, 1, least from above
    np.testing.assert_allclose(benjamini_hochberg([0.5, 0.01, 0.03, 0.02]), [0.5, 0.04, 0.04, 0.04])
    assert np.isnan(benjamini_hochberg([np.nan])).all()
    assert benjamini_hochberg([]).size == 0
