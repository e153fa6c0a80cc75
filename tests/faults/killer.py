"""python killer.py LOG PATTERN COUNT flags...: `launch.py`, killed as by `kill -9` just before
the COUNT-th change to a file below its workdir whose path matches the PATTERN.

With a number as PATTERN it is killed so many seconds after its first change. What it was killed at
is written to the file LOG.
"""

import os
import re
import runpy
import signal
import sys
import threading

CHANGES = {"os.rename": 1, "os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "shutil.rmtree": 0}


class Killer:
    """An audit hook: it is asked before the interpreter changes anything."""

    def __init__(self, log: str, pattern: str, count: int, workdir: str):
        self.log, self.pattern, self.left, self.workdir = log, pattern, count, workdir
        self.armed = False

    def __call__(self, event: str, arguments: tuple) -> None:
        path = self.changed(event, arguments)
        if self.workdir not in path:
            return
        if self.pattern.replace(".", "").isdigit():
            self.kill_later()
        elif re.search(self.pattern, path.partition(self.workdir)[2]):
            self.left -= 1
            if self.left == 0:
                self.kill(f"{event} {path}")

    def changed(self, event: str, arguments: tuple) -> str:
        """The path that is about to change, or nothing."""
        if event == "open":
            path, _, flags = arguments
            return str(path) if flags and flags & (os.O_WRONLY | os.O_RDWR) else ""
        return str(arguments[CHANGES[event]]) if event in CHANGES else ""

    def kill_later(self) -> None:
        if not self.armed:
            self.armed = True
            seconds = float(self.pattern)
            threading.Timer(seconds, self.kill, [f"after {seconds} s"]).start()

    def kill(self, where: str) -> None:
        log = os.open(self.log, os.O_CREAT | os.O_WRONLY)
        os.write(log, where.encode())
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    log, pattern, count, *flags = sys.argv[1:]
    (workdir,) = (flag.partition("=")[2] for flag in flags if flag.startswith("--workdir="))
    sys.argv = ["launch.py", *flags]
    sys.addaudithook(Killer(log, pattern, int(count), workdir))
    runpy.run_path("launch.py", run_name="__main__")
