"""python late.py flags...: `launch.py`, asked to end (SIGTERM) in the last call of its first round,
behind which no other call saves what was trained."""

import os
import runpy
import signal
import sys

from rcm import checkpoints

plain = checkpoints.Checkpoints.__call__
sent = []


def call(self, step, state, flight):
    if step == self.steps and not sent:
        sent.append(step)
        os.kill(os.getpid(), signal.SIGTERM)
    plain(self, step, state, flight)


checkpoints.Checkpoints.__call__ = call
sys.argv = ["launch.py", *sys.argv[1:]]
runpy.run_path("launch.py", run_name="__main__")
