"""Writes corrupted test images in the layout of the official releases (CIFAR-10-C, CIFAR-100-C).

Command    python experiments/write_corrupted.py --output=FOLDER [--data=cifar10] [--split=test]
Hardware   2 CPU cores, 3 minutes for all 19 corruptions of 10,000 images
Output     one uint8 [5 N, H, W, 3] `.npy` per corruption, severities 1 to 5 in turn, and labels.npy

Regenerated images are not the official set, and frost without photographs is not comparable with
it: say so where you use them.
"""

import sys

# jax asks for a package of this name, which newer Pythons have: not the study beside this file
sys.modules.setdefault("compression", None)  # pyright: ignore[reportArgumentType]

import pathlib

import numpy as np
from absl import app, flags

from rcm import backend, config
from rcm.cells import BATCH, CellSpec
from rcm.data import datasets
from rcm.shift.corruptions import CORRUPTIONS, SEVERITIES, validate

OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.", required=True)
DATA = flags.DEFINE_string("data", "cifar10", "A data set's name or path, as --config.data.name.")
DATA_DIR = flags.DEFINE_string("data_dir", "", "A prepared copy, as --config.data.data_dir.")
SIZE = flags.DEFINE_integer("size", 32, "Sides of photographs, as --config.data.size.")
SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "train"], "Which images; a study's validation images are of train."
)
ONLY = flags.DEFINE_list("corruptions", list(CORRUPTIONS), "Which corruptions; default: all.")
SEED = flags.DEFINE_integer("seed", 0, "Of what they draw.")
FROST = flags.DEFINE_string("frost_dir", "", "Photographs of frost; empty draws textures.")


def write(folder: pathlib.Path, split: datasets.Split, name: str) -> None:
    """One corruption at all severities. An interrupted file keeps its `.part`."""
    part, ids = folder / f".{name}.npy.part", np.arange(len(split.labels))
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


def main(_: list[str]) -> None:
    try:
        validate(ONLY.value, SEVERITIES)
        config.require("clean" not in ONLY.value, "--corruptions holds 'clean': leave it out.")
        backend.set_up()
        dataset = datasets.load(DATA.value, DATA_DIR.value, size=SIZE.value)
        split = getattr(dataset, SPLIT.value)
        folder = pathlib.Path(OUTPUT.value)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "labels.npy", np.tile(np.asarray(split.labels), len(SEVERITIES)))
        for name in ONLY.value:
            print(f"{name}: {len(split.labels):,} images at {len(SEVERITIES)} severities")
            write(folder, split, name)
    except (ValueError, OSError) as error:
        sys.exit(f"write_corrupted: {' '.join(str(error).split())}")


if __name__ == "__main__":
    app.run(main)
