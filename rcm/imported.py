"""Predictions that were made elsewhere, analysed beside those of a study.

A folder (`--config.imported`) holds one `.npz` file per model, plain arrays only:

| array | what |
|---|---|
| `pipeline`, `seed` | a name that the study does not have, and which of its seeds this model is paired with |
| `ratio` | imbalance ratio of its training data, if it is not the study's first |
| `kind`, `baseline`, `parent` | as in `analysis.statistics.PipelineInfo`; "trained", "dense", "dense" |
| `bytes` | stored size, if it is known |
| `ids` | int [N], which test images it answered, by their canonical order; all of them in that order, if absent (`data.identity.positions` finds them by their pixels) |
| `label/<cell>` | int [N], the predicted classes |
| `logp_pred/<cell>`, `logp_true/<cell>`, `sum_p2/<cell>` | float [N]: natural logarithms of the probabilities of the predicted and of the true class, and the sum of all squared; what is absent is not measured |

A cell is `clean` or `<corruption>/<severity>`. Attacks and domains are not taken, and neither are
released images that cannot be aligned to the clean ones: no ids tell which of them was answered.
"""  # noqa: E501

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rcm import config
from rcm.analysis.metrics import Cell, MemberInfo, member_rows
from rcm.analysis.statistics import KINDS, PipelineInfo
from rcm.cells import CellSpec, OfficialSpec, Spec
from rcm.plan import Plan

OPTIONAL = ("logp_pred", "logp_true", "sum_p2")
WORDS = {"kind": "trained", "baseline": "dense", "parent": "dense"}


class Model(NamedTuple):
    """One file: who it is, which test images it answered, and its arrays by name and cell."""

    path: Path
    pipeline: PipelineInfo
    seed: int
    ratio: int
    size: int
    ids: np.ndarray
    arrays: dict[str, np.ndarray]


def load(folder: str, plan: Plan, cells: Sequence[Spec]) -> list[Model]:
    """The models in a folder. Raises ValueError, naming the file, for one that does not fit."""
    files = sorted(Path(folder).expanduser().glob("*.npz"))
    config.require(
        len(files) > 0,
        f"imported is {folder!r}, where there is no .npz file: expected a folder with one for each "
        "model.",
    )
    models = [_read(path, plan, cells) for path in files]
    own = {"dense", *(pipeline.name for pipeline in plan.pipelines)}
    known = own | {model.pipeline.name for model in models}
    seen = set()
    for model in models:
        name, key = model.pipeline.name, (model.pipeline.name, model.ratio, model.seed)
        config.require(
            name not in own,
            f"{model.path}: the study has a pipeline {name!r} of its own; choose another name.",
        )
        config.require(key not in seen, f"{model.path}: another file has the same model, {key}.")
        seen.add(key)
        for other in (model.pipeline.baseline, model.pipeline.parent):
            config.choose(f"pipeline, which {model.path.name} is compared with,", other, known)
    return models


def _read(path: Path, plan: Plan, cells: Sequence[Spec]) -> Model:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except Exception as error:  # zip, zlib and numpy raise many kinds for a broken file
        raise ValueError(
            f"{path} cannot be read ({error}): save plain arrays by np.savez."
        ) from error
    for name in ("pipeline", "seed"):
        config.require(name in found, f"{path} has no {name}: expected the fields of rcm.imported.")
    word = {name: str(found.get(name, default)) for name, default in WORDS.items()}
    config.choose(f"kind in {path.name}", word["kind"], KINDS)
    name = str(found["pipeline"])
    config.require(
        all(found.get(name, np.array(0)).shape == () for name in ("seed", "ratio", "bytes")),
        f"{path}: seed, ratio and bytes are single numbers; one file holds one model.",
    )
    ratio = int(found.get("ratio", plan.study.data.ratios[0]))
    config.require(
        ratio in plan.tails and 0 <= int(found["seed"]) < plan.study.seeds,
        f"{path}: the study has no ratio {ratio} with seed {int(found['seed'])} to compare with.",
    )
    ids = np.asarray(found.get("ids", np.arange(len(plan.dataset.test.labels))), np.int64)
    _check_arrays(path, found, ids, plan, cells)
    pipeline = PipelineInfo(name, name, word["kind"], word["baseline"], word["parent"])
    given = (int(found["seed"]), ratio, int(found.get("bytes", 0)))
    return Model(path, pipeline, *given, ids, found)


def _check_arrays(
    path: Path, found: dict[str, np.ndarray], ids: np.ndarray, plan: Plan, cells: Sequence[Spec]
) -> None:
    images, classes = len(plan.dataset.test.labels), len(plan.dataset.classes)
    config.require(
        ids.ndim == 1
        and 0 < len(np.unique(ids)) == len(ids)
        and ids.min() >= 0
        and ids.max() < images,
        f"{path}: ids must be different numbers from 0 to {images - 1}, one per answer.",
    )
    known = {cell_name(cell): cell for cell in cells if cell_name(cell)}
    arrays = {name: array for name, array in found.items() if "/" in name}
    for name, array in arrays.items():
        kind, _, cell = name.partition("/")
        config.choose(f"array in {path.name}", kind, ("label", *OPTIONAL))
        config.choose(f"cell of the study, in {path.name}", cell, known)
        config.require(
            array.shape == ids.shape,
            f"{path}: {name} has shape {array.shape}, expected one number for each of {len(ids)} "
            "test images; give `ids` if it answered only some.",
        )
        missing = np.setdiff1d(known[cell].ids, ids)
        config.require(
            len(missing) == 0,
            f"{path}: {name} leaves out {len(missing)} of the images that the study tests there.",
        )
    for cell in {name.partition("/")[2] for name in arrays}:
        labels = arrays.get(f"label/{cell}")
        config.require(labels is not None, f"{path} has no label/{cell}: give predicted classes.")
        assert labels is not None
        config.require(
            labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < classes,
            f"{path}: label/{cell} must hold classes from 0 to {classes - 1}.",
        )
    config.require("label/clean" in arrays, f"{path} has no label/clean: give predicted classes.")


def cell_name(cell: Spec) -> str:
    """What a file calls a cell; "" for one that cannot be imported."""
    if isinstance(cell, CellSpec) and cell.clean:
        return cell.shift if cell.shift == "clean" else ""
    aligned = isinstance(cell, OfficialSpec) and cell.release.order is not None
    return f"{cell.shift}/{cell.severity:g}" if isinstance(cell, CellSpec) or aligned else ""


def results(models: Sequence[Model], plan: Plan, cells: Sequence[Spec]) -> pd.DataFrame:
    """The tidy rows of imported models, like those of a study's own; without what is not known."""
    rows: list[dict] = []
    for model in models:
        info = _info(model, plan)
        groups = plan.tails[model.ratio].groups
        for cell in cells:
            name = cell_name(cell)
            if f"label/{name}" not in model.arrays:
                continue
            answers = _answers(model, name, cell.ids)
            rows += member_rows(info, cell.shift, cell.severity, answers, cell.labels, groups)
    known = [row for row in rows if not np.isnan(row["value"])]
    return pd.DataFrame([row for row in known if row["metric"] != "bytes" or row["value"] > 0])


def _answers(model: Model, cell: str, ids: np.ndarray) -> Cell:
    rows = np.argsort(model.ids)[np.searchsorted(np.sort(model.ids), ids)]
    unknown = np.full(len(model.ids), np.nan, np.float16)
    more = {name: model.arrays.get(f"{name}/{cell}", unknown)[rows] for name in OPTIONAL}
    return Cell(label=model.arrays[f"label/{cell}"][rows], **more)


def _info(model: Model, plan: Plan) -> MemberInfo:
    study, counts = plan.study, plan.tails[model.ratio].counts
    return MemberInfo(
        dataset=plan.dataset.name,
        model=f"{study.model.name}-w{study.model.width}",
        imbalance=study.data.imbalance,
        ratio=model.ratio,
        seed=model.seed,
        pipeline=model.pipeline.name,
        fingerprint=f"imported-{hashlib.sha256(model.path.read_bytes()).hexdigest()[:12]}",
        train_counts=tuple(int(count) for count in counts),
        n_max=int(counts.max()),
        deflated_bytes=model.size,
    )


def pipelines(models: Sequence[Model]) -> list[PipelineInfo]:
    """Their descriptions, each once."""
    return list({model.pipeline.name: model.pipeline for model in models}.values())
