"""The command a user types: flags, errors in one line, and survival of `kill -9`."""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest
from absl.testing import flagsaver

import launch
from rcm import backend, hosts
from rcm.leaving import INTERRUPTED, RESUMES
from rcm.store import Store
from tests.commands import ROOT, finish, free_port, kill_when, require_equal, start_all


def test_interrupted_equals_uninterrupted(command, whole, tmp_path):
    """By `kill -9`, in training; tests/faults has other places and other ends."""
    kill_when(command(tmp_path), tmp_path, "stages/*/progress-*.json")
    assert not list(tmp_path.glob("toy-*/results.parquet"))
    code, shown = finish(command(tmp_path))
    assert code == 0, shown
    assert "Resuming dense at step" in shown
    require_equal(tmp_path, whole)


def test_two_processes_give_the_bits_of_one(command, whole, tmp_path):
    require_one_study(start_all(command, tmp_path, 2), tmp_path, whole)


def test_a_plan_of_two_processes_counts_both(command, tmp_path):
    """Their time, and the memory of the machine that they share."""
    (code, shown), (_, other) = map(finish, start_all(command, tmp_path, 2, "--dry_run"))
    assert code == 0, shown
    told = " ".join(shown.split())
    assert "In 2 processes like this one training takes" in told
    assert "GiB there are for each of 2 processes on this machine." in told
    assert not other


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, RESUMES), pytest.param(signal.SIGINT, INTERRUPTED, marks=pytest.mark.long)],
)
def test_a_process_that_waits_for_others_says_so_and_ends_when_it_is_asked_to(
    command, tmp_path, number, code
):
    """It waits in the runtime, where no Python handler comes to run."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("started in the background, where what is started ignores Ctrl-C, too")
    flags = ("--distributed", f"--coordinator_address=localhost:{free_port()}")
    process = command(tmp_path, *flags, "--num_processes=2", "--process_id=0")
    assert "Waiting for the other processes" in process.stdout.readline()
    process.send_signal(number)
    ended, shown = finish(process)
    assert (ended, shown.count("rcm: ")) == (code, 1), shown
    assert "rcm: asked to end while it waited" in shown
    assert "Traceback" not in shown


@pytest.mark.long
def test_three_processes_give_the_bits_of_one(command, tmp_path):
    """Of six seeds, which are three rounds of two lanes."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    code, shown = finish(command(alone, "--config.seeds=6"))
    assert code == 0, shown
    require_one_study(start_all(command, together, 3, "--config.seeds=6"), together, alone)


CLUSTERS = {
    "slurm": {
        "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
        "SLURM_PROCID": "{rank}", "SLURM_LOCALID": "{rank}", "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": "2", "CUDA_VISIBLE_DEVICES": "0,1",
    },
    "ompi": {
        "OMPI_MCA_orte_hnp_uri": "7.0;tcp://127.0.0.1:5", "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": "{rank}", "OMPI_COMM_WORLD_LOCAL_RANK": "{rank}",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    },
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_tasks_of_a_cluster_find_each_other(command, whole, tmp_path, cluster):
    """Without flags, by the variables that `srun` and `mpirun` set."""
    flags, port = ("--distributed", "--heartbeat_seconds=10"), str(free_port())
    told = [{name: value.format(rank=rank) for name, value in CLUSTERS[cluster].items()}
            for rank in range(2)]  # fmt: skip
    tasks = [command(tmp_path, *flags, JAX_COORDINATOR_PORT=port, **own) for own in told]
    require_one_study(tasks, tmp_path, whole)


def require_one_study(processes, workdir, expected):
    """All end well, each trained something, and what they leave is as one process left it."""
    results = [finish(process) for process in processes]
    assert [code for code, _ in results] == [0] * len(processes), results
    assert "report.html" in results[0][1]
    assert not any(shown for _, shown in results[1:])  # one of them speaks for all
    require_equal(workdir, expected)
    chunks = {place.chunk for place in Store(workdir).index().values()}
    records = [Store(workdir).record(chunk) for chunk in chunks]
    assert {record["process"] for record in records} == set(range(len(processes)))


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


@pytest.mark.skipif(find_spec("kubernetes") is not None, reason="JAX's extra for it is installed")
@pytest.mark.filterwarnings("ignore:Kubernetes environment detected:UserWarning")
def test_in_a_pod_without_its_package_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(ValueError, match=r"Kubernetes \(.*\"jax\[k8s\]\"\)"):
        hosts.join(True, "", 0, -1, 100)


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
