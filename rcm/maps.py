"""Memory maps, of which Linux allows a process some 65,000.

A program that XLA compiles for a CPU takes some hundred. A study of 26 pipelines under four attacks
had used them up after nine tenths of its tests, upon which LLVM could not allocate and a
segmentation fault ended the process.
"""

import pathlib

import jax

TAKEN, LIMIT = pathlib.Path("/proc/self/maps"), pathlib.Path("/proc/sys/vm/max_map_count")


def make_room() -> None:
    """Forget all compiled programs once half of the maps are taken; between stages, since what is
    needed again comes from the cache on disk. Nothing happens on other systems."""
    if not (TAKEN.exists() and LIMIT.exists()):
        return
    if TAKEN.read_bytes().count(b"\n") > int(LIMIT.read_text()) // 2:
        jax.clear_caches()
