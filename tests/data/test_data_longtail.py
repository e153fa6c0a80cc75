"""Long-tail counts against the published table, nesting, disjointness, random-access schedules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcm.data import longtail

CIFAR10_EXP_100 = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
LABELS = np.repeat(np.arange(10), 100).astype(np.int32)


def test_counts_equal_the_published_table():
    counts = longtail.class_counts("exp", 5000, 100, 10)
    assert counts.tolist() == CIFAR10_EXP_100
    assert counts.sum() == 12_406
    assert counts.dtype == np.int64


def test_counts_after_the_default_validation_split():
    assert longtail.class_counts("exp", 4800, 100, 10).sum() == 11_909


@pytest.mark.parametrize(("ratio", "realised"), [(1, 1), (100, 100), (200, 250)])
def test_cifar100_ratio_is_the_realised_one(ratio, realised):
    counts = longtail.class_counts("exp", 500, ratio, 100)
    assert longtail.realised_ratio(counts) == realised


@pytest.mark.parametrize("kind", ["exp", "step"])
@pytest.mark.parametrize("n_max", [5000, 4800, 500, 480, 77])
def test_smallest_class_never_loses_an_image_to_rounding(kind, n_max):
    for ratio in range(1, 78):
        counts = longtail.class_counts(kind, n_max, ratio, 10)
        assert counts.min() == n_max // ratio
        assert counts.max() == n_max


@pytest.mark.parametrize(("minority", "frequent"), [(0.2, 8), (0.5, 5), (0.8, 2)])
def test_step_counts(minority, frequent):
    counts = longtail.class_counts("step", 5000, 30, 10, minority)
    assert counts.tolist() == [5000] * frequent + [166] * (10 - frequent)


def test_order_gives_the_class_of_each_rank():
    order = longtail.class_order("permuted", 10, seed=3)
    counts = longtail.class_counts("exp", 5000, 100, 10, order=order)
    assert sorted(order.tolist()) == list(range(10))
    assert order.tolist() != list(range(10))
    assert counts[order].tolist() == CIFAR10_EXP_100
    assert longtail.class_order("id", 10, seed=3).tolist() == list(range(10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("exp", 50, 0.5, 10), "at least 1"),
        (("exp", 50, float("nan"), 10), "at least 1"),
        (("exp", 50, 51, 10), "largest possible ratio is 50"),
        (("expo", 50, 10, 10), "did you mean 'exp'"),
        (("exp", 50, 10, 1), "at least 2 classes"),
        (("step", 50, 10, 10, 0.0), "share in \\(0, 1\\)"),
        (("step", 50, 10, 10, 1.0), "share in \\(0, 1\\)"),
        (("step", 50, 10, 10, 0.01), "at least one class rare"),
    ],
)
def test_impossible_counts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        longtail.class_counts(*arguments)


def test_groups_of_ten_classes():
    expected = ["head"] * 3 + ["medium"] * 4 + ["tail"] * 3
    assert longtail.groups(np.array(CIFAR10_EXP_100), "exp").tolist() == expected
    assert longtail.groups(np.full(10, 5000), "exp").tolist() == expected


def test_groups_of_a_permuted_order_are_the_same_when_balanced():
    order = longtail.class_order("permuted", 10, seed=1)
    tailed = longtail.class_counts("exp", 500, 50, 10, order=order)
    balanced = longtail.class_counts("exp", 500, 1, 10, order=order)
    named = longtail.groups(tailed, "exp", order)
    assert named.tolist() == longtail.groups(balanced, "exp", order).tolist()
    assert named[order[0]] == "head"
    assert named[order[9]] == "tail"


def test_step_groups_follow_the_minority_share():
    tailed = longtail.class_counts("step", 500, 50, 10, 0.2)
    balanced = longtail.class_counts("step", 500, 1, 10, 0.2)
    assert longtail.groups(tailed, "step").tolist() == ["head"] * 8 + ["tail"] * 2
    assert longtail.groups(balanced, "step", minority=0.2).tolist() == ["head"] * 8 + ["tail"] * 2


def test_groups_of_other_class_numbers_are_thirds():
    assert longtail.groups(np.arange(100, 0, -1), "exp").tolist().count("medium") == 34
    assert longtail.groups(np.array([5, 1]), "exp").tolist() == ["head", "tail"]


def test_validation_is_balanced_disjoint_and_four_percent():
    pool, validation = longtail.validation_split(LABELS)
    assert np.bincount(LABELS[validation]).tolist() == [4] * 10
    assert np.array_equal(np.sort(np.concatenate([pool, validation])), np.arange(1000))
    assert pool.dtype == validation.dtype == np.int32


def test_validation_depends_on_the_seed_and_can_be_none():
    first, second = (longtail.validation_split(LABELS, 10, seed)[1] for seed in (0, 1))
    assert not np.array_equal(first, second)
    pool, validation = longtail.validation_split(LABELS, 0)
    assert len(validation) == 0
    assert len(pool) == 1000


def test_validation_of_cifar_sizes():
    for per_class, expected in ((5000, 200), (500, 20)):
        _, validation = longtail.validation_split(np.repeat(np.arange(2), per_class))
        assert len(validation) == 2 * expected


@pytest.mark.parametrize("per_class", [-1, 100, 1000])
def test_validation_must_leave_training_images(per_class):
    with pytest.raises(ValueError, match="expected 0 to 99"):
        longtail.validation_split(LABELS, per_class)


def test_absent_class_is_named():
    with pytest.raises(ValueError, match=r"classes \[1\] have no images"):
        longtail.validation_split(np.array([0, 0, 2, 2]))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**63),
    kind=st.sampled_from(["exp", "step"]),
    ratios=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_tails_are_nested_exact_and_never_validation(seed, kind, ratios):
    pool, validation = longtail.validation_split(LABELS, seed=seed)
    small, large = sorted(ratios)
    tables = []
    for ratio in (small, large):
        counts = longtail.class_counts(kind, 96, ratio, 10)
        table = longtail.tail_table(LABELS, pool, counts, seed)
        assert np.bincount(LABELS[table], minlength=10).tolist() == counts.tolist()
        assert not np.isin(table, validation).any()
        tables.append(table)
    assert np.isin(tables[1], tables[0]).all()


def test_tail_is_keyed_by_the_seed_and_by_nothing_of_other_classes():
    pool = np.arange(1000)
    counts = longtail.class_counts("exp", 100, 50, 10)
    table = longtail.tail_table(LABELS, pool, counts, 0)
    assert not np.array_equal(table, longtail.tail_table(LABELS, pool, counts, 1))
    without_class_0 = counts.copy()
    without_class_0[0] = 0
    rest = longtail.tail_table(LABELS, pool, without_class_0, 0)
    assert np.array_equal(rest, table[LABELS[table] > 0])


def test_tail_larger_than_the_pool_is_refused():
    pool, _ = longtail.validation_split(LABELS, 10)
    with pytest.raises(ValueError, match="class 0 has 90 images in the pool, 100 were asked"):
        longtail.tail_table(LABELS, pool, np.full(10, 100), 0)


def test_subset_is_stratified_sorted_fixed_and_nested():
    subset = longtail.stratified_subset(LABELS, 200)
    assert np.bincount(LABELS[subset]).tolist() == [20] * 10
    assert np.array_equal(subset, np.unique(subset))
    assert np.array_equal(subset, longtail.stratified_subset(LABELS, 200))
    assert np.isin(longtail.stratified_subset(LABELS, 50), subset).all()


def test_subset_follows_uneven_shares_and_always_has_n_images():
    labels = np.repeat(np.arange(3), [70, 20, 10])
    assert np.bincount(labels[longtail.stratified_subset(labels, 10)]).tolist() == [7, 2, 1]
    for n in range(1, 101):
        assert len(longtail.stratified_subset(labels, n)) == n


def test_subset_takes_none_of_a_class_without_images():
    labels = np.repeat([0, 2, 3], [50, 30, 20])
    assert np.bincount(labels[longtail.stratified_subset(labels, 10)]).tolist() == [5, 0, 3, 2]
    for n in range(1, 101):
        assert len(longtail.stratified_subset(labels, n)) == n


@pytest.mark.parametrize("n", [0, 1001])
def test_subset_of_an_impossible_size_is_refused(n):
    with pytest.raises(ValueError, match="expected 1 to 1000"):
        longtail.stratified_subset(LABELS, n)


@settings(max_examples=50, deadline=None)
@given(
    images=st.integers(1, 300),
    batch=st.integers(1, 128),
    start=st.integers(0, 40),
    steps=st.integers(0, 12),
)
def test_schedule_is_random_access_and_covers_each_epoch_once(images, batch, start, steps):
    table = np.arange(1000, 1000 + images, dtype=np.int32)
    whole = longtail.batch_indices(7, table, batch, 0, start + steps)
    part = longtail.batch_indices(7, table, batch, start, steps)
    assert part.shape == (steps, batch)
    assert np.array_equal(part, whole[start:])
    epochs = whole.ravel()[: whole.size // images * images].reshape(-1, images)
    assert np.array_equal(np.sort(epochs, axis=1), np.broadcast_to(table, epochs.shape))


def test_schedule_shuffles_differently_per_epoch_and_seed():
    table = np.arange(256, dtype=np.int32)
    first, second = longtail.batch_indices(0, table, 256, 0, 2)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, table)
    assert not np.array_equal(first, longtail.batch_indices(1, table, 256, 0, 1)[0])


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    batch=st.integers(1, 40),
    start=st.integers(0, 30),
    steps=st.integers(0, 12),
    begin=st.integers(0, 40),
)
def test_balanced_schedule_is_fair_to_classes_and_to_the_images_of_a_class(
    counts, batch, start, steps, begin
):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    table = np.arange(1000, 1000 + len(labels), dtype=np.int32)
    balance = longtail.Balance(labels)
    whole = longtail.batch_indices(7, table, batch, 0, start + steps, balance)
    assert whole.dtype == np.int32
    part = longtail.batch_indices(7, table, batch, start, steps, balance)
    assert np.array_equal(part, whole[start:])
    drawn = labels[whole.ravel() - 1000]
    turns = drawn[: drawn.size // len(counts) * len(counts)].reshape(-1, len(counts))
    assert np.array_equal(np.sort(turns, axis=1), np.tile(np.arange(len(counts)), (len(turns), 1)))
    for c, n in enumerate(counts):
        own = whole.ravel()[drawn == c]
        epochs = np.sort(own[: own.size // n * n].reshape(-1, n), axis=1)
        assert np.array_equal(epochs, np.tile(table[labels == c], (len(epochs), 1)))
    deferred = longtail.batch_indices(7, table, batch, start, steps, balance._replace(begin=begin))
    plain = longtail.batch_indices(7, table, batch, start, steps)
    late = np.arange(start, start + steps)[:, None] >= begin
    assert np.array_equal(deferred, np.where(late, part, plain))


def test_balanced_schedule_shuffles_differently_per_epoch_class_and_seed():
    labels = np.repeat([0, 1], 100)
    balance = longtail.Balance(labels)
    table = np.arange(200, dtype=np.int32)
    first, second = longtail.batch_indices(0, table, 200, 0, 2, balance)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first[::2], first[1::2] - 100)
    assert not np.array_equal(first, longtail.batch_indices(1, table, 200, 0, 1, balance)[0])


def test_labels_of_another_table_are_refused():
    with pytest.raises(ValueError, match="3 labels for a table of 4 images"):
        longtail.batch_indices(0, np.arange(4), 2, 0, 1, longtail.Balance(np.zeros(3, int)))


def test_permutations_are_uniform():
    """Each of 6 positions receives each value in 1/6 of 3,000 epochs; 5 sigma is 0.034."""
    draws = np.stack([longtail.permutation(5, 2, epoch, 6) for epoch in range(3000)])
    shares = (draws[:, :, None] == np.arange(6)).mean(0)
    np.testing.assert_allclose(shares, 1 / 6, atol=0.034)


def test_golden_permutation():
    """A changed number here changes every tail and schedule ever stored."""
    assert longtail.permutation(0, 0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, np.zeros(0, np.int32), 4, 0, 1), "at least one image"),
        ((0, np.arange(4), 0, 0, 1), "batch of at least 1"),
        ((0, np.arange(4), 4, -1, 1), "steps of at least 0"),
        ((-1, np.arange(4), 4, 0, 1), "seed is -1"),
    ],
)
def test_impossible_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        longtail.batch_indices(*arguments)


def test_an_epoch_has_the_balanced_sets_steps():
    assert longtail.steps_per_epoch(10, 5000, 128) == 391
    assert longtail.steps_per_epoch(10, 128, 128) == 10
