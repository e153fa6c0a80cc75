"""Dynamic sparse training: what is dropped, what grows, when it stops, and that the count stays."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcm.compress import DynamicSparse, validate_chain
from rcm.compress.base import Info, chain, kernels
from rcm.compress.cluster import Cluster
from rcm.compress.dynamic import Rule, dynamic_sparse, moving_share
from rcm.compress.prune import Prune

EVERY_STEP = Rule(start="magnitude", scope="layer", decay="constant", every=1)


def variables(**tensors):
    return {"params": {name: {"kernel": jnp.asarray(w)} for name, w in tensors.items()}}


def info(step, **gradients):
    return Info(jnp.int32(step), jax.random.key(step), variables(**gradients)["params"])


def levels(sparsity, fraction=0.5, end=100):
    return {
        "sparsity": np.float32(sparsity), "fraction": np.float32(fraction), "end": np.int32(end),
    }  # fmt: skip


def test_rigl_drops_the_smallest_weights_and_grows_the_largest_gradients():
    w = [0.1, -0.2, 3.0, -4.0, 0.05, 0.01, 0.02, 0.0]  # the last four are absent at 50 %
    g = [9.0, 0.0, 0.0, 9.0, 1.0, -8.0, 7.0, 2.0]
    compressor = dynamic_sparse(EVERY_STEP)
    state = compressor.init(jax.random.key(0), variables(a=w), levels(0.5))
    np.testing.assert_array_equal(state.masks["a/kernel"], [1, 1, 1, 1, 0, 0, 0, 0])
    after, state = compressor.update(state, variables(a=w), info(0, a=g))
    # half of four present weights move: 0.1 and -0.2 go; of the six places left, 9 and -8 are the
    # largest gradients, the first of which was dropped just now and begins anew
    np.testing.assert_array_equal(state.masks["a/kernel"], [1, 0, 1, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(after["params"]["a"]["kernel"], [0, 0, 3, -4, 0, 0, 0, 0])


def test_set_grows_at_random_and_by_the_key():
    w, g = np.arange(1, 201, dtype=np.float32), np.zeros(200, np.float32)
    compressor = dynamic_sparse(EVERY_STEP._replace(growth="random"))
    state = compressor.init(jax.random.key(0), variables(a=w), levels(0.5, 1.0))
    first, second, again = (
        compressor.update(state, variables(a=w), info(step, a=g))[1].masks["a/kernel"]
        for step in (0, 1, 0)
    )
    assert int(first.sum()) == int(second.sum()) == 100
    np.testing.assert_array_equal(first, again)
    assert 20 < int((first & second).sum()) < 80  # two random halves share about 50


def test_share_that_moves_falls_as_half_a_cosine_and_stops():
    shares = [
        float(moving_share(levels(0.5, 0.3, 100), jnp.int32(age), "cosine"))
        for age in (0, 50, 99, 100, 500)
    ]
    expected = [0.3, 0.15, 0.15 * (1 + np.cos(np.pi * 0.99)), 0, 0]
    np.testing.assert_allclose(shares, expected, atol=1e-7)
    assert float(moving_share(levels(0.5, 0.3, 100), jnp.int32(99), "constant")) == np.float32(0.3)


def test_nothing_moves_in_a_later_stage_although_its_steps_begin_anew():
    rng = np.random.default_rng(0)
    w, g = rng.normal(size=(2, 40)).astype(np.float32)
    compressor = dynamic_sparse(EVERY_STEP)
    state = compressor.init(jax.random.key(0), variables(a=w), levels(0.5, 0.3, end=2))
    _, first = compressor.update(state, variables(a=w), info(0, a=g))
    _, second = compressor.update(first, variables(a=w), info(1, a=g))
    _, later = compressor.update(second, variables(a=w), info(0, a=g))
    assert (np.asarray(state.masks["a/kernel"]) != first.masks["a/kernel"]).any()
    np.testing.assert_array_equal(first.masks["a/kernel"], second.masks["a/kernel"])
    np.testing.assert_array_equal(first.masks["a/kernel"], later.masks["a/kernel"])


SHAPES = {"one": (1, 1), "small": (3, 5), "large": (40, 7)}
KINDS = {
    "ties": lambda rng, shape: rng.integers(-1, 2, shape),
    "normal": lambda rng, shape: rng.normal(size=shape),
    "zero": lambda rng, shape: np.zeros(shape),
    "extreme": lambda rng, shape: rng.choice([0, -0.0, 1e-38, 3e38, -3e38, 1], shape),
}


@lru_cache
def jitted(growth, start):
    compressor = dynamic_sparse(Rule(growth, start, "erk", "cosine", 1))
    return compressor, jax.jit(compressor.init), jax.jit(compressor.update)


@pytest.mark.parametrize(("growth", "start"), [("gradient", "random"), ("random", "magnitude")])
@settings(max_examples=25, deadline=None)
@given(
    sparsity=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99]),
    fraction=st.sampled_from([0.0, 0.3, 1.0]),
    kind=st.sampled_from(list(KINDS)),
    seed=st.integers(0, 9),
)
def test_the_number_of_weights_never_changes(growth, start, sparsity, fraction, kind, seed):
    rng = np.random.default_rng(seed)

    def draw():
        return {k: KINDS[kind](rng, shape).astype(np.float32) for k, shape in SHAPES.items()}

    compressor, init, update = jitted(growth, start)
    first = variables(**draw())
    state, now = init(jax.random.key(seed), first, levels(sparsity, fraction)), first
    for step in range(3):
        before, old = now, state
        now, state = update(state, now, info(step, **draw()))
        for name, mask in state.masks.items():  # what stays is as it was, what grows is zero
            was, new = (np.asarray(kernels(v["params"])[name]) for v in (before, now))
            moved = was != new
            np.testing.assert_array_equal(new[moved], 0)
            np.testing.assert_array_equal(new[mask & ~np.asarray(old.masks[name])], 0)
        assert compressor.check(compressor.apply(now, state), state) == []
    if sparsity == 0:
        jax.tree.map(np.testing.assert_array_equal, now, first)


def test_clusters_behind_it_keep_its_zeros():
    technique = DynamicSparse(0.5, every=1)
    both = chain(technique.build((), None), Cluster(4).build((technique,), None))
    rng = np.random.default_rng(0)
    w = variables(a=rng.normal(size=(8, 9)).astype(np.float32))
    amounts = (levels(0.5, 0.3, 0), Cluster(4).levels(0))
    state, update = jax.jit(both.init)(jax.random.key(0), w, amounts), jax.jit(both.update)
    for step in range(3):
        g = rng.normal(size=(8, 9)).astype(np.float32)
        w, state = update(state, w, info(step, a=g))
        assert both.check(both.apply(w, state), state) == []


def test_bad_numbers_and_orders_get_a_sentence():
    for bad, words in (
        (DynamicSparse(1.0), "sparsity must lie in"),
        (DynamicSparse(growth="rigl"), "growth 'rigl'"),
        (DynamicSparse(fraction=2.0), "fraction and end are shares"),
        (DynamicSparse(every=0), "every must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            validate_chain("Pipeline 'x'", (bad,), 100)
    with pytest.raises(ValueError, match="behind pruning would grow"):
        validate_chain("Pipeline 'x'", (Prune(0.5), DynamicSparse()), 100)
    with pytest.raises(ValueError, match="pin_zero=True"):
        validate_chain("Pipeline 'x'", (DynamicSparse(), Cluster(pin_zero=False)), 100)
