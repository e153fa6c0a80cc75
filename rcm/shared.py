"""Whether all processes of a distributed run see the same workdir."""

import secrets
import time
from pathlib import Path

from rcm import config
from rcm.files import write_bytes
from rcm.hosts import Hosts
from rcm.store import LATE_SECONDS, Store


def require_shared(store: Store, hosts: Hosts) -> None:
    """Raise ValueError unless all processes find a file that the leading one puts there."""
    if hosts.count == 1:
        return
    mark = _mark(store, hosts.agree(secrets.token_hex(8) if hosts.leads else ""))
    if hosts.leads:
        write_bytes(mark, b"")
    hosts.gather()
    config.require(
        _appears(mark),
        f"{store.root} of process {hosts.index} is not that of process 0: give all processes the "
        "same --workdir on a file system they share.",
    )
    hosts.gather()
    if hosts.leads:
        mark.unlink(missing_ok=True)


def _mark(store: Store, token: str) -> Path:
    return store.stages / "locks" / f"{token}.mark"


def _appears(path: Path) -> bool:
    """Within the seconds that a network's file system may take."""
    deadline = time.monotonic() + LATE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
