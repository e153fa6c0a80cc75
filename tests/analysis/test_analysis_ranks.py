"""Friedman's test and Nemenyi's differences: published values, a published table, and by hand."""

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.ranks import critical_difference, friedman, not_told_apart


@pytest.mark.parametrize(
    ("column", "chi2", "last", "p"),
    [("mCE", 49.85, 0.005, "1.3e-05"), ("rel_mCE", 18.4, 0.05, "0.24")],
)
def test_the_published_table_differs_in_mce_and_not_in_relative_mce(
    published_table, column, chi2, last, p
):
    """S3's claim C8: six blocks, the original among sixteen configurations."""
    table = published_table.pivot(index=["dataset", "model"], columns="type", values=column)
    assert table.shape == (6, 16)
    found = friedman(table, larger_is_better=False)
    assert found.chi2 == pytest.approx(chi2, abs=last)
    assert f"{found.p:.2g}" == p
    assert found.smallest_p < 0.05


def test_critical_differences_are_the_published_ones():
    """Demšar 2006, table 5: q at .05 for k = 2, 3, 5, 10; his example, k = 4, 14 data sets, at .05
    and .1: 1.25 and 1.12."""
    published = {2: 1.960, 3: 2.343, 5: 2.728, 10: 3.164}
    for k, q in published.items():
        assert critical_difference(k, 6) == pytest.approx(q * np.sqrt(k * (k + 1) / 36), rel=1e-3)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, 0.1) == pytest.approx(1.12, abs=0.005)


@pytest.mark.parametrize(("k", "n"), [(3, 5), (4, 14), (6, 8), (9, 20)])
def test_pairs_differ_where_another_implementation_says_so(k, n):
    """scikit-posthocs gives a p for every pair: within the critical difference it is above .05."""
    posthocs = pytest.importorskip("scikit_posthocs")
    rng, told = np.random.default_rng(k), []
    for _ in range(10):
        table = pd.DataFrame(rng.normal(0.6 * np.arange(k), 1, (n, k)).round(1))  # some tie
        p = posthocs.posthoc_nemenyi_friedman(-table).to_numpy()
        ranks = friedman(table, larger_is_better=True).mean_ranks.sort_index().to_numpy()
        apart = np.abs(ranks[:, None] - ranks) > critical_difference(k, n)
        np.testing.assert_array_equal(apart, p < 0.05)
        told += [apart.any(), not apart[np.triu_indices(k, 1)].all()]
    assert any(told[0::2])
    assert any(told[1::2])


def test_ranks_and_the_correction_for_ties_by_hand():
    """Ranks 1 2 3, 1 2.5 2.5, 1 3 2: sums 3, 7.5, 7.5; chi2 = 12 (9 + 56.25 + 56.25) / 36 - 36 =
    4.5, over 1 - 6 / 72 for the one tie of two."""
    table = pd.DataFrame([[9, 8, 7], [9, 5, 5], [9, 1, 2]], columns=list("abc"))
    found = friedman(table, larger_is_better=True)
    assert found.mean_ranks.to_dict() == {"a": 1, "b": 2.5, "c": 2.5}
    assert found.chi2 == pytest.approx(4.5 / (1 - 6 / 72))
    assert found.n == 3
    turned = friedman(-table, larger_is_better=False)
    pd.testing.assert_series_equal(turned.mean_ranks, found.mean_ranks)


def test_identical_rankings_reach_the_least_p():
    found = friedman(pd.DataFrame([[1.0, 2, 3, 4]] * 3), larger_is_better=False)
    assert found.p == pytest.approx(found.smallest_p)
    few = friedman(pd.DataFrame([[1.0, 2, 3]] * 2), larger_is_better=False)
    assert few.smallest_p > 0.05  # two blocks of three cannot


def test_equal_pipelines_do_not_differ():
    table = pd.DataFrame([[0.3, 0.1 + 0.2, 0.3], [0.5, 0.5, 0.5]])
    found = friedman(table, larger_is_better=True)
    assert found.p == 1
    assert found.mean_ranks.tolist() == [2, 2, 2]


def test_blocks_with_a_missing_value_are_left_out():
    table = pd.DataFrame([[1.0, 2, 3], [1, np.nan, 3], [2, 1, 3]])
    assert friedman(table, larger_is_better=False).n == 2
    with pytest.raises(ValueError, match="1 complete blocks and 3 pipelines"):
        friedman(table.iloc[:2], larger_is_better=False)


def test_bars_join_the_largest_sets_within_the_difference():
    ranks = pd.Series({"d": 4.0, "a": 1.0, "b": 1.8, "c": 2.5, "e": 6.0})
    assert not_told_apart(ranks, 1.6) == [["a", "b", "c"], ["c", "d"]]
    assert not_told_apart(ranks, 0.5) == []
    assert not_told_apart(ranks, 9) == [["a", "b", "c", "d", "e"]]
