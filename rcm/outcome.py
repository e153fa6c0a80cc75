"""What comes of a study once everything is tested: its table of results, its report, its exports.

Its libraries take as long to import as the first steps of training, so `study` imports it late.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rcm import answers, answers_alone, config, imported
from rcm.analysis.metrics import agreement_rows
from rcm.analysis.statistics import PipelineInfo
from rcm.answers import Setting
from rcm.baselines import kind_and_baseline, parent_names
from rcm.cells import Spec
from rcm.compress import TECHNIQUES
from rcm.config import DENSE
from rcm.imported import Model
from rcm.overview import write_index
from rcm.pipelines import label_of, last_sparsity, mean_bits, repair_of
from rcm.plan import Plan
from rcm.progress import Display
from rcm.report.terminal import terminal_table
from rcm.reporting import outdated_notes, save_report
from rcm.results import answers_to, member_infos
from rcm.steps import core
from rcm.store import Store
from rcm.study_export import export_members


class Elsewhere(NamedTuple):
    """Models of other frameworks, and what they were asked."""

    models: list[Model]
    asked: Setting


def elsewhere(plan: Plan, cells: Sequence[Spec]) -> Elsewhere:
    """The models that a study imports, checked. Raises ValueError for answers that do not fit."""
    asked = answers.of_study(plan, cells)
    return Elsewhere(answers.load(plan.study.imported, asked), asked)


def together(
    plan: Plan, cells: Sequence[Spec], store: Store, frame: pd.DataFrame, found: Elsewhere | None
) -> tuple[pd.DataFrame, list[PipelineInfo]]:
    """The results of a study and of what it imports, and what all their pipelines are."""
    if found is None:
        return frame, describe_pipelines(plan)
    stored = frame[frame["metric"] == "bytes"]
    keys = zip(stored["pipeline"], stored["ratio"], stored["seed"], strict=True)
    sizes = dict(zip(keys, stored["value"].astype(int), strict=True))
    theirs = answers_alone.results(found.models, found.asked, sizes)
    pipelines = [*describe_pipelines(plan), *imported.pipelines(found.models)]
    agreed = pd.DataFrame(_agreements(plan, cells, store, found))
    return pd.concat([frame, theirs, agreed], ignore_index=True), pipelines


def _agreements(plan: Plan, cells: Sequence[Spec], store: Store, found: Elsewhere) -> list[dict]:
    """What imported models answer otherwise than the study's members that they are made of; of two
    imported ones nothing is compared."""
    rows, infos = [], member_infos(plan, store)
    by_key = {model.key: model for model in found.models}
    of_name = {answers.cell_name(cell): cell for cell in cells}
    every = zip(
        found.asked.questions, answers.labels_by_cell(found.models, found.asked), strict=True
    )
    for name, (asked, labels) in every:
        if asked.kind == answers.ATTACK:  # each model was shown images of its own
            continue
        parents = {key: (by_key[key].pipeline.parent, *key[1:]) for key in labels}
        asking = {end: infos[end] for end in parents.values() if end in infos}
        said = answers_to(store, of_name[name], asking)
        for key, own in labels.items():
            if parents[key] in said:
                both = answers.info_of(by_key[key], found.asked), infos[parents[key]]
                compared = asked.labels, own, said[parents[key]]["label"]
                rows += agreement_rows(*both, asked.shift, asked.severity, *compared)
    return rows


def report(
    plan: Plan,
    cells: list[Spec],
    store: Store,
    folder: Path,
    frame: pd.DataFrame,
    pipelines: list[PipelineInfo],
    command: str,
    display: Display,
    export: tuple[Sequence[str], Sequence[str]],
) -> Path:
    """Write the report of results, and the model files that are asked for; the report's path.

    command: what the user typed; export: pipelines and formats. Raises ValueError if such a file
    was refused.
    """
    given = (plan, cells, store, folder, frame, pipelines, command)
    path, tables = save_report(*given)
    for line in [*store.damage, *outdated_notes(store)]:
        display.say(line)
    display.show(terminal_table(tables, pipelines))
    display.say(f"Report: {path}")
    display.say(f"All studies of this workdir: {write_index(store.root)}")
    if export[0]:
        refused = export_members(plan, store, folder, *export, display)
        save_report(*given)  # with their bytes
        config.require(not refused, f"{refused} files were not written; see the reasons above.")
    return path


def describe_pipelines(plan: Plan) -> list[PipelineInfo]:
    """Kind, baseline and parent of every pipeline, by the rules of the study protocols."""
    names = {technique: name for name, technique in TECHNIQUES.items()}
    infos, parents = [PipelineInfo(DENSE, DENSE, "dense")], parent_names(plan.pipelines, plan.study)
    for pipeline in plan.pipelines:
        kind, baseline = kind_and_baseline(pipeline, plan.study)
        baseline = parents[pipeline.name] if kind == "control" else baseline
        cores = [core(step) for step in pipeline.steps]
        used = tuple(names[type(step)] for step in cores if type(step) in names)
        numbers = (mean_bits(pipeline.steps), last_sparsity(pipeline.steps))
        repair = repair_of(pipeline.steps, plan.study)
        label, parent = label_of(pipeline, plan.study), parents[pipeline.name]
        infos.append(
            PipelineInfo(pipeline.name, label, kind, baseline, parent, used, *numbers, repair)
        )
    return infos
