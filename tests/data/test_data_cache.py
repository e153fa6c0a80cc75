"""The array cache: mapped, shared by machines without TensorFlow, and rebuilt when damaged."""

import copy
import errno
import logging
import subprocess
import sys

import numpy as np
import pytest

from rcm.data import cache, datasets
from rcm.data.identity import ARRAYS, RawArrays


def same(a, b):
    pairs = [(a.train, b.train), (a.test, b.test)]
    return a.fingerprint == b.fingerprint and all(
        np.array_equal(x.images, y.images) and np.array_equal(x.labels, y.labels) for x, y in pairs
    )


def reversed_order(raw):
    return RawArrays(*(array[::-1] for array in raw[:4]), raw.classes)


@pytest.fixture
def cached(raw, tmp_path, monkeypatch):
    """A named data set read from `raw`, its cache folder, and the list of reads that happened."""
    reads = []

    def read(data_dir):
        reads.append(data_dir)
        return raw

    monkeypatch.setitem(datasets.DATASETS, "toy", datasets.Source(read))
    # A copy in memory: the tests below damage the files that the loaded arrays are mapped from.
    first = copy.deepcopy(datasets.load("toy", cache_dir=tmp_path))
    return first, tmp_path / "toy", reads


def test_cache_is_memory_mapped_and_read_once(cached):
    first, folder, reads = cached
    again = datasets.load("toy", data_dir="elsewhere", cache_dir=folder.parent)
    assert same(first, again)
    assert reads == [""]
    assert isinstance(again.train.images.base, np.memmap)
    assert not again.train.images.flags.writeable


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = {
    "truncated": ("train_images.npy", lambda p: p.write_bytes(p.read_bytes()[:-1])),
    "flipped bit": ("test_images.npy", flip_a_byte),
    "wrong shape": ("train_images.npy", lambda p: np.save(p, np.zeros((60, 4, 4, 3), np.uint8))),
    "wrong dtype": ("test_labels.npy", lambda p: np.save(p, np.zeros(30))),
    "missing": ("train_labels.npy", lambda p: p.unlink()),
    "empty meta": ("meta.json", lambda p: p.write_text("")),
    "foreign meta": ("meta.json", lambda p: p.write_text('{"format": 99}')),
    "meta without arrays": (
        "meta.json",
        lambda p: p.write_text('{"format": 1, "fingerprint": "", "classes": [], "arrays": {}}'),
    ),
    "edited names": ("meta.json", lambda p: p.write_text(p.read_text().replace("ant", "elk"))),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damaged_cache_is_named_and_rebuilt(cached, damage, caplog):
    first, folder, reads = cached
    file, harm = DAMAGES[damage]
    harm(folder / file)
    with caplog.at_level(logging.WARNING):
        again = datasets.load("toy", cache_dir=folder.parent)
    assert str(folder / file) in caplog.text
    assert same(first, again)
    assert len(reads) == 2
    assert sorted(p.name for p in folder.parent.iterdir()) == ["toy"]


def test_damaged_cache_without_its_source_is_refused(cached, monkeypatch):
    _, folder, _ = cached
    (folder / "meta.json").unlink()

    def gone(data_dir):
        raise ValueError("no prepared copy")

    monkeypatch.setitem(datasets.DATASETS, "toy", datasets.Source(gone))
    with pytest.raises(ValueError, match=r"meta\.json .* cannot be rebuilt: no prepared copy"):
        datasets.load("toy", cache_dir=folder.parent)


def test_full_disk_leaves_nothing_behind(raw, tmp_path, monkeypatch):
    save = np.save

    def full(path, array, **options):
        if path.name == "test_images.npy":
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, array, **options)

    monkeypatch.setitem(datasets.DATASETS, "toy", datasets.Source(lambda data_dir: raw))
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ValueError, match=r"cannot write the array cache .*No space left"):
        datasets.load("toy", cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_cache_folder_is_named(raw, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setitem(datasets.DATASETS, "toy", datasets.Source(lambda data_dir: raw))
    with pytest.raises(ValueError, match=r"cannot write the array cache .*XDG_CACHE_HOME"):
        datasets.load("toy", cache_dir=tmp_path / "file" / "cache")


def test_two_writers_leave_one_sound_cache(cached, raw):
    """The second of two processes that both found no cache puts the same pixels in place."""
    first, folder, _ = cached
    cache.write(folder, datasets.canonical(reversed_order(raw)))
    assert same(first, datasets.load("toy", cache_dir=folder.parent))
    assert [p.name for p in folder.parent.iterdir()] == ["toy"]


def test_default_cache_is_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / "rcm" / "arrays"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / ".cache" / "rcm" / "arrays"


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None
from rcm.data import datasets
print(datasets.load("cifar10", cache_dir=sys.argv[1]).fingerprint)
print(datasets.load("digits").fingerprint)
try:
    datasets.load("cifar100", cache_dir=sys.argv[1])
except ValueError as error:
    print(error)
"""


def test_cached_sets_never_import_tensorflow(raw, tmp_path):
    cache.write(tmp_path / "cifar10", datasets.canonical(raw))
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cifar10, digits, message = done.stdout.splitlines()
    assert cifar10 == datasets.load("cifar10", cache_dir=tmp_path).fingerprint
    assert digits == datasets.load("digits").fingerprint
    assert "copy the array cache" in message


def test_cache_describes_every_array(cached):
    _, folder, _ = cached
    assert {p.name for p in folder.iterdir()} == {"meta.json", *(f"{a}.npy" for a in ARRAYS)}
