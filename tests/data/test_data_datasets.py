"""Digits, a user's own arrays, the canonical order, and what is refused."""

import numpy as np
import pytest

from rcm.data import datasets, longtail
from rcm.data.identity import RawArrays


def save_npz(path, raw, **changed):
    plain = dict(zip(RawArrays._fields, raw[:5], strict=False))
    fields = {**plain, "classes": np.array(raw.classes), **changed}
    np.savez(path, **{name: value for name, value in fields.items() if value is not None})
    return str(path)


def shuffled(raw, seed):
    rng = np.random.default_rng(seed)
    train, test = rng.permutation(60), rng.permutation(30)
    return RawArrays(
        raw.train_images[train],
        raw.train_labels[train],
        raw.test_images[test],
        raw.test_labels[test],
        raw.classes,
    )


def same(a, b):
    pairs = [(a.train, b.train), (a.test, b.test)]
    return a.fingerprint == b.fingerprint and all(
        np.array_equal(x.images, y.images) and np.array_equal(x.labels, y.labels) for x, y in pairs
    )


def test_digits_are_upsampled_bilinearly_with_half_pixel_centres():
    scipy_ndimage = pytest.importorskip("scipy.ndimage")
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load("digits")
    grey = sklearn_datasets.load_digits().images
    zoom = (1, 2, 2)
    smooth = scipy_ndimage.zoom(grey, zoom, order=1, mode="nearest", grid_mode=True) * 255 / 16
    ours = np.concatenate([digits.train.images, digits.test.images])
    assert ours.dtype == np.uint8
    assert (ours == ours[..., :1]).all()
    reference = {tuple(image.ravel()) for image in np.floor(smooth + 0.5).astype(int)}
    assert {tuple(image[..., 0].ravel().tolist()) for image in ours} == reference


def test_digits_split_is_stratified_disjoint_in_count_and_fixed():
    digits = datasets.load("digits")
    train, test = np.bincount(digits.train.labels), np.bincount(digits.test.labels)
    assert train.sum() + test.sum() == 1797
    assert (test == (train + test) // 3).all()
    assert digits.classes == tuple("0123456789")
    assert digits.fingerprint == datasets.load("digits").fingerprint
    assert digits.fingerprint.startswith("1fc893036765")


def test_digits_need_no_cache_folder(tmp_path):
    datasets.load("digits", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_canonical_order_is_by_label_then_pixels_and_keeps_duplicates(raw, tmp_path):
    data = datasets.load(save_npz(tmp_path / "a.npz", raw), cache_dir=tmp_path)
    assert data.name == "a"
    assert data.classes == raw.classes
    assert data.train.labels.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert data.train.labels.dtype == np.int32
    copies = (data.train.images == raw.train_images[5]).all((1, 2, 3))
    assert copies.sum() == 3
    assert sorted(map(bytes, data.train.images)) == sorted(map(bytes, raw.train_images))


@pytest.mark.parametrize("seed", [1, 2])
def test_order_of_the_file_changes_neither_fingerprint_nor_tail(raw, tmp_path, seed):
    one = datasets.load(save_npz(tmp_path / "one.npz", raw), cache_dir=tmp_path)
    two = datasets.load(save_npz(tmp_path / "two.npz", shuffled(raw, seed)), cache_dir=tmp_path)
    assert same(one, two)
    counts = longtail.class_counts("exp", 19, 5, 3)
    tails = []
    for data in (one, two):
        pool, _ = longtail.validation_split(data.train.labels)
        table = longtail.tail_table(data.train.labels, pool, counts, 0)
        tails.append(data.train.images[table])
    assert np.array_equal(*tails)


def test_one_changed_pixel_label_or_name_changes_the_fingerprint(raw, tmp_path):
    images, labels = raw.test_images.copy(), raw.test_labels.copy()
    images[3, 0, 0, 0] ^= 1
    labels[0] = 1
    variants = [{}, {"test_images": images}, {"test_labels": labels}]
    variants.append({"classes": np.array(["ant", "bee", "cow"])})
    paths = [save_npz(tmp_path / f"{i}.npz", raw, **v) for i, v in enumerate(variants)]
    assert len({datasets.load(path, cache_dir=tmp_path).fingerprint for path in paths}) == 4


def test_folder_of_arrays_equals_the_npz(raw, tmp_path):
    folder = tmp_path / "arrays"
    folder.mkdir()
    for name, value in list(raw._asdict().items())[:5]:
        np.save(folder / f"{name}.npy", np.array(value))
    one = datasets.load(str(folder), cache_dir=tmp_path / "cache")
    assert same(one, datasets.load(save_npz(tmp_path / "a.npz", raw), cache_dir=tmp_path / "cache"))


def test_changed_file_is_read_anew(raw, tmp_path):
    path = save_npz(tmp_path / "a.npz", raw)
    before = datasets.load(path, cache_dir=tmp_path)
    save_npz(path, raw, classes=np.array(["x", "y", "z"]))
    after = datasets.load(path, cache_dir=tmp_path)
    assert after.classes == ("x", "y", "z")
    assert after.fingerprint != before.fingerprint


def floats_with_nan(raw):
    images = raw.train_images.astype(np.float32)
    images[0, 0, 0, 0] = np.nan
    return {"train_images": images}


MALFORMED = {
    "float32 with NaN, expected uint8": floats_with_nan,
    r"test_images has shape \(30, 8, 8\)": lambda raw: {"test_images": raw.test_images[..., 0]},
    r"train_images has shape \(0, 8, 8, 3\)": lambda raw: {"train_images": raw.train_images[:0]},
    "bring both to one size": lambda raw: {"test_images": raw.test_images[:, :4]},
    "one number for each of 60": lambda raw: {"train_labels": raw.train_labels[:-1]},
    "train_labels is float64": lambda raw: {"train_labels": raw.train_labels / 2},
    "holds -1 to 1, expected 0 to 2": lambda raw: {"test_labels": raw.test_labels - 1},
    "holds 1 to 3, expected 0 to 2": lambda raw: {"test_labels": raw.test_labels + 1},
    "two different names": lambda raw: {"classes": np.array(["ant", "bee", "ant"])},
    "expected one string each": lambda raw: {"classes": np.arange(3)},
    "has no array train_labels": lambda raw: {"train_labels": None},
    "holds pickled": lambda raw: {"train_labels": np.array([{}] * 60)},
}


@pytest.mark.parametrize("message", list(MALFORMED))
def test_malformed_arrays_are_refused(raw, tmp_path, message):
    path = save_npz(tmp_path / "bad.npz", raw, **MALFORMED[message](raw))
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load(path, cache_dir=tmp_path / "cache")
    assert "bad.npz" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_truncated_files_are_refused(raw, tmp_path):
    path = tmp_path / "a.npz"
    save_npz(path, raw)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"a\.npz: cannot read .*damaged"):
        datasets.load(str(path), cache_dir=tmp_path)
    folder = tmp_path / "arrays"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"train_images\.npy does not exist"):
        datasets.load(str(folder), cache_dir=tmp_path)
    np.save(folder / "train_images.npy", raw.train_images)
    (folder / "train_images.npy").write_bytes((folder / "train_images.npy").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train_images\.npy: cannot read"):
        datasets.load(str(folder), cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["cifar1O", "no/such/file.npz", "launch.txt"])
def test_unknown_names_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="unknown data set") as caught:
        datasets.load(name, cache_dir=tmp_path)
    assert ("did you mean cifar10?" in str(caught.value)) == (name == "cifar1O")
