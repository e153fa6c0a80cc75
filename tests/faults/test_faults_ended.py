"""A process that is told to end or killed beside others, and several that race on one workdir."""

import signal
import time
from pathlib import Path

import pytest

from rcm.store import Store
from tests.commands import finish, kill_when, require_equal, start_all

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("count", "victim"), [(2, 0), (2, 1), (3, 2)])
def test_a_killed_process_ends_the_others_with_a_sentence(command, whole, tmp_path, count, victim):
    """And nothing else: what the runtime says of it, with a stack, is in a file."""
    processes = start_all(command, tmp_path, count)
    kill_when(processes[victim], tmp_path, "stages/*/progress-*.json")
    for code, shown in (finish(one) for one in processes if one is not processes[victim]):
        assert code == 75
        *_, last = shown.splitlines()
        assert last.startswith("rcm: process ")
        assert "because another process died" in last
        assert "give the same command to all of them again" in last
        assert "stack trace" not in shown
        path = Path(last.split("in the runtime's words: ")[1].removesuffix(")."))
        assert "another task died" in path.read_text()
        path.unlink()
    assert not list(tmp_path.glob("toy-*/results.parquet"))
    for code, shown in map(finish, start_all(command, tmp_path, 2)):
        assert code == 0, shown
    require_equal(tmp_path, whole)


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


def test_sigterm_in_the_last_call_of_a_round_loses_nothing(command, whole, tmp_path):
    """With a checkpoint interval of a minute nothing else of the round is on the disk."""
    patient = "--config.checkpoint_seconds=60"
    code, shown = finish(command(tmp_path, patient, script=("tests/faults/late.py",)))
    assert code == 75, shown
    assert "what is done is saved" in shown.splitlines()[-1]
    (saved,) = tmp_path.glob("stages/*/progress-*.json")
    code, shown = finish(command(tmp_path, patient))
    assert code == 0, shown
    steps = int(saved.stem.partition("-")[2])
    assert f"Resuming dense at step {steps:,}." in shown
    require_equal(tmp_path, whole)


def test_sigterm_to_all_processes_of_a_run_ends_each_with_its_sentence(command, whole, tmp_path):
    """As Slurm tells every task of a job: all save before the first one's end ends them."""
    processes = start_all(command, tmp_path, 2)
    while len(list(tmp_path.glob("stages/*/progress-*.json"))) < 2:  # both are training
        assert processes[0].poll() is None, processes[0].communicate()[0]
        time.sleep(0.01)
    for process in processes:
        process.terminate()
    for code, shown in map(finish, processes):
        assert code == 75, shown
        assert shown.splitlines()[-1] == (
            "rcm: asked to end; what is done is saved, and the same command goes on."
        )
    assert not list(tmp_path.glob("toy-*/results.parquet"))
    finished = [finish(process) for process in start_all(command, tmp_path, 2)]
    assert [code for code, _ in finished] == [0, 0], finished
    require_equal(tmp_path, whole)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_that_know_nothing_of_each_other_share_one_workdir(
    command, whole, tmp_path, count
):
    """All end well, and no member was trained twice."""
    for code, shown in map(finish, [command(tmp_path) for _ in range(count)]):
        assert code == 0, shown
    assert len(list(tmp_path.glob("toy-*/report.html"))) == 1
    records = map(Store(tmp_path).record, (path.parent.name for path in stages(tmp_path)))
    members = [member for record in records for member in record["members"]]
    assert sorted(members) == sorted(Store(whole).index())
    require_equal(tmp_path, whole)


def stages(workdir):
    return workdir.glob("stages/*/record.json")
