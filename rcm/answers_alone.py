"""What the answers of models from elsewhere say, each model by itself: rows of results."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rcm.analysis.attacks import Attacked, attack_rows, worst_rows
from rcm.analysis.classification import GROUPS
from rcm.analysis.elsewhere import domain_rows, source_row
from rcm.analysis.metrics import CLEAN, Cell, MemberInfo, cell_of, member_rows
from rcm.analysis.subgroups import subgroup_rows, training_rows
from rcm.answers import DOMAIN, NATURAL, Question, Setting, info_of, norm_of, taken
from rcm.imported import LOGITS, OPTIONAL, Key, Model, arrays_in, labels_in, of_cell

OF_COUNTS = {"train_count", "posthoc_balanced_accuracy", *(f"recall_{g}" for g in GROUPS)}


def results(
    models: Sequence[Model], setting: Setting, sizes: Mapping[Key, int] | None = None
) -> pd.DataFrame:
    """The tidy rows of imported models, like those of a study's own; without what is not known.
    sizes: stored bytes of the study's members."""
    return as_table(rows_of(models, setting, sizes), setting)


def as_table(rows: Sequence[dict], setting: Setting) -> pd.DataFrame:
    """Rows as a results table, without columns of what is not known."""
    frame = pd.DataFrame(rows)
    counted = all(training.counts for training in setting.training.values())
    return frame if counted else frame.drop(columns=["n_max", "realised_ratio"])


def rows_of(
    models: Sequence[Model], setting: Setting, sizes: Mapping[Key, int] | None = None
) -> list[dict]:
    """What each model's answers say by themselves; sizes: of parents that are not among them."""
    sizes = {**(sizes or {}), **{model.key: model.size for model in models}}
    rows: list[dict] = []
    for model in models:
        parent = sizes.get((model.pipeline.parent or model.pipeline.name, *model.key[1:]), 0)
        rows += _rows(model, setting, parent)
    return rows


def _rows(model: Model, setting: Setting, parent_bytes: int) -> list[dict]:
    training = setting.training[model.ratio]
    info, rows, shifted = info_of(model, setting, parent_bytes), [], []
    for name, asked in setting.questions.items():
        if name not in model.cells:
            continue
        arrays, places = arrays_in(model.path, of_cell(model, name)), taken(model, setting, asked)
        cell = _cell(arrays, name, places, asked.labels)
        if asked.kind != NATURAL:
            shifted.append((asked, cell))
            continue
        where = (info, asked.shift, asked.severity)
        logits = arrays.get(f"{LOGITS}/{name}") if asked.shift == CLEAN else None
        all_classes = None if logits is None else logits[places]
        rows += member_rows(*where, cell, asked.labels, training.groups, all_classes)
        if setting.group is not None:
            own = (cell.label, asked.labels, setting.group[asked.ids])
            rows += subgroup_rows(*where, *own, setting.groups)
            if asked.shift == CLEAN and setting.group_counts is not None:
                rows += training_rows(info, setting.group_counts, setting.groups)
    if shifted:
        clean = setting.questions["clean"]
        right = labels_in(model, CLEAN)[taken(model, setting, clean)] == clean.labels
        rows += _shifted_rows(info, setting, shifted, right)
    unknown = set() if model.size else {"bytes"}
    unknown |= set() if training.counts else OF_COUNTS
    return [row for row in rows if not np.isnan(row["value"]) and row["metric"] not in unknown]


def confidence_in(model: Model, setting: Setting, asked: Question) -> np.ndarray:
    """float [n], a model's probabilities of what it predicts for clean images; NaN if unknown."""
    parts = (f"{LOGITS}/{CLEAN}", f"label/{CLEAN}", f"logp_pred/{CLEAN}")
    arrays = arrays_in(model.path, [name for name in parts if name in model.names])
    found = _cell(arrays, CLEAN, taken(model, setting, asked), asked.labels)
    return np.exp(found.logp_pred.astype(np.float32))


def _cell(
    arrays: Mapping[str, np.ndarray], name: str, places: np.ndarray, truth: np.ndarray
) -> Cell:
    """A model's answers to images of the classes `truth`; what it does not give is NaN."""
    if f"{LOGITS}/{name}" in arrays:
        return cell_of(arrays[f"{LOGITS}/{name}"][places], truth)
    unknown = np.full(len(places), np.nan, np.float16)
    more = {
        part: arrays[f"{part}/{name}"][places] if f"{part}/{name}" in arrays else unknown
        for part in OPTIONAL
    }
    return Cell(label=arrays[f"label/{name}"][places], **more)


def _shifted_rows(
    info: MemberInfo,
    setting: Setting,
    shifted: Sequence[tuple[Question, Cell]],
    right: np.ndarray,
) -> list[dict]:
    """Rows of attacks, their worst cases, and domains; right: bool [n], which of the clean test
    images a model answers rightly."""
    clean, rows = setting.questions["clean"], []
    balls: dict[tuple[str, float], tuple[np.ndarray, dict[str, Attacked]]] = {}
    for asked, cell in shifted:
        if asked.kind == DOMAIN:
            like = np.isin(clean.labels, asked.labels)
            rows += domain_rows(info, asked.shift, cell, asked.labels, setting.classes)
        else:
            like = np.isin(clean.ids, asked.ids)
            unknown = np.full(len(asked.ids), np.nan, np.float16)
            found = Attacked(cell, asked.labels, unknown, not asked.shift.startswith("square"))
            ball = balls.setdefault((norm_of(asked.shift), asked.severity), (like, {}))
            ball[1][asked.shift] = found
            rows += attack_rows(info, asked.shift, asked.severity, found, setting.classes)
        rows += source_row(info, asked.shift, asked.severity, right, like)
    for (norm, eps), (like, found) in balls.items():
        worst = worst_rows(info, eps, norm, found)
        for name in {row["shift"] for row in worst}:
            worst += source_row(info, name, eps, right, like)
        rows += worst
    return rows
