"""The command a user types: flags, errors in one line, and survival of `kill -9`."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from absl.testing import flagsaver

import launch
from rcm import backend
from rcm.store import Store

ROOT = pathlib.Path(__file__).resolve().parents[1]

CONFIG = """
from rcm import config
from rcm.compress import Prune, Quantize


def get_config(scale=""):
    recipe = dict(batch=16, schedule="cosine", warmup_epochs=0.0, augment="crop")
    return config.Study(
        name="toy", seeds=2, data=config.Data(name={data!r}),
        model=config.Model(name="tiny", width=4),
        train=config.Train(steps=12, **recipe),
        fine_tune=config.Train(steps=6, learning_rate=0.01, **recipe),
        shift=config.Shift(corruptions=("gaussian_noise",), severities=(3,)),
        pipelines=(config.Pipeline("all", (Prune(0.5), Quantize(8))),),
        checkpoint_seconds=0.0,
    )
"""


@pytest.fixture(scope="module")
def toy_config(tmp_path_factory, toy_file):
    """A config file of a study of toy data."""
    path = tmp_path_factory.mktemp("config") / "toy.py"
    path.write_text(CONFIG.format(data=str(toy_file)))
    return path


@pytest.fixture(scope="module")
def command(tmp_path_factory, toy_config, quick_environment):
    """(workdir, *flags) -> a started `launch.py` on toy data, all sharing one compilation cache."""
    folder = tmp_path_factory.mktemp("launch")
    environment = {
        **quick_environment,
        "JAX_PLATFORMS": "cpu",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "COLUMNS": "200",
    }

    def start(workdir, *flags):
        return subprocess.Popen(
            [sys.executable, "launch.py", f"--config={toy_config}", f"--workdir={workdir}", *flags],
            cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return start


def finish(process):
    shown = process.communicate(timeout=300)[0]
    return process.returncode, shown


def kill_when(process, workdir, pattern):
    """`kill -9` as soon as a file of this pattern lies in the workdir."""
    deadline = time.monotonic() + 200
    while not list(workdir.glob(pattern)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_interrupted_equals_uninterrupted(command, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code, shown = finish(command(whole))
    assert code == 0, shown
    assert "report.html" in shown
    kill_when(command(broken), broken, "stages/*/progress.json")
    assert not list(broken.glob("toy-*/results.parquet"))
    kill_when(command(broken), broken, "stages/*/predictions/*.npz")
    code, shown = finish(command(broken))
    assert code == 0, shown
    assert "already finished" in shown

    one, two = (pd.read_parquet(next(d.glob("toy-*/results.parquet"))) for d in (whole, broken))
    pd.testing.assert_frame_equal(one, two)
    first, second = Store(whole), Store(broken)
    assert first.index() == second.index()
    for chunk in {place.chunk for place in first.index().values()}:
        assert first.notes(chunk)["digest"] == second.notes(chunk)["digest"]


@pytest.mark.long
def test_a_resumed_round_says_where_it_goes_on(command, tmp_path):
    kill_when(command(tmp_path), tmp_path, "stages/*/progress.json")
    code, shown = finish(command(tmp_path))
    assert code == 0, shown
    assert "Resuming dense at step" in shown


@pytest.mark.long
def test_ctrl_c_ends_with_one_sentence(command, tmp_path):
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    process = command(tmp_path)
    signal.signal(signal.SIGINT, heard)
    while not list(tmp_path.glob("stages/*/progress.json")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    while process.poll() is None:  # Python swallows one that falls into a destructor
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    code, shown = finish(process)
    assert code != 0
    assert "Traceback" not in shown
    assert "the same command goes on" in shown.splitlines()[-1]


@pytest.mark.long
def test_two_processes_share_one_workdir(command, tmp_path):
    processes = [command(tmp_path), command(tmp_path)]
    for code, shown in map(finish, processes):
        assert code == 0, shown
    assert len(list(tmp_path.glob("toy-*/report.html"))) == 1
    fingerprints = [f for p in tmp_path.glob("stages/*/record.json") for f in p.read_text().split()]
    members = [f for f in fingerprints if len(f.strip('",')) == 16]
    assert len(members) == len(set(members))


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
    monkeypatch.setattr(backend, "set_up", lambda *_: None)  # of this process, done long ago
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
