"""A workdir looked after: `launch.py --status`, `--verify` and `--prune_store`."""

from collections.abc import Collection

from rcm import config, status, unreferred
from rcm.progress import Display
from rcm.store import Store


def execute(asked: Collection[str], workdir: str, yes: bool, display: Display) -> int:
    """Do what is asked for, of status, verify and prune_store, and return the exit code: 1 if
    something is damaged.

    Raises ValueError, with one sentence for the user, where there is nothing to look at.
    """
    store, damaged = Store(workdir, create=False), 0
    config.require(store.root.is_dir(), f"There is no workdir {workdir}: a study makes it.")
    if "status" in asked:
        status.show(store, display)
    if "verify" in asked:
        from rcm import verification  # and its libraries, for which status does not wait

        damaged = verification.verify(store, display)
    if "prune_store" in asked:
        unreferred.prune(Store(workdir), yes, display)
    return 1 if damaged else 0
