"""TensorFlow Datasets copies in any shard order, the real CIFAR-10, and streams against gathers."""

import re

import numpy as np
import pytest

from rcm import config
from rcm.data import datasets, longtail, stream
from rcm.progress import Display
from rcm.study import Options, execute
from tests.data.prepared import prepare

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer"]
CIFAR10 += ["dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def copy10(tmp_path_factory, pixels):
    folder = tmp_path_factory.mktemp("tfds")
    prepare(folder, "cifar10", pixels, np.arange(40) % 10, CIFAR10)
    return folder


def test_any_copy_of_a_tfds_set_is_the_same_data(copy10, pixels, tmp_path):
    order = np.concatenate([np.arange(20)[::-1], 20 + np.arange(20)[::-1]])
    prepare(tmp_path / "other", "cifar10", pixels[order], order % 10, CIFAR10)
    one = datasets.load("cifar10", str(copy10), tmp_path / "one")
    two = datasets.load("cifar10", str(tmp_path / "other"), tmp_path / "two")
    assert one.classes == tuple(CIFAR10)
    assert one.fingerprint == two.fingerprint
    assert np.array_equal(one.train.images, two.train.images)
    pairs = {(bytes(image), label) for image, label in zip(pixels, np.arange(40) % 10, strict=True)}
    for split in (one.train, one.test):
        assert len(split.labels) == 20
        assert {(bytes(i), y) for i, y in zip(split.images, split.labels, strict=True)} <= pairs


def test_cifar100_has_fine_labels(tmp_path, pixels):
    labels = np.arange(40) + 60
    prepare(tmp_path, "cifar100", pixels, labels, [f"class {i}" for i in range(100)])
    data = datasets.load("cifar100", str(tmp_path), tmp_path / "cache")
    assert data.train.labels.tolist() == list(range(60, 80))
    assert len(data.classes) == 100


def test_environment_variable_names_the_folder(copy10, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(copy10))
    assert len(stream.read_tfds("cifar10").train_labels) == 20


def test_folder_without_the_data_says_how_to_get_it(tmp_path):
    with pytest.raises(ValueError, match="no prepared copy of cifar10") as caught:
        datasets.load("cifar10", str(tmp_path / "empty"), tmp_path / "cache")
    message = str(caught.value)
    for hint in ("cifar10/3.0.2", "dataset_info.json", "tfds build cifar10", "TFDS_DATA_DIR"):
        assert hint in message


def test_failed_download_says_how_to_go_on(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def offline(self, *args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", offline)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"cannot prepare cifar10 \(ConnectionError") as caught:
        datasets.load("cifar10", cache_dir=tmp_path / "cache")
    assert "a prepared copy is the folder" in str(caught.value)


def test_a_plan_alone_downloads_and_writes_nothing(copy10, tmp_path, monkeypatch):
    """What is prepared is read; what is not is refused at once, without a network."""
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", None)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    study = config.Study(name="s", data=config.Data("cifar10"))
    with Display() as display, pytest.raises(ValueError, match="run without --dry_run, leave it"):
        execute(study, Options(str(tmp_path / "runs"), dry_run=True), display)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    monkeypatch.setenv("TFDS_DATA_DIR", str(copy10))
    with stream.without_downloads():
        assert len(stream.read_tfds("cifar10").train_labels) == 20


@pytest.mark.parametrize("file", ["cifar10-train.tfrecord-00000-of-00001", "dataset_info.json"])
def test_damaged_copy_is_named(copy10, tmp_path, file):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    for path in (copy10 / "cifar10" / "3.0.2").iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[:-100] if path.name == file else content)
    with pytest.raises(ValueError, match="prepare it again"):
        datasets.load("cifar10", str(tmp_path), tmp_path / "cache")


@pytest.fixture
def source():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (200, 8, 8, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(4), 50).astype(np.int32)
    return images, labels


def lanes_schedule(labels, asked):
    """Two members, balanced and long-tailed, as an engine would schedule them."""
    pool, _ = longtail.validation_split(labels, 2)
    counts = [longtail.class_counts("exp", 48, ratio, 4) for ratio in (1, 10)]
    tables = [longtail.tail_table(labels, pool, c, 0) for c in counts]

    def schedule(start, steps):
        asked.append((start, steps))
        lanes = [longtail.batch_indices(s, t, 16, start, steps) for s, t in enumerate(tables)]
        return np.stack(lanes, 1)

    return schedule


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (61, 200), (3, 3)])
def test_stream_equals_the_gather(source, start, stop):
    images, labels = source
    schedule = lanes_schedule(labels, [])
    expected = schedule(start, stop - start)
    got = list(stream.batches(images, labels, schedule, start, stop))
    assert len(got) == stop - start
    for indices, (batch, batch_labels) in zip(expected, got, strict=True):
        assert np.array_equal(batch, images[indices])
        assert np.array_equal(batch_labels, labels[indices])
        assert batch.dtype == np.uint8
        assert batch_labels.dtype == np.int32


def test_stream_reads_memory_mapped_arrays_and_asks_lazily(source, tmp_path):
    images, labels = source
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    asked = []
    schedule = lanes_schedule(labels, asked)
    batches = stream.batches(mapped, labels, schedule, 10, 1_000_000)
    first, _ = next(batches)
    batches.close()
    assert np.array_equal(first, images[schedule(10, 1)[0]])
    assert max(steps for _, steps in asked) == stream.CHUNK
    assert max(start for start, _ in asked) < 10 + 4 * stream.CHUNK


@pytest.mark.parametrize("wrong", [-1, 200])
def test_indices_out_of_range_stop_the_stream(source, wrong):
    message = re.escape(f"gave indices {min(wrong, 0)} to {max(wrong, 0)} for 200 images")

    def schedule(start, steps):
        indices = np.zeros((steps, 1, 4), np.int32)
        indices[-1, 0, 0] = wrong
        return indices

    with pytest.raises(ValueError, match=message):
        list(stream.batches(*source, schedule, 0, 3))


def test_schedule_of_the_wrong_length_stops_the_stream(source):
    def schedule(start, steps):
        return np.zeros((1, 1, 4), np.int32)

    with pytest.raises(ValueError, match="for 3 steps"):
        list(stream.batches(*source, schedule, 0, 3))


@pytest.fixture(scope="module")
def cifar10(shared, cache_home):
    return datasets.load("cifar10", str(shared / "tfds"), cache_home / "rcm" / "arrays")


def channels(data):
    return np.moveaxis(data.train.images, -1, 0)


def test_real_cifar10(cifar10):
    assert cifar10.classes == tuple(CIFAR10)
    assert cifar10.train.images.shape == (50_000, 32, 32, 3)
    assert np.bincount(cifar10.train.labels).tolist() == [5000] * 10
    assert np.bincount(cifar10.test.labels).tolist() == [1000] * 10
    # Channel means and deviations that the literature normalises CIFAR-10 by.
    grey = np.arange(256) / 255
    counts = [np.bincount(channel.ravel(), minlength=256) for channel in channels(cifar10)]
    shares = np.array(counts) / np.sum(counts[0])
    means = shares @ grey
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=1e-4)
    deviations = np.sqrt(shares @ grey**2 - means**2)
    np.testing.assert_allclose(deviations, [0.2470, 0.2435, 0.2616], atol=1e-4)
    assert cifar10.fingerprint.startswith("461db453c70d")


def test_real_cifar10_holds_the_reference_images(cifar10, sample):
    clean, labels = sample["clean"], sample["label"]
    pairs = zip(cifar10.test.images, cifar10.test.labels, strict=True)
    test = {(bytes(image), int(label)) for image, label in pairs}
    assert all((bytes(i), int(y)) in test for i, y in zip(clean, labels, strict=True))


def test_real_long_tail_streams_from_the_cache(cifar10):
    train = cifar10.train
    pool, validation = longtail.validation_split(train.labels)
    assert len(validation) == 2000
    counts = longtail.class_counts("exp", 4800, 100, 10)
    table = longtail.tail_table(train.labels, pool, counts, 0)
    assert len(table) == 11_909

    def schedule(start, steps):
        return longtail.batch_indices(0, table, 128, start, steps)[:, None]

    indices = schedule(92, 4)  # across the border of the first epoch
    got = list(stream.batches(train.images, train.labels, schedule, 92, 96))
    for rows, (images, labels) in zip(indices, got, strict=True):
        assert np.array_equal(images, train.images[rows])
        assert np.array_equal(labels, train.labels[rows])
