"""People's labels stand beside the images that they belong to, whatever the copy's order."""

import numpy as np
import pytest

from rcm.data import human
from rcm.data.identity import RawArrays, as_dataset
from tests.data.prepared import prepare_registered

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 32, 32, 3), np.uint8)
LABELS = np.arange(30) % 10
DATA = as_dataset("cifar10", RawArrays(IMAGES, LABELS, IMAGES, LABELS, tuple("abcdefghij")))


def marks(images):
    """A number that belongs to an image: its first pixel."""
    return images[:, 0, 0, 0].astype(np.int64)


def test_shares_of_answers_are_joined_to_the_test_images(tmp_path):
    shares = np.eye(10, dtype=np.float32)[marks(IMAGES) % 10] * 3
    rows = [{"image": x, "soft_label": share} for x, share in zip(IMAGES, shares, strict=True)]
    prepare_registered(tmp_path, "cifar10_h", rows, ("test",))
    found = human.label_shares(DATA.test, str(tmp_path))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.eye(10)[marks(DATA.test.images) % 10])
    foreign = as_dataset("d", RawArrays(*[255 - IMAGES, LABELS] * 2, tuple("abcdefghij"))).test
    with pytest.raises(ValueError, match="30 of 30 images are not among"):
        human.label_shares(foreign, str(tmp_path))


def test_shares_that_are_none_are_refused(tmp_path):
    for wrong in (-0.5, np.nan, 0.0):
        shares = np.full((30, 10), wrong, np.float32)
        rows = [{"image": x, "soft_label": share} for x, share in zip(IMAGES, shares, strict=True)]
        folder = tmp_path / str(wrong)
        prepare_registered(folder, "cifar10_h", rows, ("test",))
        with pytest.raises(ValueError, match="cifar10_h holds shares that are none"):
            human.label_shares(DATA.test, str(folder))


def test_noisy_labels_are_joined_to_the_training_images(tmp_path):
    rows = [{"image": x, "worse_label": int(marks(x[None])[0] % 10)} for x in IMAGES]
    prepare_registered(tmp_path, "cifar10_n", rows, ("train",))
    found = human.noisy_labels(DATA.train, data_dir=str(tmp_path))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, marks(DATA.train.images) % 10)
    others = as_dataset("d", RawArrays(*[IMAGES, LABELS % 9] * 2, tuple("abcdefghi"))).train
    with pytest.raises(ValueError, match="worse_label of cifar10_n holds labels that are none"):
        human.noisy_labels(others, data_dir=str(tmp_path))
    few = as_dataset("d", RawArrays(*[IMAGES[:20], LABELS[:20]] * 2, tuple("abcdefghij"))).train
    with pytest.raises(ValueError, match="30 images in train and the data set 20"):
        human.noisy_labels(few, data_dir=str(tmp_path))


def test_only_a_prepared_copy_counts_as_answered(tmp_path, monkeypatch):
    """Not an empty folder, nor what a stopped preparation left; without a folder given it is where
    TensorFlow Datasets looks."""
    (tmp_path / "cifar10_h" / "1.0.0.incompleteABC").mkdir(parents=True)
    (tmp_path / "cifar10_h" / "1.0.0.incompleteABC" / "dataset_info.json").write_text("{}")
    assert not human.answered("cifar10_h", "cifar10", str(tmp_path))
    rows = [{"image": x, "soft_label": np.ones(10, np.float32)} for x in IMAGES]
    home = tmp_path / "home" / "tensorflow_datasets"
    for folder in (tmp_path, home):
        prepare_registered(folder, "cifar10_h", rows, ("test",))
    assert human.answered("cifar10_h", "cifar10", str(tmp_path))
    assert not human.answered("cifar10_h", "digits", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert human.answered("cifar10_h", "cifar10")
    assert not human.answered("cifar10_n", "cifar10")


def test_what_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="kind is 'best', expected one of worse_label"):
        human.noisy_labels(DATA.train, "best")
    with pytest.raises(ValueError, match="no prepared copy of cifar10_h"):
        human.label_shares(DATA.test, str(tmp_path))
