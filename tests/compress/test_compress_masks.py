"""Selection against a stable sort; scopes, blocks and N:M groups against written-out rules."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcm.compress.masks import (
    counts,
    divisible,
    erk_densities,
    make_masks,
    pruned_and_expected,
    pruned_count,
)
from rcm.compress.select import smallest, smallest_of_all

FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), 3e38]),
    st.floats(width=32, allow_nan=False, allow_subnormal=False),
)
SIZE = 40
SELECT = jax.jit(lambda s, n: smallest({"a": s}, {"a": n})["a"])
TOGETHER = jax.jit(lambda a, b, n: smallest_of_all({"a": a, "b": b}, n))


def by_sorting(scores, count):
    """The `count` smallest by numpy's stable sort, to which -0 and 0 are equal."""
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(scores.ravel(), kind="stable")[:count]] = True
    return mask.reshape(scores.shape)


@settings(max_examples=100, deadline=None)
@given(st.lists(FLOATS, min_size=SIZE, max_size=SIZE), st.integers(0, SIZE))
def test_selection_equals_a_stable_sort(values, count):
    scores = np.array(values, np.float32).reshape(5, 8)
    np.testing.assert_array_equal(SELECT(scores, count), by_sorting(scores, count))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-2, 2), min_size=SIZE, max_size=SIZE), st.integers(0, SIZE))
def test_selection_over_tensors_counts_ties_from_tensor_to_tensor(values, count):
    scores = np.array(values, np.float32)
    found = TOGETHER(scores[:10], scores[10:].reshape(5, 6), count)
    together = np.concatenate([found["a"], found["b"].ravel()])
    np.testing.assert_array_equal(together, by_sorting(scores, count))


def test_selection_of_a_million_scores():
    scores = np.random.default_rng(0).normal(size=10**6).astype(np.float32)
    found = jax.jit(lambda s: smallest({"a": s}, {"a": 123_456})["a"])(scores)
    np.testing.assert_array_equal(found, by_sorting(scores, 123_456))


def test_members_select_under_vmap():
    scores = np.random.default_rng(0).integers(0, 4, (3, 20)).astype(np.float32)
    found = jax.jit(jax.vmap(lambda s, n: smallest({"a": s}, {"a": n})["a"]))(
        scores, np.array([0, 7, 20])
    )
    for row, mask, count in zip(scores, found, (0, 7, 20), strict=True):
        np.testing.assert_array_equal(mask, by_sorting(row, count))


# --- scopes

SHAPES = {"stem": (3, 3, 3, 16), "conv": (3, 3, 16, 32), "head": (32, 10)}


def reference_erk(sparsity):
    """Cap the densest kernel at 1 and solve for the others, until none exceeds 1."""
    size = {n: np.prod(s) for n, s in SHAPES.items()}
    raw = {n: sum(s) / size[n] for n, s in SHAPES.items()}
    capped = set()
    while True:
        free = set(SHAPES) - capped
        kept = (1 - sparsity) * sum(size.values()) - sum(size[n] for n in capped)
        factor = kept / sum(size[n] * raw[n] for n in free)
        over = {n for n in free if factor * raw[n] > 1}
        if not over:
            return {n: 1.0 if n in capped else factor * raw[n] for n in SHAPES}
        capped |= over


@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.5, 0.8, 0.9, 0.99])
def test_erk_densities_equal_the_iterative_rule_and_keep_the_whole(sparsity):
    found = erk_densities(SHAPES, sparsity)
    expected = reference_erk(sparsity)
    for name in SHAPES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    kept = sum(np.prod(SHAPES[n]) * found[n] for n in SHAPES)
    total = sum(np.prod(s) for s in SHAPES.values())
    np.testing.assert_allclose(kept, (1 - sparsity) * total, rtol=1e-5)


def test_no_sparsity_prunes_nothing_in_any_scope():
    for scope in ("layer", "erk"):
        assert {int(n) for n in counts(SHAPES, np.float32(0), scope).values()} == {0}


def test_erk_keeps_small_kernels_denser():
    pruned = counts(SHAPES, 0.8, "erk")
    shares = {n: int(pruned[n]) / np.prod(s) for n, s in SHAPES.items()}
    assert shares["head"] < shares["stem"] < shares["conv"]


# --- structures


@cache
def masks_of(structure, group):
    return jax.jit(
        lambda scores, dead, sparsity: make_masks(
            {"a": scores}, {"a": dead}, sparsity, "layer", structure, group
        )["a"]
    )


def mask(scores, sparsity, structure, group):
    scores = np.asarray(scores, np.float32)
    return np.asarray(masks_of(structure, group)(scores, scores == 0, np.float32(sparsity)))


@pytest.mark.parametrize(("kept", "group"), [(2, 4), (4, 8), (1, 4)])
def test_n_of_m_keeps_the_n_largest_of_every_group_along_the_inputs(kept, group):
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=(3, 3, 16, 5)).astype(np.float32)
    found = mask(scores, 1 - kept / group, "n_of_m", group)
    for row in range(3):
        for output in range(5):
            for start in range(0, 16, group):
                column = scores[row, 1, start : start + group, output]
                best = set(np.argsort(-column)[:kept])
                assert set(np.flatnonzero(found[row, 1, start : start + group, output])) == best


SIZES = {"a": (3, 8), "b": (4, 4), "c": (4, 2), "d": (3, 3)}  # d falls into no blocks, nor a, d 2:4
AMOUNTS = [0.0, 1e-37, 1.0, 2.0, 3.0, 1e38, float("inf")]  # ties, nothing, extremes
FORMS = [("layer", "weights"), ("global", "weights"), ("erk", "weights"), ("global", "block"),
         ("layer", "n_of_m")]  # fmt: skip


@cache
def masks_of_all(scope, structure):
    return jax.jit(lambda s, dead, level: make_masks(s, dead, level, scope, structure, 2))


def units_of(scores, dead, structure):
    """[.., units] what falls together, scores of the dead before all others."""
    if structure != "block":
        return np.where(dead, -np.inf, scores)
    pairs, gone = (x.reshape(*x.shape[:-1], -1, 2) for x in (scores, dead))
    return np.where(gone.all(-1), -np.inf, np.where(gone, 0, pairs).sum(-1))


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    sparsity=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]),
    seed=st.integers(0, 2**32 - 1),
)
def test_exactly_the_lowest_units_go_and_the_dead_before_them(form, sparsity, seed):
    (scope, structure), rng = form, np.random.default_rng(seed)
    scores = {name: rng.choice(AMOUNTS, shape).astype(np.float32) for name, shape in SIZES.items()}
    dead = {name: rng.random(shape) < 0.3 for name, shape in SIZES.items()}
    found = masks_of_all(scope, structure)(scores, dead, np.float32(sparsity))
    found = {name: np.asarray(mask) for name, mask in found.items()}
    for name, pruned, expected in pruned_and_expected(found, sparsity, scope, structure, 2):
        assert pruned == expected, name
    fit = [name for name, shape in SIZES.items() if divisible(shape, structure, 2)]
    assert all(found[name].all() for name in SIZES if name not in fit)
    units = {name: units_of(scores[name], dead[name], structure) for name in fit}
    gone = {name: ~found[name] for name in fit}
    if structure == "block":
        gone = {name: mask.reshape(*mask.shape[:-1], -1, 2) for name, mask in gone.items()}
        assert all((pair[..., 0] == pair[..., 1]).all() for pair in gone.values())
        gone = {name: pair[..., 0] for name, pair in gone.items()}
    if structure == "n_of_m":
        columns = [(n, i, j) for n in fit for i in range(0, SIZES[n][0], 2)
                   for j in range(SIZES[n][1])]  # fmt: skip
        pools = [(units[n][i : i + 2, j], gone[n][i : i + 2, j]) for n, i, j in columns]
    elif scope == "global":
        pools = [tuple(np.concatenate([x[n].ravel() for n in fit]) for x in (units, gone))]
    else:
        pools = [(units[n].ravel(), gone[n].ravel()) for n in fit]
    for values, lost in pools:
        np.testing.assert_array_equal(lost, by_sorting(values, np.count_nonzero(lost)))


@pytest.mark.parametrize(("lost", "off"), [((2, 2), 0), ((2, 0), 2), ((2, 1), 1), ((4, 0), 4)])
def test_every_n_of_m_group_counts_also_one_that_loses_nothing(lost, off):
    kept = np.concatenate([np.arange(4) >= count for count in lost])[:, None]
    assert pruned_and_expected({"a": kept}, np.float32(0.5), "layer", "n_of_m", 4) == [
        ("a", off, 0)
    ]


def test_n_of_m_breaks_ties_by_index():
    found = mask(np.ones((4, 1)), 0.5, "n_of_m", 4)
    np.testing.assert_array_equal(found[:, 0], [False, False, True, True])


def test_an_axis_that_is_no_multiple_of_the_group_stays_dense():
    assert mask(np.ones((3, 3, 3, 8)), 0.5, "n_of_m", 4).all()
    assert mask(np.ones((3, 3, 8, 3)), 0.5, "block", 4).all()


def test_blocks_fall_together_by_their_sum():
    scores = [[9.0, 0.1, 3, 3, 1, 1, 2, 2]]
    found = mask(scores, 0.5, "block", 2)
    np.testing.assert_array_equal(found[0], [1, 1, 1, 1, 0, 0, 0, 0])


def test_a_block_is_dead_only_when_all_of_it_is():
    scores = np.array([[0.0, 9, 1, 1, 0, 0, 2, 2]], np.float32)
    found = mask(scores, 0.25, "block", 2)
    np.testing.assert_array_equal(found[0], [1, 1, 1, 1, 0, 0, 1, 1])


def test_counts_round_half_to_even():
    assert [int(pruned_count(0.5, n)) for n in (1, 3, 5)] == [0, 2, 2]
    assert jnp.issubdtype(pruned_count(0.5, 3).dtype, jnp.int32)
