"""What people say of CIFAR-10's images, as columns beside its splits, joined by the pixels.

Both come through TensorFlow Datasets: CIFAR-10H, some fifty answers to every test image (Peterson
et al. 2019, arXiv 1908.07086), and CIFAR-10N, three to every training image (Wei et al. 2022, arXiv
2110.12088), whose files have to be put into TFDS's manual folder by hand.
"""

import os
from pathlib import Path

import numpy as np

from rcm.data import stream
from rcm.data.identity import Split, positions

NOISY = ("worse_label", "aggre_label", "random_label1", "random_label2", "random_label3")


def answered(name: str, dataset: str, data_dir: str = "") -> bool:
    """Whether a prepared copy of `cifar10_h` or `cifar10_n` lies beside the data, if they are
    CIFAR-10, where TensorFlow Datasets would look for it: a report downloads nothing."""
    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    copies = (Path(folder).expanduser() / name).glob("*/dataset_info.json")
    return dataset == "cifar10" and any("incomplete" not in path.parent.name for path in copies)


def label_shares(test: Split, data_dir: str = "") -> np.ndarray:
    """float32 [N, 10]: the shares of people's answers to the test images, CIFAR-10H.

    Raises ValueError without a copy and for images that are not CIFAR-10's.
    """
    shares = _joined("cifar10_h", "test", "soft_label", test, data_dir).astype(np.float32)
    if not ((shares >= 0).all() and (shares.sum(1) > 0).all() and np.isfinite(shares).all()):
        raise ValueError("cifar10_h holds shares that are none: prepare it again.")
    return shares / shares.sum(1, keepdims=True)


def noisy_labels(train: Split, kind: str = "worse_label", data_dir: str = "") -> np.ndarray:
    """int32 [N], CIFAR-10N: of three people's labels of each training image one that errs, if any
    does (`worse_label`), the majority's (`aggre_label`) or a certain one. Raises as above."""
    if kind not in NOISY:
        raise ValueError(f"kind is {kind!r}, expected one of {', '.join(NOISY)}")
    found = _joined("cifar10_n", "train", kind, train, data_dir)
    if found.min() < 0 or found.max() > train.labels.max():
        raise ValueError(f"{kind} of cifar10_n holds labels that are none: prepare it again.")
    return found.astype(np.int32)


def _joined(name: str, part: str, field: str, split: Split, data_dir: str) -> np.ndarray:
    images, column = stream.read_fields(name, part, ("image", field), data_dir)
    joined = np.zeros((len(split.labels), *column.shape[1:]), column.dtype)
    if len(images) != len(split.labels):
        raise ValueError(
            f"{name} has {len(images)} images in {part} and the data set {len(split.labels)}: give "
            "the split of CIFAR-10 that it was made for."
        )
    joined[positions(images, split)] = column
    return joined
