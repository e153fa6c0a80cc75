"""Compiled programs are forgotten before the system's memory maps run out."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from rcm import programs


@pytest.mark.skipif(not programs.TAKEN.exists(), reason="this system does not tell its memory maps")
def test_programs_take_maps_and_give_them_back(monkeypatch, tmp_path):
    """The limit is planted: first far away, then so near that more than half of it is taken."""
    compute = jax.jit(lambda x: jnp.sin(x @ x.T))
    for size in range(2, 8):
        compute(jnp.ones((size, size)))
    taken = pathlib.Path("/proc/self/maps").read_bytes().count(b"\n")
    limit = tmp_path / "limit"
    monkeypatch.setattr(programs, "LIMIT", limit)
    limit.write_text(f"{4 * taken}\n")
    programs.make_room(2**60)
    assert compute._cache_size() == 6
    limit.write_text(f"{taken}\n")
    programs.make_room(2**60)
    assert compute._cache_size() == 0
    assert programs.TAKEN.read_bytes().count(b"\n") < taken
    assert compute(jnp.ones((3, 3))).shape == (3, 3)


def test_programs_are_forgotten_where_memory_is_short(monkeypatch):
    compute = jax.jit(lambda x: jnp.cos(x @ x.T))
    compute(jnp.ones((2, 2)))
    programs.make_room(2**60)
    assert compute._cache_size() == 1
    monkeypatch.setattr(programs, "_left", 0.0)
    programs.make_room(1)
    assert compute._cache_size() == 0
    compute(jnp.ones((2, 2)))
    programs.make_room(1)  # it would help as little again
    assert compute._cache_size() == 1


def test_other_systems_go_without(monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "TAKEN", tmp_path / "none")
    programs.make_room(2**60)
