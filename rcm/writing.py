"""Writes in the background, so that devices compute on while what they made is saved."""

import collections
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

WAITING = 2  # pieces that may wait to be written, which bounds their memory


class Writer:
    """One thread that writes pieces in the order in which they come."""

    def __init__(self):
        self._thread = ThreadPoolExecutor(1, "rcm-writer")
        self._waiting: collections.deque[Future] = collections.deque()

    def write(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call the function in the background; waits while too many pieces do. The caller must not
        change the arguments. Raises what an earlier piece raised."""
        while len(self._waiting) >= WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(function, *arguments))

    def finish(self) -> None:
        """Wait until everything is written. Raises what the first piece that failed raised."""
        while self._waiting:
            self._waiting.popleft().result()

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """A block at whose end, good or bad, everything is written."""
        try:
            yield
        finally:
            self.finish()
