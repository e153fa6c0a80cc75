"""What glibc's malloc holds: kept from call to call, and its holes given back now and then.

XLA allocates a step's buffers anew at every call, by `posix_memalign`. A block that it frees is as
large as the next that it asks for, but before version 2.38 glibc needs some bytes more to align it,
and those beside the block are soon taken by something small: then the heap grows by another block,
step after step, without anything being in use (docs/benchmarks.md). Elsewhere nothing happens here.
"""

import ctypes
import functools
import os
import pathlib
import platform
import time
from collections.abc import Callable

# Parameters of mallopt(3): one arena for all threads (the others are given back whenever they are
# empty), never map single blocks, never trim, grow in steps of 64 MiB.
OPTIONS = {-8: 1, -4: 0, -1: 2**31 - 1, -2: 64 * 2**20}
# Times what a process took at first, or `EVERY` seconds behind the last time, above which it gives
# back; each time the next calls fault their pages in again.
GROWTH = 1.25
EVERY = 1.0


def keep_freed_memory() -> None:
    """Tell malloc not to hand freed memory back to the system by itself: above 32 MB glibc maps and
    unmaps blocks each time, as it does with the heaps of its threads, and zeroing those pages was a
    quarter of a ResNet-8 step."""
    libc = _libc()
    if libc:
        for parameter, value in OPTIONS.items():
            libc.mallopt(parameter, value)


def used() -> int:
    """Bytes of memory that this process takes; 0 where the system does not tell."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The most that it took since `forget_peak`, or at all; 0 where the system does not tell."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(next(found, "0"))


def forget_peak() -> bool:
    """Let `peak` begin anew; whether the system allows it."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


class Holes:
    """Gives the heap's free pages back when the process has grown much since that was last done.

    To be asked after every call of a program; looks once in `EVERY` seconds.
    """

    def __init__(
        self,
        trim: Callable[[], None],
        size: Callable[[], int] = used,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trim, self._size, self._clock = trim, size, clock
        self._settled, self._next = 0, clock() + EVERY

    def close(self) -> None:
        """Do so if it is time."""
        now = self._clock()
        if now < self._next:
            return
        self._next, size = now + EVERY, self._size()
        if not self._settled:
            self._settled = size
        elif size > GROWTH * self._settled:
            self.give_back()

    def give_back(self) -> None:
        """Do so now; what the next calls need is measured again when they have it."""
        self._trim()
        self._settled, self._next = 0, self._clock() + EVERY


def _trim() -> None:
    libc = _libc()
    if libc:
        libc.malloc_trim(0)


@functools.cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


HOLES = Holes(_trim)
