"""Other domains: class maps by hand, sizes, embedded changes, photographs in folders, bad input."""

import bz2
import os

import numpy as np
import pytest
from PIL import Image

from rcm import config, foreign
from rcm.cells import DomainSpec
from rcm.data import datasets, domains, tree
from rcm.data.datasets import CIFAR10_CLASSES, STL10_CLASSES
from rcm.data.identity import RawArrays, as_dataset
from rcm.reporting import shift_notes
from tests.data.prepared import prepare
from tests.hostile.making import POSTSCRIPT, png

RNG = np.random.default_rng(0)


def source_of(classes, size=32, each=10):
    labels = np.repeat(np.arange(len(classes)), each)
    images = RNG.integers(0, 256, (len(labels), size, size, 3), np.uint8)
    return as_dataset("source", RawArrays(images, labels, images, labels, tuple(classes)))


CIFAR10 = source_of(CIFAR10_CLASSES)


def test_stl10_shares_nine_classes_with_cifar10():
    places = domains.class_places("stl10", STL10_CLASSES, CIFAR10_CLASSES, strict=False)
    assert places.tolist() == [0, 2, 1, 3, 4, 5, 7, -1, 8, 9]  # 2nd bird, 3rd car, 8th monkey


def test_stl10_is_averaged_to_the_size_of_cifar10_without_its_monkeys(tmp_path):
    images = RNG.integers(0, 256, (40, 96, 96, 3), np.uint8)
    labels = np.arange(40) % 10
    prepare(tmp_path, "stl10", images, labels, 10, version="1.0.0")
    found = domains.load("stl10", CIFAR10, str(tmp_path), tmp_path / "cache")
    assert found.notes == (
        "The domain stl10 has no images of frog.",
        "Of the domain stl10 images of monkey are left out.",
    )
    assert found.images.shape == (18, 32, 32, 3)
    assert 6 not in found.labels  # frogs, which STL-10 does not have
    tested = images[20:][labels[20:] != 7]
    means = tested.reshape(18, 32, 3, 32, 3, 3).mean(axis=(2, 4))
    places = np.array([0, 2, 1, 3, 4, 5, 7, -1, 8, 9])[labels[20:][labels[20:] != 7]]
    for image, label in zip(found.images, found.labels, strict=True):
        away = np.abs(means - image).max(axis=(1, 2, 3))
        assert away.min() <= 1  # both ways are rounded
        assert places[away.argmin()] == label


def test_digits_of_other_writers_come_without_a_download(tmp_path):
    data = datasets.load("mnist_5k", cache_dir=tmp_path / "cache")
    assert np.bincount(data.train.labels).tolist() == [400] * 10
    means = [data.train.images[data.train.labels == digit].mean(0) for digit in range(10)]
    away = [np.square(data.test.images - mean).sum((1, 2, 3)) for mean in means]
    right = np.argmin(away, axis=0) == data.test.labels
    assert right.mean() > 0.75  # a label is its picture's
    source = datasets.load("digits")
    found = domains.load("mnist_5k", source, cache_dir=tmp_path / "cache")
    assert found.images.shape == (1000, *source.test.images.shape[1:])
    assert np.bincount(found.labels).tolist() == [100] * 10


@pytest.mark.parametrize("edition", ["v4", "v6"])
def test_cifar10_1_is_one_test_split_with_cifar10s_classes(tmp_path, edition):
    images = RNG.integers(0, 256, (20, 32, 32, 3), np.uint8)
    labels = np.arange(20) % 10
    about = {"version": "1.1.0", "variant": edition, "splits": ("test",)}
    prepare(tmp_path, "cifar10_1", images, labels, 10, **about)
    found = domains.load(f"cifar10_1_{edition}", CIFAR10, str(tmp_path), tmp_path / "cache")
    pairs = {(x.tobytes(), y) for x, y in zip(found.images, found.labels, strict=True)}
    assert pairs == {(x.tobytes(), y) for x, y in zip(images, labels, strict=True)}


@pytest.mark.parametrize(
    ("name", "theirs", "version", "shape"),
    [
        ("mnist", "mnist", "3.0.1", (28, 28, 1)),
        ("svhn", "svhn_cropped", "3.1.0", (32, 32, 3)),
    ],
)
def test_larger_digits_become_as_small_as_ours(tmp_path, name, theirs, version, shape):
    """Of a digit d in brightness 20 d; the domain is their test split."""
    labels = np.arange(20) % 10
    images = np.tile(20 * labels.astype(np.uint8)[:, None, None, None], (1, *shape))
    images[..., 0] += 1 if shape[2] == 3 else 0
    images[10:, 0] = 255  # upper rows, in the half that tests
    prepare(tmp_path, theirs, images, labels, 10, version=version)
    found = domains.load(name, datasets.load("digits"), str(tmp_path), tmp_path / "cache")
    assert found.images.shape == (10, 16, 16, 3)
    assert (found.images[:, 0].min((1, 2)) > found.images[:, 8].max((1, 2))).all()
    np.testing.assert_array_equal(found.images[:, 8, 8, 1], 20 * found.labels)
    red = found.images[:, 8, 8, 0].astype(int) - found.images[:, 8, 8, 2]
    assert (red == (shape[2] == 3)).all()  # grey ones have three equal channels
    assert sorted(found.labels) == list(range(10))


def usps_lines(labels):
    """A digit's image is paper with one pixel of ink, in the row and column of its number."""
    for label in labels:
        values = np.full((16, 16), -1.0)
        values[label - 1, label - 1], values[15, 0] = 1, 0.2
        yield " ".join([str(label), *(f"{i}:{v:g}" for i, v in enumerate(values.flat, 1))])


@pytest.fixture
def usps(tmp_path):
    """The folder in which its two files lie: ten digits to train on, twenty to test on."""
    folder = tmp_path / "downloads" / "manual" / "usps"
    folder.mkdir(parents=True)
    for name, times in (("usps.bz2", 1), ("usps.t.bz2", 2)):
        text = "\n".join(usps_lines(list(range(1, 11)) * times)) + "\n"
        (folder / name).write_bytes(bz2.compress(text.encode()))
    return folder


def test_usps_is_read_from_libsvms_files(usps, tmp_path):
    """Label 1 is the digit 0 and label 10 the digit 9; -1 is black, 0.2 is 153 of 255."""
    found = domains.load("usps", datasets.load("digits"), str(tmp_path), tmp_path / "cache")
    assert found.images.shape == (20, 16, 16, 3)
    assert sorted(found.labels) == sorted(list(range(10)) * 2)
    for image, label in zip(found.images, found.labels, strict=True):
        expected = np.zeros((16, 16), np.uint8)
        expected[label, label], expected[15, 0] = 255, 153
        np.testing.assert_array_equal(image, np.repeat(expected[..., None], 3, -1))
    assert len(datasets.load("usps", str(tmp_path), tmp_path / "cache").train.labels) == 10


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no such file"),
        (b"no archive", "Invalid data stream"),
        (bz2.compress(b"1 1:-1 2:x\n"), "could not convert|convert string"),
        (bz2.compress(b""), "whole numbers from 1 to 10"),
        (bz2.compress(b"0 1:-1\n"), "whole numbers from 1 to 10"),
        (bz2.compress(b"11 1:-1\n"), "whole numbers from 1 to 10"),
        (bz2.compress(b"1 1:2\n"), "between -1 and 1"),
        (bz2.compress(b"1 1:nan\n"), "between -1 and 1"),
        (bz2.compress(b"1 257:1\n"), "n_features was set to 256"),
        (bz2.compress(bytes(2**16 + 1)), "unpacks to more than 65,536 bytes"),
    ],
)
def test_a_missing_or_other_file_of_usps_says_where_to_get_it(
    usps, tmp_path, content, sentence, monkeypatch
):
    monkeypatch.setattr(foreign, "LARGEST_TEXT", 2**16)
    (usps / "usps.t.bz2").unlink()
    if content is not None:
        (usps / "usps.t.bz2").write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        domains.load("usps", datasets.load("digits"), str(tmp_path), tmp_path / "cache")
    assert f"{usps}/usps.t.bz2 cannot be read" in str(caught.value)
    assert "download usps.bz2 and usps.t.bz2 from" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", domains.EMBEDDED)
def test_embedded_domains_change_images_and_no_label(name):
    digits = datasets.load("digits")
    found, again = domains.load(name, digits), domains.load(name, digits)
    assert found.digest == again.digest
    np.testing.assert_array_equal(found.labels, digits.test.labels)
    assert found.images.shape == digits.test.images.shape
    assert found.images.dtype == np.uint8
    changed = (found.images != digits.test.images).any(axis=(1, 2, 3))
    assert changed.mean() > 0.99


def test_embedded_changes_by_hand():
    dot = np.zeros((4, 9, 9, 3), np.uint8)
    dot[:, 4, 4] = 200
    np.testing.assert_array_equal(domains.thickened(dot)[:, 3:6, 3:6], 200)
    assert domains.thickened(dot).sum() == 9 * dot.sum()
    for changed in (domains.rotated(dot), domains.slanted(dot)):  # about the middle, which stays
        np.testing.assert_array_equal(changed[:, 4, 4], 200)
    bar = np.zeros((1, 9, 9, 3), np.uint8)
    bar[:, :, 4] = 200
    upper, lower = (domains.slanted(bar)[0, row, :, 0].argmax() for row in (1, 7))
    assert (upper, lower) == (5, 3)  # sheared by 0.3: 3 rows up, 0.9 columns to the right
    inverted = domains.inverted(dot).astype(int)
    assert inverted[:, 4, 4].max() < 100 < np.median(inverted)


@pytest.fixture
def photographs(tmp_path):
    """The folder of two classes, six photographs each, of several sizes and kinds."""
    for c, name in enumerate(("cat", "dog")):
        folder = tmp_path / "webcam" / "images" / name
        folder.mkdir(parents=True)
        for i in range(6):
            image = Image.new("RGB", (40 + 8 * i, 64), (100 * c + 10 * i, 50, 0))
            image.save(folder / f"frame_{i}.{('jpg', 'png')[i % 2]}", quality=95)
    return tmp_path / "webcam"


def test_a_folder_of_photographs_is_a_data_set_and_a_domain(photographs, tmp_path):
    data = datasets.load(str(photographs), cache_dir=tmp_path / "cache", size=16)
    assert data.classes == ("cat", "dog")
    assert data.train.images.shape == (10, 16, 16, 3)
    assert data.test.labels.tolist() == [0, 1]  # every fifth of a class
    reds = np.sort(np.concatenate([data.train.images, data.test.images])[:, 8, 8, 0])
    expected = [100 * c + 10 * i for c in range(2) for i in range(6)]
    np.testing.assert_allclose(reds, expected, atol=3)
    found = domains.load(str(photographs), CIFAR10, "", tmp_path / "cache", size=16)
    assert found.images.shape == (12, 32, 32, 3)
    assert sorted(set(found.labels)) == [3, 5]


def test_a_changed_photograph_is_other_data(photographs, tmp_path):
    before = datasets.load(str(photographs), cache_dir=tmp_path / "cache")
    Image.new("RGB", (50, 50), (1, 2, 3)).save(photographs / "images" / "cat" / "frame_0.jpg")
    after = datasets.load(str(photographs), cache_dir=tmp_path / "cache")
    assert before.fingerprint != after.fingerprint


def test_unreadable_photographs_are_named_and_skipped_only_when_asked(photographs, tmp_path):
    (photographs / "images" / "dog" / "broken.png").write_bytes(b"no picture")
    load = {"name": str(photographs), "cache_dir": tmp_path / "cache"}
    with pytest.raises(ValueError, match=r"1 of 13 photographs .* first dog/broken.png: mend"):
        datasets.load(**load)
    for _ in range(2):  # read, and from the array cache
        data = datasets.load(**load, skip_unreadable=True)
        assert len(data.train.labels) + len(data.test.labels) == 12
        assert data.notes == ("1 of 13 photographs of webcam cannot be read and are left out.",)
    with pytest.raises(ValueError, match=r"1 of 13 photographs"):
        datasets.load(**load)


def test_a_domain_tells_of_its_photographs_that_are_left_out(photographs, tmp_path):
    (photographs / "images" / "dog" / "broken.png").write_bytes(b"no picture")
    kept = {"cache_dir": tmp_path / "cache", "size": 32}
    pair = np.zeros((2, 32, 32, 3), np.uint8), np.arange(2)
    source = as_dataset("s", RawArrays(*pair, *pair, ("cat", "dog")))
    assert not domains.load("digits", datasets.load("digits"), **kept).notes
    found = domains.load(str(photographs), source, skip_unreadable=True, **kept)
    assert found.notes == ("1 of 13 photographs of webcam cannot be read and are left out.",)
    assert shift_notes(config.Shift(), [DomainSpec(*found)]) == list(found.notes)


def test_hostile_photographs_are_unreadable_and_not_waited_for(photographs, tmp_path):
    """A pipe, a picture of 3,600 megapixels, PostScript, and names that are not UTF-8."""
    dogs = photographs / "images" / "dog"
    sound = datasets.load(str(photographs), cache_dir=tmp_path / "cache")
    os.mkfifo(dogs / "pipe.jpg")
    (dogs / "giant.png").write_bytes(png(60_000, 60_000))
    (dogs / "script.png").write_bytes(POSTSCRIPT)
    (dogs / os.fsdecode(b"\xff\x1b[2J.png")).write_bytes(b"no picture")
    load = {"name": str(photographs), "cache_dir": tmp_path / "cache"}
    with pytest.raises(
        ValueError, match=r"4 of 16 photographs .* first dog/giant.png, dog/pipe.jpg"
    ):
        datasets.load(**load)
    data = datasets.load(**load, skip_unreadable=True)
    assert data.fingerprint == sound.fingerprint
    dogs.rename(dogs.with_name("dog\x1b[2J"))
    with pytest.raises(ValueError, match=r"the folder of the class 'dog\\x1b\[2J' holds letters"):
        datasets.load(**load, skip_unreadable=True)


def test_a_class_with_few_photographs_is_named(photographs, tmp_path):
    for file in sorted((photographs / "images" / "cat").iterdir())[:3]:
        file.unlink()
    assert tree.is_tree(photographs)
    with pytest.raises(ValueError, match="cat has 3 photographs, expected at least 5"):
        datasets.load(str(photographs), cache_dir=tmp_path / "cache")


def test_an_empty_folder_is_a_class_without_photographs_and_a_hidden_one_none(
    photographs, tmp_path
):
    """Found although the other photographs are in the array cache already."""
    load = {"name": str(photographs), "cache_dir": tmp_path / "cache"}
    sound = datasets.load(**load)
    hidden = photographs / "images" / ".thumbnails"
    hidden.mkdir()
    Image.new("RGB", (50, 50)).save(hidden / "frame_0.jpg")
    assert datasets.load(**load).fingerprint == sound.fingerprint
    (photographs / "images" / "eel").mkdir()
    with pytest.raises(ValueError, match=r"eel has 0 photographs.* add some or remove the folder"):
        datasets.load(**load)


def test_a_domain_may_have_one_photograph_of_a_class(photographs, tmp_path):
    """Nobody trains on it; only a class none of whose photographs can be read is refused."""
    cats = sorted((photographs / "images" / "cat").iterdir())
    for file in cats[1:]:
        file.unlink()
    found = domains.load(str(photographs), CIFAR10, "", tmp_path / "cache")
    assert np.bincount(found.labels).tolist() == [0, 0, 0, 1, 0, 6]
    cats[0].write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cat has 0 photographs, expected at least 1"):
        domains.load(str(photographs), CIFAR10, "", tmp_path / "cache", skip_unreadable=True)


def test_foreign_classes_of_a_folder_are_listed(photographs, tmp_path):
    with pytest.raises(ValueError, match="lacks: cat, dog; expected some of ant, bee"):
        domains.load(str(photographs), source_of(("ant", "bee")), "", tmp_path / "cache")


def test_nothing_in_common_is_an_error_for_named_domains_too(tmp_path):
    with pytest.raises(ValueError, match="'digits' has classes that"):
        domains.load("digits", source_of(("ant", "bee")), "", tmp_path / "cache")


def test_an_unknown_domain_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Unknown domain 'stl-10': did you mean 'stl10'"):
        domains.load("stl-10", CIFAR10)
