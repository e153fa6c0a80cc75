"""A study from config to report: plan, run, evaluate, tabulate, show."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

from rcm import backend, calibrate, config, kept, memory, predictors
from rcm.cells import Spec
from rcm.config import Study
from rcm.data import stream
from rcm.estimate import H200, here, plan_table, total_cost
from rcm.files import write_json, write_note
from rcm.hosts import Hosts
from rcm.inventory import REFERENCES
from rcm.plan import Plan
from rcm.preparation import prepare, study_fingerprint
from rcm.progress import Display
from rcm.records import Damaged
from rcm.references import references
from rcm.run import Runner
from rcm.schedule import load, unfilled
from rcm.shared import require_shared
from rcm.store import Store
from rcm.study_export import validate as validate_export
from rcm.sweep import Execution
from rcm.testing import Tester


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
    keep: tuple[str, ...] = ("2",)  # how many checkpoints of an interrupted round, or bytes


def execute(
    study: Study, options: Options, display: Display, hosts: Hosts | None = None
) -> Path | None:
    """Run (or plan, or only report) a study; returns the path of its report, in a distributed run
    to the process that leads.

    Raises ValueError, with one sentence for the user, for anything that cannot be run as asked,
    before any long work starts.
    """
    hosts = hosts or Hosts()
    display.join(hosts)
    with stream.without_downloads() if options.dry_run else contextlib.nullcontext():
        plan, cells = prepare(study)
    study = plan.study
    validate_export(plan, options.export, options.export_formats)
    config.require(
        options.eval_memory > 0,
        f"--eval_memory is {options.eval_memory:g}: give GiB above 0, such as 2.",
    )
    keep = kept.limits(options.keep)
    found = outcome().elsewhere(plan, cells) if study.imported else None
    if plan.weights:
        display.say(plan.weights.note)
    choice = backend.choose_execution(options.strategy, options.lanes)
    if options.dry_run:
        foretell(plan, cells, choice, options, display, hosts)
        return None
    config.require(
        not options.report_only or Path(options.workdir).is_dir(),
        f"There is no workdir {options.workdir} to report on: run without --report_only first.",
    )
    store = Store(options.workdir, keep=keep)
    require_shared(store, hosts)
    given = (plan, store, cells, choice, options, display, hosts)
    runner = None if options.report_only else ready(*given)
    folder = store.study(study.name, study_fingerprint(study))
    if not folder.exists() and store.others(study.name):
        display.say(f"This config is new here: its results go to a folder of their own, {folder}.")
    if hosts.leads:
        if not options.report_only:  # then only once all its stages were found
            write_note(folder / REFERENCES, references(plan, cells))
        write_json(folder / "config.json", config.plain(study))
    started = time.monotonic()
    frame, idle = results(plan, store, cells, runner, options, display, hosts)
    event = {"event": "finished", "seconds": time.monotonic() - started}
    event |= {"waited": hosts.gather(hosts.waited), "idle": hosts.gather(idle)}
    event |= {"command": options.command, "weights": plan.weights.note if plan.weights else ""}
    try:
        if frame is None:  # another process reports
            return None
        if options.report_only:
            write_note(folder / REFERENCES, references(plan, cells))
        store.log(folder, event)
        given = (plan, cells, store, folder, *outcome().together(plan, cells, store, frame, found))
        export = (options.export, options.export_formats)
        return outcome().report(*given, options.command, display, export)
    finally:
        hosts.gather()


def foretell(
    plan: Plan,
    cells: list[Spec],
    choice: Execution,
    options: Options,
    display: Display,
    hosts: Hosts,
) -> None:
    """Print what a study will take, in time and memory; raises ValueError if it does not fit."""
    execution = choice if options.lanes else backend.fitted(choice, plan.largest)
    show_plan(plan, cells, execution, choice.devices, display, hosts)
    store = Store(options.workdir, create=False)
    tester = make_tester(Runner(plan, store, execution, False, display, hosts), options)
    given = (plan.jobs.values(), plan, tester.members, execution, hosts.beside)
    training = memory.require(*given, exactly=True)
    held = training.programs if training else 0.0
    testing = tester.require(cells, exactly=True, held=held)
    display.say(memory.told(training, testing, hosts.beside))


def show_plan(
    plan: Plan,
    cells: list[Spec],
    execution: Execution,
    devices: int,
    display: Display,
    hosts: Hosts,
) -> None:
    """Print what a study will take on these devices, in as many processes as there are, and on one
    H200."""
    machine = here(execution)
    display.show(plan_table(plan, cells, machine))
    lanes = f"strategy {execution.strategy}, {execution.lanes} lanes"
    display.say(f"Machine: {backend.hardware()}; {lanes}.")
    if execution.devices < devices:
        display.say(
            f"{devices - execution.devices} of {devices} devices stay idle: no stage has more than "
            f"{plan.largest} member{'s' if plan.largest > 1 else ''}."
        )
    empty = unfilled(plan, machine)
    if empty >= 0.005 and execution.devices > 1:
        display.say(
            f"{empty:.0%} of the training time of these {execution.devices} devices has no member: "
            "a multiple of their number, of seeds times ratios, would fill it."
        )
    if hosts.count > 1:
        shared = load(plan, machine, hosts.count)
        display.say(
            f"In {hosts.count} processes like this one training takes {shared.seconds / 60:,.1f} "
            f"min; {shared.idle:.0%} of their time is waiting for the longest of a wave."
        )
    minutes = total_cost(plan, cells, H200).seconds / 60
    time = f"{minutes:,.1f} min" if minutes < 60 else f"{minutes / 60:,.1f} h"
    display.say(f"On one NVIDIA H200 about {time}, one process at a ResNet-20's rate.")
    display.say("Times are estimated; what is finished already costs nothing.")


def outcome() -> ModuleType:
    """What reads and shows results, imported when that is asked for."""
    from rcm import outcome as found

    return found


def table(plan: Plan, store: Store, cells: list[Spec], discard: bool = False) -> "pd.DataFrame":
    """`read_results`, imported when it is needed."""
    from rcm.results import read_results

    return read_results(plan, store, cells, discard)


def ready(
    plan: Plan,
    store: Store,
    cells: list[Spec],
    choice: Execution,
    options: Options,
    display: Display,
    hosts: Hosts,
) -> Runner:
    """What will train the members, by the strategy that is fastest where none is asked for.

    Raises ValueError if what is left to train or to test does not fit in memory.
    """
    runner = Runner(plan, store, choice, not options.lanes, display, hosts)
    automatic = options.strategy == "auto" and not options.lanes
    if (
        automatic
        and total_cost(plan, cells, here(runner.execution)).seconds > calibrate.LONG_PLAN_SECONDS
    ):
        runner.calibrate()
    finished = store.index()
    left = [job for job in plan.jobs.values() if job.fingerprint not in finished]
    memory.require(left, plan, runner.members, runner.execution, hosts.beside)
    if left:
        make_tester(runner, options).require(cells)
    return runner


def results(
    plan: Plan,
    store: Store,
    cells: list[Spec],
    runner: Runner | None,
    options: Options,
    display: Display,
    hosts: Hosts,
) -> "tuple[pd.DataFrame | None, float]":
    """The results table: trained and tested where something is missing, without a runner only read;
    None to all processes but the one that leads. And the share of the training in which devices
    were idle.

    What turns out damaged on the way is named, set aside and made again.
    """
    if runner is None:
        try:
            return (table(plan, store, cells) if hosts.leads else None), 0.0
        except Damaged as error:
            raise ValueError(f"{error}: run the command without --report_only first.") from error
    made: list[pd.DataFrame] = []
    phases = (
        runner.run,
        lambda: make_tester(runner, options).run(cells),
        lambda: predictors.measure(plan, store, runner.execution.devices, display, hosts),
        lambda: made.append(table(plan, store, cells, discard=True)) if hosts.leads else None,
    )
    while not all(whole(phase, runner) for phase in phases):
        pass
    return (made[0] if made else None), runner.idle


def whole(phase: Callable[[], Any], runner: Runner) -> bool:
    """Run a part of a study; whether no process found anything damaged, which each announces."""
    fault = ""
    try:
        phase()
    except Damaged as error:
        runner.make_again(error)
        fault = str(error)
    return not any(runner.hosts.gather(fault))


def make_tester(runner: Runner, options: Options) -> Tester:
    """What tests the members that a runner has brought into the store, by the same strategy."""
    cache = backend.cache_folder() / "shifted"
    where = (runner.plan, runner.store, runner.execution, runner.display)
    memory = options.eval_memory * 2**30
    return Tester(*where, memory=memory, cache=cache, hosts=runner.hosts)
