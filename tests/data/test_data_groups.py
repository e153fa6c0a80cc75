"""Subgroups of images: they follow their images, are kept and checked, and are what they say."""

import numpy as np
import pytest

from rcm.data import cache, datasets
from rcm.data.identity import RawArrays, as_dataset
from tests.data.prepared import prepare_registered


def marks(images):
    """A subgroup that can be read off an image."""
    return (images[:, 0, 0, 0] % 2).astype(np.int64)


@pytest.fixture
def grouped(raw):
    groups = (marks(raw.train_images), marks(raw.test_images), ("even", "odd"))
    return RawArrays(*raw[:5], *groups)


def save(path, raw, **changed):
    fields = {name: np.array(value) for name, value in raw._asdict().items()} | changed
    np.savez(path, **{name: value for name, value in fields.items() if value is not None})
    return str(path)


def check(found):
    assert found.groups == ("even", "odd")
    for split in (found.train, found.test):
        assert split.group.dtype == np.int32
        np.testing.assert_array_equal(split.group, marks(split.images))


def test_subgroups_follow_their_images_into_the_cache_and_out_of_it(grouped, tmp_path):
    check(as_dataset("made", grouped))
    path = save(tmp_path / "a.npz", grouped)
    read = datasets.load(path, cache_dir=tmp_path / "cache")
    again = datasets.load(path, cache_dir=tmp_path / "cache")
    check(read)
    check(again)
    assert isinstance(again.train.images.base, np.memmap)
    assert read.fingerprint == again.fingerprint == as_dataset("other", grouped).fingerprint


def test_subgroups_are_part_of_the_identity_and_their_absence_is_not(raw, grouped):
    without, swapped = as_dataset("a", raw), grouped._replace(test_group=1 - grouped.test_group)
    renamed = grouped._replace(groups=("b", "c"))
    marks_ = [as_dataset("a", x).fingerprint for x in (grouped, swapped, renamed)]
    assert len({without.fingerprint, *marks_}) == 4
    assert without.test.group is None
    assert without.groups == ()


def test_damaged_subgroups_are_found(grouped, tmp_path):
    cache.write(tmp_path / "a", grouped)
    np.save(tmp_path / "a" / "test_group.npy", 1 - grouped.test_group)
    with pytest.raises(cache.CorruptCacheError, match=r"test_group\.npy is damaged"):
        cache.read(tmp_path / "a", "a")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"test_group": None}, "has no array test_group; a data set needs .*train_group"),
        ({"groups": None}, "has no array groups"),
        ({"groups": np.array(["x", "x"])}, "groups must have different names"),
        ({"groups": np.arange(2)}, "groups is int64 .* expected one string each"),
        ({"train_group": np.zeros(3, int)}, "train_group has shape .* one number for each of 60"),
        ({"train_group": np.full(60, 2)}, "train_group holds 2 to 2, expected 0 to 1 for 2 names"),
    ],
)
def test_malformed_subgroups_are_refused(grouped, tmp_path, changed, sentence):
    path = save(tmp_path / "a.npz", grouped, **changed)
    with pytest.raises(ValueError, match=sentence):
        datasets.load(path, cache_dir=tmp_path / "cache")


def test_coloured_digits_have_one_rare_subgroup():
    digits, coloured = datasets.load("digits"), datasets.load("digits_coloured")
    train, test = coloured.train, coloured.test
    counts = np.bincount(2 * train.labels + train.group, minlength=4)
    assert counts[3] == round(0.01 * len(train.labels)) == 12
    assert abs(int(counts[0]) - int(counts[1])) <= 1
    assert counts.sum() == len(digits.train.labels)
    assert len(test.labels) == 2 * len(digits.test.labels)
    both = np.bincount(2 * test.labels + test.group)
    np.testing.assert_array_equal(both[[0, 2]], both[[1, 3]])
    light = test.images.astype(int).sum((1, 2))
    np.testing.assert_array_equal(light[:, 2] > light[:, 0], test.group == 1)
    strongest = np.sort(test.images.max(-1).reshape(len(test.labels), -1).tolist(), 0)
    grey = np.tile(digits.test.images[..., 0].reshape(len(digits.test.labels), -1), (2, 1))
    np.testing.assert_array_equal(strongest, np.sort(grey.tolist(), 0))  # the same strokes


def test_celeba_is_hair_colour_in_subgroups_of_sex(tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(30, 220, 12)
    images = np.broadcast_to(grey[:, None, None, None], (12, 218, 178, 3)).astype(np.uint8).copy()
    images[:, :16], images[:, 200:] = 0, 255  # blocks of JPEG that are cut off
    blond, male = np.arange(12) % 3 == 0, np.arange(12) % 2 == 1
    rows = [
        {"image": image, "attributes": {"Blond_Hair": bool(hair), "Male": bool(sex)}}
        for image, hair, sex in zip(images, blond, male, strict=True)
    ]
    prepare_registered(tmp_path, "celeb_a", rows, ("train", "test"))
    found = datasets.load("celeba", str(tmp_path), tmp_path / "cache")
    assert (found.classes, found.groups) == (("other", "blond"), ("female", "male"))
    for split in (found.train, found.test):
        assert split.images.shape == (12, 64, 64, 3)
        place = [int(np.abs(grey - image.mean()).argmin()) for image in split.images]
        assert sorted(place) == list(range(12))
        assert np.ptp(split.images.reshape(12, -1), axis=1).max() <= 4  # what JPEG adds
        np.testing.assert_array_equal(split.labels, blond[place])
        np.testing.assert_array_equal(split.group, male[place])
