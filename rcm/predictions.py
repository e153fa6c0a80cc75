"""A folder of predictions made elsewhere, analysed without a study: `launch.py --analyse=FOLDER`.

What the folder holds is described in `rcm.imported`.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcm import config, imported
from rcm.analysis.attacks import WORST
from rcm.analysis.forgotten import indecision
from rcm.analysis.metrics import CLEAN, TRAINING, VALIDATION
from rcm.analysis.statistics import KINDS
from rcm.answers import ATTACK, DOMAIN, NATURAL, Question, Setting, Training, check, norm_of
from rcm.answers_alone import as_table, rows_of
from rcm.answers_together import together
from rcm.data import longtail
from rcm.files import write_json
from rcm.imported import LABELS, Model
from rcm.overview import write_index
from rcm.progress import Display
from rcm.report.methods_steps import counted
from rcm.report.page import RunInfo
from rcm.report.terminal import terminal_table
from rcm.reporting import CLAIMS, write_run
from rcm.shift.corruptions import CORRUPTIONS, SEVERITIES
from rcm.store import Store
from rcm.true_labels import WORDS, Arrays, classes_of, read_labels
from rcm.words import require_name


def execute(folder: str, workdir: str, command: str, display: Display) -> Path:
    """Analyse a folder of predictions; returns the path of the report, in a run folder of its own.

    Raises ValueError, with one sentence for the user, for anything in it that does not fit.
    """
    path = Path(os.path.realpath(Path(folder).expanduser()))
    require_name(path.name, "--analyse: the folder")
    found = read_labels(path / LABELS)
    words = {**WORDS, "dataset": path.name, "title": f"Predictions made elsewhere: {path.name}"}
    words |= {name: str(found[name]) for name in WORDS if name in found}
    config.choose(f"claims in {LABELS}", words["claims"], CLAIMS)
    config.choose(f"imbalance in {LABELS}", words["imbalance"], longtail.IMBALANCES)
    training = training_of(found, words["imbalance"])
    models = imported.find(folder, next(iter(training), 1))
    setting = setting_of(found, words, training, models)
    check(models, setting)
    pipelines = sorted(imported.pipelines(models), key=lambda one: KINDS.index(one.kind))
    more = together(models, setting, pipelines)
    frame = as_table([*rows_of(models, setting), *more.rows], setting)
    store = Store(workdir)
    files = {model.path.name: model.digest for model in models}
    own = config.fingerprint({**files, LABELS: imported.digest_of(path / LABELS)}, 10)
    run_folder = store.study(path.name, own)
    write_json(run_folder / "config.json", _described(folder, words, setting, models))
    store.log(run_folder, {"event": "finished", "command": command})
    run = RunInfo(
        title=words["title"],
        summary=_summary(models, setting),
        command=command,
        notes=_notes(models, setting),
        class_names=[str(name) for name in found.get("classes", ())],
        made_elsewhere=True,
    )
    identity = config.fingerprint([words["dataset"], found["labels"].tolist()])
    written = (run_folder, frame, pipelines, run, words["claims"], identity)
    tables = write_run(*written, tables=more.tables, pictures=more.pictures)
    display.show(terminal_table(tables, pipelines))
    display.say(f"Report: {run_folder / 'report.html'}")
    display.say(f"All studies of this workdir: {write_index(store.root)}")
    return run_folder / "report.html"


def training_of(found: Arrays, imbalance: str) -> dict[int, Training]:
    """Training counts and groups of classes by ratio, from the smallest; none if unknown.

    As in a study, the groups are read off the largest ratio and hold at all.
    """
    counts = {}
    for name, array in found.items():
        if name.startswith("train_counts"):
            named = name.partition("/")[2]
            counts[int(named or round(array.max() / max(array.min(), 1)))] = array
    if not counts:
        return {}
    groups = longtail.groups(counts[max(counts)].astype(int), imbalance)
    groups = tuple(map(str, groups))
    return {ratio: Training(tuple(counts[ratio].tolist()), groups) for ratio in sorted(counts)}


def setting_of(
    found: Arrays, words: dict[str, str], training: dict[int, Training], models: Sequence[Model]
) -> Setting:
    """What the models are tested on: every cell that one of them answers. Raises ValueError for
    cells and ratios that cannot be."""
    if not training:
        unknown = Training((), (longtail.HEAD,) * classes_of(found))
        training = {model.ratio: unknown for model in models}
    questions: dict[str, Question] = {}
    for model in models:
        config.require(
            model.ratio in training,
            f"{model.path}: {LABELS} has no train_counts/{model.ratio}, those of its ratio.",
        )
        for name in (name.partition("/")[2] for name in model.names):
            if name not in questions:
                questions[name] = _question(model.path, name, found)
    shifts = list(dict.fromkeys([CLEAN, *(asked.shift for asked in questions.values())]))
    ordered = sorted(
        questions.items(), key=lambda item: (shifts.index(item[1].shift), item[1].severity)
    )
    for kind in ("ids", "labels"):
        for name in (n.partition("/")[2] for n in found if n.startswith(f"{kind}/")):
            config.choose(f"cell of {kind} in {LABELS}", name, questions)
    _check_balls(questions)
    return Setting(
        words["dataset"],
        words["model"],
        words["imbalance"],
        len(found["labels"]),
        dict(ordered),
        training,
        found.get("group"),
        tuple(map(str, found.get("groups", ()))),
        shown=found.get("images"),
        human=_undecided(found.get("human")),
        names=tuple(map(str, found.get("classes", ()))),
        group_counts=found.get("group_counts"),
    )


def _undecided(answers: np.ndarray | None) -> np.ndarray | None:
    """`indecision` [N] of numbers or shares of people's answers [N, C]."""
    return None if answers is None else indecision(answers / answers.sum(1, keepdims=True))


def _check_balls(questions: Mapping[str, Question]) -> None:
    """Raise ValueError where attacks of one ball, whose worst case is told, differ in images."""
    balls: dict[tuple[str, float], Question] = {}
    for asked in (one for one in questions.values() if one.kind == ATTACK):
        first = balls.setdefault((norm_of(asked.shift), asked.severity), asked)
        config.require(
            np.array_equal(first.ids, asked.ids),
            f"{LABELS} gives {first.shift} and {asked.shift} other images at eps "
            f"{asked.severity:g}: attacks of one ball must be about the same ones.",
        )


def _question(path: Path, name: str, found: Arrays) -> Question:
    shift, _, strength = name.partition("/")
    if shift.startswith("domain:"):
        return _domain(path, name, found)
    shift, attacked = shift.removeprefix("attack:"), shift.startswith("attack:")
    require_name(shift, f"{path}: the shift")
    labels = found["labels"]
    ids = found.get(f"ids/{name}", np.arange(len(labels)))
    if name == CLEAN:
        return Question(CLEAN, 0.0, ids, labels[ids])
    try:
        severity = float(strength)
    except ValueError:
        severity = 0.0
    fits = 0 < severity < np.inf and f"{severity:g}" == strength
    config.require(
        fits and shift not in ("", CLEAN, VALIDATION, TRAINING, WORST),
        f"{path} has answers to {name!r}: expected clean, <corruption>/<severity>, as in fog/3, "
        "attack:<name>/<eps> or domain:<name>.",
    )
    if not attacked:
        _check_corruption(path, name, shift, strength)
    return Question(shift, severity, ids, labels[ids], *([ATTACK] if attacked else []))


def _check_corruption(path: Path, name: str, shift: str, strength: str) -> None:
    """Raise ValueError for a benchmark's corruption at a severity that it does not have, and for a
    name that is nearly one; others are corruptions of somebody else."""
    known = shift in CORRUPTIONS
    near = [] if known else difflib.get_close_matches(shift, CORRUPTIONS, n=1, cutoff=0.8)
    config.require(
        not near and (not known or strength in map(str, SEVERITIES)),
        f"{path} has answers to {name!r}: "
        + (
            f"did you mean {near[0]!r}? Name a corruption of your own less like it."
            if near
            else f"{shift} has the severities 1 to 5."
        ),
    )


def _domain(path: Path, name: str, found: Arrays) -> Question:
    domain, labels = name.removeprefix("domain:"), found.get(f"labels/{name}")
    require_name(domain, f"{path}: the domain")
    config.require(
        labels is not None and domain not in ("", CLEAN, VALIDATION, TRAINING),
        f"{path} has answers to {name!r}, whose true classes labels/{name} are not in {LABELS}.",
    )
    assert labels is not None
    return Question(domain, 0.0, np.arange(len(labels)), labels, DOMAIN)


def _described(
    folder: str, words: Mapping[str, str], setting: Setting, models: Sequence[Model]
) -> dict[str, Any]:
    """What was analysed, under the names that a study's config has."""
    kinds = {model.pipeline.name: model.pipeline.kind for model in models}
    return {
        "type": "Predictions",
        "name": Path(os.path.realpath(folder)).name,
        "folder": folder,
        "title": words["title"],
        "claims": words["claims"],
        "data": {
            "name": setting.dataset,
            "imbalance": setting.imbalance,
            "ratios": sorted(setting.training),
        },
        "model": {"name": setting.model},
        "seeds": len({model.seed for model in models}),
        "pipelines": [{"name": name, "kind": kind} for name, kind in kinds.items()],
    }


def _summary(models: Sequence[Model], setting: Setting) -> str:
    names = {NATURAL: "corruption", ATTACK: "attack", DOMAIN: "domain"}
    asked = [(one.kind, one.shift) for one in setting.questions.values() if one.shift != CLEAN]
    counts = {kind: sum(own == kind for own, _ in set(asked)) for kind in names}
    told = [counted(counts[kind], name) for kind, name in names.items() if counts[kind]]
    shifted = f"; {', '.join(told)}" if told else ""
    return f"The answers of {len(models)} models to {setting.images:,} test images{shifted}."


def _notes(models: Sequence[Model], setting: Setting) -> list[str]:
    """What a reader should know about what the files lack."""
    counts = {name: sum(name in model.cells for model in models) for name in setting.questions}
    few = [f"{name} {count}" for name, count in counts.items() if count < len(models)]
    notes = []
    if few:
        notes.append(f"Not all {len(models)} models answered every cell, but: {', '.join(few)}.")
    if not next(iter(setting.training.values())).counts:
        notes.append("Without training counts nothing is said about frequent and rare classes.")
    if not all(model.size for model in models):
        notes.append("Not every file gives a stored size, so trade-offs leave those models out.")
    return notes
