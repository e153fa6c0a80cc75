"""Planted labels: how many are wrong, which, and the same ones in every tail."""

import numpy as np
import pytest

from rcm.data import longtail, wrong_labels

CLASSES, EACH = 10, 400
LABELS = np.repeat(np.arange(CLASSES, dtype=np.int32), EACH)
POOL, VALIDATION = longtail.validation_split(LABELS, 20, seed=3)


def tail(ratio, seed=3):
    counts = longtail.class_counts("exp", 380, ratio, CLASSES)
    return longtail.tail_table(LABELS, POOL, counts, seed), counts


@pytest.mark.parametrize("share", [0.05, 0.1, 0.37, 0.5, 0.93])
@pytest.mark.parametrize("ratio", [1, 10, 100])
def test_every_class_of_every_tail_has_the_share(share, ratio):
    given = wrong_labels.plant(LABELS, POOL, share, seed=3)
    table, counts = tail(ratio)
    wrong = np.bincount(LABELS[table][given[table] != LABELS[table]], minlength=CLASSES)
    assert wrong.tolist() == np.floor(counts * share + 0.5).astype(int).tolist()
    assert given.dtype == np.int32
    assert given.min() >= 0
    assert given.max() < CLASSES


def test_what_is_not_trained_on_keeps_its_label():
    given = wrong_labels.plant(LABELS, POOL, 0.5, seed=3)
    assert np.array_equal(given[VALIDATION], LABELS[VALIDATION])
    assert np.array_equal(wrong_labels.plant(LABELS, POOL, 0.0, seed=3), LABELS)


def test_an_image_is_wrong_in_all_tails_or_in_none():
    """Also where a study has but the largest ratio."""
    whole = wrong_labels.plant(LABELS, tail(1)[0], 0.2, seed=3)
    small, _ = tail(100)
    assert np.array_equal(wrong_labels.plant(LABELS, small, 0.2, seed=3)[small], whole[small])


def test_wrong_labels_are_any_of_the_other_classes_alike():
    """Each of the 90 pairs of classes takes about 1/9 of the 361 wrong labels of its class."""
    given = wrong_labels.plant(LABELS, POOL, 0.95, seed=3)
    pairs = np.zeros((CLASSES, CLASSES), int)
    np.add.at(pairs, (LABELS, given), 1)
    others = pairs[~np.eye(CLASSES, dtype=bool)]
    assert others.min() > 361 / 9 - 4 * np.sqrt(361 / 9)
    assert others.max() < 361 / 9 + 4 * np.sqrt(361 / 9)


def test_which_labels_are_wrong_is_keyed_by_the_seed():
    one, again, other = (wrong_labels.plant(LABELS, POOL, 0.2, seed) for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert np.count_nonzero(one != other) > 500  # of about 1,520 that are wrong in either


def test_half_of_the_tested_images_are_wrongly_labelled_where_there_are_as_many():
    given, table = wrong_labels.plant(LABELS, POOL, 0.2, seed=3), tail(1)[0]
    found = wrong_labels.tested(table, LABELS, given, 400, seed=0)
    wrong = given[found] != LABELS[found]
    assert found.dtype == np.int32
    assert np.all(np.diff(found) > 0)
    assert np.isin(found, table).all()
    for group in (wrong, ~wrong):
        assert np.bincount(LABELS[found][group]).tolist() == [20] * CLASSES


def test_all_wrongly_labelled_images_are_tested_where_they_are_fewer():
    given, table = wrong_labels.plant(LABELS, POOL, 0.05, seed=3), tail(10)[0]
    found = wrong_labels.tested(table, LABELS, given, 500, seed=0)
    every = table[given[table] != LABELS[table]]
    assert len(found) == 500
    assert np.isin(every, found).all()
    assert np.array_equal(wrong_labels.tested(table, LABELS, given, 10**6, seed=0), table)


def test_classes_without_a_rightly_or_wrongly_labelled_image_are_no_matter():
    """Of a single image of a class, half is one: it is wrong, and the class has no other."""
    table, _ = tail(100)
    given = wrong_labels.plant(LABELS, POOL, 0.9, seed=3)
    rare = table[LABELS[table] == CLASSES - 1]
    assert (given[rare] != LABELS[rare]).all()
    found = wrong_labels.tested(table, LABELS, given, len(table) - 5, seed=0)
    assert len(found) == len(table) - 5
