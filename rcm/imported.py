"""Predictions that were made elsewhere: beside those of a study, or a folder of them alone.

`--config.imported=FOLDER` puts them beside a study's own. `--analyse=FOLDER` needs no study: there
the folder also has a file `labels.npz`, and the dense parents are models in it like all others.
Each other `.npz` file is one model. All hold plain arrays only:

| array of a model | what |
|---|---|
| `pipeline` | its name; beside a study one that the study does not have |
| `seed` | models of one seed are paired: a compressed one came from its parent of that seed, or was trained alike |
| `ratio` | imbalance ratio of its training data; if absent the first of the study or of `labels.npz` |
| `kind`, `baseline`, `parent` | as in `analysis.statistics.PipelineInfo`; if absent "trained", "dense", "dense"; of kind "dense" none of the other two |
| `title`, `techniques`, `bits`, `sparsity` | what people call it; for claims, names of `rcm.compress.TECHNIQUES` [T], mean bits and share of weights pruned |
| `bytes`, `macs` | stored size, and multiply-accumulates for an image, if they are known |
| `ids` | int [N], which test images it answered, by their place among all (in a study their canonical order, where `data.identity.positions` finds them by their pixels); if absent all of them in that order |
| `label/<cell>` | int [N], the predicted classes |
| `logp_pred/<cell>`, `logp_true/<cell>`, `sum_p2/<cell>` | float [N]: natural logarithms of the probabilities of the predicted and of the true class, and the sum of all squared; what is absent is not measured |
| `logits/<cell>` | float [N, C], of at most 60,000 in size, in place of these four, which follow from it; clean ones also give calibration by class and post-hoc adjusted accuracy |

A cell is `clean`, `<corruption>/<severity>`, `attack:<name>/<eps>`, answers to test images that were
attacked for this model within a ball of so many 255ths (names that end with `_l2` are of that norm, and
those that begin with `square` follow no gradient), or `domain:<name>`, answers to images from
elsewhere; beside a study one of the study's own, under the names of its results. Corruptions of the
benchmark have severities 1 to 5; others may have any name that is not nearly one of theirs. Released
images that cannot be aligned to the clean ones are not taken: no ids tell which was answered. `ids` of
a model hold for all of its cells: beside a study that corrupts a subset of its test images, give
answers to all of them in every cell.

| array of `labels.npz` | what |
|---|---|
| `labels` | int [N], true classes of all test images |
| `classes` | str [C], their names under pictures; needed if some class has no test image and no training counts |
| `train_counts`, or `train_counts/<ratio>` of each ratio | int [C], training images of each class; without them nothing is said about rare classes |
| `ids/<cell>` | int [n], the test images that a cell is about, if not all, of those that models answer by their `ids`; the same for all attacks of an eps and norm |
| `labels/domain:<name>` | int [n], true classes of a domain's images, in whose order models answer |
| `group`, `groups`, `group_counts` | int [N] and str [G]: subgroup of every test image, and their names; int [G, C], if known: how many training images of each subgroup and class there are |
| `images` | uint8 [N, H, W, 3] or [N, H, W], the test images, to show those that are forgotten |
| `human` | [N, C], numbers or shares of people's answers to every test image, as in CIFAR-10H |
| `dataset`, `model`, `imbalance`, `title` | words for the report; imbalance is "exp" (rare classes by thirds) or "step" |
| `claims` | "S1" to "S5", if those of a protocol are to be decided |

This writes such a folder::

    import numpy as np, pathlib

    folder = pathlib.Path("predictions")
    folder.mkdir()
    true = np.repeat([0, 1, 2], 4)  # twelve test images
    np.savez(folder / "labels.npz", labels=true, train_counts=[400, 80, 20])
    for seed in range(3):
        for name, kind, missed in (("dense", "dense", 1 + seed % 2), ("qat", "trained", 2 + seed)):
            found = {"clean": true.copy(), "fog/3": np.roll(true, missed)}
            found["clean"][-missed:] = 0
            arrays = {f"label/{cell}": answers for cell, answers in found.items()}
            model = dict(pipeline=name, kind=kind, seed=seed, bytes=900 // missed)
            np.savez(folder / f"{name}{seed}.npz", **model, **arrays)
"""  # noqa: E501

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rcm import config, foreign
from rcm.analysis.statistics import KINDS, PipelineInfo
from rcm.words import require_name

LABELS = "labels.npz"
SAVE = "save plain arrays by np.savez"
OPTIONAL = ("logp_pred", "logp_true", "sum_p2")
LOGITS = "logits"
WHOLE, BROKEN = ("seed", "ratio", "bytes", "macs"), ("bits", "sparsity")
MOST = dict(zip((*WHOLE, *BROKEN), (2**31, 2**31, 2**53, 2**53, 64, 1), strict=True))
NAMES = ("pipeline", "kind", "baseline", "parent", "title")
FIELDS = (*NAMES, "techniques", "ids", *WHOLE, *BROKEN)
Key = tuple[str, int, int]  # pipeline, ratio, seed


class Model(NamedTuple):
    """One file: who it is, which test images it answered (None: all), and its arrays' names."""

    path: Path
    pipeline: PipelineInfo
    seed: int
    ratio: int
    size: int
    macs: int
    ids: np.ndarray | None
    names: tuple[str, ...]
    digest: str

    @property
    def key(self) -> Key:
        return self.pipeline.name, self.ratio, self.seed

    @property
    def cells(self) -> set[str]:
        return {name.partition("/")[2] for name in self.names}


def find(folder: str, ratio: int) -> list[Model]:
    """Who the models in a folder are, of that ratio where they give none; their answers are not
    looked at. Raises ValueError, naming the file, for one that is not a model."""
    files = sorted(Path(folder).expanduser().glob("*.npz"))
    files = [path for path in files if path.name != LABELS]
    config.require(
        len(files) > 0,
        f"there is no .npz file of a model in {folder!r}: expected a folder with one for each "
        "model.",
    )
    models = [_model(path, ratio) for path in files]
    seen: dict[Key, Path] = {}
    described: dict[str, Model] = {}
    for model in models:
        config.require(
            model.key not in seen,
            f"{model.path}: another file, {seen.get(model.key, model.path).name}, has the same "
            f"model, {model.key}.",
        )
        seen[model.key] = model.path
        first = described.setdefault(model.pipeline.name, model)
        config.require(
            model.pipeline == first.pipeline,
            f"{model.path} describes the pipeline {model.pipeline.name!r} otherwise than "
            f"{first.path.name}: give both the same kind, baseline, parent and other words.",
        )
    return models


def names_in(path: Path) -> tuple[str, ...]:
    """Of the arrays in an `.npz` file. Raises ValueError for one that is none."""
    try:
        return foreign.array_names(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): {SAVE}.") from error


def arrays_in(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file by name. Raises ValueError for a damaged one."""
    try:
        return foreign.read_arrays(path, names)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): {SAVE}.") from error


def labels_in(model: Model, cell: str) -> np.ndarray:
    """int [N], the classes that a model predicts in a cell that it answers. Raises as above."""
    name = f"label/{cell}"
    if name in model.names:
        return arrays_in(model.path, [name])[name]
    name = f"{LOGITS}/{cell}"
    return arrays_in(model.path, [name])[name].astype(np.float32).argmax(-1)  # as `cell_of` has it


def of_cell(model: Model, cell: str) -> tuple[str, ...]:
    """The names of a model's arrays of a cell: of other cells none is in memory meanwhile."""
    return tuple(name for name in model.names if name.partition("/")[2] == cell)


def _model(path: Path, ratio: int) -> Model:
    names = names_in(path)
    fields = arrays_in(path, [name for name in names if "/" not in name])
    for name in fields:
        config.choose(f"array in {path.name}", name, FIELDS)
    for name in ("pipeline", "seed"):
        config.require(
            name in fields, f"{path} has no {name}: expected the fields of rcm.imported."
        )
    numbers = {"ratio": ratio, "bytes": 0, "macs": 0, "bits": 0.0, "sparsity": 0.0}
    for name in {*WHOLE, *BROKEN} & set(fields):
        numbers[name] = _number(path, name, fields[name])
    return Model(
        path,
        _pipeline(path, fields, *(numbers[name] for name in BROKEN)),
        int(numbers["seed"]),
        int(numbers["ratio"]),
        int(numbers["bytes"]),
        int(numbers["macs"]),
        fields.get("ids"),
        tuple(name for name in names if "/" in name),
        digest_of(path),
    )


def digest_of(path: Path) -> str:
    """What identifies a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]


def _number(path: Path, name: str, array: np.ndarray) -> float:
    one = array.shape == () and array.dtype.kind in "iuf"
    whole = one and (name in BROKEN or float(array).is_integer())
    config.require(
        whole and 0 <= float(array) <= MOST[name],
        f"{path}: seed, ratio, bytes and macs are single numbers, whole and at least 0 (bits, "
        f"up to 64, and sparsity, up to 1, may be broken); one file holds one model; its {name} is "
        f"{float(array) if one else f'{array.dtype} {list(array.shape)}'}.",
    )
    return float(array)


def word(path: Path, name: str, array: np.ndarray) -> str:
    """The text that an array consists of. Raises ValueError for another one."""
    config.require(
        array.shape == () and array.dtype.kind == "U",
        f"{path}: {name} must be one text, not {array.dtype} {list(array.shape)}.",
    )
    require_name(str(array), f"{path}: {name}")
    return str(array)


def words(path: Path, name: str, array: np.ndarray) -> tuple[str, ...]:
    """The texts in an array, in one row. Raises ValueError for another one."""
    config.require(array.ndim == 1, f"{path}: {name} must be texts in one row.")
    return tuple(word(path, name, np.asarray(one)) for one in array)


def _pipeline(
    path: Path, fields: dict[str, np.ndarray], bits: float, sparsity: float
) -> PipelineInfo:
    told = {name: word(path, name, fields[name]) for name in NAMES if name in fields}
    name, kind = told["pipeline"], told.get("kind", "trained")
    config.choose(f"kind in {path.name}", kind, KINDS)
    usual = "" if kind == "dense" else config.DENSE
    baseline, parent = (told.get(other, usual) for other in ("baseline", "parent"))
    config.require(
        kind != "dense" or not baseline + parent,
        f"{path}: a dense model is compared with no other; leave out baseline and parent.",
    )
    used = words(path, "techniques", np.atleast_1d(fields.get("techniques", np.array([], str))))
    title = told.get("title", name)
    return PipelineInfo(name, title, kind, baseline, parent, used, bits, sparsity)


def pipelines(models: Sequence[Model]) -> list[PipelineInfo]:
    """Their descriptions, each once."""
    return list({model.pipeline.name: model.pipeline for model in models}.values())
