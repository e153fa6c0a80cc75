"""A whole study on toy data: what it leaves, what it reuses, what it refuses."""

import contextlib
import dataclasses
import json
import re
import shutil

import pandas as pd
import pytest

from rcm import config, inventory, memory, status, unreferred
from rcm import run as run_module
from rcm import study as study_module
from rcm.compress import Prune
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.records import Damaged
from rcm.report import page
from rcm.results import read_results
from rcm.results_table import read_table
from rcm.store import Store
from rcm.sweep import Execution
from rcm.testing import Tester
from rcm.train import fit
from tests.commands import flipped, run_study


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Drawing takes longer than a toy study; `finished`, which is made before, has figures."""
    monkeypatch.setattr(page, "all_figures", lambda *_: [])


def results(path):
    return pd.read_parquet(path.parent / "results.parquet")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_toy_study):
    """A finished toy study: (study, report path). Copied by tests that change it."""
    study = make_toy_study()
    return study, run_study(study, tmp_path_factory.mktemp("finished"))


def copied(finished, tmp_path):
    study, path = finished
    workdir = tmp_path / "runs"
    shutil.copytree(path.parent.parent, workdir)
    return study, workdir


def chunks(workdir):
    return {p.parent.name: p.stat().st_mtime_ns for p in workdir.glob("stages/*/done.json")}


def test_a_study_leaves_what_it_promises(finished):
    study, path = finished
    folder = path.parent
    for name in (
        "config.json",
        "results.parquet",
        "results.csv",
        "report.html",
        "report.md",
        "log.jsonl",
    ):
        assert (folder / name).stat().st_size > 0
    for ending in ("png", "svg", "pdf"):
        assert (folder / "figures" / f"training.{ending}").stat().st_size > 0
    assert folder.name in (folder.parent / "index.html").read_text()
    training = pd.read_parquet(folder / "tables" / "training.parquet")
    dense = training[training["pipeline"] == "dense"]
    assert len(dense) == study.seeds * len(study.data.ratios) * study.train.steps
    assert sorted(set(dense["step"])) == list(range(1, study.train.steps + 1))
    assert {"dense", "finetune"} < set(training["stage"])
    assert training["loss"].between(0, 10).all()
    assert training["accuracy"].between(0, 1).all()
    frame = results(path)
    wanted = [
        "dataset",
        "model",
        "imbalance",
        "ratio",
        "seed",
        "pipeline",
        "shift",
        "severity",
        "metric",
        "value",
    ]
    assert set(wanted) <= set(frame.columns)
    pipelines = {"dense", "finetune", "finetune2", "tiny_w2", *(p.name for p in study.pipelines)}
    assert set(frame.pipeline) == pipelines
    clean = frame[(frame["shift"] == "clean") & (frame.metric == "accuracy")]
    assert len(clean) == len(pipelines) * 2 * 2
    assert clean.value.between(0, 1).all()
    shifts = set(zip(frame["shift"], frame["severity"], strict=True))
    assert shifts == {("clean", 0), ("clean_val", 0), ("contrast", 1), ("contrast", 5)}
    macs = frame[frame.metric == "macs"].groupby("pipeline")["value"].mean()
    assert set(macs.index) == pipelines
    assert macs["prune50"] == macs["dense"] > macs["distilled"] == macs["tiny_w2"]  # masks are free


def test_a_flipped_bit_of_what_is_read_again_is_found_or_changes_nothing(finished, tmp_path):
    """Of what --prune_store and --compare go by."""
    copy = shutil.copytree(finished[1].parent, tmp_path / "copy")
    told, table = inventory.read_references(copy), copy / "results.parquet"
    for _ in flipped(copy / "stages.json", step=7):
        with contextlib.suppress(Damaged):
            assert inventory.read_references(copy) == told
    frame = read_table(table)
    for _ in flipped(table, step=101):
        with contextlib.suppress(ValueError):
            found = read_table(table)
            names = frame.columns.intersection(found.columns)  # those of columns have no checksum
            pd.testing.assert_frame_equal(found[names], frame[names], check_exact=True)


def test_a_study_refers_to_all_that_it_stores(finished):
    study, path = finished
    store = Store(path.parent.parent, create=False)
    told, plan = inventory.read_references(path.parent), prepare(study)[0]
    assert told.members == plan.jobs.keys() == store.index().keys()
    answers = len(set(plan.ends.values())) * 4
    assert status.tested(told, inventory.places(inventory.chunks(store))) == (answers, answers)
    assert unreferred.find(store).what == ""


def test_members_are_compared_with_their_dense_parent_in_every_cell(finished):
    study, path = finished
    store, frame = Store(path.parent.parent), results(path)
    plan, cells = prepare(study)
    found = frame.set_index(["pipeline", "ratio", "seed", "shift", "severity", "metric", "cls"])
    found = found["value"].sort_index()
    for (pipeline, *member), fingerprint in plan.ends.items():
        for cell in cells:
            own, parent = (
                store.load_predictions(place.chunk, cell.key)["label"][place.row]
                for place in map(store.index().get, (fingerprint, plan.ends["dense", *member]))
            )
            values = found[(pipeline, *member, cell.shift, cell.severity)].xs("", level="cls")
            assert ("agreement" in values) == (pipeline != "dense")
            if pipeline != "dense":
                lost = (parent == cell.labels) & (own != cell.labels)
                assert values["agreement"] == pytest.approx((own == parent).mean())
                assert values["negative_flips"] == pytest.approx(lost.mean())


def test_the_same_command_again_does_nothing_and_reports_the_same(finished, tmp_path):
    study, workdir = copied(finished, tmp_path)
    before = chunks(workdir)
    again = run_study(study, workdir)
    assert chunks(workdir) == before
    pd.testing.assert_frame_equal(results(again), results(finished[1]), check_exact=True)


def test_more_seeds_train_only_the_new_members(finished, tmp_path):
    study, workdir = copied(finished, tmp_path)
    before, old = chunks(workdir), results(finished[1])
    members = set(Store(workdir).index())
    grown = dataclasses.replace(study, seeds=3)
    frame = results(run_study(grown, workdir))
    assert {name: time for name, time in chunks(workdir).items() if name in before} == before
    new = set(Store(workdir).index()) - members
    plan, _ = prepare(grown)
    assert {plan.jobs[fingerprint].seed for fingerprint in new} == {2}
    same = frame[frame.seed < 2].sort_values(list(old.columns[:9])).reset_index(drop=True)
    expected = old.sort_values(list(old.columns[:9])).reset_index(drop=True)
    pd.testing.assert_frame_equal(same, expected, check_exact=True)


def test_an_interrupted_round_whose_members_others_finished_goes(finished, tmp_path):
    """As after a start with more devices; one with a member of its own, or that is held, stays."""
    study, workdir = copied(finished, tmp_path)
    store = Store(workdir)
    done = [job for job in prepare(study)[0].jobs if job in store.index()]
    record = store.record(store.index()[done[0]].chunk)
    for chunk, more in {"left": [], "own": ["of more seeds"], "held": []}.items():
        stage = f"stage-of-{chunk}"
        store.start_chunk(chunk, {**record, "stage": stage, "members": done[:3] + more})
    with store.lock("stage-of-held"):
        run_study(study, workdir)
    assert set(store.unfinished()) == {"own", "held"}


def test_report_only_touches_no_model(finished, tmp_path, monkeypatch):
    study, workdir = copied(finished, tmp_path)
    monkeypatch.setattr(study_module, "Runner", lambda *_: pytest.fail("a model was touched"))
    for folder in workdir.glob("stages/*/final"):
        shutil.rmtree(folder)
    folder = finished[1].parent
    (workdir / folder.name / "stages.json").unlink()  # as earlier versions left it
    path = run_study(study, workdir, report_only=True)
    pd.testing.assert_frame_equal(results(path), results(finished[1]), check_exact=True)
    told, first = map(inventory.read_references, (path.parent, folder))
    assert told == first


def test_report_only_without_results_says_what_to_do(toy_study, tmp_path):
    with pytest.raises(ValueError, match="without --report_only first"):
        run_study(toy_study, tmp_path, report_only=True)
    assert not list(tmp_path.glob("*/stages.json"))  # of stages that may be another version's


@pytest.mark.parametrize("needed", [memory.require, memory.require_tests])
def test_what_does_not_fit_in_memory_leaves_no_folder(toy_study, tmp_path, monkeypatch, needed):
    def refuse(*_):
        raise ValueError("too large")

    monkeypatch.setattr(memory, needed.__name__, refuse)
    with pytest.raises(ValueError, match="too large"):
        run_study(toy_study, tmp_path)
    assert not list(tmp_path.glob("toy-*"))


@pytest.mark.parametrize("part", ["final", "predictions"])
def test_damaged_results_are_named_and_rebuilt(finished, tmp_path, capsys, part):
    study, workdir = copied(finished, tmp_path)
    plan, _ = prepare(study)
    store = Store(workdir)
    place = store.index()[plan.ends["dense", 4, 1]]
    folder = store.stages / place.chunk / part
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    if part == "final":  # a damaged parent matters once somebody needs it
        grown = (*study.pipelines, config.Pipeline("prune90", (Prune(0.9),)))
        study = dataclasses.replace(study, pipelines=grown)
    frame = results(run_study(study, workdir))
    old = results(finished[1])
    frame = frame[frame.pipeline.isin(old.pipeline)].reset_index(drop=True)
    pd.testing.assert_frame_equal(frame, old, check_exact=True)
    assert place.chunk in re.sub(r"\s", "", capsys.readouterr().out)


def test_what_is_damaged_as_soon_as_it_is_made_ends_the_run(toy_study, tmp_path, monkeypatch):
    def broken(self, chunk):
        raise Damaged(f"{chunk} cannot be restored")

    monkeypatch.setattr(Store, "load_chunk", broken)
    with pytest.raises(ValueError, match=r"cannot be restored.* although it was made again"):
        run_study(toy_study, tmp_path)


def test_a_changed_config_gets_a_folder_of_its_own(finished, tmp_path):
    study, workdir = copied(finished, tmp_path)
    changed = dataclasses.replace(study, fine_tune=dataclasses.replace(study.fine_tune, steps=5))
    path = run_study(changed, workdir)
    assert path.parent.name != finished[1].parent.name
    kept = workdir / finished[1].parent.name / "report.html"
    pd.testing.assert_frame_equal(results(finished[1]), results(kept), check_exact=True)


@pytest.mark.parametrize(
    "diverging",
    [{"learning_rate": 1e30}, {"learning_rate": float("inf"), "steps": 1}],
    ids=["at some step", "at the last step"],
)
def test_a_diverged_member_is_named_and_left_out(toy_study, finished, tmp_path, diverging):
    toy_study.fine_tune = dataclasses.replace(toy_study.fine_tune, **diverging)
    toy_study.pipelines = toy_study.pipelines[:1]
    toy_study.shift.attacks = (config.Attack("fgsm", eps=(4,), transfer=True),)
    path = run_study(toy_study, tmp_path)
    frame = results(path)
    assert set(frame[frame["shift"] == "fgsm"].query("status == 'ok'").pipeline) == {"dense"}
    assert set(frame[frame.status == "diverged"].pipeline) == {"finetune", "prune50"}
    assert set(frame[frame.status == "diverged"].metric) == {"diverged"}
    assert "diverged" in path.read_text()
    parents, expected = (  # the others are what they are without it
        table[(table["pipeline"] == "dense") & (table["shift"] == "clean")].reset_index(drop=True)
        for table in (frame, results(finished[1]))
    )
    pd.testing.assert_frame_equal(parents, expected, check_exact=True)


@pytest.mark.long
def test_an_interrupted_study_keeps_the_strategy_it_measured(toy_study, tmp_path, monkeypatch):
    measured = Execution("vmap", 2, 1, 1)
    monkeypatch.setattr(study_module.calibrate, "LONG_PLAN_SECONDS", -1.0)
    monkeypatch.setattr(run_module, "fastest", lambda *_: measured)
    data = dataclasses.replace(toy_study.data, ratios=(1,))
    few = dataclasses.replace(toy_study, seeds=1, data=data, pipelines=(), shift=config.Shift())
    workdir = tmp_path / "runs"
    run_study(few, workdir, lanes=0)  # one member, as if the rest had been cut off
    monkeypatch.setattr(run_module, "fastest", lambda *_: pytest.fail("measured again"))
    toy_study.pipelines = toy_study.pipelines[:2]
    run_study(toy_study, workdir, lanes=0)
    store = Store(workdir)
    records = [store.record(place.chunk) for place in store.index().values()]
    assert {tuple(record["choice"]) for record in records} == {tuple(measured)}
    lanes = {(len(record["members"]), record["execution"][1]) for record in records}
    assert lanes == {(1, 1), (2, 2), (1, 2)}  # the last one: three dense members are left


def test_what_another_process_tests_is_waited_for_last(finished, tmp_path, monkeypatch):
    study, workdir = copied(finished, tmp_path)
    for folder in workdir.glob("stages/*/predictions"):
        shutil.rmtree(folder)
    lock, asked = Store.lock, []

    @contextlib.contextmanager
    def busy_at_first(store, name, wait=True):
        asked.append((name, wait))
        if name == asked[0][0] and not wait:
            yield False
        else:
            with lock(store, name, wait) as held:
                yield held

    plan, cells = prepare(study)
    with Display() as display:
        where = (plan, Store(workdir), Execution("loop", 2, 2, 1), display)
        monkeypatch.setattr(Store, "lock", busy_at_first)
        Tester(*where, memory=2**30, cache=tmp_path).run(cells)
    names = [name for name, _ in asked]
    assert len(set(names)) > 2
    assert names == [*dict.fromkeys(names), names[0]]
    assert [name for name, wait in asked if wait] == [names[0]]
    before = results(finished[1])
    pd.testing.assert_frame_equal(
        read_results(plan, Store(workdir), cells), before, check_exact=True
    )


def test_the_log_says_how_much_of_the_training_had_no_member(toy_study, tmp_path):
    """One member beside an empty lane: half of the round, and what lies between rounds; where
    nothing is trained, nothing is idle."""
    toy_study.pipelines, toy_study.seeds, toy_study.data.ratios = (), 1, (1,)
    shares = []
    for _ in range(2):
        path = run_study(toy_study, tmp_path)
        last = (path.parent / "log.jsonl").read_text().splitlines()[-1]
        shares += json.loads(last)["idle"]
    assert 0.5 < shares[0] < 1
    assert shares[1] == 0


def test_config_json_names_every_field(finished):
    study, path = finished
    stored = json.loads((path.parent / "config.json").read_text())
    complete = dataclasses.replace(study, model=fit.complete(study.model))
    assert stored == json.loads(json.dumps(config.plain(complete)))
    assert stored["train"]["learning_rate"] == study.train.learning_rate
