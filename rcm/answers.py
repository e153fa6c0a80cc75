"""What models from elsewhere are asked, and whether their answers fit."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rcm import config
from rcm.analysis.metrics import CLEAN, HALF_MAX, MemberInfo
from rcm.cells import AttackSpec, CellSpec, DomainSpec, OfficialSpec, Spec
from rcm.imported import LOGITS, OPTIONAL, Key, Model, arrays_in, find, labels_in, of_cell
from rcm.plan import Plan

NATURAL, ATTACK, DOMAIN = "natural", "attack", "domain"  # kinds of cells


class Question(NamedTuple):
    """What models are asked in one cell: places of its test images (of a domain, its images) and
    their classes, int [n]."""

    shift: str
    severity: float
    ids: np.ndarray
    labels: np.ndarray
    kind: str = NATURAL


class Training(NamedTuple):
    """Of one imbalance ratio: images per class [C], () if unknown, and the classes' groups [C]."""

    counts: tuple[int, ...]
    groups: tuple[str, ...]


class Setting(NamedTuple):
    """What models are tested on and stand beside.

    images: of the whole test set; questions: by the names of cells; training: by ratio, of which
    the first is what models have that give none. group: int [images] or None, `groups` their names,
    group_counts: int [groups, classes] or None, how many training images of each there are.
    own, seeds: pipelines and how many seeds the study has; (), 0 without one. shown: uint8
    [images, H, W, 3] or [images, H, W], and human: float [images], how undecided people are, where
    a folder of predictions has them; names: of the classes, if they are told.
    """

    dataset: str
    model: str
    imbalance: str
    images: int
    questions: Mapping[str, Question]
    training: Mapping[int, Training]
    group: np.ndarray | None = None
    groups: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    seeds: int = 0
    shown: np.ndarray | None = None
    human: np.ndarray | None = None
    names: tuple[str, ...] = ()
    group_counts: np.ndarray | None = None

    @property
    def classes(self) -> int:
        return len(next(iter(self.training.values())).groups)


def of_study(plan: Plan, cells: Sequence[Spec]) -> Setting:
    """What a study asks of imported models."""
    study, test = plan.study, plan.dataset.test
    asked = {
        cell_name(c): Question(c.shift, c.severity, c.ids, c.labels, kind_of(c)) for c in cells
    }
    training = {
        ratio: Training(tuple(map(int, plan.tails[ratio].counts)), plan.tails[ratio].groups)
        for ratio in study.data.ratios
    }
    return Setting(
        plan.dataset.name,
        f"{study.model.name}-w{study.model.width}",
        study.data.imbalance,
        len(test.labels),
        {name: question for name, question in asked.items() if name},
        training,
        test.group,
        plan.dataset.groups,
        (config.DENSE, *(pipeline.name for pipeline in plan.pipelines)),
        study.seeds,
    )


def cell_name(cell: Spec) -> str:
    """What a file calls a cell; "" for one that cannot be imported."""
    named = f"{cell.shift}/{cell.severity:g}"
    match cell:
        case CellSpec(clean=True):
            return cell.shift if cell.shift == CLEAN else ""
        case AttackSpec():
            return "" if cell.source else f"attack:{named}"
        case DomainSpec():
            return f"domain:{cell.shift}"
        case OfficialSpec():
            return "" if cell.release.order is None else named
    return named


def kind_of(cell: Spec) -> str:
    """What a cell asks about."""
    return {AttackSpec: ATTACK, DomainSpec: DOMAIN}.get(type(cell), NATURAL)


def load(folder: str, setting: Setting) -> list[Model]:
    """The models in a folder. Raises ValueError, naming the file, for one that does not fit."""
    models = find(folder, next(iter(setting.training)))
    check(models, setting)
    return models


def check(models: Sequence[Model], setting: Setting) -> None:
    """Raises ValueError, naming the file, for a model whose answers do not fit the setting."""
    known = {*setting.own, *(model.pipeline.name for model in models)}
    for model in models:
        path, name = model.path, model.pipeline.name
        config.require(
            name not in setting.own,
            f"{path}: the study has a pipeline {name!r} of its own; choose another name.",
        )
        config.require(
            model.ratio in setting.training and (not setting.own or model.seed < setting.seeds),
            f"{path}: the study has no ratio {model.ratio} with seed {model.seed} to compare with.",
        )
        for other in filter(None, (model.pipeline.baseline, model.pipeline.parent)):
            config.choose(f"pipeline, which {path.name} is compared with,", other, known)
        _check_arrays(model, setting)


def _check_arrays(model: Model, setting: Setting) -> None:
    path, ids = model.path, ids_of(model, setting)
    config.require(
        ids.ndim == 1
        and ids.dtype.kind in "iu"
        and 0 < len(np.unique(ids)) == len(ids)
        and ids.min() >= 0
        and ids.max() < setting.images,
        f"{path}: ids must be different numbers from 0 to {setting.images - 1}, one per answer.",
    )
    places = places_of(model, setting)
    for cell in sorted(model.cells | {CLEAN}):
        arrays = arrays_in(path, of_cell(model, cell))
        for name, array in arrays.items():
            kind = name.partition("/")[0]
            config.choose(f"array in {path.name}", kind, ("label", LOGITS, *OPTIONAL))
            config.choose(f"cell of the study, in {path.name}", cell, setting.questions)
            asked = setting.questions[cell]
            images = len(asked.ids if asked.kind == DOMAIN else ids)
            _check_array(path, name, array, images, setting)
            missing = 0 if asked.kind == DOMAIN else int((places[asked.ids] < 0).sum())
            config.require(
                missing == 0,
                f"{path}: {name} leaves out {missing} of the images that are tested there.",
            )
        _check_cell(path, cell, arrays, setting.classes)


def _check_array(path: Path, name: str, array: np.ndarray, images: int, setting: Setting) -> None:
    """Raise ValueError for another shape than that of answers to so many images, and for what is
    no number, or as a logit none that predictions can hold."""
    kind = name.partition("/")[0]
    each = (setting.classes,) if kind == LOGITS else ()
    what = f"{setting.classes} numbers, one for each class," if each else "one number"
    config.require(
        array.shape == (images, *each),
        f"{path}: {name} has shape {array.shape}, expected {what} for each of {images} images; "
        "give `ids` if it answered only some of the test set.",
    )
    config.require(
        kind == "label" or (array.dtype.kind == "f" and not np.isnan(array).any()),
        f"{path}: {name} must hold floats that are numbers; leave out what is not measured.",
    )
    config.require(
        kind != LOGITS or bool((np.abs(array) <= HALF_MAX).all()),
        f"{path}: {name} must hold numbers from {-HALF_MAX:,.0f} to {HALF_MAX:,.0f}: give the "
        "labels and log-probabilities that follow from larger ones.",
    )


def _check_cell(path: Path, cell: str, arrays: Mapping[str, np.ndarray], classes: int) -> None:
    """Raise ValueError unless a cell has either logits or predicted classes that there are."""
    labels = arrays.get(f"label/{cell}")
    if f"{LOGITS}/{cell}" in arrays:
        more = [f"{kind}/{cell}" for kind in ("label", *OPTIONAL) if f"{kind}/{cell}" in arrays]
        config.require(
            not more,
            f"{path} has {LOGITS}/{cell} and {', '.join(more)}, which follow from it: give one or "
            "the other.",
        )
        return
    config.require(
        labels is not None,
        f"{path} has no label/{cell}: give predicted classes, or {LOGITS}/{cell}.",
    )
    assert labels is not None
    config.require(
        labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < classes,
        f"{path}: label/{cell} must hold classes from 0 to {classes - 1}.",
    )


def ids_of(model: Model, setting: Setting) -> np.ndarray:
    """int [N], the test images that a model answered, in the order of its arrays."""
    return np.arange(setting.images) if model.ids is None else model.ids


def places_of(model: Model, setting: Setting) -> np.ndarray:
    """int [images], where in a model's arrays each test image is; -1 for those it left out."""
    places, ids = np.full(setting.images, -1), ids_of(model, setting)
    places[ids] = np.arange(len(ids))
    return places


def taken(model: Model, setting: Setting, asked: Question) -> np.ndarray:
    """int [n], where in a model's arrays the images of a cell are."""
    return asked.ids if asked.kind == DOMAIN else places_of(model, setting)[asked.ids]


def norm_of(attack: str) -> str:
    """The norm that an attack's name tells."""
    return "l2" if attack.endswith("_l2") else "linf"


def info_of(model: Model, setting: Setting, parent_bytes: int = 0) -> MemberInfo:
    """Who a model is, as rows of results tell it."""
    counts = setting.training[model.ratio].counts or (1,) * setting.classes
    return MemberInfo(
        dataset=setting.dataset,
        model=setting.model,
        imbalance=setting.imbalance,
        ratio=model.ratio,
        seed=model.seed,
        pipeline=model.pipeline.name,
        fingerprint=f"imported-{model.digest}",
        train_counts=counts,
        n_max=max(counts),
        deflated_bytes=model.size,
        parent_bytes=parent_bytes,
        sizes={"macs": model.macs} if model.macs else {},
    )


def labels_by_cell(
    models: Sequence[Model], setting: Setting
) -> Iterator[tuple[Question, dict[Key, np.ndarray]]]:
    """Cell by cell what is asked, and the predicted classes int [n] of every model that answers
    it, in the order of the question's ids, by (pipeline, ratio, seed)."""
    for name, asked in setting.questions.items():
        found = {}
        for model in (model for model in models if name in model.cells):
            found[model.key] = labels_in(model, name)[taken(model, setting, asked)]
        yield asked, found
