"""What libraries of C++ print to stderr, held back for a moment before it is passed on.

JAX's distributed runtime ends a process by a log line and the frames of its stack, twenty lines
behind which a sentence is lost. Of what was printed in the last moment before such an end a file is
made instead; everything else only comes a little later.
"""

import atexit
import os
import select
import sys
import tempfile
import threading
import time

MOMENT = 0.5  # seconds for which lines are held


class Stderr:
    """Takes the place of this process's stderr, for all but Python's own words."""

    def __init__(self) -> None:
        sys.stderr.flush()
        self._shown = os.dup(2)
        sys.stderr = os.fdopen(os.dup(self._shown), "w", buffering=1, errors="backslashreplace")
        self._read, written = os.pipe()
        os.dup2(written, 2)
        os.close(written)
        self._held = b""
        self._reader = threading.Thread(target=self._pass_on, daemon=True)
        self._reader.start()
        atexit.register(self._give_back)

    def _pass_on(self) -> None:
        """Until nothing can write any more."""
        due = 0.0
        while True:
            left = max(0.0, due - time.monotonic()) if self._held else None
            if select.select([self._read], [], [], left)[0]:
                found = os.read(self._read, 2**16)
                if not found:
                    break
                due = due if self._held else time.monotonic() + MOMENT
                self._held += found
            else:
                self._show()
        self._show()

    def _show(self) -> None:
        text, self._held = self._held, b""
        os.write(self._shown, text)

    def _give_back(self) -> None:
        os.dup2(self._shown, 2)  # which closes the last end that writes
        self._reader.join(timeout=1.0)

    def end(self, sentence: str, code: int) -> None:
        """End this process at once with a sentence of ours; what is held goes to a file."""
        while select.select([self._read], [], [], 0)[0] and (more := os.read(self._read, 2**16)):
            self._held += more
        told = ""
        if self._held:
            number, path = tempfile.mkstemp(prefix="rcm-", suffix=".log")
            os.write(number, self._held)
            told = f" (in the runtime's words: {path})"
        os.write(self._shown, f"rcm: {sentence}{told}.\n".encode())
        os._exit(code)
