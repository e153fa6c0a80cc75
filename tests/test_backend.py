"""What depends on the machine: memory, cores, and how many lanes a population gets."""

import sys
from types import SimpleNamespace

import pytest

from rcm import backend, heap
from rcm.sweep import Execution


@pytest.mark.parametrize(
    ("content", "cores"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", sys.maxsize)],
)
def test_a_containers_quota_is_read(tmp_path, content, cores):
    (tmp_path / "cpu.max").write_text(content + "\n")
    assert backend.quota(tmp_path / "cpu.max") == cores


@pytest.mark.parametrize(
    ("content", "cores"), [(None, 8), ("100000 100000", 1), ("1600000 100000", 8)]
)
def test_cores_are_those_of_the_affinity_and_the_quota(tmp_path, monkeypatch, content, cores):
    monkeypatch.setattr(backend.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(backend, "CONTROL_GROUP", tmp_path)
    if content:
        (tmp_path / "cpu.max").write_text(content)
    assert backend.cores() == cores


def test_a_containers_memory_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "CONTROL_GROUP", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    everything = backend.host_memory()
    (tmp_path / "memory.max").write_text("4000000\n")
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
