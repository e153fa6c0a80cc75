"""Testing under measurement: predictions and shifted images per second, for `bench.py`."""

import time
from collections.abc import Callable

import bench_engine
import numpy as np
from bench_engine import Predictor, Settings
from bench_tables import Table, interleaved, number, spread, verdict

from rcm import backend
from rcm.cells import BATCH, CellSpec
from rcm.members import ONE_LANE
from rcm.shift.corruptions import CORRUPTIONS, corrupt

FAST, FAST_ENOUGH, SLOWEST = 8000, 12, 1500  # images/s, how many corruptions, images/s


def evaluation(settings: Settings) -> Table:
    """images/s of prediction (members x images)."""
    pool = bench_engine.random_pool(settings)
    ids = np.arange(settings.eval_images, dtype=np.int32)
    cell = CellSpec("clean", 0, pool.images[ids], pool.labels[ids], ids, 0)
    predict, auto = "predict, auto", backend.choose_execution()
    candidates: dict[str, Callable[[], float]] = {
        predict: Predictor(settings, auto, cell),
        "predict, loop on one device": Predictor(settings, ONE_LANE, cell),
    }
    values = interleaved(candidates, settings.rounds)
    limit = 4000.0 if settings.judged else None
    rows = [(name, spread(row), str(len(row))) for name, row in values.items()]
    notes = [verdict("images/s of prediction", values[predict], at_least=limit)]
    return Table("Evaluation", ("what", "images/s", "n"), rows, notes)


def shifts(settings: Settings) -> Table:
    """images/s of every corruption at severity 3, a batch of evaluation at a time."""
    images = bench_engine.random_pool(settings).images[: settings.eval_images]
    candidates = {name: _Shifted(images, name) for name in CORRUPTIONS}
    values = interleaved(candidates, settings.rounds)
    rows = [(name, spread(row), str(len(row))) for name, row in values.items()]
    middle = np.array([np.median(row) for row in values.values()])
    fast, slowest = np.array([(middle >= FAST).sum()]), np.array([middle.min()])
    limits = (FAST_ENOUGH, SLOWEST) if settings.judged else (None, None)
    notes = [
        verdict(f"corruptions at {number(FAST)} images/s or more", fast, at_least=limits[0]),
        verdict("images/s of the slowest", slowest, at_least=limits[1]),
    ]
    return Table("Corruptions", ("corruption", "images/s", "n"), rows, notes)


class _Shifted:
    """A call returns images/s of one corruption."""

    def __init__(self, images: np.ndarray, name: str):
        self.images, self.name = images, name

    def __call__(self) -> float:
        ids, start = np.arange(len(self.images)), time.perf_counter()
        for first in range(0, len(ids), BATCH):
            part = slice(first, first + BATCH)
            np.asarray(corrupt(self.images[part], ids[part], self.name, 3))
        return len(ids) / (time.perf_counter() - start)


SECTIONS = {"evaluation": evaluation, "shifts": shifts}
