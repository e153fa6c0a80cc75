"""Data sets as TensorFlow Datasets would have prepared them."""

from typing import ClassVar

import numpy as np


def prepare(
    folder, name, images, labels, names, version="3.0.2", variant="", splits=("train", "test")
):
    """Write a prepared copy of `name` as TFDS would, holding the given images in its splits."""
    import tensorflow_datasets as tfds

    labelled = {"names": list(names)} if isinstance(names, list | tuple) else {"num_classes": names}
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=images.shape[1:]),
        "label": tfds.features.ClassLabel(**labelled),
    }
    if name == "cifar100":
        features["coarse_label"] = tfds.features.ClassLabel(num_classes=20)
    with tfds.core.registered.skip_registration():

        class Prepared(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version(version)
            BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name=variant)] if variant else []

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, manager):
                parts = np.array_split(np.arange(len(images)), len(splits))
                return {
                    split: self._generate_examples(part[0], part[-1] + 1)
                    for split, part in zip(splits, parts, strict=True)
                }

            def _generate_examples(self, first, last):
                for i in range(first, last):
                    row = {"id": str(i), "image": images[i], "label": int(labels[i])}
                    yield i, row | ({"coarse_label": 7} if name == "cifar100" else {})

        Prepared.name = name
        Prepared(data_dir=str(folder)).download_and_prepare()


def prepare_registered(folder, name, rows, splits):
    """Write a prepared copy of a set that TFDS knows, with all of its features: `rows` in every
    split, and nothing but zeros and empty lists for what they leave out."""
    import tensorflow_datasets as tfds

    about = tfds.builder(name, data_dir=str(folder)).info
    with tfds.core.registered.skip_registration():

        class Prepared(tfds.core.GeneratorBasedBuilder):
            VERSION = about.version

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=about.features)

            def _split_generators(self, manager):
                return {split: self._generate_examples() for split in splits}

            def _generate_examples(self):
                for i, row in enumerate(rows):
                    yield i, _filled(about.features, row)

        Prepared.name = name
        Prepared(data_dir=str(folder)).download_and_prepare()


def _filled(features, row):
    import tensorflow_datasets as tfds

    made = {}
    for name, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            made[name] = _filled(feature, row.get(name, {}))
        elif isinstance(feature, tfds.features.Sequence):
            made[name] = row.get(name, [])
        else:
            made[name] = row.get(name, "" if isinstance(feature, tfds.features.Text) else 0)
    return made
