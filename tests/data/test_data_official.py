"""Released corrupted sets: whatever their order, read back as what they were made from."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rcm.cells import OfficialSpec, cells_of
from rcm.config import Shift
from rcm.data import cifar100_c, datasets, longtail, official
from rcm.data.identity import RawArrays, Split, as_dataset
from rcm.data.official import MARK, Release
from rcm.preparation import prepare as prepare_study
from rcm.reporting import shift_notes
from rcm.shift.corruptions import corrupt
from tests.data.prepared import prepare

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 10
IMAGES = RNG.integers(20, 200, (60, 32, 32, 3), np.uint8)
NAMES = tuple("abcdefghij")
DATA = as_dataset("cifar10", RawArrays(IMAGES, LABELS, IMAGES, LABELS, NAMES))
ORDER = RNG.permutation(60)  # of the release: not that of our test images


def made(name, severity):
    """The corrupted test images in the release's order."""
    return np.asarray(corrupt(DATA.test.images, np.arange(60), name, severity))[ORDER]


@pytest.fixture
def folder(tmp_path):
    for name in ("brightness", "contrast"):
        np.save(tmp_path / f"{name}.npy", np.concatenate([made(name, s) for s in range(1, 6)]))
    np.save(tmp_path / "labels.npy", np.tile(DATA.test.labels[ORDER], 5))
    return tmp_path


def check_aligned(release):
    np.testing.assert_array_equal(release.order, ORDER)
    shift = Shift(corruptions=("contrast",), severities=(2, 5), images=20)
    cells = cells_of(shift, DATA, np.zeros(0, int), release=release)[1:]
    assert len(shift_notes(replace(shift, official="folder"), cells)) == 1
    assert [(type(c), c.severity, len(c.ids)) for c in cells] == [
        (OfficialSpec, 2, 20), (OfficialSpec, 5, 20),
    ]  # fmt: skip
    assert len({cell.key for cell in cells}) == 2
    for cell in cells:
        expected = corrupt(DATA.test.images, np.arange(60), "contrast", cell.severity)
        np.testing.assert_array_equal(cell.batch(0)[:20], np.asarray(expected)[cell.ids])
        np.testing.assert_array_equal(cell.labels, DATA.test.labels[cell.ids])


def test_a_release_is_aligned_to_its_originals(folder):
    check_aligned(Release(str(folder), "cifar10", DATA.test))


def test_labels_may_be_given_once(folder):
    np.save(folder / "labels.npy", DATA.test.labels[ORDER])
    check_aligned(Release(str(folder), "cifar10", DATA.test))


def check_stream(release, data, name, severity, folder):
    """In batches of 7 and a rest, which nothing is cached for."""
    images, labels = release.read(name, severity)
    batches = list(official.streamed(data, name, severity, 7, str(folder)))
    assert [len(y) for _, y in batches] == [7] * (len(labels) // 7) + [len(labels) % 7]
    assert {(x.dtype, x.shape[1:], y.dtype) for x, y in batches} == {
        (np.dtype(np.uint8), (32, 32, 3), np.dtype(np.int32))
    }
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), images)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), labels)
    originals = np.asarray(release.test.labels)[release.order]
    np.testing.assert_array_equal(labels, originals)


def test_what_is_in_no_release_cannot_be_streamed(tmp_path):
    for data, name, severity, sentence in (
        ("cifra10", "fog", 1, "Unknown data with a release 'cifra10': did you mean 'cifar10'"),
        ("cifar10", "fgo", 1, "cannot open cifar10_corrupted/fgo_1"),
        ("cifar100", "fog", 6, "cannot open cifar100_corrupted/fog_6"),
        ("cifar10", "fog", 5, "no prepared copy of cifar10_corrupted"),
    ):
        with pytest.raises(ValueError, match=sentence):
            next(official.streamed(data, name, severity, 7, str(tmp_path)))


def test_cifar10_c_of_tfds_is_aligned_too(tmp_path, monkeypatch):
    for ours, theirs, severity in (
        ("brightness", "brightness", 1), ("contrast", "contrast", 2), ("contrast", "contrast", 5),
        ("glass_blur", "frosted_glass_blur", 3),
    ):  # fmt: skip
        about = {"version": "1.0.0", "variant": f"{theirs}_{severity}", "splits": ("test",)}
        images, labels = made(ours, severity), DATA.test.labels[ORDER]
        prepare(tmp_path, "cifar10_corrupted", images, labels, 10, **about)
    where = (str(tmp_path), tmp_path / "cache")
    release = Release("tfds", "cifar10", DATA.test, *where)
    check_stream(release, "cifar10", "glass_blur", 3, tmp_path)
    order = np.argsort(release.order)  # a prepared copy shuffles once more
    found = release.read("glass_blur", 3)[0][order]
    np.testing.assert_array_equal(found, made("glass_blur", 3)[np.argsort(ORDER)])
    found = release.images("contrast", 5, np.arange(60))
    np.testing.assert_array_equal(found, made("contrast", 5)[np.argsort(ORDER)])
    release.check(["contrast"], [2, 5])  # read before, or in the copy
    with pytest.raises(ValueError, match="no prepared copy of cifar10_corrupted"):
        release.check(["contrast"], [2, 3])  # before anything is trained
    shutil.rmtree(tmp_path / "cifar10_corrupted")  # from the array cache ever after
    official._from_tfds.cache_clear()
    monkeypatch.setattr(official.stream, "read_tfds", None)
    again = Release("tfds", "cifar10", DATA.test, *where)
    np.testing.assert_array_equal(again.images("contrast", 5, np.arange(60)), found)


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    """(a test set of 200 images, the folder in which TFDS finds its release, unpacked)."""
    images, labels = RNG.integers(20, 200, (200, 32, 32, 3), np.uint8), np.arange(200) % 100
    raw = RawArrays(images, labels, images, labels, tuple(map(str, range(100))))
    folder, order = tmp_path / "downloads" / "manual" / "CIFAR-100-C", RNG.permutation(200)
    folder.mkdir(parents=True)
    test = as_dataset("cifar100", raw).test
    for name in ("brightness", "fog"):
        made = [np.asarray(corrupt(test.images, np.arange(200), name, s)) for s in range(1, 6)]
        np.save(folder / f"{name}.npy", np.concatenate([x[order] for x in made]))
    np.save(folder / "labels.npy", np.tile(test.labels[order], 5))
    sums = {p.stem: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.glob("*.npy")}
    monkeypatch.setattr(cifar100_c, "IMAGES", 200)
    monkeypatch.setattr(cifar100_c, "MD5", sums)
    official._from_tfds.cache_clear()
    return test, folder


def test_cifar100_c_is_prepared_from_its_folder(cifar100, tmp_path):
    test, _ = cifar100
    release = Release("tfds", "cifar100", test, str(tmp_path), tmp_path / "cache")
    expected = np.asarray(corrupt(test.images, np.arange(200), "fog", 4))
    np.testing.assert_array_equal(release.images("fog", 4, np.arange(200)), expected)
    np.testing.assert_array_equal(release.labels(np.arange(200)), test.labels)
    check_stream(release, "cifar100", "fog", 4, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: f.rename(f.with_name("elsewhere")), "labels.npy is missing; .*3555552"),
        (lambda f: shutil.rmtree(f.parent), "Manual directory .*3555552 of zenodo.org"),
        (
            lambda f: (f / "brightness.npy").write_bytes(b"x"),
            "brightness.npy is damaged or another",
        ),
    ],
)
def test_a_release_that_cannot_be_prepared_is_one_sentence(cifar100, tmp_path, spoil, sentence):
    test, folder = cifar100
    spoil(folder)
    with pytest.raises(ValueError, match=sentence):
        Release("tfds", "cifar100", test, str(tmp_path), tmp_path / "cache")


@pytest.mark.parametrize(
    "labels", [np.arange(999), np.tile(np.arange(200) // 3, 5), np.arange(1000)]
)
def test_foreign_labels_are_refused(labels, monkeypatch):
    monkeypatch.setattr(cifar100_c, "IMAGES", 200)
    cifar100_c.check_labels(np.tile(np.arange(200) % 100, 5))
    with pytest.raises(ValueError, match="5 times the same 200 labels"):
        cifar100_c.check_labels(labels)


@pytest.fixture
def unaligned(folder):
    """A release whose mildest images are all alike."""
    dull = np.concatenate([made("brightness", s) for s in range(1, 6)])
    dull[:60] = 90
    np.save(folder / "brightness.npy", dull)
    return Release(str(folder), "cifar10", DATA.test)


def test_images_that_cannot_be_told_apart_stay_in_their_own_order(unaligned):
    assert unaligned.order is None
    ids = np.arange(7, 20)
    np.testing.assert_array_equal(unaligned.images("contrast", 4, ids), made("contrast", 4)[7:20])
    np.testing.assert_array_equal(unaligned.labels(ids), DATA.test.labels[ORDER][7:20])
    shift = Shift(corruptions=("contrast",), official=unaligned.source)
    cells = cells_of(shift, DATA, np.zeros(0, int), release=unaligned)
    assert "image by image" in shift_notes(shift, cells)[1]


def test_a_subset_of_a_release_in_its_own_order_is_stratified_by_its_own_labels(unaligned):
    shift = Shift(corruptions=("contrast",), official=unaligned.source, images=30)
    cells = cells_of(shift, DATA, np.zeros(0, int), release=unaligned)
    [cell] = [cell for cell in cells if cell.severity == 1]
    counts = np.bincount(DATA.test.labels)
    np.testing.assert_array_equal(np.bincount(cell.labels), counts * 30 // counts.sum())


def test_equal_images_are_each_others_originals():
    """Two pairs of equal images of one label: any order of them will do, but no third copy."""
    grey = np.array([10, 200, 10, 90, 200], np.uint8)
    images = np.broadcast_to(grey[:, None, None, None], (5, 8, 8, 3))
    labels = np.array([0, 0, 0, 1, 0])
    test = as_dataset("d", RawArrays(images, labels, images, labels, ("a", "b"))).test
    shuffled = np.array([3, 1, 4, 0, 2])
    order = official.alignment(test.images[shuffled] + 12, test.labels[shuffled], test)
    assert sorted(order) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(test.images[order], test.images[shuffled])
    thrice = shuffled[[0, 1, 2, 1, 2]]
    thrice[np.flatnonzero(thrice == 4)[0]] = 1
    assert official.alignment(test.images[thrice], test.labels[thrice], test) is None


def test_alignment_by_hand():
    """Brighter versions of two images of one label, the other way round."""
    images = np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in (10, 200, 90)])
    test = as_dataset(
        "d", RawArrays(images, np.array([0, 0, 1]), images, np.array([0, 0, 1]), ("a", "b"))
    ).test
    shuffled = np.array([1, 2, 0])
    order = official.alignment(test.images[shuffled] + 12, test.labels[shuffled], test)
    np.testing.assert_array_equal(order, shuffled)
    assert official.alignment(test.images[[0, 0, 2]], test.labels[[0, 0, 2]], test) is None


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "labels.npy").unlink(), "labels.npy is missing: .*zenodo"),
        (lambda f: (f / "brightness.npy").unlink(), "brightness.npy is missing: .*zenodo"),
        (lambda f: (f / "brightness.npy").write_bytes(b"x"), "brightness.npy cannot be read"),
        (lambda f: np.save(f / "labels.npy", np.zeros(60, int)), "another data set"),
        (lambda f: np.save(f / "labels.npy", np.zeros(60)), "expected whole numbers"),
        (lambda f: np.save(f / "labels.npy", np.full(60, -1)), "another data set"),
        (lambda f: (f / "contrast.npy").unlink(), "contrast.npy is missing: .*zenodo"),
        (
            lambda f: np.save(f / "contrast.npy", np.zeros((60, 16, 16, 3), np.uint8)),
            r"contrast.npy is uint8 \[60, 16, 16, 3\], expected uint8 \[300, 32, 32, 3\]",
        ),
        (
            lambda f: np.save(f / "brightness.npy", made("brightness", 1)),
            r"uint8 \[60, 32, 32, 3\], expected uint8 \[300, 32, 32, 3\]",
        ),
    ],
)
def test_an_incomplete_release_is_one_sentence(folder, spoil, sentence):
    """Also of corruptions that no image is recognised by; before anything is trained."""
    Release(str(folder), "cifar10", DATA.test).check(["contrast"], [1])
    spoil(folder)
    with pytest.raises(ValueError, match=sentence):
        Release(str(folder), "cifar10", DATA.test).check(["contrast"], [1])


def test_what_is_no_release_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"no folder .*missing of released images: .*zenodo"):
        Release(str(tmp_path / "missing"), "cifar10", DATA.test)
    with pytest.raises(ValueError, match="releases of cifar10 and cifar100 only, not of digits"):
        Release("tfds", "digits", DATA.test)


def written(data, folder, environment, *flags):
    """The folder in which the command left a release of two corruptions."""
    command = [sys.executable, "experiments/write_corrupted.py", f"--data={data}"]
    command += [f"--output={folder}", "--corruptions=brightness,gaussian_noise", *flags]
    home = {"XDG_CACHE_HOME": str(folder.parent / "cache")}
    made = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**environment, **home}
    )
    assert made.returncode == 0, made.stderr
    return folder


def check_written(folder, split, ids):
    """Read back as the images of a study; ids key their noise."""
    release, places = Release(str(folder), "toy", split), np.arange(len(ids))
    np.testing.assert_array_equal(release.order, places)
    expected = corrupt(split.images, ids, "gaussian_noise", 4)
    np.testing.assert_array_equal(release.images("gaussian_noise", 4, places), expected)
    np.testing.assert_array_equal(np.load(folder / "labels.npy"), np.tile(split.labels, 5))


def test_the_command_writes_a_release(tmp_path, toy_file, quick_environment):
    test = datasets.load(str(toy_file), cache_dir=tmp_path / "cache").test
    folder = written(toy_file, tmp_path / "c", quick_environment)
    check_written(folder, test, np.arange(len(test.labels)))


def test_what_the_command_writes_is_never_called_the_released_set(
    tmp_path, toy_file, quick_environment
):
    test = datasets.load(str(toy_file), cache_dir=tmp_path / "cache").test
    folder = written(toy_file, tmp_path / "c", quick_environment)
    shift = Shift(corruptions=("brightness",), official=str(folder))
    for marked, words in ((True, "write_corrupted.py"), (False, "those of a released set")):
        if not marked:
            (folder / MARK).unlink()
        release = Release(str(folder), "toy", test)
        assert release.regenerated == marked
        cell = OfficialSpec("brightness", 1, test.labels, np.arange(len(test.labels)), release)
        (note,) = shift_notes(shift, [cell])
        assert words in note


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--frost_dir=nowhere", "--corruptions=fog,frost"), "nowhere"),
        (("--split=train",), "holds corrupted images of other data: give another folder"),
        (("--seed=3000000000",), "seed"),
        (("--size=16",), "keeps the size that its images have"),
        (("--corruptions=",), "--corruptions is empty"),
    ],
)
def test_the_command_writes_nothing_that_it_cannot_end(
    tmp_path, toy_file, quick_environment, flags, sentence
):
    """A missing folder of frost, another data set's folder, a seed that no generator takes, a size
    that is none of photographs, and no corruptions."""
    (tmp_path / "c").mkdir()
    np.save(tmp_path / "c" / "labels.npy", np.arange(5))
    command = [sys.executable, "experiments/write_corrupted.py", f"--data={toy_file}"]
    command += [f"--output={tmp_path / 'c'}", "--corruptions=brightness", *flags]
    home = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    made = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**quick_environment, **home}
    )
    assert made.returncode != 0
    assert sentence in made.stderr + made.stdout
    assert "Traceback" not in made.stderr
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["labels.npy"]


def test_the_command_writes_the_images_a_study_trains_and_is_validated_on(
    tmp_path, toy_study, quick_environment
):
    """Those of validation are the plan's, which the seed of the data chooses; noise knows them by
    their places in the training split."""
    data = toy_study.data
    data.data_seed, data.val_per_class = 1, 4
    plan, cells = prepare_study(toy_study)
    [cell] = [cell for cell in cells if cell.shift == "clean_val"]
    flags = ("--split=validation", "--val_per_class=4", "--data_seed=1")
    folder = written(data.name, tmp_path / "v", quick_environment, *flags)
    assert (cell.ids != longtail.validation_split(plan.dataset.train.labels, 4, 0)[1]).any()
    check_written(folder, Split(cell.images, cell.labels), cell.ids)
    folder = written(data.name, tmp_path / "t", quick_environment, "--split=train")
    train = plan.dataset.train
    check_written(folder, train, np.arange(len(train.labels)))


def test_the_command_writes_of_photographs(tmp_path, quick_environment):
    for name, grey in (("cat", 40), ("dog", 180)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (50, 40), (grey, 10 * i, 0)).save(
                tmp_path / "photos" / name / f"{i}.png"
            )
    data = datasets.load(str(tmp_path / "photos"), cache_dir=tmp_path / "cache", size=16)
    folder = written(tmp_path / "photos", tmp_path / "p", quick_environment, "--size=16")
    assert np.load(folder / "brightness.npy").shape == (10, 16, 16, 3)
    check_written(folder, data.test, np.arange(2))
