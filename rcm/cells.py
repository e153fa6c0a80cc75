"""The columns of an evaluation: which shift, on which images, under which name on disk."""

import functools
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rcm.config import Attack
from rcm.data import longtail
from rcm.data.domains import Domain
from rcm.data.official import Release
from rcm.shift import frost
from rcm.shift.attacks import passes
from rcm.shift.corruptions import BATCH, CORRUPTIONS, corrupt

MADE_BY = "made_by"  # name of the stored `shift_source`


@functools.cache
def shift_source() -> str:
    """Hash of the code that corrupts and attacks images, by which stored answers know it."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "shift").glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def is_made_here(cell: "Spec") -> bool:
    """Whether the code decides a cell's images: they are corrupted or attacked."""
    return isinstance(cell, AttackSpec) or (isinstance(cell, CellSpec) and not cell.clean)


def padded_rows(start: int, images: int) -> np.ndarray:
    """Positions of one batch, the last one repeated where there are no more."""
    return np.minimum(np.arange(start, start + BATCH), images - 1)


def computed_images(images: int) -> int:
    """How many images are computed for so many: the last batch is filled up."""
    return -(-images // BATCH) * BATCH


class CellSpec(NamedTuple):
    """One column of the evaluation: a shift at a severity on a list of images.

    images uint8 [N, H, W, 3] (may be memory-mapped), labels int32 [N], ids int32 [N]: the images'
    positions in the canonical order of their split, which key the shift's randomness. frost_dir:
    of the photographs of frost, if the shift takes any. shifted: the images as they come out, where
    they are at hand (`rcm.shifted`).
    """

    shift: str
    severity: int
    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    seed: int
    frost_dir: str = ""
    shifted: np.ndarray | None = None

    @property
    def key(self) -> str:
        """The cell's file name: everything that decides its pixels but the data set itself."""
        if self.shift == "clean_train":
            return f"{self.shift}-n{len(self.ids)}-{zlib.crc32(self.ids.tobytes()):08x}"
        if self.severity == 0:
            return self.shift
        shift = self.shift
        if CORRUPTIONS[shift].textured:
            shift += f"-{frost.source(self.frost_dir)}"
        return f"{shift}-{self.severity}-n{len(self.ids)}-seed{self.seed}"

    @property
    def clean(self) -> bool:
        return self.severity == 0

    def batch(self, start: int) -> np.ndarray:
        """Shifted images of one batch, uint8, the last batch padded by its last image."""
        rows = padded_rows(start, len(self.ids))
        if self.shifted is not None:
            return np.asarray(self.shifted[rows])
        images = np.asarray(self.images[rows])
        if self.clean:
            return images
        ids = np.asarray(self.ids[rows])
        shift = (self.shift, self.severity, self.seed, self.frost_dir)
        return np.asarray(corrupt(images, ids, *shift))


class AttackSpec(NamedTuple):
    """One column in which every member is attacked at one eps (255ths); images as in `CellSpec`.

    source: the pipeline whose members (of the same ratio and seed) are attacked in their place, ""
    for themselves; mark: what identifies those members; asked: the pipelines that are shown these
    images, which are related to the source as a network and its parent.
    """

    attack: Attack
    eps: float
    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    seed: int
    source: str = ""
    mark: str = ""
    asked: tuple[str, ...] = ()

    clean = False

    @property
    def shift(self) -> str:
        return attack_label(self.attack)

    @property
    def severity(self) -> float:
        return self.eps

    @property
    def key(self) -> str:
        """The cell's file name: everything that decides its pixels but the data and the member."""
        size = "" if self.attack.name == "fgsm" else f"-step{self.attack.step_size:g}"
        origin = f"-from-{self.mark}" if self.source else ""
        return f"{self.shift}{size}-eps{self.eps:g}-n{len(self.ids)}-seed{self.seed}{origin}"


class Source(NamedTuple):
    """What attacked images are made against; fields as in `AttackSpec`."""

    source: str = ""
    mark: str = ""
    asked: tuple[str, ...] = ()


SELF = Source()


class DomainSpec(NamedTuple):
    """One column on images from elsewhere: uint8 [N, H, W, 3], labels int32 [N], the source's
    classes; digest: of both; notes: what a reader must know of them."""

    shift: str
    images: np.ndarray
    labels: np.ndarray
    digest: str
    notes: tuple[str, ...] = ()

    severity = 0
    clean = False

    @property
    def ids(self) -> np.ndarray:
        return np.arange(len(self.labels), dtype=np.int32)

    @property
    def key(self) -> str:
        """The cell's file name: the domain's and everything that decides its images."""
        return f"domain-{self.shift}-{self.digest}"

    def batch(self, start: int) -> np.ndarray:
        """Images of one batch, uint8, the last batch padded by its last image."""
        return np.asarray(self.images[padded_rows(start, len(self.labels))])


@dataclass(frozen=True)
class OfficialSpec:
    """One column of a released corrupted set; labels int32 [N], ids int32 [N]: its images, by their
    originals where it is aligned to them."""

    shift: str
    severity: int
    labels: np.ndarray
    ids: np.ndarray
    release: Release

    clean = False

    @property
    def key(self) -> str:
        """The cell's file name: everything that decides its images."""
        chosen = (
            f"{zlib.crc32(self.ids.tobytes()):08x}"
            if self.release.order is not None
            else "unaligned"
        )
        return f"official-{self.shift}-{self.severity}-n{len(self.ids)}-{chosen}-{self.mark}"

    @cached_property
    def mark(self) -> str:
        return self.release.mark(self.shift, self.severity)

    def batch(self, start: int) -> np.ndarray:
        """Images of one batch, uint8, the last batch padded by its last image."""
        rows = padded_rows(start, len(self.ids))
        return self.release.images(self.shift, self.severity, self.ids[rows])


Spec = CellSpec | AttackSpec | DomainSpec | OfficialSpec


def is_tested(cell: Spec, pipeline: str) -> bool:
    """Whether members of a pipeline answer a cell: images made against others are for some."""
    return not isinstance(cell, AttackSpec) or not cell.source or pipeline in cell.asked


def forward_passes(cell: Spec, classes: int) -> float:
    """What a member needs for one image of a cell; a gradient counts as three."""
    return passes(cell.attack, classes) if isinstance(cell, AttackSpec) else 1.0


def attack_label(attack: Attack) -> str:
    """Its name in results, such as pgd20, pgd20x5 with restarts, square300, pgd10_l2."""
    steps = "" if attack.name == "fgsm" else str(attack.steps)
    restarts = f"x{attack.restarts}" if attack.restarts > 1 else ""
    return f"{attack.name}{steps}{restarts}{'' if attack.norm == 'linf' else '_' + attack.norm}"


def cells_of(
    shift: Any,
    dataset: Any,
    validation: np.ndarray,
    domains: Sequence[Domain] = (),
    release: Release | None = None,
    sources: Sequence[Source] = (),
    training: np.ndarray | None = None,
) -> list[Spec]:
    """Clean test, clean validation and training images (if there are any), every corruption at
    every severity (of the release, if there is one), every attack at every eps, and every domain.

    validation, training: indices into the training split, whose labels these images keep.
    sources: pipelines whose images attacks with `transfer` show to others.
    """
    test, train = dataset.test, dataset.train
    everything = np.arange(len(test.labels), dtype=np.int32)
    cells: list[Spec] = [CellSpec("clean", 0, test.images, test.labels, everything, shift.seed)]
    if len(validation):
        images, labels = train.images[validation], train.labels[validation]
        cells.append(CellSpec("clean_val", 0, images, labels, validation, shift.seed))

    def some(count: int, labels: Any = test.labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        subset = everything
        if 0 < count < len(everything):
            subset = longtail.stratified_subset(labels, count, shift.seed)
        return test.images[subset], test.labels[subset], subset.astype(np.int32)

    if training is not None and len(training):
        images, labels = train.images[training], train.labels[training]
        cells.append(CellSpec("clean_train", 0, images, labels, training, shift.seed))
    if shift.corruptions and release:
        ids = some(shift.images, release.labels(everything))[2]  # which may be in its own order
        cells += [
            OfficialSpec(name, severity, release.labels(ids), ids, release)
            for name in shift.corruptions
            for severity in shift.severities
        ]
    elif shift.corruptions:
        images = some(shift.images)
        cells += [
            CellSpec(name, severity, *images, shift.seed, shift.frost_dir)
            for name in shift.corruptions
            for severity in shift.severities
        ]
    if shift.attacks:
        images = some(shift.attack_images)
        cells += [
            AttackSpec(attack, eps, *images, shift.seed, *source)
            for attack in shift.attacks
            for source in (SELF, *(sources if attack.transfer else ()))
            for eps in attack.eps
        ]
    return [*cells, *(DomainSpec(*domain) for domain in domains)]
