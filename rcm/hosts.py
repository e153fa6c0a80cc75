"""The processes of a distributed run: who this one is, how they meet, what they tell each other.

JAX's distributed runtime finds them (Slurm, Open MPI, Kubernetes, Cloud TPU, or three flags), keeps
their key-value store and ends all of them when one dies. No number of a training step passes
between them: each process runs whole rounds on its own devices and writes its own chunks.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax

from rcm.cluster import own_gpus
from rcm.leaving import INTERRUPTED, RESUMES, on_leaving
from rcm.native import Stderr

LISTENING = 1000  # milliseconds for which a wait cannot be interrupted by a signal
SILENT = 5.0  # seconds of waiting for others of which nothing is said
POD = ' (for which JAX needs its extra here: pip install "jax[k8s]")'
PATIENCE = 20.0  # seconds to save in, before the first process ends and all others with it


class Hosts:
    """All processes of a run, seen by the one with this index. Alone, nothing waits for anybody.

    Every process must call `gather` and `agree` equally often, in the same order.
    """

    def __init__(self, index: int = 0, count: int = 1):
        self.index, self.count = index, count
        self.beside = 1  # processes of the run on this machine, which share its memory
        self.waited = 0.0  # seconds in which others were waited for
        self.meanwhile: Callable[[bool], None] = lambda met: None  # called while they are, and then
        self._met = 0

    @property
    def leads(self) -> bool:
        """Whether this process decides, shows progress and reports."""
        return self.index == 0

    @property
    def _client(self) -> Any:
        """The key-value store; JAX has no public name for it."""
        from jax._src.distributed import global_state

        return global_state.client

    def gather(self, value: Any = None) -> list[Any]:
        """What every process gives (JSON values), in their order, once all have given theirs."""
        if self.count == 1:
            return [value]
        self._met, came = self._met + 1, time.monotonic()
        self._client.key_value_set(f"rcm/met/{self._met}/{self.index}", json.dumps(value))
        keys = (f"rcm/met/{self._met}/{i}" for i in range(self.count))
        given = [self._waited_for(key) for key in keys]
        self.waited += time.monotonic() - came
        self.meanwhile(True)
        return [json.loads(one) for one in given]

    def _waited_for(self, key: str) -> str:
        """A value that another process sets, perhaps in days."""
        while True:
            try:
                return self._client.blocking_key_value_get(key, LISTENING)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
                self.meanwhile(False)

    def agree(self, value: Any = None) -> Any:
        """What the leading process gives, for all; the others' values are not looked at."""
        return self.gather(value if self.leads else None)[0]

    def post(self, title: str, done: int) -> None:
        """Tell how much of a titled task this process has done."""
        if self.count > 1:
            self._client.key_value_set(
                f"{_folder(title)}/{self.index}", str(done), allow_overwrite=True
            )

    def posted(self, title: str) -> int:
        """How much of it the other processes have done, as far as they told."""
        if self.count == 1:
            return 0
        found = self._client.key_value_dir_get(f"{_folder(title)}/")
        return sum(int(done) for key, done in found if not key.endswith(f"/{self.index}"))

    def part(self) -> None:
        """Leave before the end, after saving. The first process, whose end is the end of all, waits
        until the others have told that they leave, too, at most `PATIENCE` seconds."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # the service has ended already
            self._client.key_value_set(f"rcm/left/{self.index}", "")
            until = time.monotonic() + PATIENCE * self.leads
            while time.monotonic() < until:
                if len(self._client.key_value_dir_get("rcm/left/")) == self.count:
                    break
                time.sleep(0.05)


def _folder(title: str) -> str:
    return f"rcm/done/{hashlib.sha256(title.encode()).hexdigest()[:16]}"


def join(distributed: bool, address: str, count: int, index: int, heartbeat: int) -> Hosts:
    """Meet the other processes of this run, if it is distributed; before any computation.

    address: host:port of process 0, count: how many processes, index: which this one is; each from
    the cluster where it is empty or below 0. heartbeat: seconds of silence after which a process
    counts as dead. Raises ValueError where they cannot be known or do not come.
    """
    if not distributed:
        if address or count > 0 or index >= 0:
            raise ValueError(
                "--coordinator_address, --num_processes and --process_id name the other processes "
                "of a distributed run: add --distributed, or leave them out."
            )
        return Hosts()
    if heartbeat < 1:
        raise ValueError(f"--heartbeat_seconds is {heartbeat}: give seconds, at least 1.")
    stderr = Stderr()
    end_with_a_sentence(
        stderr,
        "the runtime gave up waiting for the other processes, which must all be started within "
        "five minutes and reach the first one's address: start them again",
    )
    jax.config.update("jax_enable_preemption_service", False)  # it would hear SIGTERM in our place
    try:
        with _waiting(stderr):
            jax.distributed.initialize(
                address or None,
                count if count > 0 else None,
                index if index >= 0 else None,
                own_gpus(os.environ),
                heartbeat_timeout_seconds=heartbeat,
            )
    except Exception as error:  # of many kinds, by cluster and by what is missing
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        pod = "KUBERNETES_SERVICE_HOST" in os.environ and not find_spec("kubernetes")
        raise ValueError(
            f"--distributed cannot meet the other processes ({_first_line(error)}): start all "
            f"under Slurm, Open MPI, Kubernetes{POD if pod else ''} or on a TPU slice, or give "
            "every one the flags --coordinator_address=HOST:PORT, --num_processes and its own "
            "--process_id."
        ) from error
    hosts = Hosts(jax.process_index(), jax.process_count())
    on_leaving(hosts.part)
    end_with_a_sentence(
        stderr,
        f"process {hosts.index} of {hosts.count} was ended by JAX's runtime, most likely because "
        "another process died, whose own output tells why; nothing that is finished is lost: give "
        "the same command to all of them again",
    )
    machine = socket.gethostname()
    hosts.beside = hosts.gather(machine).count(machine)
    return hosts


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


@contextlib.contextmanager
def _waiting(stderr: Stderr) -> Iterator[None]:
    """While the runtime waits for other processes, in which no Python handler comes to run: SIGTERM
    and Ctrl-C end this one with a sentence, and after a while a line says what is waited for."""
    codes = {signal.SIGTERM: RESUMES, signal.SIGINT: INTERRUPTED}
    words = "asked to end while it waited for the other processes; start all of them again"
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda n: stderr.end(words, codes[n]))
    previous = {number: signal.getsignal(number) for number in codes}
    previous = {n: own for n, own in previous.items() if own not in (None, signal.SIG_IGN)}
    for number in previous:
        ctypes.CDLL(None).signal(number, handler)
    line = "Waiting for the other processes of this run, for five minutes at most."
    told = threading.Timer(SILENT, partial(print, line, flush=True))
    told.daemon = True
    told.start()
    try:
        yield
    finally:
        told.cancel()
        for number, own in previous.items():
            signal.signal(number, own)


def end_with_a_sentence(stderr: Stderr, sentence: str) -> None:
    """When JAX's runtime aborts this process, say why and exit with `RESUMES`.

    The runtime calls abort() in a thread of its own, where no Python signal handler comes to run;
    a C one that takes the interpreter's lock does.
    """

    def ended(_number: int) -> None:
        stderr.end(sentence, RESUMES)

    global _handler  # C keeps no reference
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(ended)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)
    _handler = handler


_handler: Any = None
