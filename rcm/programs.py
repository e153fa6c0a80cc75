"""Compiled programs, which a process keeps: they take memory, and memory maps, of which Linux
allows a process some 65,000.

A program that XLA compiles for a CPU takes some hundred maps; a study of 26 pipelines under four
attacks had used them up after nine tenths of its tests, upon which LLVM could not allocate and a
segmentation fault ended the process. The step of a ResNet-20 keeps 0.1 GB, that of a ResNet-56 half
of one.
"""

import pathlib

import jax

from rcm import heap

TAKEN, LIMIT = pathlib.Path("/proc/self/maps"), pathlib.Path("/proc/sys/vm/max_map_count")
SHARE = 0.5  # of the maps, or of the memory, above which programs are forgotten
GROWTH = 1.25  # times what was left the last time, below which it would help as little again
_left = 0.0  # bytes


def make_room(memory: float) -> None:
    """Forget all compiled programs once the process takes half of the maps, or of the host's bytes
    that it may, `memory`; between stages, since what is needed again comes from the cache on disk.
    Other systems count no maps."""
    global _left
    most = max(SHARE * memory, GROWTH * _left)
    if heap.used() > most:
        heap.HOLES.give_back()
    full = heap.used() > most
    if TAKEN.exists() and LIMIT.exists():
        full |= TAKEN.read_bytes().count(b"\n") > SHARE * int(LIMIT.read_text())
    if full:
        jax.clear_caches()
        heap.HOLES.give_back()
        _left = heap.used()
