"""A few steps of a tiny network through the engine, and whether two results are equal bits."""

import jax
import numpy as np

from rcm import config, rounds, sweep
from rcm.rounds import Lane, Pool
from rcm.sweep import Execution
from rcm.train import fit
from rcm.train.losses import LossHyper
from rcm.train.step import Hyper

STEPS = 5
RECIPE = config.Train(batch=8, augment="crop")
LOOP = Execution("loop", 2, 2, 1)
DRAW = np.random.default_rng(0)
POOL = Pool(
    DRAW.integers(0, 256, (64, 8, 8, 3), dtype=np.uint8), DRAW.integers(0, 3, 64, dtype=np.int32)
)


def program(techniques=(), teacher=None):
    model = config.Model(name="tiny", width=4)
    return fit.make_program(model, teacher, RECIPE, techniques, 3, (8, 8, 3))


def lane(seed, levels=(), rate=0.1):
    loss = LossHyper(np.ones(3, np.float32), np.zeros(3, np.float32), *map(np.float32, (0, 0, 1)))
    table = np.arange(20 + seed, dtype=np.int32)
    rates = np.full(STEPS, rate, np.float32)
    return Lane(seed, seed, table, rates, Hyper(np.uint32(seed), np.float32(1e-3), loss), levels)


def train(execution, lanes, pool, of=None):
    of = of or program()
    shared = sweep.share(execution, pool)
    state = rounds.begin_round(of, execution, lanes)
    state = rounds.run_round(of, execution, shared, lanes, state, 0, lambda *_: None)
    return sweep.unstack(state, len(lanes))


def equal(a, b):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))
