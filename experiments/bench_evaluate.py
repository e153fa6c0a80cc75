"""Testing under measurement: predictions and shifted images per second, for `bench.py`."""

import time
from collections.abc import Callable

import bench_engine
import jax
import numpy as np
from bench_engine import Predictor, Settings
from bench_tables import Table, interleaved, number, spread, verdict

from rcm import backend
from rcm.cells import BATCH, CellSpec
from rcm.members import ONE_LANE
from rcm.shift.corruptions import CORRUPTIONS, SEVERITIES, corrupt

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
    """images/s of every corruption at severity 3, a batch of evaluation at a time, and of the
    network that consumes them; on an accelerator also what differs from the CPU's pixels."""
    pool = bench_engine.random_pool(settings)
    images = pool.images[: settings.eval_images]
    ids = np.arange(len(images), dtype=np.int32)
    cell = CellSpec("clean", 0, images, pool.labels[: len(images)], ids, 0)
    predict = f"(prediction by {settings.model})"
    made: dict[str, Callable[[], float]] = {name: _Shifted(images, name) for name in CORRUPTIONS}
    predictor = Predictor(settings, backend.choose_execution(), cell)
    values = interleaved(made | {predict: predictor}, settings.rounds)
    accelerated = jax.default_backend() != "cpu"
    rows = []
    for name, row in values.items():
        differs = cpu_difference(images, name) if accelerated and name in CORRUPTIONS else ""
        rows.append((name, spread(row), str(len(row)), *([differs] if accelerated else [])))
    middle = np.array([np.median(values[name]) for name in CORRUPTIONS])
    fast, slowest = np.array([(middle >= FAST).sum()]), np.array([middle.min()])
    limits = (FAST_ENOUGH, SLOWEST) if settings.judged else (None, None)
    slow = min(CORRUPTIONS, key=lambda name: np.median(values[name]))
    notes = [
        verdict(f"corruptions at {number(FAST)} images/s or more", fast, at_least=limits[0]),
        verdict("images/s of the slowest", slowest, at_least=limits[1]),
        verdict(
            f"images/s of the slowest, {slow}, over prediction", values[slow] / values[predict]
        ),
    ]
    header = ("corruption", "images/s", "n", *(["differs from the CPU"] if accelerated else []))
    return Table("Corruptions", header, rows, notes)


def cpu_difference(images: np.ndarray, name: str) -> str:
    """Which share of the values another backend makes differently, over all severities, and by how
    many grey levels at most; in words."""
    images, ids, found = images[:BATCH], np.arange(BATCH), []
    for severity in SEVERITIES:
        ours = np.asarray(corrupt(images, ids, name, severity))
        with jax.default_device(jax.devices("cpu")[0]):
            theirs = np.asarray(corrupt(images, ids, name, severity))
        found.append(np.abs(ours.astype(int) - theirs))
    share, most = np.mean([x > 0 for x in found]), np.max(found)
    return f"{100 * share:.2g} % of values, by {most} at most" if most else "in nothing"


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
