"""What depends on the machine: memory, cores, and how many lanes a population gets."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from rcm import backend, groups, heap
from rcm.sweep import Execution
from tests.commands import ROOT


def groups_of(monkeypatch, folder, own, files):
    """This process in the control groups `own`, with these files below their mount."""
    (folder / "own").write_text(own)
    for name, content in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    monkeypatch.setattr(groups, "OWN", folder / "own")
    monkeypatch.setattr(groups, "MOUNT", folder / "cgroup")


SECOND, FIRST = "0::/job/step\n", "4:memory:/job/step\n2:cpu,cpuacct:/job\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "cores", "memory"),
    [
        (SECOND, {}, sys.maxsize, sys.maxsize),
        ("0::/\n", {"cpu.max": "200000 100000", "memory.max": "4000"}, 2, 4000),  # a container
        (SECOND, {"job/step/cpu.max": "150000 100000", "memory.max": "max"}, 2, sys.maxsize),
        (SECOND, {"job/memory.max": "4000", "job/step/memory.max": "9000"}, sys.maxsize, 4000),
        (SECOND, {"cpu.max": "max 100000", "job/cpu.max": "50000 100000"}, 1, sys.maxsize),
        (SECOND, {"other/memory.max": "10", "job/step/deeper/memory.max": "10"},
         sys.maxsize, sys.maxsize),
        (FIRST, {"memory/job/memory.limit_in_bytes": "5000",
                 "memory/memory.limit_in_bytes": "9223372036854771712",
                 "cpu,cpuacct/job/cpu.cfs_quota_us": "250000",
                 "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
                 "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                 "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 3, 5000),
    ],
)  # fmt: skip
def test_the_least_limit_above_the_process_counts(monkeypatch, tmp_path, own, files, cores, memory):
    groups_of(monkeypatch, tmp_path, own, files)
    assert groups.granted_cores() == cores
    assert groups.granted_memory() == memory


def test_other_systems_have_no_control_groups(monkeypatch, tmp_path):
    monkeypatch.setattr(groups, "OWN", tmp_path / "none")
    monkeypatch.setattr(groups, "MOUNT", tmp_path / "none")
    assert groups.granted_cores() == groups.granted_memory() == sys.maxsize


@pytest.mark.parametrize(
    ("content", "cores"), [(None, 8), ("100000 100000", 1), ("1600000 100000", 8)]
)
def test_cores_are_those_of_the_affinity_and_the_quota(tmp_path, monkeypatch, content, cores):
    monkeypatch.setattr(backend.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    groups_of(monkeypatch, tmp_path, SECOND, {"job/cpu.max": content} if content else {})
    assert backend.cores() == cores


def test_a_limit_of_memory_counts(tmp_path, monkeypatch):
    groups_of(monkeypatch, tmp_path, SECOND, {"memory.max": "max"})
    everything = backend.host_memory()
    groups_of(monkeypatch, tmp_path, SECOND, {"job/memory.max": "4000000"})
    assert backend.host_memory() == 4_000_000 < everything
    assert backend.image_memory() == 4_000_000 // 4 // 2  # four virtual devices share it


@pytest.mark.parametrize(
    ("stats", "room"),
    [({"bytes_limit": 1000}, 500), ({}, sys.maxsize // 2), (None, sys.maxsize // 2)],
)
def test_images_may_fill_half_a_device(monkeypatch, stats, room):
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: stats)
    monkeypatch.setattr(backend.jax, "local_devices", lambda: [device])
    assert backend.image_memory() == room


LOOP, VMAP = Execution("loop", 4, 4, 1), Execution("vmap", 8, 4, 1)  # on the tests' 4 devices


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("auto", 0), LOOP),
        (("loop", 2), Execution("loop", 2, 2, 1)),
        (("vmap", 0), VMAP),
        (("vmap", 12), Execution("vmap", 12, 4, 1)),
        (("vmap", 2), Execution("vmap", 2, 2, 1)),
    ],
)
def test_lanes_fill_the_devices(arguments, expected):
    assert backend.choose_execution(*arguments) == expected


@pytest.mark.parametrize(
    ("choice", "members", "lanes", "devices"),
    [
        (LOOP, 9, 4, 4),
        (LOOP, 3, 3, 3),
        (LOOP, 1, 1, 1),
        (VMAP, 8, 8, 4),
        (VMAP, 5, 8, 4),
        (VMAP, 4, 4, 4),
        (VMAP, 3, 3, 3),
        (Execution("vmap", 30, 1, 25), 17, 17, 1),
        (Execution("vmap", 16, 1, 25), 30, 15, 1),  # two rounds alike
        (Execution("vmap", 16, 1, 25), 33, 11, 1),
    ],
)
def test_a_choice_is_fitted_to_its_population(choice, members, lanes, devices):
    assert backend.fitted(choice, members) == choice._replace(lanes=lanes, devices=devices)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("lop", 0), "did you mean 'loop'"),
        (("auto", -1), "must be 0"),
        (("loop", 5), "too many for 4 devices"),
        (("vmap", 7), "use 4 or 8"),
    ],
)
def test_impossible_lanes_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        backend.choose_execution(*arguments)


@pytest.mark.parametrize("error", [RuntimeError("no such backend\nmore"), AssertionError()])
def test_a_missing_platform_is_named(monkeypatch, error):
    def devices():
        raise error

    monkeypatch.setattr(backend.jax.config, "update", lambda *_: None)
    monkeypatch.setattr(backend.jax, "devices", devices)
    monkeypatch.setattr(heap, "keep_freed_memory", lambda: None)
    with pytest.raises(ValueError, match="finds no gpu device here: choose another") as caught:
        backend.set_up("gpu")
    assert "\n" not in str(caught.value)


def test_deterministic_is_told_to_xla_and_recorded(quick_environment):
    """Part of the execution record, within which results are equal bit by bit; what a user sets
    comes after it."""
    code = (
        "from rcm import backend; backend.set_up('cpu', deterministic=True);"
        "print(backend.environment()['xla_flags'])"
    )
    given = {**quick_environment, "XLA_FLAGS": "--xla_gpu_deterministic_ops=false"}
    command = [sys.executable, "-c", code]
    made = subprocess.run(command, cwd=ROOT, env=given, text=True, capture_output=True, check=True)
    flag = "--xla_gpu_deterministic_ops"
    assert made.stdout.split() == [f"{flag}=true", f"{flag}=false"]
