"""Interquartile means and resampled images against closed forms and by simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rcm.analysis.resampling import (
    image_intervals,
    interquartile_mean,
    middle_means,
    resampled_accuracy,
)


def test_the_interquartile_mean_by_hand():
    """Of eight values the middle four; of three nothing is left out."""
    found = interquartile_mean([9.0, 1, 2, 3, 4, 5, 100, -50])
    assert found.mean == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert found.lo <= found.mean <= found.hi
    assert found.n == 8
    assert interquartile_mean([1.0, 2, 9]).mean == 4


def test_cells_of_a_seed_are_drawn_together():
    """Luck that a seed's cells share is not averaged away by having many cells."""
    luck = np.random.default_rng(0).normal(size=10)
    few, many = (interquartile_mean(np.repeat(luck[:, None], cells, axis=1)) for cells in (4, 40))
    assert many.hi - many.lo == pytest.approx(few.hi - few.lo)
    assert many.mean == pytest.approx(few.mean)


def test_missing_and_single_seeds():
    found = interquartile_mean([[1.0, 2], [np.nan, 5], [3, 4]])
    assert (found.n, found.mean) == (2, 2.5)
    one = interquartile_mean([3.0])
    assert (one.mean, one.n) == (3, 1)
    assert np.isnan([one.lo, one.hi]).all()
    assert interquartile_mean([np.nan]).n == interquartile_mean([]).n == 0


def test_an_outlier_moves_it_less_than_the_mean():
    values = np.arange(12.0)
    assert interquartile_mean([*values[:-1], 1e6]).mean == interquartile_mean(values).mean


def answers(accuracy, images=2000, seed=0):
    return np.random.default_rng(seed).random((len(accuracy), images)) < np.array(accuracy)[:, None]


def test_image_intervals_are_as_wide_as_the_binomial_ones():
    right = answers([0.7, 0.95])
    low, high = image_intervals(resampled_accuracy(right, 4000))
    p = right.mean(axis=1)
    half = 1.96 * np.sqrt(p * (1 - p) / 2000)
    np.testing.assert_allclose((high - low) / 2, half, rtol=0.06)
    assert ((low < p) & (p < high)).all()


def test_differences_are_paired_by_image():
    """With b, c images right by one member alone, the variance of the difference is that of
    McNemar's test, (b + c) / N^2 - (b - c)^2 / N^3, and equal members never differ."""
    rng = np.random.default_rng(0)
    dense = rng.random(2000) < 0.8
    child = np.where(rng.random(2000) < 0.05, ~dense, dense)
    drawn = resampled_accuracy(np.stack([dense, child, dense]), 4000)
    b, c = (dense & ~child).sum(), (child & ~dense).sum()
    expected = np.sqrt((b + c) / 2000**2 - (b - c) ** 2 / 2000**3)
    assert (drawn[:, 0] - drawn[:, 1]).std() == pytest.approx(expected, rel=0.06)
    assert (drawn[:, 0] == drawn[:, 2]).all()
    unpaired = np.hypot(drawn[:, 0].std(), drawn[:, 1].std())
    assert (drawn[:, 0] - drawn[:, 1]).std() < 0.5 * unpaired


def test_of_very_few_images_always_one_counts():
    """Without that one draw in seven of two images would be none."""
    drawn = resampled_accuracy(answers([1.0, 0.0], images=2), 1000)
    np.testing.assert_array_equal(drawn, np.tile([1.0, 0.0], (1000, 1)))


def test_weights_are_exact_whole_numbers():
    right = answers([0.5, 0.6], images=300)
    weights = np.random.default_rng(7).poisson(1.0, (50, 300))
    expected = (weights @ right.T) / weights.sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(resampled_accuracy(right, 50, seed=7), expected)


def test_the_mean_of_members_is_that_of_their_images():
    right = answers([0.5, 0.6, 0.9], images=300)
    each, mean = (resampled_accuracy(one) for one in (right, right.mean(axis=0, keepdims=True)))
    np.testing.assert_allclose(mean[:, 0], each.mean(axis=1), rtol=1e-12)


def test_resampled_intervals_cover_the_true_accuracy():
    covered = []
    for seed in range(200):
        low, high = image_intervals(resampled_accuracy(answers([0.8], 300, seed), 300, seed))
        covered.append(low[0] <= 0.8 <= high[0])
    assert stats.binomtest(sum(covered), 200, 0.95).pvalue > 1e-3


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match=r"expected \[members, images\]"):
        resampled_accuracy(np.ones(5, bool))
    with pytest.raises(ValueError, match="at least one image"):
        resampled_accuracy(np.ones((2, 0), bool))


def test_middle_means_of_a_study(make_frame):
    """Of eight seeds the middle four; a diverged member takes its own value along."""
    values = [0.1, 0.5, 0.6, 0.7, 0.8, 0.9, 0.2, 0.99]
    frame = make_frame(lambda pipeline, ratio, seed, metric: values[seed], ["dense"], [1], 8)
    (row,) = middle_means(frame).itertuples()
    assert (row.quantity, row.unit, row.n) == ("accuracy_iqm", "percent", 8)
    assert row.mean == pytest.approx(100 * (0.5 + 0.6 + 0.7 + 0.8) / 4)
    fog = [frame.assign(shift="fog", severity=s, value=frame["value"] / s) for s in (1.0, 2.0)]
    both = middle_means(pd.concat([frame, *fog])).set_index("quantity")
    cells = sorted([*values, *(v / 2 for v in values)])
    assert both.loc["corrupted_accuracy_iqm", "mean"] == pytest.approx(100 * np.mean(cells[4:12]))
    frame.loc[frame["seed"] == 0, "status"] = "diverged"
    assert middle_means(frame)["n"].tolist() == [7]
    assert middle_means(frame[:0]).empty
