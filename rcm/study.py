"""A study from config to report: plan, run, evaluate, tabulate, show."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rcm import (
    answers,
    answers_alone,
    backend,
    calibrate,
    config,
    imported,
    populations,
    predictors,
)
from rcm.analysis.statistics import PipelineInfo
from rcm.cells import Spec, attack_label, cells_of
from rcm.compress import TECHNIQUES
from rcm.config import DENSE, Study
from rcm.data import datasets, domains, wrong_labels
from rcm.data.official import Release
from rcm.estimate import H200, here, plan_table, total_cost
from rcm.overview import write_index
from rcm.pipelines import kind_and_baseline, label_of, last_sparsity, mean_bits, repair_of
from rcm.plan import Plan, make_plan
from rcm.progress import Display
from rcm.records import Damaged
from rcm.report.layout import terminal_table
from rcm.reporting import CLAIMS, outdated_notes, save_report
from rcm.results import read_results
from rcm.run import Runner
from rcm.shift import attacks, corruptions, frost
from rcm.steps import core
from rcm.store import Store, write_json
from rcm.study_export import export_members
from rcm.study_export import validate as validate_export
from rcm.sweep import Execution
from rcm.testing import Tester
from rcm.validation import validate_study


@dataclass(frozen=True)
class Options:
    """How to run, as opposed to what: none of these changes a result's meaning."""

    workdir: str = "runs"
    strategy: str = "auto"
    lanes: int = 0
    dry_run: bool = False
    report_only: bool = False
    command: str = ""
    export: tuple[str, ...] = ()  # pipelines
    export_formats: tuple[str, ...] = ("stablehlo",)
    eval_memory: float = 2.0  # GiB


def execute(study: Study, options: Options, display: Display) -> Path | None:
    """Run (or plan, or only report) a study; returns the path of its report.

    Raises ValueError, with one sentence for the user, for anything that cannot be run as asked,
    before any long work starts.
    """
    plan, cells = prepare(study)
    study = plan.study
    validate_export(plan, options.export, options.export_formats)
    config.require(
        options.eval_memory > 0,
        f"--eval_memory is {options.eval_memory:g}: give GiB above 0, such as 2.",
    )
    asked = answers.of_study(plan, cells)
    models = answers.load(study.imported, asked) if study.imported else []
    if plan.weights:
        display.say(plan.weights.note)
    choice = backend.choose_execution(options.strategy, options.lanes)
    if options.dry_run:
        execution = choice if options.lanes else backend.fitted(choice, plan.largest)
        display.console.print(plan_table(plan, cells, here(execution)))
        lanes = f"strategy {execution.strategy}, {execution.lanes} lanes"
        display.say(f"Machine: {backend.hardware()}; {lanes}.")
        hours = total_cost(plan, cells, H200).seconds / 3600
        display.say(
            f"On one NVIDIA H200 about {hours:,.1f} h, one process at the rate measured with "
            "ResNet-20."
        )
        display.say("Times are estimated; what is finished already costs nothing.")
        return None
    config.require(
        not options.report_only or Path(options.workdir).is_dir(),
        f"There is no workdir {options.workdir} to report on: run without --report_only first.",
    )
    store = Store(options.workdir)
    folder = store.study(study.name, study_fingerprint(study))
    if not folder.exists() and store.others(study.name):
        display.say(f"This config is new here: its results go to a folder of their own, {folder}.")
    write_json(folder / "config.json", config.plain(study))
    started = time.monotonic()
    frame = results(plan, store, cells, choice, options, display)
    if models:
        frame = pd.concat([frame, answers_alone.results(models, asked)], ignore_index=True)
    seconds = time.monotonic() - started
    note = plan.weights.note if plan.weights else ""
    event = {"event": "finished", "seconds": seconds, "command": options.command, "weights": note}
    store.log(folder, event)
    pipelines = [*describe_pipelines(plan), *imported.pipelines(models)]
    report = (plan, cells, store, folder, frame, pipelines, options.command)
    path, main = save_report(*report)
    for line in [*store.damage, *outdated_notes(store)]:
        display.say(line)
    display.console.print(terminal_table(main, pipelines))
    display.say(f"Report: {path}")
    display.say(f"All studies of this workdir: {write_index(store.root)}")
    if options.export:
        wanted = (options.export, options.export_formats)
        refused = export_members(plan, store, folder, *wanted, display)
        save_report(*report)  # with their bytes
        config.require(not refused, f"{refused} files were not written; see the reasons above.")
    return path


def prepare(study: Study) -> tuple[Plan, list[Spec]]:
    """The plan and the evaluation cells. Raises ValueError for anything that could not run."""
    validate_study(study)
    config.choose("claims", study.claims, CLAIMS)
    validate_shift(study.shift)
    where = (study.data.data_dir, backend.cache_folder() / "arrays")
    photographs = {"size": study.data.size, "skip_unreadable": study.data.skip_unreadable}
    dataset = datasets.load(study.data.name, *where, **photographs)
    attacks.validate(study.shift.attacks, len(dataset.classes))
    height, width = dataset.test.images.shape[1:3]
    config.require(
        not study.shift.corruptions or height % 8 == width % 8 == 0,
        f"Corruptions need images whose sides are multiples of 8, not {height} x {width}: pad or "
        "crop them, or leave shift.corruptions empty.",
    )
    if "frost" in study.shift.corruptions:
        frost.tables(height, width, study.shift.frost_dir)  # complains now, not after training
    photographs["size"] = max(height, width)  # of a domain: as large as the source's images
    elsewhere = [domains.load(n, dataset, *where, **photographs) for n in study.shift.domains]
    names = [domain.name for domain in elsewhere]
    taken = ("clean", "clean_val", "clean_train", *study.shift.corruptions)
    for name in names:
        config.require(
            names.count(name) == 1 and name not in taken,
            f"Two of the shifts are called {name!r}, as a domain is after its folder or file: "
            "rename one.",
        )
    release = None
    if study.shift.official and study.shift.corruptions:
        release = Release(study.shift.official, study.data.name, dataset.test, *where)
        release.check(study.shift.corruptions)
    plan = make_plan(study, dataset)
    given = (study.shift, dataset, plan.validation, elsewhere, release, source_marks(plan))
    return plan, cells_of(*given, training=training_images(plan))


def training_images(plan: Plan) -> np.ndarray:
    """Indices of the training images that are tested, which members of all ratios have; none unless
    asked for. Raises ValueError where none of them could be told to have a wrong label."""
    study, train = plan.study, plan.dataset.train
    count, table = study.shift.train_images, plan.tails[max(study.data.ratios)].table
    config.require(
        not count or bool(study.data.label_noise) or populations.has_people(plan, "cifar10_n"),
        f"shift.train_images is {count}, but no training image has a wrong label to forget: give "
        "data.label_noise above 0, or CIFAR-10 with CIFAR-10N beside it, or leave them out.",
    )
    if not count:
        return table[:0]
    return wrong_labels.tested(table, train.labels, plan.labels, count, study.shift.seed)


def source_marks(plan: Plan) -> dict[str, str]:
    """What identifies all of a pipeline's members together, by pipeline."""
    members: dict[str, list[str]] = {}
    for (pipeline, _, _), fingerprint in plan.ends.items():
        members.setdefault(pipeline, []).append(fingerprint)
    return {name: config.fingerprint(sorted(found), 8) for name, found in members.items()}


def validate_shift(shift: config.Shift) -> None:
    """Raise ValueError for corruptions and severities that are unknown or named twice, and for
    attacks that are none."""
    config.require(
        all(isinstance(attack, config.Attack) for attack in shift.attacks),
        f"shift.attacks holds {shift.attacks!r}: expected Attack(name, ...), written in the "
        "study's file; they cannot be given as a flag.",
    )
    config.require(
        len(shift.severities) > 0 or not shift.corruptions,
        "shift.severities is empty, so that corruptions would not be tested: name some, or leave "
        "shift.corruptions empty.",
    )
    corruptions.validate(shift.corruptions, shift.severities)
    config.require(
        "clean" not in shift.corruptions,
        "shift.corruptions holds 'clean', which is always tested: leave it out.",
    )
    config.require(
        not shift.frost_dir or "frost" in shift.corruptions,
        f"shift.frost_dir is {shift.frost_dir!r}, but frost is not among shift.corruptions: add it "
        "or leave the folder out.",
    )
    named = [("attacks", tuple(map(attack_label, shift.attacks)))]
    for name, values in [
        *((n, getattr(shift, n)) for n in ("corruptions", "severities", "domains")),
        *named,
    ]:
        config.require(len(set(values)) == len(values), f"shift.{name} repeats itself: {values}.")


def study_fingerprint(study: Study) -> str:
    """Names the study's folder: everything but what changes no result."""
    data = dataclasses.replace(study.data, data_dir="")
    shift = dataclasses.replace(study.shift, cache=False)
    same = dataclasses.replace(study, checkpoint_seconds=0.0, data=data, shift=shift)
    return config.fingerprint(same, 10)


def results(
    plan: Plan,
    store: Store,
    cells: list[Spec],
    choice: Execution,
    options: Options,
    display: Display,
) -> pd.DataFrame:
    """The results table: trained and tested where something is missing, else read.

    What turns out damaged on the way is named, set aside and made again.
    """
    if options.report_only:
        try:
            return read_results(plan, store, cells)
        except Damaged as error:
            raise ValueError(f"{error}: run the command without --report_only first.") from error
    runner = Runner(plan, store, choice, not options.lanes, display)
    automatic = options.strategy == "auto" and not options.lanes
    if (
        automatic
        and total_cost(plan, cells, here(runner.execution)).seconds > calibrate.LONG_PLAN_SECONDS
    ):
        runner.calibrate()
    while True:
        try:
            runner.run()
            make_tester(runner, options).run(cells)
            predictors.measure(plan, store, runner.execution.devices, display)
            return read_results(plan, store, cells, discard=True)
        except Damaged as error:
            runner.make_again(error)


def make_tester(runner: Runner, options: Options) -> Tester:
    """What tests the members that a runner has brought into the store, by the same strategy."""
    cache = backend.cache_folder() / "shifted"
    where = (runner.plan, runner.store, runner.execution, runner.display)
    return Tester(*where, memory=options.eval_memory * 2**30, cache=cache)


def describe_pipelines(plan: Plan) -> list[PipelineInfo]:
    """Kind, baseline and parent of every pipeline, by the rules of the study protocols."""
    names = {technique: name for name, technique in TECHNIQUES.items()}
    infos = [PipelineInfo(DENSE, DENSE, "dense")]
    for pipeline in plan.pipelines:
        kind, baseline = kind_and_baseline(pipeline, plan.study)
        cores = [core(step) for step in pipeline.steps]
        used = tuple(names[type(step)] for step in cores if type(step) in names)
        numbers = (mean_bits(pipeline.steps), last_sparsity(pipeline.steps))
        repair = repair_of(pipeline.steps, plan.study)
        label = label_of(pipeline, plan.study)
        infos.append(
            PipelineInfo(pipeline.name, label, kind, baseline, DENSE, used, *numbers, repair)
        )
    return infos
