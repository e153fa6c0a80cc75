"""Disks that are full or read-only, files that are truncated or altered, a clock set back."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from tests.commands import finish, kill_when, require_equal
from tests.faults.on_tmpfs import OWN_MOUNTS

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def may_mount(tmp_path_factory):
    """Skips where a test may not have mounts of its own."""
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(tmp_path_factory.mktemp("mount"))]
    if not shutil.which("unshare"):
        pytest.skip("no unshare here, so that no small disk can be had")
    done = subprocess.run([*OWN_MOUNTS, *mount], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no right to mount a small disk here: {done.stderr.strip()}")


def twice(command, tmp_path, first, second):
    """Exit codes and output of both runs on a disk that is mounted anew in between, and what they
    leave."""
    kept = tmp_path / "kept"
    script = ("tests/faults/on_tmpfs.py", str(kept), first, second)
    code, shown = finish(command(tmp_path / "runs", script=script))
    assert code == 0, shown
    first, code, second, again, _ = re.split(r"exit code (\d+)\n", shown)
    return [int(code), int(again)], (first, second), kept


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6, 0.9])
def test_a_full_disk_ends_in_a_sentence_and_costs_nothing(
    command, whole, tmp_path, may_mount, share
):
    """Full at some share of what the study needs: in training, in testing, in its report."""
    size = sum(path.stat().st_blocks * 512 for path in whole.rglob("*") if path.is_file())
    codes, (full, _), kept = twice(command, tmp_path, f"size={int(share * size)}", "size=1g")
    assert codes == [1, 0], full
    assert full.splitlines()[-1].startswith("rcm: ")
    assert "Traceback" not in full
    require_equal(kept, whole)


def test_a_workdir_that_became_read_only_is_refused(command, whole, tmp_path, may_mount):
    codes, (_, refused), kept = twice(command, tmp_path, "size=1g", "ro,size=1g")
    assert codes[0] == 0
    assert codes[1] == 1
    (sentence,) = [line for line in refused.splitlines() if line.startswith("rcm: ")]
    assert "cannot be written" in sentence
    require_equal(kept, whole)


def largest(folder, pattern):
    """Of the files of this pattern, in a fixed order of the folder's names."""
    return max(
        sorted(p for p in folder.glob(pattern) if p.is_file()), key=lambda p: p.stat().st_size
    )


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes() or b"\0")
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


def empty(path):
    path.write_bytes(b"")


HARMS = {"truncated": truncate, "flipped": flip, "empty": empty, "gone": pathlib.Path.unlink}
FINISHED = (
    "stages/*/record.json",
    "stages/*/done.json",
    "stages/*/final/**/*",
    "stages/*/final/_METADATA",
    "stages/*/predictions/clean.npz",
    "stages/*/predictions/clean_val.npz",
    "stages/*/predictions/gaussian_noise-*.npz",
    "toy-*/results.parquet",
    "toy-*/config.json",
)
WRITTEN_BY_EVERY_RUN = (
    "stages/.writable",
    "stages/locks/*",
    "toy-*/stages.json",
    "toy-*/run.json",
    "toy-*/log.jsonl",
    "toy-*/results.csv",
    "toy-*/tables/*",
    "toy-*/figures/*",
    "toy-*/report.*",
    "index.html",
)
INTERRUPTED = (
    "stages/*/record.json",
    "stages/*/progress-*.json",
    "stages/*/progress-*/**/*",
)
CACHES = ("rcm/xla/*", "rcm/arrays/**/*", "rcm/shifted/**/*.npy", "rcm/shifted/**/*.json")


def require_mended(command, workdir, whole, **options):
    code, shown = finish(command(workdir, **options))
    assert code == 0, shown
    assert "Traceback" not in shown
    require_equal(workdir, whole)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("pattern", FINISHED)
def test_a_damaged_file_of_a_finished_study_is_made_again(command, whole, tmp_path, pattern, harm):
    workdir = shutil.copytree(whole, tmp_path / "runs")
    HARMS[harm](largest(workdir, pattern))
    require_mended(command, workdir, whole)


@pytest.mark.parametrize("harm", HARMS)
def test_damage_to_all_that_every_run_writes_leaves_nothing(command, whole, tmp_path, harm):
    workdir = shutil.copytree(whole, tmp_path / "runs")
    for path in files(workdir, WRITTEN_BY_EVERY_RUN):
        HARMS[harm](path)
    require_mended(command, workdir, whole)
    for path in files(whole, WRITTEN_BY_EVERY_RUN):
        again = workdir / path.relative_to(whole)
        assert again.is_file() or path.suffix == ".lock"  # of a stage that nobody runs again
        if path.suffix in (".csv", ".json", ".parquet", ".tex"):  # the rest tells times and places
            assert again.read_bytes() == path.read_bytes(), path


def files(folder, patterns):
    return {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}


@pytest.fixture(scope="module")
def interrupted(command, tmp_path_factory):
    """A workdir in which training was cut off after some checkpoints."""
    workdir = tmp_path_factory.mktemp("interrupted")
    kill_when(command(workdir), workdir, "stages/*/progress-3.json")
    return workdir


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("pattern", INTERRUPTED)
def test_a_damaged_file_of_an_interrupted_round_costs_steps(
    command, interrupted, whole, tmp_path, pattern, harm
):
    workdir = shutil.copytree(interrupted, tmp_path / "runs")
    HARMS[harm](largest(workdir, pattern))
    require_mended(command, workdir, whole)


@pytest.fixture(scope="module")
def caching(command):
    """`command` with a cache that shifted images are kept in, too, and programs, as they take
    longer than half a second to compile."""

    def start(workdir, cache):
        own = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": "", "XDG_CACHE_HOME": str(cache)}
        return command(workdir, "--config.shift.cache=True", **own)

    return start


@pytest.fixture(scope="module")
def cached(caching, tmp_path_factory):
    """A workdir, `runs`, the `cache` that was filled beside it, and a copy of that, `sound`."""
    folder = tmp_path_factory.mktemp("cached")
    code, shown = finish(caching(folder / "runs", folder / "cache"))
    assert code == 0, shown
    shutil.copytree(folder / "cache", folder / "sound")
    return folder


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("pattern", CACHES)
def test_a_damaged_cache_is_made_again(caching, cached, tmp_path, pattern, harm):
    cache = cached / "cache"  # in its place: the key of a program has the folder's path in it
    shutil.rmtree(cache)
    shutil.copytree(cached / "sound", cache)
    damaged = largest(cache, pattern)
    HARMS[harm](damaged)
    remains = damaged.read_bytes() if damaged.exists() else None
    require_mended(caching, tmp_path / "runs", cached / "runs", cache=cache)
    assert not damaged.exists() or damaged.read_bytes() != remains  # quick programs are not kept


def test_every_kind_of_file_is_damaged_here(whole, interrupted, cached):
    """A new kind belongs into one of the lists above."""
    kept = FINISHED + WRITTEN_BY_EVERY_RUN
    for folder, patterns in (
        (whole, kept),
        (interrupted, kept + INTERRUPTED),
        (cached / "sound", (*CACHES, "matplotlib/*")),
    ):
        there = {path for path in files(folder, ["**/*"]) if path.suffix != ".part"}
        assert there <= files(folder, patterns)


def test_a_clock_that_was_set_back_changes_nothing(command, interrupted, whole, tmp_path):
    """Files of the future, as they look after it."""
    workdir = shutil.copytree(interrupted, tmp_path / "runs")
    for path in workdir.rglob("*"):
        os.utime(path, (4e9, 4e9))
    require_mended(command, workdir, whole)
