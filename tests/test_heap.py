"""What malloc keeps of freed memory, and when it gives it back."""

import platform
import subprocess
import sys

import pytest

from rcm.heap import EVERY, GROWTH, Holes

# Blocks that glibc would map (200 MB) and that fit a thread's own heap (20 MB), touched and freed.
FAULTS = """
import ctypes, resource, sys, threading
from rcm.heap import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
if sys.argv[1] == "keep":
    keep_freed_memory()

def touch():
    for size in (20_000_000, 200_000_000):
        block = libc.malloc(size)
        libc.memset(block, 1, size)
        libc.free(block)

def work():
    touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    touch()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""

# A block of 200 MB between two that stay, so that it is a hole in the heap.
HOLE = """
import ctypes
from rcm import heap
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
heap.keep_freed_memory()
before = heap.used()
blocks = [libc.malloc(size) for size in (10**6, 2 * 10**8, 10**6)]
libc.memset(blocks[1], 1, 2 * 10**8)
libc.free(blocks[1])
kept = heap.used() - before
heap.HOLES.give_back()
print(kept, heap.used() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept_in_threads_too():
    faults = {}
    for how in ("keep", "leave"):
        command = [sys.executable, "-c", FAULTS, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    assert faults["keep"] < 100 < faults["leave"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's malloc that keeps")
def test_holes_are_kept_until_they_are_given_back():
    command = [sys.executable, "-c", HOLE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept > 199e6
    assert left < 20e6


class Process:
    """One whose memory and time are told; counts how often it is trimmed."""

    def __init__(self):
        self.size, self.now, self.trimmed = 100, 0.0, 0
        self.holes = Holes(self.trim, lambda: self.size, lambda: self.now)

    def trim(self):
        self.trimmed += 1

    def after(self, seconds, size):
        self.now += seconds
        self.size = size
        self.holes.close()
        return self.trimmed


def test_a_process_that_grows_gives_back():
    """Measured after a second, at 100: at more than 125, and not more often than once a second."""
    process = Process()
    assert process.after(EVERY, 100) == 0
    assert process.after(EVERY, 100 * GROWTH) == 0
    assert process.after(EVERY / 2, 1000) == 0
    assert process.after(EVERY / 2, 1000) == 1


def test_what_is_needed_is_measured_again_after_giving_back():
    process = Process()
    process.after(EVERY, 100)
    assert process.after(EVERY, 200) == 1
    assert process.after(EVERY, 180) == 1  # what the calls need now
    assert process.after(EVERY, 180 * GROWTH) == 1
    assert process.after(EVERY, 180 * GROWTH + 1) == 2
