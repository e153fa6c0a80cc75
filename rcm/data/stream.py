"""tf.data: reading TensorFlow Datasets, and training batches streamed from the host.

The only file of this folder that imports TensorFlow, and only inside functions.
"""

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcm.data.identity import RawArrays
from rcm.foreign import read_picture

CHUNK = 64  # steps whose indices are asked for at once
_downloads = contextvars.ContextVar("downloads", default=True)  # whether any are allowed


@contextlib.contextmanager
def without_downloads() -> Iterator[None]:
    """Nothing is downloaded or prepared meanwhile: what is not at hand is a ValueError."""
    token = _downloads.set(False)
    try:
        yield
    finally:
        _downloads.reset(token)


def _tensorflow() -> Any:
    """The tensorflow module, kept away from the accelerators that belong to JAX."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # whose note no level keeps away
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ValueError(
            "TensorFlow is needed to read this data and is not installed; install it, or copy the "
            "array cache (rcm/arrays in the user's cache folder) from a machine that has it"
        ) from error
    # A no-op on machines without a GPU; an error when someone already started TensorFlow on one.
    if tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices([], "GPU")
    return tf


def read_tfds(
    name: str, data_dir: str = "", train: str = "train", classes: tuple[str, ...] = ()
) -> RawArrays:
    """All images and labels of the TensorFlow Datasets set `name`, in that copy's own order.

    The label is the feature `label` (fine labels for CIFAR-100); grey images become three equal
    channels. train: the split to train on, for sets that are made for testing only; classes: names,
    where the copy has none. A given data_dir must hold a prepared copy, or what TFDS makes one of
    without a download; an empty one means TFDS_DATA_DIR or TFDS's default folder, downloading when
    needed. ValueError when the data is absent, damaged or cannot be fetched.
    """
    builder = prepare(name, data_dir)

    def take(row: dict) -> tuple:
        return row["image"], row["label"]

    test = _read_split(builder, "test", take)
    seen = test if train == "test" else _read_split(builder, train, take)
    names = classes or tuple(builder.info.features["label"].names)
    return RawArrays(seen[0], seen[1], test[0], test[1], names)


def read_fields(
    name: str, split: str, fields: tuple[str, ...], data_dir: str = ""
) -> list[np.ndarray]:
    """Features of all examples of a split, images first, in the copy's own order. Raises as
    `read_tfds`."""

    def take(row: dict) -> tuple:
        return tuple(row[field] for field in fields)

    return _read_split(prepare(name, data_dir), split, take)


def read_celeba(data_dir: str = "", size: int = 64) -> RawArrays:
    """CelebA (Liu et al. 2015, arXiv 1411.7766): `Blond_Hair`, in the subgroups of `Male`, as
    protocol S4 has it; the middle 178 x 178 pixels, with antialiasing brought to `size`. Raises as
    `read_tfds`."""
    tf, builder = _tensorflow(), prepare("celeb_a", data_dir)

    def take(row: dict) -> tuple:
        image = tf.image.resize(row["image"][20:198], (size, size), antialias=True)
        blond, male = (tf.cast(row["attributes"][n], tf.int64) for n in ("Blond_Hair", "Male"))
        return tf.cast(tf.round(image), tf.uint8), blond, male

    train, test = (_read_split(builder, split, take) for split in ("train", "test"))
    arrays = (train[0], train[1], test[0], test[1])
    return RawArrays(*arrays, ("other", "blond"), train[2], test[2], ("female", "male"))


def prepare(name: str, data_dir: str) -> Any:
    """TensorFlow Datasets' builder of `name` with its data at hand, downloaded where that is
    allowed; nothing is decoded. Raises as `read_tfds`."""
    _tensorflow()
    builder = _builder(name, data_dir or os.environ.get("TFDS_DATA_DIR") or None)
    if not builder.is_prepared():
        _download(builder, allowed=not data_dir)
    return builder


def _builder(name: str, folder: str | None) -> Any:
    import tensorflow_datasets as tfds

    import rcm.data.cifar100_c  # noqa: F401  registers its builder

    try:
        return tfds.builder(name, data_dir=folder)
    except Exception as error:  # whatever a damaged dataset_info.json makes TFDS raise
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"cannot open {name} in {folder} ({reason}); prepare it again") from error


def _download(builder: Any, allowed: bool) -> None:
    by_hand = bool(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)
    expected = (
        f"a prepared copy is the folder {builder.data_dir} with dataset_info.json, features.json "
        f"and {builder.name}-*.tfrecord-* files of every split; make one with "
        f"`tfds build {builder.name}` where there is a network and give the folder that holds "
        f"{builder.name}/ as data_dir or TFDS_DATA_DIR"
    )
    if not _downloads.get():
        raise ValueError(
            f"no prepared copy of {builder.name}, and a plan alone downloads nothing: run without "
            f"--dry_run, leave it out, or give one; {expected}"
        )
    if not allowed and not by_hand:
        raise ValueError(
            f"no prepared copy of {builder.name}: {expected}, or leave data_dir empty to download"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # whatever the network, the disk or TFDS raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        more = "" if by_hand else f"; {expected}"
        raise ValueError(f"cannot prepare {builder.name} ({reason}){more}") from error


def examples(
    name: str, split: str, size: int, data_dir: str = ""
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images and labels of a split, uint8 [size, H, W, 3] and int32 [size] at a time and what
    is left at last, in the copy's own order, decoded in background threads by tf.data. Raises as
    `read_tfds`, by an end that comes too early when the last one is asked for."""

    def take(row: dict) -> tuple:
        return row["image"], row["label"]

    for images, labels in _parts(prepare(name, data_dir), split, take, size):
        yield images, labels.astype(np.int32)


def _read_split(builder: Any, split: str, take: Callable[[dict], tuple]) -> list[np.ndarray]:
    """Of every example what `take` makes of it, images first; grey ones in three channels."""
    parts = _parts(builder, split, take, 1000)
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _parts(
    builder: Any, split: str, take: Callable[[dict], tuple], size: int
) -> Iterator[list[np.ndarray]]:
    """The same, `size` examples at a time. Raises ValueError for a damaged copy."""
    found = 0
    try:
        data = builder.as_dataset(split=split, shuffle_files=False).map(take, num_parallel_calls=2)
        for images, *columns in data.batch(size).prefetch(1).as_numpy_iterator():
            found += len(images)
            yield [np.repeat(images, 3 // images.shape[-1], axis=-1), *columns]
        expected = builder.info.splits[split].num_examples
        if found != expected:
            raise ValueError(f"{split} has {found} of {expected} images")
    except (_tensorflow().errors.OpError, OSError, ValueError) as error:
        raise ValueError(f"{builder.data_dir} is damaged ({error}); prepare it again") from error


def decode(paths: Sequence[Path], size: int) -> Iterator[np.ndarray | None]:
    """The photographs (JPEG, PNG, BMP or the first picture of a GIF) as uint8 [size, size, 3],
    squeezed to a square with antialiasing; None for one that cannot be read or is too large."""
    tf = _tensorflow()
    blank = np.zeros((0, 0, 3), np.uint8)

    def read(path: bytes) -> np.ndarray:
        try:
            content = read_picture(Path(os.fsdecode(path)))
            image = tf.io.decode_image(content, channels=3, expand_animations=False)
            made = tf.image.resize(image, (size, size), antialias=True)
        except (ValueError, tf.errors.OpError):
            return blank
        return tf.cast(tf.round(made), tf.uint8).numpy()

    data = tf.data.Dataset.from_tensor_slices([os.fsencode(path) for path in paths])
    data = data.map(
        lambda path: tf.numpy_function(read, [path], tf.uint8), num_parallel_calls=2
    ).prefetch(CHUNK)
    for image in data.as_numpy_iterator():
        yield image if image.size else None


def batches(
    images: np.ndarray,
    labels: np.ndarray,
    schedule: Callable[[int, int], np.ndarray],
    start: int,
    stop: int,
    prefetch: int = 4,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of steps start ... stop - 1, gathered in background threads by tf.data.

    images: uint8 [N, H, W, 3], memory-mapped arrays are read as they are needed; labels: int32 [N];
    schedule(start, steps) -> int32 [steps, lanes, batch], indices into both, called lazily for at
    most 64 steps at a time; prefetch: batches kept ready.
    Yields (uint8 [lanes, batch, H, W, 3], int32 [lanes, batch]), exactly images[indices] and
    labels[indices] of each step. ValueError for indices out of range or of the wrong shape.
    """
    tf = _tensorflow()
    lanes, size = schedule(start, 1).shape[1:] if stop > start else (0, 0)
    chunk = tf.TensorSpec((None, lanes, size), tf.int32)
    indices = tf.data.Dataset.from_generator(
        lambda: _chunks(schedule, start, stop, len(labels)), output_signature=chunk
    )

    def gather(step: Any) -> tuple[Any, Any]:
        pair = tf.numpy_function(
            lambda i: (images[i], labels[i]), [step], (tf.uint8, tf.int32), stateful=False
        )
        pair[0].set_shape((lanes, size, *images.shape[1:]))
        pair[1].set_shape((lanes, size))
        return tuple(pair)

    data = indices.unbatch().map(gather, num_parallel_calls=2, deterministic=True)
    try:
        yield from data.prefetch(prefetch).as_numpy_iterator()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"the stream stopped: {error}") from error


def _chunks(
    schedule: Callable[[int, int], np.ndarray], start: int, stop: int, images: int
) -> Iterator[np.ndarray]:
    for first in range(start, stop, CHUNK):
        steps = min(CHUNK, stop - first)
        indices = schedule(first, steps)
        if indices.ndim != 3 or len(indices) != steps:
            raise ValueError(
                f"the schedule gave shape {indices.shape} for {steps} steps, "
                "expected [steps, lanes, batch]"
            )
        if indices.min() < 0 or indices.max() >= images:
            raise ValueError(
                f"the schedule gave indices {indices.min()} to {indices.max()} for {images} images"
            )
        yield indices.astype(np.int32)
