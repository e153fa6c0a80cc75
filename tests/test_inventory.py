"""What lies in a workdir is told as it is and not touched; what goes is what nothing refers to."""

import io
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from rcm import inventory, status, unreferred, upkeep
from rcm.files import write_json
from rcm.progress import Display
from rcm.store import Store
from rcm.verification import verify

RECORD = {"choice": [], "execution": [], "environment": {}, "hardware": "", "source": ""}


def tree(members):
    return {"a": np.arange(8 * members, dtype=np.float32).reshape(members, 8)}


def begin(store, chunk, members, label="dense", stage="s"):
    labels = [f"{label} ratio 1 seed {i}" for i in range(len(members))]
    store.start_chunk(chunk, {**RECORD, "members": members, "labels": labels, "stage": stage})


def finish(store, chunk, members, label="dense", cells=(), stage="s"):
    begin(store, chunk, members, label, stage)
    store.finish_chunk(
        chunk, tree(len(members)),
        {"seconds": 1.0, "alive": [True] * len(members), "bytes": [1] * len(members)},
    )  # fmt: skip
    for cell in cells:
        store.save_predictions(chunk, cell, {"label": np.zeros((len(members), 5), np.uint8)})


def refer(store, study, members, tested=()):
    """A study's folder that refers to members, of which (members, cells) are tested."""
    groups = [{"members": list(own), "cells": list(cells)} for own, cells in tested]
    write_json(store.root / study / "stages.json", {"members": list(members), "tested": groups})
    write_json(store.root / study / "config.json", {"type": "Study", "name": study})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two studies that share a dense round; one round is begun; one is of no study."""
    store = Store(tmp_path_factory.mktemp("made") / "runs")
    finish(store, "shared", ["d0", "d1"], cells=["clean", "fog-1", "old-1"])
    finish(store, "mixed", ["p0", "lost0"], "prune 50%", ["clean"])
    finish(store, "lost", ["lost1", "lost2"], "prune 90%", ["clean"], "t")
    begin(store, "begun", ["q0"], "int W8A8", "u")
    store.save_progress("begun", 40, tree(1), 1.0)
    refer(store, "one-1", ["d0", "d1", "p0"], [(["d0", "d1", "p0"], ["clean"])])
    refer(store, "two-2", ["d0", "q0"], [(["d0", "q0"], ["clean", "fog-1"])])
    return store


@pytest.fixture
def store(made, tmp_path):
    """A copy of that workdir for a test alone."""
    shutil.copytree(made.root, tmp_path / "runs")
    return Store(tmp_path / "runs")


@pytest.fixture
def display():
    """What is printed is in `display.console.file`."""
    return Display(Console(file=io.StringIO(), width=80))


def shown(display):
    return display.console.file.getvalue()


def snapshot(folder):
    """Every file below a folder: its content and when it was written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def row(text, name):
    """The cells of a table's row."""
    line = next(line for line in text.splitlines() if line.strip().startswith(name))
    return re.split(r"\s{2,}", line.strip())


def chunks(store):
    return {chunk.name for chunk in inventory.chunks(store)}


# --status


def test_status_counts_what_studies_ask_for_and_what_is_there(store, display):
    (store.root / "two-2" / "report.html").write_text("<p>")
    before = snapshot(store.root)
    status.show(Store(store.root, create=False), display)
    text = shown(display)
    assert row(text, "one-1")[:4] == ["one-1", "3 of 3", "3 of 3", "no"]
    assert row(text, "two-2")[:4] == ["two-2", "1 of 2", "2 of 4", "yes"]
    assert row(text, "dense")[:2] == ["dense", "2"]
    assert row(text, "int W8A8")[:3] == ["int W8A8", "0", "1 at step 40"]
    assert "member-stages finished 6, rounds finished 3, begun 1" in text
    assert snapshot(store.root) == before


def test_bytes_are_those_of_the_files(store):
    found = {chunk.name: chunk for chunk in inventory.chunks(store)}
    whole = sum(p.stat().st_size for p in store.stages.glob("shared/**/*") if p.is_file())
    clean = (store.stages / "shared" / "predictions" / "clean.npz").stat().st_size
    assert found["shared"].size == whole
    assert found["shared"].predictions["clean"] == clean
    listed = status.stages(list(found.values()), set())
    assert listed["dense"].states + listed["dense"].predictions == pytest.approx(whole)


def test_a_stage_that_a_process_holds_is_running(store, display):
    with store.lock("u"):
        status.show(store, display)
    assert row(shown(display), "int W8A8")[2] == "1 at step 40, running"
    assert "running" not in " ".join(row(shown(display), "dense"))
    assert inventory.held(store, ["u", "never locked"]) == set()


def test_what_cannot_be_read_is_counted_and_stays(store, display):
    (store.stages / "lost" / "record.json").write_text("{")
    (store.root / "one-1" / "stages.json").unlink()
    store.discard("mixed")
    status.show(store, display)
    text = shown(display)
    assert "notes of 1 rounds cannot be read: --verify" in text
    assert row(text, "one-1")[1:3] == ["?", "?"]
    assert "Set aside as damaged: mixed (" in text
    assert (store.stages / "lost").exists()


@pytest.mark.parametrize("flag", ["status", "verify", "prune_store"])
def test_an_absent_workdir_is_told_in_a_sentence(tmp_path, display, flag):
    with pytest.raises(ValueError, match="There is no workdir"):
        upkeep.execute([flag], str(tmp_path / "runs"), True, display)
    assert not list(tmp_path.iterdir())


def test_an_empty_workdir_is_whole_and_stays_empty(tmp_path, display):
    assert upkeep.execute(["status", "verify"], str(tmp_path), False, display) == 0
    assert "studies 0, member-stages finished 0" in shown(display)
    assert not list(tmp_path.iterdir())


# --verify


def test_a_whole_workdir_is_whole(store, display):
    pd.DataFrame({"value": [1.0]}).to_parquet(store.root / "one-1" / "results.parquet")
    before = snapshot(store.root)
    assert upkeep.execute(["verify"], str(store.root), False, display) == 0
    assert "Everything is whole" in shown(display)
    assert snapshot(store.root) == before


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def biggest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("stages/shared/final", "sets its round aside and makes it again (2 members of dense)"),
        ("stages/shared/record.json", "the next run sets its round aside"),
        ("stages/shared/done.json", "the next run sets its round aside"),
        ("stages/shared/predictions/fog-1.npz", "a run that reads it makes it again"),
        ("stages/begun/progress-40", "begins its round anew (1 members of int W8A8)"),
        ("stages/begun/record.json", "the next run begins its round anew"),
        ("one-1/config.json", "writes it anew"),
        ("one-1/stages.json", "writes it anew"),
        ("one-1/results.parquet", "writes it anew"),
        ("one-1/export/model.tflite", "the report leaves that file out"),
    ],
)
def test_every_damage_is_named_with_what_comes_of_it(store, display, part, sentence):
    folder = store.root / "one-1"
    pd.DataFrame({"value": np.arange(99.0)}).to_parquet(folder / "results.parquet")
    (folder / "export").mkdir()
    (folder / "export" / "model.tflite").write_bytes(bytes(99))
    note = dict.fromkeys(("accuracy", "simulated", "disagreement"), 0.5)
    note |= dict.fromkeys(("pipeline", "member", "format"), "x")
    store.note_export(folder / "export" / "model.tflite", note)
    path = store.root / part
    truncate(path if path.is_file() else biggest_file(path))
    before = snapshot(store.root)
    assert upkeep.execute(["verify"], str(store.root), False, display) == 1
    lines = [line for line in shown(display).splitlines() if "verifying" not in line]
    assert len(lines) == 2
    assert part in lines[0]
    assert sentence in lines[0]
    assert lines[1].startswith("Damaged: 1 of ")
    assert snapshot(store.root) == before


def test_an_earlier_checkpoint_is_what_a_round_goes_on_from(store, display):
    store.save_progress("begun", 60, tree(1), 2.0)
    truncate(biggest_file(store.stages / "begun" / "progress-60"))
    assert verify(store, display) == 1
    assert "the next run goes on from step 40" in shown(display)
    assert store.load_progress("begun", tree(1)).step == 40


def test_checkpoints_that_a_process_writes_are_left_alone(store, display):
    truncate(biggest_file(store.stages / "begun" / "progress-40"))
    with store.lock("u"):
        assert verify(store, display) == 0
    assert verify(store, display) == 1


# --prune_store


def test_what_no_study_refers_to_goes(store, display):
    """A round stays while one of its members is referred to, and predictions while a study of
    one of their members asks for the cell."""
    store.discard("begun")
    unreferred.prune(store, True, display)
    assert chunks(store) == {"shared", "mixed"}
    kept = {path.stem for path in store.stages.glob("shared/predictions/*")}
    assert kept == {"clean", "fog-1"}
    assert not (store.root / "damaged" / "begun").exists()
    assert "Deleted 1 round and 1 prediction and 1 damaged round" in shown(display)
    assert set(Store(store.root).index()) == {"d0", "d1", "p0", "lost0"}
    assert unreferred.find(store).what == ""


def test_what_killed_writers_left_goes_after_an_hour(store, display):
    """Parts of files and rounds without notes; what is younger may still be written."""
    unreferred.prune(store, True, display)
    parts = [store.stages / "mixed" / "predictions" / ".clean.npz.77.part",
             store.stages / "0123456789abcdef" / "final" / "data"]  # fmt: skip
    for path in parts:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    assert unreferred.find(store).left == {}
    for path in (parts[0], store.stages / "0123456789abcdef"):
        os.utime(path, (0, 0))
    assert unreferred.find(store).left == {
        "stages/0123456789abcdef": 100,
        "stages/mixed/predictions/.clean.npz.77.part": 100,
    }
    unreferred.prune(store, True, display)
    assert "Deleted 2 leavings (200 bytes)" in shown(display)
    assert not any(path.exists() for path in parts)
    assert not (store.stages / "0123456789abcdef").exists()
    assert (store.stages / "mixed" / "predictions" / "clean.npz").exists()


def test_nothing_goes_unasked(store, display, monkeypatch):
    before = snapshot(store.root)
    unreferred.prune(store, False, display)  # stdin is no terminal
    assert "Nothing was deleted" in shown(display)
    answers = iter(["", "n", "Y"])
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda text: (asked.append(text), next(answers))[1])
    for _ in range(2):
        unreferred.prune(store, False, display)
    assert snapshot(store.root) == before
    unreferred.prune(store, False, display)
    assert re.fullmatch(r"Delete 1 round and 1 prediction \(\d.*\)\? \[y/N\] ", asked[-1])
    assert "lost" not in chunks(store)


def test_a_study_that_begins_while_the_question_stands_keeps_its_rounds(store, monkeypatch):
    display = Display(Console(file=io.StringIO()))
    monkeypatch.setattr(
        display, "ask", lambda _: refer(store, "new-3", ["lost2"], [(["lost2"], ["clean"])]) is None
    )
    unreferred.prune(store, False, display)
    assert "lost" in chunks(store)


def test_a_round_that_a_process_holds_stays(store, display, monkeypatch):
    with store.lock("t"):
        unreferred.prune(store, True, display)
        assert "lost" in chunks(store)
        assert "1 more are held by a running process" in shown(display)
        monkeypatch.setattr(inventory, "held", lambda *_: set())  # taken after it was looked at
        unreferred.prune(store, True, display)
    assert "lost" in chunks(store)
    assert "round lost stays" in shown(display)


@pytest.mark.parametrize("content", [None, "{", '{"members": [], "tested": [1]}'])
def test_a_study_that_does_not_say_what_it_refers_to_keeps_everything(store, display, content):
    path = store.root / "two-2" / "stages.json"
    path.unlink() if content is None else path.write_text(content)
    before = snapshot(store.root)
    with pytest.raises(ValueError, match=r"two-2 .* do not say which rounds"):
        unreferred.prune(store, True, display)
    assert snapshot(store.root) == before


def test_predictions_made_elsewhere_refer_to_nothing(store, display):
    write_json(store.root / "mine-4" / "config.json", {"type": "Predictions"})
    unreferred.prune(store, True, display)
    assert chunks(store) == {"shared", "mixed", "begun"}


def test_half_deleted_never_counts(store, display, monkeypatch):
    def killed(path):
        (path / "final" / "_METADATA").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path, **_: killed(path) if path.exists() else None)
        with pytest.raises(KeyboardInterrupt):
            unreferred.prune(store, True, display)
    assert "lost1" not in Store(store.root).index()
    assert verify(store, display) == 0
    unreferred.prune(store, True, display)
    assert not list((store.root / "damaged").iterdir())


# another folder


def test_a_moved_workdir_is_the_same(store, tmp_path):
    old, like = store.root, tree(1)
    index, step = store.index(), store.load_progress("begun", like)
    states = store.load_chunk("shared")
    old.rename(tmp_path / "elsewhere")
    moved = Store(tmp_path / "elsewhere")
    assert moved.index() == index
    assert list(moved.unfinished()) == ["begun"]
    np.testing.assert_array_equal(moved.load_chunk("shared")["['a']"], states["['a']"])
    found = moved.load_progress("begun", like)
    assert (found.step, found.seconds) == (step.step, step.seconds) == (40, 1.0)
    np.testing.assert_array_equal(found.tree["a"], like["a"])
    assert not old.exists()


def test_no_file_names_its_folder(made):
    named = {
        path.name
        for path, (content, _) in snapshot(made.root).items()
        if bytes(made.root) in content
    }
    assert named <= {"commit_success.txt"}  # a note of orbax, of which nothing reads more than that
