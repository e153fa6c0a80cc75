"""The cache of compiled programs, some of which were damaged."""

import jax
import numpy as np
import pytest
from jax._src.lru_cache import LRUCache
from jax.experimental.compilation_cache import compilation_cache

from rcm.compiled import SIZE, Checked, check_cached

KEEP_ALL = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(bytes(content))


def truncate(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("harm", "where"),
    [(flip, 0), (flip, SIZE), (flip, -1), (truncate, 0), (truncate, SIZE), (truncate, -1)],
)
def test_a_damaged_entry_is_absent_and_can_be_put_in_again(tmp_path, harm, where):
    cache = Checked(LRUCache(str(tmp_path), max_size=-1))
    assert cache.get("key") is None
    for _ in range(2):
        cache.put("key", b"a program")
        assert cache.get("key") == b"a program"
        (path,) = tmp_path.iterdir()
        harm(path, where)
        assert cache.get("key") is None


def test_an_entry_without_a_digest_is_absent(tmp_path):
    """As JAX alone or an earlier version wrote it."""
    files = LRUCache(str(tmp_path), max_size=-1)
    files.put("key", b"a program of another time, which is longer than a digest")
    assert Checked(files).get("key") is None
    assert not list(tmp_path.iterdir())


@pytest.fixture
def programs(tmp_path):
    """The folder of JAX's cache, in which every program is kept."""
    settings = {"jax_compilation_cache_dir": str(tmp_path), **KEEP_ALL}
    previous = {name: getattr(jax.config, name) for name in settings}
    check_cached()
    configure(settings)
    yield tmp_path
    configure(previous)


def configure(settings):
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_jax_compiles_again_what_is_damaged(programs):
    def run():
        jax.clear_caches()
        return np.asarray(jax.jit(lambda x: x * 2 + 1)(np.arange(3.0)))

    def entries():
        return {path.name: path.read_bytes() for path in programs.iterdir()}

    expected, written = run(), entries()
    assert written
    np.testing.assert_array_equal(run(), expected)
    assert entries() == written
    for path in programs.iterdir():
        flip(path, SIZE + 40)
    damaged = entries()
    np.testing.assert_array_equal(run(), expected)  # and without a warning
    assert entries().keys() == written.keys()
    assert all(entries()[name] != content for name, content in damaged.items())
    np.testing.assert_array_equal(run(), expected)
