"""The command a user types: flags, errors in one line, and survival of `kill -9`."""

import os
import pathlib
import signal
import socket
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


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """The workdir of the study, run by one process without interruption."""
    workdir = tmp_path_factory.mktemp("whole")
    code, shown = finish(command(workdir))
    assert code == 0, shown
    assert "report.html" in shown
    return workdir


def require_equal(workdir, expected):
    """Results, what was run together and every stored array are equal, bit by bit."""
    folders = (workdir, expected)
    one, two = (pd.read_parquet(next(d.glob("toy-*/results.parquet"))) for d in folders)
    pd.testing.assert_frame_equal(one, two)
    first, second = map(Store, folders)
    assert first.index() == second.index()
    for chunk in {place.chunk for place in first.index().values()}:
        assert first.notes(chunk)["digest"] == second.notes(chunk)["digest"]


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        ("stages/*/progress-*.json", "Resuming dense at step"),
        pytest.param("stages/*/predictions/*.npz", "already finished", marks=pytest.mark.long),
    ],
)
def test_interrupted_equals_uninterrupted(command, whole, tmp_path, pattern, heard):
    """By `kill -9`, in training and in testing."""
    kill_when(command(tmp_path), tmp_path, pattern)
    assert not list(tmp_path.glob("toy-*/results.parquet"))
    code, shown = finish(command(tmp_path))
    assert code == 0, shown
    assert heard in shown
    require_equal(tmp_path, whole)


def start_all(command, workdir, count):
    """The processes of a distributed run, which notice a death within ten seconds."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = ("--distributed", f"--coordinator_address={address}", f"--num_processes={count}")
    flags += ("--heartbeat_seconds=10",)
    return [command(workdir, *flags, f"--process_id={i}") for i in range(count)]


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.long)])
def test_several_processes_give_the_bits_of_one(command, whole, tmp_path, count):
    results = [finish(process) for process in start_all(command, tmp_path, count)]
    assert [code for code, _ in results] == [0] * count, results
    assert "report.html" in results[0][1]
    assert not any(shown for _, shown in results[1:])  # one of them speaks for all
    require_equal(tmp_path, whole)
    records = [Store(tmp_path).record(chunk) for chunk in chunks(tmp_path)]
    assert {record["process"] for record in records} >= {0, 1}  # a wave has two rounds


def chunks(workdir):
    return {place.chunk for place in Store(workdir).index().values()}


@pytest.mark.long
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_with_a_sentence(command, whole, tmp_path, victim):
    processes = start_all(command, tmp_path, 2)
    kill_when(processes[victim], tmp_path, "stages/*/progress-*.json")
    code, shown = finish(processes[1 - victim])
    assert code == 75
    assert "because another process died" in shown.splitlines()[-1]
    assert "give the same command to all of them again" in shown.splitlines()[-1]
    assert not list(tmp_path.glob("toy-*/results.parquet"))
    for code, shown in map(finish, start_all(command, tmp_path, 2)):
        assert code == 0, shown
    require_equal(tmp_path, whole)


@pytest.mark.long
def test_ctrl_c_ends_with_one_sentence(command, tmp_path):
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    process = command(tmp_path)
    signal.signal(signal.SIGINT, heard)
    while not list(tmp_path.glob("stages/*/progress-*.json")):
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
def test_sigterm_ends_with_a_sentence_and_resumes(command, whole, tmp_path):
    """As Slurm and Kubernetes say that they are going to kill."""
    process = command(tmp_path)
    while not list(tmp_path.glob("stages/*/progress-*.json")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.terminate()
    code, shown = finish(process)
    assert code == 75
    assert shown.splitlines()[-1] == (
        "rcm: asked to end; what is done is saved, and the same command goes on."
    )
    code, shown = finish(command(tmp_path))
    assert code == 0, shown
    assert "Resuming dense at step" in shown
    require_equal(tmp_path, whole)


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
