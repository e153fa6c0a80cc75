"""What the control groups of this process grant it: CPU cores and memory (cgroups(7)).

A limit may stand on any group between the root and the one that the process is in: a container's
on what it sees as the root, that of a job or a service further down. Version 2 has one tree,
version 1 one for each kind of limit.
"""

import pathlib
import sys
from collections.abc import Iterator

MOUNT, OWN = pathlib.Path("/sys/fs/cgroup"), pathlib.Path("/proc/self/cgroup")


def granted_cores() -> int:
    """CPU cores, rounded up; very many if unlimited."""
    found = [_quota(path.read_text().split()) for path in _files("cpu.max", "cpu")]
    for path in _files("cpu.cfs_quota_us", "cpu"):
        period = path.with_name("cpu.cfs_period_us")
        found.append(_quota([path.read_text(), period.read_text()]))
    return min(found, default=sys.maxsize)


def granted_memory() -> int:
    """Bytes; very many if unlimited."""
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [path.read_text().strip() for name in names for path in _files(name, "memory")]
    return min((int(limit) for limit in limits if limit.isdecimal()), default=sys.maxsize)


def _quota(numbers: list[str]) -> int:
    limit, period = (number.strip() for number in numbers)
    if not limit.isdecimal():  # "max" in version 2, -1 in version 1
        return sys.maxsize
    return -(-int(limit) // int(period))


def _files(name: str, kind: str) -> Iterator[pathlib.Path]:
    """The files of that name in the groups that this process is in, of both versions."""
    try:
        groups = [line.split(":", 2) for line in OWN.read_text().splitlines()]
    except OSError:  # another system
        groups = [["0", "", "/"]]
    for _, kinds, place in groups:
        if kinds and kind not in kinds.split(","):
            continue
        for root in (MOUNT / kinds, MOUNT / kind) if kinds else (MOUNT, MOUNT / "unified"):
            own = root / place.strip().lstrip("/")
            for folder in (own, *own.parents):
                if folder.is_relative_to(root) and (folder / name).is_file():
                    yield folder / name
