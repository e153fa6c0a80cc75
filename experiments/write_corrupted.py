"""Writes corrupted images in the layout of the official releases (CIFAR-10-C, CIFAR-100-C).

Command    python experiments/write_corrupted.py --output=FOLDER [--data=cifar10]
           [--split=test|validation|train]
Hardware   2 CPU cores, 3 minutes for all 19 corruptions of 10,000 images
Output     one uint8 [5 N, H, W, 3] `.npy` per corruption, severities 1 to 5 in turn, and labels.npy

Regenerated images are not the official set, and frost without photographs is not comparable with
it: a file in the folder says so, and reports of studies that read it do.
"""

import sys

# jax asks for a package of this name, which newer Pythons have: not the study beside this file
sys.modules.setdefault("compression", None)  # pyright: ignore[reportArgumentType]

import pathlib

import numpy as np
from absl import app, flags

from rcm import backend, config
from rcm.cells import BATCH, CellSpec
from rcm.data import datasets, longtail
from rcm.data.official import MARK
from rcm.shift import frost
from rcm.shift.corruptions import CORRUPTIONS, SEVERITIES, check_size, validate

OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.", required=True)
DATA = flags.DEFINE_string("data", "cifar10", "A data set's name or path, as --config.data.name.")
DATA_DIR = flags.DEFINE_string("data_dir", "", "A prepared copy, as --config.data.data_dir.")
SIZE = flags.DEFINE_integer("size", 32, "Sides of photographs, as --config.data.size.")
SPLIT = flags.DEFINE_enum(
    "split",
    "test",
    ["test", "validation", "train"],
    "Which images; those of validation are a part of train, as a study has them.",
)
VAL_PER_CLASS = flags.DEFINE_integer(
    "val_per_class",
    -1,
    "Validation images of each class, as --config.data.val_per_class.",
    lower_bound=-1,
)
DATA_SEED = flags.DEFINE_integer("data_seed", 0, "Of that part, as --config.data.data_seed.")
ONLY = flags.DEFINE_list("corruptions", list(CORRUPTIONS), "Which corruptions; default: all.")
SEED = flags.DEFINE_integer("seed", 0, "Of what they draw.", lower_bound=0, upper_bound=2**31 - 1)
SKIP = flags.DEFINE_bool(
    "skip_unreadable", False, "Leave such photographs out, as --config.data.skip_unreadable."
)
FROST = flags.DEFINE_string("frost_dir", "", "Photographs of frost; empty draws textures.")


def chosen(dataset: datasets.Dataset) -> tuple[datasets.Split, np.ndarray]:
    """The images, and their positions in the canonical order of the split that they are of."""
    if SPLIT.value != "validation":
        split = getattr(dataset, SPLIT.value)
        return split, np.arange(len(split.labels), dtype=np.int32)
    train, each = dataset.train, VAL_PER_CLASS.value
    ids = longtail.validation_split(train.labels, None if each < 0 else each, DATA_SEED.value)[1]
    config.require(len(ids) > 0, "--val_per_class=0 leaves no validation images: give another.")
    return datasets.Split(train.images[ids], train.labels[ids]), ids


def write(folder: pathlib.Path, split: datasets.Split, ids: np.ndarray, name: str) -> None:
    """One corruption at all severities. An interrupted file keeps its `.part`."""
    part = folder / f".{name}.npy.part"
    shape = (len(SEVERITIES) * len(ids), *split.images.shape[1:])
    with open(part, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for severity in SEVERITIES:
            given = (split.images, split.labels, ids, SEED.value, FROST.value)
            cell = CellSpec(name, severity, *given)
            for start in range(0, len(ids), BATCH):
                file.write(cell.batch(start)[: len(ids) - start].tobytes())
    part.rename(folder / f"{name}.npy")


def begin(folder: pathlib.Path, labels: np.ndarray) -> None:
    """Labels and the mark, in a folder that holds nothing of other images."""
    path = folder / "labels.npy"
    config.require(
        not path.exists() or np.array_equal(np.load(path, allow_pickle=False), labels),
        f"{folder} holds corrupted images of other data: give another folder.",
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("Made by rcm's experiments/write_corrupted.py; no official set.\n")
    np.save(path, labels)


def main(_: list[str]) -> None:
    try:
        validate(ONLY.value, SEVERITIES)
        config.require("clean" not in ONLY.value, "--corruptions holds 'clean': leave it out.")
        config.require(bool(ONLY.value), "--corruptions is empty: name some, or leave it out.")
        config.require(
            SIZE.value == SIZE.default or datasets.is_photographs(DATA.value),
            f"--size is {SIZE.value}, but {DATA.value} is no folder of photographs and keeps the "
            "size that its images have: leave --size out.",
        )
        backend.set_up()
        photographs = {"size": SIZE.value, "skip_unreadable": SKIP.value}
        dataset = datasets.load(DATA.value, DATA_DIR.value, **photographs)
        split, ids = chosen(dataset)
        height, width = split.images.shape[1:3]
        check_size((height, width), ONLY.value)
        if "frost" in ONLY.value:
            frost.tables(height, width, FROST.value)  # complains now, not when it is its turn
        folder = pathlib.Path(OUTPUT.value)
        begin(folder, np.tile(np.asarray(split.labels), len(SEVERITIES)))
        for name in ONLY.value:
            print(f"{name}: {len(split.labels):,} images at {len(SEVERITIES)} severities")
            write(folder, split, ids, name)
    except (ValueError, OSError) as error:
        sys.exit(f"write_corrupted: {' '.join(str(error).split())}")


if __name__ == "__main__":
    app.run(main)
