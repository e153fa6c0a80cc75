"""Exemplars by hand, and what must hold of nulls: chance is not taken for forgetting."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from rcm.analysis.exemplar_nulls import against, split_null, swap_null
from rcm.analysis.exemplars import (
    SEED,
    by_draw,
    by_member,
    doubt_by_member,
    excess_by_member,
    exemplars,
    farthest,
    held_out,
    jaccard,
    jaccard_by_chance,
    label_counts,
    modal,
    rates_by_member,
    taxicab,
    tied,
    votes,
)

CLASSES = 4
DENSE = np.array([[0, 1, 2, 3], [0, 1, 2, 0], [0, 2, 1, 1]], np.uint8)  # 3 members, 4 images
OTHER = np.array([[0, 2, 2, 3], [1, 2, 3, 0], [0, 2, 3, 0]], np.uint8)


def test_modal_labels_and_ties_by_hand():
    counts = label_counts(DENSE, CLASSES)
    assert counts[:, 1].tolist() == [0, 2, 1, 0]
    assert modal(counts).tolist() == [0, 1, 2, 3]  # 0, 1 and 3 once each: the largest
    assert tied(counts).tolist() == [False, False, False, True]
    others = label_counts(OTHER, CLASSES)
    assert modal(others).tolist() == [0, 2, 3, 0]
    assert exemplars(counts, others).tolist() == [False, True, True, True]
    assert taxicab(counts, others) == pytest.approx([2 / 3, 4 / 3, 4 / 3, 2 / 3])


def test_modal_is_the_last_argmax_of_any_counts():
    rng = np.random.default_rng(0)
    for most in (3, 40_000):  # the second does not fit into the narrow number
        counts = rng.integers(0, most, (7, 5, 50)).astype(np.int32)
        expected = 6 - counts[::-1].argmax(0)
        assert (modal(counts) == expected).all()
    small = rng.integers(0, 31, (100, 500)).astype(np.int16)
    assert (modal(small) == 99 - small[::-1].argmax(0)).all()


@pytest.mark.parametrize(("members", "images"), [(3, 4), (6, 200), (7, 200)])
def test_modal_labels_without_each_member_are_those_of_the_others(members, images):
    labels = np.random.default_rng(members).integers(0, CLASSES, (members, images))
    found = votes(labels, CLASSES)
    assert (found.modal == modal(label_counts(labels, CLASSES))).all()
    for i in range(members):
        others = label_counts(np.delete(labels, i, 0), CLASSES)
        assert (found.without[i] == modal(others)).all()


def test_doubt_of_exemplars_by_hand():
    doubt = np.array([0.1, 0.2, 0.4, 0.9])  # exemplars are the last three
    pair = votes(DENSE, CLASSES), votes(OTHER, CLASSES)
    assert doubt_by_member(*pair, doubt).mean() == pytest.approx(0.5 - 0.1)
    assert np.isnan(doubt_by_member(pair[0], pair[0], doubt)).all()


def test_spread_over_members_keeps_the_mean_and_the_jackknifes_variance():
    """Of a mean, the values are the observations themselves."""
    x = np.array([1.0, 4.0, 2.0, 9.0])
    without = np.array([np.delete(x, i).mean() for i in range(4)])
    assert by_member(x.mean(), without) == pytest.approx(x)


def test_drawn_populations_are_those_of_their_members():
    """Each has n members of the whole, the same places in every population of n."""
    labels = np.random.default_rng(0).integers(0, CLASSES, (6, 300))
    labels[:, 0] = 2  # all agree, and so does whoever is drawn
    found, other = votes(labels, CLASSES), votes(labels[::-1].copy(), CLASSES)
    times = np.random.default_rng([SEED, 6]).multinomial(6, [1 / 6] * 6, size=6)
    for i, drawn in enumerate(times):
        assert drawn.sum() == 6
        for one, members in ((found, labels), (other, labels[::-1])):
            counts = label_counts(np.repeat(members, drawn, axis=0), CLASSES)
            assert (one.redrawn[i] == modal(counts)).all()


def test_a_statistic_spread_over_draws_has_their_variance():
    """Of a mean of n: n draws of it vary by (n - 1) / n of what its standard error says."""
    x, n = np.random.default_rng(0).normal(size=50), 50
    drawn = np.random.default_rng(1).choice(x, (n, n)).mean(axis=1)
    values = by_draw(x.mean(), drawn)
    assert values.mean() == pytest.approx(x.mean())
    error = values.std(ddof=1) / np.sqrt(n)
    assert error == pytest.approx(drawn.std(ddof=1) * np.sqrt(n / (n - 1)))
    assert error == pytest.approx(stats.sem(x), rel=0.3)


def test_held_out_members_do_not_choose_their_exemplars():
    """Member 0 is measured on the images that members 1 and 2 make exemplars, and so on; how far
    the mean of that is from another's is what 1 and 2 are right about on the same images."""
    truth = np.array([0, 2, 2, 0])
    found = held_out(votes(DENSE, CLASSES), votes(OTHER, CLASSES), truth)
    sets = []
    for i in range(3):
        counts = (label_counts(np.delete(x, i, 0), CLASSES) for x in (DENSE, OTHER))
        sets.append(exemplars(*counts))
    for labels, values, elsewhere in (
        (OTHER, found.own, found.own_rest),
        (DENSE, found.parent, found.parent_rest),
    ):
        right = labels == truth
        for spread, images in ((values, sets), (elsewhere, [~one for one in sets])):
            own = np.mean([right[i, images[i]].mean() for i in range(3)])
            others = np.array([np.delete(right, i, 0)[:, images[i]].mean() for i in range(3)])
            assert spread == pytest.approx(own + 2 * (others.mean() - others))
    same = held_out(votes(DENSE, CLASSES), votes(DENSE, CLASSES), truth)
    assert np.isnan(same.own).all()
    assert same.parent_rest.mean() == pytest.approx((truth == DENSE).mean())


def test_the_accuracies_on_exemplars_are_as_uncertain_as_other_populations_make_them():
    """Equals' exemplars are equally hard: the interval of the difference covers 0 (it is too wide,
    and of the members' own accuracies it would be far too narrow)."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(60):
        truth, doubt = np.zeros(400, np.uint8), rng.random(400) < 0.3
        drawn = [
            votes(np.where(doubt & (rng.random((6, 400)) < 0.5), 1, 0).astype(np.uint8), 2)
            for _ in range(3)
        ]
        one, two = (held_out(drawn[0], other, truth).parent for other in drawn[1:])
        difference = one - two
        half = 2.571 * difference.std(ddof=1) / np.sqrt(6)  # t of five degrees
        covered += abs(difference.mean()) <= half
    assert covered >= 55


def test_overlap_by_hand_and_by_chance():
    one, two = np.arange(10) < 4, np.arange(10) % 2 == 0
    assert jaccard(one, two) == 2 / 7
    assert jaccard_by_chance(one, two) == pytest.approx(2 / 7)  # 4 x 5 / 10 = 2 in common
    assert np.isnan(jaccard(one & False, two & False))
    rng = np.random.default_rng(0)
    drawn = [jaccard(rng.random(4000) < 0.1, rng.random(4000) < 0.3) for _ in range(100)]
    expected = jaccard_by_chance(np.arange(4000) < 400, np.arange(4000) < 1200)
    assert np.mean(drawn) == pytest.approx(expected, rel=0.02)


def test_the_farthest_images():
    assert farthest(np.arange(200.0), 0.01).nonzero()[0].tolist() == [198, 199]


def test_images_that_are_equally_far_are_all_taken_and_no_others():
    """Of few members many are at the largest distance there is, up to the last bits of sums."""
    distance = np.zeros(500)
    distance[:20], distance[20:30] = 2.0, 1.6
    distance[:20:2] -= 2e-16
    assert farthest(distance).nonzero()[0].tolist() == list(range(20))
    assert not farthest(np.zeros(500)).any()
    rng = np.random.default_rng(0)
    one, two = (label_counts(rng.integers(0, 3, (5, 400)), 3) for _ in range(2))
    away = taxicab(one, two)
    taken = farthest(away)
    assert away[taken].min() > away[~taken].max() + 0.1  # steps are of 0.4
    assert taken.sum() >= 4


class World(NamedTuple):
    """Images with label probabilities of their own, of which members are draws."""

    cumulated: np.ndarray
    rng: np.random.Generator

    @classmethod
    def of(cls, images: int, rng: np.random.Generator) -> "World":
        return cls(rng.dirichlet(np.full(CLASSES, 0.2), images).cumsum(1), rng)

    def members(self, n: int) -> np.ndarray:
        drawn = self.rng.random((n, len(self.cumulated), 1))
        return (drawn > self.cumulated).sum(2).clip(0, CLASSES - 1).astype(np.uint8)


def rate(one, two) -> float:
    return float(exemplars(label_counts(one, CLASSES), label_counts(two, CLASSES)).mean())


@pytest.mark.parametrize("null", [split_null, swap_null])
def test_a_null_is_met_by_chance(null):
    """p is uniform between populations of one kind."""
    rng, p_values = np.random.default_rng(0), []
    for _ in range(60):
        world = World.of(150, rng)
        one, two = world.members(9), world.members(9)
        found = against(null(one, two, CLASSES), rate(one, two))
        p_values.append(found.p)
        assert found.mean < found.upper
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_what_is_planted_is_beyond_the_null_of_dense_members():
    world = World.of(2000, np.random.default_rng(0))
    again, dense, other = (world.members(8) for _ in range(3))
    splits = split_null(dense, again, CLASSES)
    assert against(splits, rate(again, dense)).p > 0.05
    other[:, ::33] = (modal(label_counts(dense, CLASSES))[::33] + 1) % CLASSES
    assert against(splits, rate(again, other)).p == 1 / 201


def test_all_of_a_small_null_by_enumeration():
    """Three pairs have eight ways to be swapped, of which two make the same division each."""
    world = World.of(40, np.random.default_rng(1))
    one, two = world.members(3), world.members(3)
    ways = [np.array([(i >> b) & 1 for b in range(3)], bool)[:, None] for i in range(8)]
    rates = [rate(np.where(way, two, one), np.where(way, one, two)) for way in ways]
    taken = swap_null(one, two, CLASSES)
    assert taken.whole
    assert sorted([*taken.rates, *taken.rates]) == sorted(rates)
    found = against(taken, rate(one, two))
    assert found.least == 1 / 4
    assert found.p == np.mean(np.array(rates) >= rate(one, two)) >= found.least
    splits = split_null(one, two, CLASSES)
    assert len(splits.rates) == 10  # of twenty ways to choose three of six, each twice
    assert set(taken.rates) <= set(splits.rates)


@pytest.mark.parametrize(("n", "least"), [(4, 1 / 8), (5, 1 / 16), (6, 1 / 32), (9, 1 / 256)])
def test_no_p_is_smaller_than_members_allow(n, least):
    """However large the effect: every image is an exemplar, by one vote, and under no other way."""
    votes_for_one = np.random.default_rng(0).random((n, 400)).argsort(0) < (n + 1) // 2
    found = against(swap_null(np.zeros_like(votes_for_one, int), votes_for_one.astype(int), 2), 1.0)
    assert found.p == found.least == least


def test_many_ways_are_drawn():
    """Rates of drawn ways are those of some way, and theirs is not among them."""
    world = World.of(40, np.random.default_rng(1))
    one, two = world.members(10), world.members(10)
    for null in (swap_null, split_null):
        drawn = null(one, two, CLASSES)
        assert len(drawn.rates) == 200
        assert not drawn.whole
        assert against(drawn, 2.0).p == against(drawn, 2.0).least == 1 / 201


def test_excess_is_zero_by_chance_and_found_when_planted():
    """The interval over members covers 0 at least as often as it says, and leaves out what 3 % of
    planted exemplars exceed."""
    rng, covered = np.random.default_rng(2), []
    for _ in range(60):
        world = World.of(300, rng)
        values = excess_by_member(*(votes(world.members(6), CLASSES) for _ in range(3)))
        covered.append(stats.ttest_1samp(values, 0).pvalue > 0.05)
    assert np.mean(covered) >= 0.95
    world = World.of(3000, rng)
    again, dense, other = (world.members(10) for _ in range(3))
    other[:, ::33] = (modal(label_counts(dense, CLASSES))[::33] + 1) % CLASSES
    values = excess_by_member(*(votes(labels, CLASSES) for labels in (again, dense, other)))
    assert values.mean() == pytest.approx(0.03 * (1 - rate(again, dense)), abs=0.01)
    assert values.mean() == pytest.approx(rate(again, other) - rate(again, dense))
    pair = votes(dense, CLASSES), votes(other, CLASSES)
    assert rates_by_member(*pair).mean() == pytest.approx(rate(dense, other))
