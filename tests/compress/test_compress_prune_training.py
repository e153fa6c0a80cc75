"""Pruning beside an optimizer: when a schedule reaches its goal, and what the pruned weights do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcm.compress import Prune, prune
from rcm.compress.base import Info
from rcm.train.optimizers import make_optimizer

ONE = jax.random.key(0)


def of(w):
    return {"params": {"a": {"kernel": jnp.asarray(w)}}}


@settings(max_examples=50, deadline=None)
@given(
    steps=st.integers(1, 5000),
    every=st.integers(1, 600),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    sparsity=st.floats(0, 0.9990234375, width=32),
)
def test_the_goal_is_in_force_to_the_bit_at_a_step_that_updates(steps, every, shares, sparsity):
    """And from there to the last step, whatever the schedule."""
    begin, end = sorted(shares)
    technique = Prune(sparsity, schedule="cubic", begin=begin, end=end, every=every)
    found = technique.levels(steps)
    assert 0 <= found["begin"] <= found["end"] < steps
    assert found["end"] % every == 0
    for step in (found["end"], steps - 1):
        now = prune.cubic_sparsity(found["sparsity"], found["begin"], found["end"], step)
        assert now == found["sparsity"]


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_what_is_pruned_plays_no_part_in_the_training_of_the_rest(kind):
    """Whatever the pruned weights were when the stage began: not by momentum, decay or clipping."""
    rng = np.random.default_rng(0)
    technique, optimizer = Prune(0.5), make_optimizer(kind, 0.9, clip_norm=1.0)
    compressor, goal = technique.build((), None), rng.normal(size=30).astype(np.float32)
    start = rng.normal(size=30).astype(np.float32)
    state = compressor.init(ONE, of(start), dict(technique.levels(1)))
    mask = np.asarray(state.masks["a/kernel"])

    @jax.jit
    def step(v, momentum, i):
        effective, pull_back = jax.vjp(lambda v: compressor.apply(v, state), v)
        grads = jax.tree.map(lambda w: w - goal, effective)
        own = pull_back(grads)[0]["params"]
        moved, momentum = optimizer.step(own, momentum, v["params"], 0.1, 0.05)
        told = Info(i, ONE, grads["params"], before=v["params"])
        return compressor.update(state, {"params": moved}, told)[0], momentum

    courses = []
    for pruned in (start, 0 * start, 1e6 + start):
        v = of(np.where(mask, start, pruned))
        momentum = optimizer.init(v["params"])
        for i in range(5):
            v, momentum = step(v, momentum, jnp.int32(i))
        courses.append(v["params"]["a"]["kernel"])
        assert not courses[-1][~mask].any()
        assert (courses[-1][mask] != start[mask]).all()
    np.testing.assert_array_equal(courses[0], courses[1])
    np.testing.assert_array_equal(courses[0], courses[2])
