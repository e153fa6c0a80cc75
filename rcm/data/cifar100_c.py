"""CIFAR-100-C for TensorFlow Datasets, which has CIFAR-10-C only: from its folder of `.npy` files.

Importing this module registers `cifar100_corrupted/<corruption>_<severity>`, by the corruptions'
own names. Source: Hendrycks & Dietterich 2019 (arXiv 1903.12261), record 3555552 of zenodo.org;
the checksums are those that users of the release publish for its files.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from rcm.foreign import map_array

FOLDER = "CIFAR-100-C"
CLASSES, IMAGES, SEVERITIES = 100, 10_000, 5
MD5 = {
    "brightness": "f22d7195aecd6abb541e27fca230c171",
    "contrast": "322bb385f1d05154ee197ca16535f71e",
    "defocus_blur": "d923e3d9c585a27f0956e2f2ad832564",
    "elastic_transform": "a0792bd6581f6810878be71acedfc65a",
    "fog": "4efc7ebd5e82b028bdbe13048e3ea564",
    "frost": "3a39c6823bdfaa0bf8b12fe7004b8117",
    "gaussian_blur": "5204ba0d557839772ef5a4196a052c3e",
    "gaussian_noise": "ecc4d366eac432bdf25c024086f5e97d",
    "glass_blur": "0bf384f38e5ccbf8dd479d9059b913e1",
    "impulse_noise": "3b3c210ddfa0b5cb918ff4537a429fef",
    "jpeg_compression": "c851b7f1324e1d2ffddeb76920576d11",
    "labels": "bb4026e9ce52996b95f439544568cdb2",
    "motion_blur": "732a7e2e54152ff97c742d4c388c5516",
    "pixelate": "96c00c60f144539e14cffb02ddbd0640",
    "saturate": "c0697e9fdd646916a61e9c312c77bf6b",
    "shot_noise": "b0a1fa6e1e465a747c1b204b1914048a",
    "snow": "0237be164583af146b7b144e73b43465",
    "spatter": "12ccf41d62564d36e1f6a6ada5022728",
    "speckle_noise": "e3f215b1a0f9fd9fd6f0d1cf94a7ce99",
    "zoom_blur": "0204613400c034a81c4830d5df81cb82",
}


class Cifar100Corrupted(tfds.core.GeneratorBasedBuilder):
    """The test split of CIFAR-100 under one corruption at one severity: image, label."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=f"{name}_{severity}")
        for name in MD5
        if name != "labels"
        for severity in range(1, SEVERITIES + 1)
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"download {FOLDER}.tar of record 3555552 of zenodo.org and unpack it there, so that it "
        f"holds {FOLDER}/labels.npy and {FOLDER}/fog.npy"
    )

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(num_classes=CLASSES),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        assert self.builder_config is not None  # TFDS takes the first one where none is asked for
        name, severity = self.builder_config.name.rsplit("_", 1)
        folder = Path(dl_manager.manual_dir) / FOLDER
        labels = checked(folder / "labels.npy").astype(np.int64)
        check_labels(labels)
        rows = slice((int(severity) - 1) * IMAGES, int(severity) * IMAGES)
        return {
            "test": self._generate_examples(checked(folder / f"{name}.npy")[rows], labels[rows])
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": image, "label": int(label)}


def checked(path: Path) -> np.ndarray:
    """The array of a file of the release. Raises ValueError for one that is missing or another."""
    again = f"expected that of {FOLDER}.tar, record 3555552 of zenodo.org: unpack it again"
    if not path.is_file():
        raise ValueError(f"{path} is missing; {again}")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != MD5[path.stem]:
        raise ValueError(f"{path} is damaged or another file (MD5 {found}); {again}")
    return map_array(path)


def check_labels(labels: np.ndarray) -> None:
    """Raise ValueError unless labels are five times the same, every class equally often."""
    blocks = labels.reshape(SEVERITIES, -1) if len(labels) == SEVERITIES * IMAGES else labels[None]
    each = np.bincount(blocks[0], minlength=CLASSES)
    if len(blocks) != SEVERITIES or (blocks != blocks[0]).any() or (each != each[0]).any():
        raise ValueError(
            f"labels.npy of {FOLDER} must hold {SEVERITIES} times the same {IMAGES} labels, each "
            f"of {CLASSES} classes equally often; unpack it again"
        )
