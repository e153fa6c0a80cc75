"""The command a user types: flags, errors in one line, and survival of `kill -9`."""

import os
import subprocess
import sys

import pytest
from absl.testing import flagsaver

import launch
from rcm import backend
from rcm.store import Store
from tests.commands import ROOT, finish, kill_when, require_equal, start_all


def test_interrupted_equals_uninterrupted(command, whole, tmp_path):
    """By `kill -9`, in training; tests/faults has other places and other ends."""
    kill_when(command(tmp_path), tmp_path, "stages/*/progress-*.json")
    assert not list(tmp_path.glob("toy-*/results.parquet"))
    code, shown = finish(command(tmp_path))
    assert code == 0, shown
    assert "Resuming dense at step" in shown
    require_equal(tmp_path, whole)


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.long)])
def test_several_processes_give_the_bits_of_one(command, whole, tmp_path, count):
    results = [finish(process) for process in start_all(command, tmp_path, count)]
    assert [code for code, _ in results] == [0] * count, results
    assert "report.html" in results[0][1]
    assert not any(shown for _, shown in results[1:])  # one of them speaks for all
    require_equal(tmp_path, whole)
    chunks = {place.chunk for place in Store(tmp_path).index().values()}
    records = [Store(tmp_path).record(chunk) for chunk in chunks]
    assert {record["process"] for record in records} >= {0, 1}  # a wave has two rounds


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--config.trian.steps=3"], "did you mean 'train'"),
        (["--config.train.stps=3"], "did you mean 'steps'"),
        (["--config.train.steps=many"], "train.steps"),
        (["--config.model.name=resnet21"], "did you mean 'resnet"),
        (
            ["--config=experiments/nowhere.py:laptop"],
            "there is no config file experiments/nowhere.py:",
        ),
        (["--lnaes=2"], "lanes"),
        (["config.seeds=3"], "is no flag"),
        (["--config.pipelines=prune50"], "cannot be given as a flag"),
        (["--config=experiments/class_imbalance.py:lptop"], "did you mean 'laptop'"),
        (["--strategy=lop"], "did you mean 'loop'"),
        (["--num_processes=2"], "add --distributed"),
        (["--distributed", "--heartbeat_seconds=0"], "at least 1"),
        (["--distributed"], "cannot meet the other processes"),
        (["--workdir=/proc/nowhere"], "cannot be written"),
        (["--workdir=runs[1]"], "takes for a pattern"),
        (["--compare", "runs/a", "runs/b"], "runs/a is no run folder"),
        (["--compare=runs/a"], "takes two run folders, A and B, but 1 were given"),
        (["--analyse=nowhere"], "there is no labels.npz in"),
    ],
)
@pytest.mark.filterwarnings("ignore:the load_module.*:DeprecationWarning")  # of ml_collections
def test_bad_flags_end_in_one_sentence(toy_config, tmp_path, monkeypatch, flags, sentence):
    monkeypatch.chdir(ROOT)
    # of this process it was done long ago
    monkeypatch.setattr(backend, "set_up", lambda platform, deterministic, meet: meet())
    arguments = ["launch.py", f"--config={toy_config}", f"--workdir={tmp_path}", *flags]
    monkeypatch.setattr(sys, "argv", arguments)  # where ml_collections looks for overrides
    with flagsaver.flagsaver(), pytest.raises(SystemExit, match=r"^rcm: ") as ended:
        launch.main(launch.parse(arguments))
    assert sentence in str(ended.value)
    assert "\n" not in str(ended.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [("--config.trian.steps=3", "did you mean 'train'"), ("--strategy=lop", "did you mean 'loop'")],
)
def test_bad_flags_end_the_command(command, tmp_path, flag, sentence):
    code, shown = finish(command(tmp_path, flag))
    assert code not in (0, None)
    assert "Traceback" not in shown
    assert sentence in shown


def test_help_needs_no_data():
    done = subprocess.run(
        [sys.executable, "launch.py", "--help"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"}, timeout=100,
    )  # fmt: skip
    assert "--config" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
