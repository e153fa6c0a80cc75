"""How the command ends other than well: each way in one sentence, with nothing lost.

SIGTERM is how schedulers say that a process will be killed in some seconds (Slurm, Kubernetes,
machines that may be taken back): what is at risk is saved, and the process leaves.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

import jax

from rcm.words import shown

RESUMES = 75  # the exit code of what the same command goes on with (EX_TEMPFAIL of sysexits.h)
INTERRUPTED = 130  # that of Ctrl-C, as shells have it


class Preempted(BaseException):
    """Asked to leave. No Exception, so that nothing that goes on after errors goes on after it."""


class _Notice:
    asked = False
    patient = False  # within `saving`
    farewell: Callable[[], None] | None = None


_notice = _Notice()


def asked() -> bool:
    """Whether SIGTERM has come."""
    return _notice.asked


def on_leaving(farewell: Callable[[], None]) -> None:
    """What this process does when it is asked to end, behind saving."""
    _notice.farewell = farewell


def _heard(_number: int, _frame: object) -> None:
    _notice.asked = True
    if not _notice.patient:
        raise Preempted


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """A block that looks at `asked` itself, saves what is at risk and raises `Preempted`; SIGTERM
    interrupts everything else at once."""
    _notice.patient = True
    try:
        yield
    finally:
        _notice.patient = False
    if _notice.asked:
        raise Preempted


@contextlib.contextmanager
def in_a_sentence() -> Iterator[None]:
    """The whole command: what users can mend ends in one sentence, SIGTERM and Ctrl-C in another
    each; other errors are ours and keep their traceback."""
    previous = signal.signal(signal.SIGTERM, _heard)
    try:
        yield
    except (ValueError, OSError) as error:
        sentence = f"rcm: {shown(' '.join(str(error).split()))}"
        if not jax.distributed.is_initialized():
            sys.exit(sentence)
        _leave(sentence, 1)  # without waiting for the other processes, which end with theirs
    except Preempted:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # heard
        if _notice.farewell:
            _notice.farewell()
        _leave("rcm: asked to end; what is done is saved, and the same command goes on.", RESUMES)
    except KeyboardInterrupt:
        _leave("rcm: interrupted; the same command goes on from the last checkpoint.", INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _leave(sentence: str, code: int) -> None:
    """Every file is complete or absent, and waiting for libraries' threads can hang."""
    print(sentence, flush=True)
    os._exit(code)
