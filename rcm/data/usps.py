"""USPS (Hull 1994): 16 x 16 grey digits from envelopes, from the two files of LIBSVM's data sets.

A line of such a file is a label and numbered values: `8 1:-1 2:-0.5 ... 256:-1`. Labels are 1 to 10
for the digits 0 to 9, values -1 (paper) to 1 (ink), rows of the image one after another.
"""

import bz2
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from rcm import foreign
from rcm.data.identity import RawArrays

FOLDER, FILES = "usps", ("usps.bz2", "usps.t.bz2")  # for training and for testing
SIDE, DIGITS = 16, 10
WHERE = (
    "download usps.bz2 and usps.t.bz2 from the multi-class data sets of LIBSVM "
    "(www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass) into that folder"
)


def read_usps(data_dir: str = "") -> RawArrays:
    """The images as 16 x 16 RGB, ink white, from `downloads/manual/usps` of a folder of TensorFlow
    Datasets: data_dir, TFDS_DATA_DIR or its own.

    Raises ValueError for a file that is missing or damaged, or holds other data.
    """
    root = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    folder = Path(root).expanduser() / "downloads" / "manual" / FOLDER
    train, test = (_read(folder / name) for name in FILES)
    return RawArrays(*train, *test, tuple(str(digit) for digit in range(DIGITS)))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        return parse(_unpacked(path))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): {WHERE}.") from error


def _unpacked(path: Path) -> bytes:
    content = foreign.read_bytes(path, foreign.LARGEST_TEXT)
    with foreign.reasons(), bz2.BZ2File(io.BytesIO(content)) as file:
        text = file.read(foreign.LARGEST_TEXT + 1)
    if len(text) > foreign.LARGEST_TEXT:
        raise ValueError(f"it unpacks to more than {foreign.LARGEST_TEXT:,} bytes")
    return text


def parse(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [N, 16, 16, 3], int64 [N], the digits) of a file's text. Raises ValueError."""
    from sklearn.datasets import load_svmlight_file

    numbered: Any = {"n_features": SIDE**2, "zero_based": False}
    with foreign.reasons():
        found = load_svmlight_file(io.BytesIO(text), **numbered)
    values, labels = np.asarray(found[0].toarray()), np.asarray(found[1])
    if not (len(labels) and np.isin(labels, np.arange(1, DIGITS + 1)).all()):
        raise ValueError(f"its labels are not all whole numbers from 1 to {DIGITS}")
    if not (np.abs(values) <= 1).all():
        raise ValueError("its values are not all between -1 and 1")
    grey = np.rint((values + 1) * 127.5).astype(np.uint8).reshape(-1, SIDE, SIDE, 1)
    return np.repeat(grey, 3, axis=-1), labels.astype(np.int64) - 1
