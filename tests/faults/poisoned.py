"""python poisoned.py SEED flags...: `launch.py` on two CPU devices where the learning rates of a
seed's members are not numbers, so that each has lost its weights after a step."""

import runpy
import sys

import numpy as np

from rcm import backend
from rcm.members import Members

if __name__ == "__main__":
    seed, *flags = sys.argv[1:]
    whole = Members.lane

    def poisoned(members, job):
        lane = whole(members, job)
        rates = lane.learning_rates
        return lane._replace(
            learning_rates=np.full_like(rates, np.nan) if lane.seed == int(seed) else rates
        )

    backend.cores = lambda: 2
    Members.lane = poisoned
    sys.argv = ["launch.py", *flags]
    runpy.run_path("launch.py", run_name="__main__")
