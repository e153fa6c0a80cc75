"""Magnitude pruning: exact counts, ties, the cubic schedule, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcm.compress import Prune, prune
from rcm.compress.base import Info
from rcm.compress.masks import make_masks, pruned_count
from rcm.compress.prune import Rule

ONE = jax.random.key(0)


def variables(**tensors):
    return {"params": {name: {"kernel": jnp.asarray(w)} for name, w in tensors.items()}}


def info(step):
    return Info(jnp.int32(step), ONE, None)


def level(sparsity):
    return {"sparsity": np.float32(sparsity)}


def test_ties_prune_the_lowest_index_first():
    w = jnp.array([1.0, -1.0, 2.0, 1.0, -0.5])
    compressor = prune.prune(Rule())
    state = compressor.init(ONE, variables(a=w), level(0.6))
    effective = compressor.apply(variables(a=w), state)["params"]["a"]["kernel"]
    np.testing.assert_array_equal(effective, [0, 0, 2, 1, 0])


@settings(max_examples=25, deadline=None)
@given(
    sparsity=st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.35, 0.5, 0.7, 0.75, 0.9, 0.95, 0.99]),
    size=st.sampled_from([1, 7, 40, 101, 400]),
    seed=st.integers(0, 9),
)
def test_sparsity_is_exact_with_ties(sparsity, size, seed):
    w = np.random.default_rng(seed).integers(-2, 3, size).astype(np.float32)
    mask = make_masks({"a": np.abs(w)}, {"a": w == 0}, sparsity, "layer", "weights", 1)["a"]
    assert mask.sum() == size - round(sparsity * size)
    kept, pruned = np.abs(w)[mask], np.abs(w)[~mask]
    if kept.size and pruned.size:
        assert kept.min() >= pruned.max()


def test_counts_are_exact_for_every_size_of_a_real_layer():
    sizes = [27 * 16, 9 * 16 * 16, 9 * 64 * 64, 640, 9 * 512 * 512]
    for sparsity in (0.1, 0.3, 0.35, 0.5, 0.7, 0.9, 0.95):
        ours = [int(pruned_count(sparsity, n)) for n in sizes]
        assert ours == [round(sparsity * n) for n in sizes]


def test_global_scope_ranks_all_kernels_together():
    w = variables(large=[3.0, 4.0, 5.0, 6.0], small=[0.1, 0.2, 0.3, 3.5])
    compressor = prune.prune(Rule(scope="global"))
    state = compressor.init(ONE, w, level(0.5))
    assert {name: int(mask.sum()) for name, mask in state.masks.items()} == {
        "large/kernel": 3,
        "small/kernel": 1,
    }


def test_only_kernels_are_pruned():
    w = {"params": {"head": {"kernel": jnp.ones((2, 2)), "bias": jnp.full(2, 1e-9)}}}
    compressor = prune.prune(Rule())
    effective = compressor.apply(w, compressor.init(ONE, w, level(0.99)))
    np.testing.assert_array_equal(effective["params"]["head"]["bias"], w["params"]["head"]["bias"])


def test_gradient_of_pruned_weights_is_zero_and_of_kept_ones_unchanged():
    w = variables(a=[1.0, 2.0, 3.0, 4.0])
    compressor = prune.prune(Rule())
    state = compressor.init(ONE, w, level(0.5))
    loss = lambda v: (compressor.apply(v, state)["params"]["a"]["kernel"] * 7).sum()  # noqa: E731
    np.testing.assert_array_equal(jax.grad(loss)(w)["params"]["a"]["kernel"], [0, 0, 7, 7])


def test_cubic_schedule_by_hand():
    """0.8 (1 - (1 - t)^3) at t = 0, 1/4, 1/2, 3/4, 1 of steps 10 to 50, flat outside."""
    steps = jnp.array([0, 10, 20, 30, 40, 50, 99])
    values = jax.vmap(lambda s: prune.cubic_sparsity(0.8, 10, 50, s))(steps)
    expected = [0, 0, 0.8 * (1 - 27 / 64), 0.8 * 7 / 8, 0.8 * 63 / 64, 0.8, 0.8]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_cubic_without_a_ramp_jumps():
    assert prune.cubic_sparsity(0.5, 7, 7, 6) == 0
    assert prune.cubic_sparsity(0.5, 7, 7, 7) == 0.5


@pytest.mark.parametrize("offset", [0, 1], ids=["steps from 0", "steps from 1"])
@pytest.mark.parametrize(("steps", "every"), [(20, 1), (20, 7), (21, 10), (3, 10), (1, 1)])
def test_cubic_reaches_its_goal_in_stages_of_any_length(steps, every, offset):
    technique = Prune(0.75, schedule="cubic", end=1.0, every=every)
    compressor = technique.build((), None)
    w = variables(a=np.linspace(1, 2, 40, dtype=np.float32))
    state = compressor.init(ONE, w, dict(technique.levels(steps)))
    update = jax.jit(compressor.update)
    for step in range(offset, steps + offset):
        w, state = update(state, w, info(step))
    assert jnp.count_nonzero(w["params"]["a"]["kernel"]) == 10
    assert compressor.check(w, state) == []


def test_cubic_masks_are_nested_and_change_only_at_multiples_of_every():
    technique = Prune(0.9, schedule="cubic", end=1.0, every=5)
    compressor = technique.build((), None)
    rng = np.random.default_rng(0)
    w = variables(a=rng.normal(size=200).astype(np.float32))
    state = compressor.init(ONE, w, dict(technique.levels(30)))
    update = jax.jit(compressor.update)
    changes = []
    for step in range(30):
        moved = jax.tree.map(lambda p: p + rng.normal(size=p.shape).astype(np.float32), w)
        w, new = update(state, moved, info(step))  # the optimizer moves pruned weights too
        old_mask, mask = state.masks["a/kernel"], new.masks["a/kernel"]
        assert not jnp.any(mask & ~old_mask)
        if jnp.any(mask != old_mask):
            changes.append(step)
        state = new
    assert changes == [5, 10, 15, 20, 25]


def test_carried_into_a_later_stage_the_sparsity_never_falls():
    technique = Prune(0.5, schedule="cubic", every=1)
    compressor = technique.build((), None)
    w = variables(a=[1.0, 2.0, 3.0, 4.0])
    state = compressor.init(ONE, w, dict(technique.levels(10)))
    w, state = compressor.update(state, w, info(9))
    w, state = compressor.update(state, w, info(0))
    assert state.sparsity == 0.5
    np.testing.assert_array_equal(w["params"]["a"]["kernel"], [0, 0, 3, 4])


def test_cubic_update_stays_a_branch_under_vmap():
    """Members share the step, so the sort is skipped between updates instead of selected away."""
    compressor = prune.prune(Rule(schedule="cubic", every=5))
    w = variables(a=jnp.ones((3, 4)))
    levels = {"sparsity": jnp.full(3, 0.5), "begin": jnp.zeros(3), "end": jnp.full(3, 9.0)}
    state = jax.vmap(compressor.init, (None, 0, 0))(ONE, w, levels)
    jaxpr = jax.make_jaxpr(jax.vmap(compressor.update, (0, 0, None)))(state, w, info(3))
    assert "cond[" in str(jaxpr)


def test_levels_of_a_one_shot_technique_hold_no_schedule():
    assert dict(Prune(0.3).levels(100)) == {"sparsity": np.float32(0.3)}
    cubic = Prune(0.3, schedule="cubic", begin=0.2, end=0.5, every=10).levels(100)
    assert (cubic["begin"], cubic["end"]) == (20, 50)


@pytest.mark.parametrize(
    ("technique", "sentence"),
    [
        (Prune(1.0), r"sparsity must lie in \[0, 1\), not 1.0"),
        (Prune(-0.1), "sparsity"),
        (Prune(float("nan")), "sparsity"),
        (Prune(scope="layers"), "did you mean 'layer'"),
        (Prune(schedule="cubik"), "did you mean 'cubic'"),
        (Prune(begin=0.9, end=0.5), "begin <= end"),
        (Prune(every=0), "every must be at least 1"),
    ],
)
def test_bad_numbers_and_words_are_refused(technique, sentence):
    with pytest.raises(ValueError, match=sentence):
        technique.validate("prune90", 100)


def test_good_numbers_are_accepted():
    Prune(0.0).validate("none", 1)
    Prune(0.99, "global", "cubic", 0.0, 1.0, 500).validate("most", 1)


# --- scores


def train_on(technique, w, gradients, steps=4):
    """State after `steps` updates with the same weights and gradients; weights are not moved."""
    compressor = technique.build((), None)
    state = compressor.init(ONE, w, dict(technique.levels(steps)))
    update = jax.jit(compressor.update)
    for step in range(steps):
        told = Info(jnp.int32(step), ONE, gradients["params"], before=w["params"])
        w, state = update(state, w, told)
    return state.masks["a/kernel"], state


def test_taylor_prunes_what_the_loss_depends_on_least():
    """|w g| = 2, 3, 1, 4: half of it goes, the third and the first."""
    w, g = variables(a=[1.0, 3.0, 10.0, -2.0]), variables(a=[-2.0, 1.0, 0.1, 2.0])
    technique = Prune(0.5, score="taylor", schedule="cubic", begin=0.0, end=0.0, every=1)
    kept, state = train_on(technique, w, g, steps=1)
    np.testing.assert_array_equal(kept, [False, True, False, True])
    np.testing.assert_allclose(state.scores["a/kernel"], [2, 3, 1, 4])


def test_movement_prunes_what_moves_towards_zero():
    """-w g = -2, 3, -0.5, 1: weights that descent pulls towards zero go first."""
    w, g = variables(a=[1.0, 3.0, -1.0, -2.0]), variables(a=[2.0, -1.0, -0.5, 0.5])
    technique = Prune(0.5, score="movement", schedule="cubic", begin=0.5, end=0.5, every=1)
    kept, state = train_on(technique, w, g)
    np.testing.assert_array_equal(kept, [False, True, False, True])
    np.testing.assert_allclose(state.scores["a/kernel"][1], 4 * 3.0)


@pytest.mark.parametrize(("score", "expected"), [("taylor", [3, 4]), ("movement", [-3, 4])])
def test_scores_are_of_the_weights_at_which_gradients_were_taken(score, expected):
    """w = 1, -2 with g = 3, 2, whatever the optimizer has made of w since."""
    technique = Prune(0.5, score=score, schedule="cubic", begin=0.0, end=0.0, every=1)
    compressor = technique.build((), None)
    w, g, moved = variables(a=[1.0, -2.0]), variables(a=[3.0, 2.0]), variables(a=[-8.0, 0.5])
    state = compressor.init(ONE, w, dict(technique.levels(1)))
    told = Info(jnp.int32(0), ONE, g["params"], before=w["params"])
    _, state = compressor.update(state, moved, told)
    np.testing.assert_array_equal(state.scores["a/kernel"], expected)


def test_gradient_scores_prune_nothing_before_their_first_gradient():
    technique = Prune(0.5, score="taylor", schedule="cubic", begin=0.0, end=0.0)
    state = technique.build((), None).init(ONE, variables(a=np.ones(8)), dict(technique.levels(5)))
    assert state.masks["a/kernel"].all()


def test_random_pruning_depends_on_the_key_and_not_on_the_weights():
    compressor = Prune(0.5, score="random").build((), None)
    masks = [
        compressor.init(jax.random.key(seed), variables(a=w), level(0.5)).masks["a/kernel"]
        for seed, w in ((0, np.arange(1.0, 51)), (0, np.ones(50)), (1, np.ones(50)))
    ]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert np.any(masks[0] != masks[2])
    assert masks[0].sum() == 25


def test_a_second_pruning_keeps_what_the_first_took():
    """Iterative pruning is a chain of prunings, each of which sees the zeros of those before."""
    first, second = (
        Prune(0.4, score="random").build((), None),
        Prune(0.6, score="random").build((), None),
    )
    w = variables(a=np.arange(1.0, 51))
    one = first.init(jax.random.key(0), w, level(0.4))
    pruned = first.apply(w, one)
    two = second.init(jax.random.key(1), pruned, level(0.6))
    assert not np.any(two.masks["a/kernel"] & ~one.masks["a/kernel"])
    assert two.masks["a/kernel"].sum() == 20


def test_depthwise_kernels_stay_dense():
    kernel = {"kernel": jnp.arange(1.0, 10)}
    w = {"params": {"depthwise": {"conv": kernel}, "project": {"conv": kernel}}}
    state = prune.prune(Rule()).init(ONE, w, level(0.5))
    assert list(state.masks) == ["project/conv/kernel"]


@pytest.mark.parametrize(
    ("technique", "sentence"),
    [
        (Prune(score="taylr"), "did you mean 'taylor'"),
        (Prune(score="taylor"), "use schedule='cubic'"),
        (Prune(structure="n_of_m", scope="erk"), "leave scope at 'layer'"),
        (Prune(structure="block", group=1), "group must lie in 2..64"),
        (Prune(0.9, structure="n_of_m"), "would prune 4 of every 4"),
        (Prune(0.1, structure="n_of_m"), "would prune 0 of every 4"),
    ],
)
def test_scores_and_structures_that_do_not_fit_are_refused(technique, sentence):
    with pytest.raises(ValueError, match=sentence):
        technique.validate("prune", 100)


def test_names_say_what_is_pruned():
    names = [
        Prune(0.5).describe(),
        Prune(0.5, structure="n_of_m").describe(),
        Prune(0.9, "erk", score="random").describe(),
        Prune(0.995).describe(),
    ]
    assert names == ["prune 50%", "prune 50% 2:4", "prune 90% erk random", "prune 99.5%"]


def test_a_promise_says_what_the_check_counts():
    """2:4 takes half of a group of 4 whatever was asked, and leaves the stem as it is."""
    assert Prune(0.995).promise() == "exactly 99.5% zeros in each kernel"
    assert Prune(0.6, structure="n_of_m").promise().startswith("exactly 2 zeros in every 4 ")
    assert Prune(0.5, structure="block").promise().endswith("that divide into blocks of 4")
