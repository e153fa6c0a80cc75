"""Schedules and optimizers against optax and hand-computed steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcm.train.optimizers import learning_rates, make_optimizer

PARAMS = {
    "conv": {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]])},
    "norm": {"scale": jnp.array([1.0, 2.0]), "bias": jnp.array([-1.0, 0.5])},
}


def gradients(params):
    """Of a smooth, curved function of every parameter."""
    return jax.grad(lambda p: sum(jnp.cos(x).sum() + (x**2).sum() for x in jax.tree.leaves(p)))(
        params
    )


def train(optimizer, rates, weight_decay):
    params, state = PARAMS, optimizer.init(PARAMS)
    step = jax.jit(optimizer.step)
    for rate in rates:
        params, state = step(gradients(params), state, params, rate, weight_decay)
    return params


def train_optax(transformation, steps):
    params, state = PARAMS, transformation.init(PARAMS)
    for _ in range(steps):
        updates, state = transformation.update(gradients(params), state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_trees_close(ours, theirs, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs)


def kernels_only(params):
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)


@pytest.mark.parametrize("decay_norms", [True, False])
@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_sgd_is_optaxs(decay_norms, clip_norm):
    mask = None if decay_norms else kernels_only
    theirs = optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.add_decayed_weights(0.03, mask),
        optax.sgd(0.1, momentum=0.9, nesterov=True),
    )
    optimizer = make_optimizer("sgd", 0.9, clip_norm, decay_norms)
    assert_trees_close(train(optimizer, [0.1] * 6, 0.03), train_optax(theirs, 6), rtol=2e-5)


@pytest.mark.parametrize("decay_norms", [True, False])
def test_adamw_is_optaxs(decay_norms):
    mask = None if decay_norms else kernels_only
    theirs = optax.adamw(0.01, weight_decay=0.1, mask=mask)
    optimizer = make_optimizer("adamw", 0.9, decay_norms=decay_norms)
    assert_trees_close(train(optimizer, [0.01] * 6, 0.1), train_optax(theirs, 6), rtol=1e-5)


def test_nesterov_by_hand_with_changing_rates():
    """PyTorch: buffer = m buffer + g, p -= rate (g + m buffer), with L2 decay in g.

    Constant gradient 1, decay 0.1, m 0.5, rates 0.1 then 0.2, p = 2:
    g 1.2, buffer 1.2, p = 2 - 0.1 * 1.8 = 1.82; g 1.182, buffer 1.782, p = 1.82 - 0.2 * 2.073.
    """
    optimizer = make_optimizer("sgd", momentum=0.5)
    params, grads = {"kernel": jnp.array([2.0])}, {"kernel": jnp.array([1.0])}
    params, state = optimizer.step(grads, optimizer.init(params), params, 0.1, 0.1)
    np.testing.assert_allclose(params["kernel"], [1.82], rtol=1e-6)
    params, state = optimizer.step(grads, state, params, 0.2, 0.1)
    np.testing.assert_allclose(params["kernel"], [1.4054], rtol=1e-6)


def test_adamw_first_step_is_the_sign_plus_decay():
    optimizer = make_optimizer("adamw")
    params, grads = {"kernel": jnp.array([2.0, -4.0])}, {"kernel": jnp.array([1e-3, 7.0])}
    params, _ = optimizer.step(grads, optimizer.init(params), params, 0.1, 0.5)
    np.testing.assert_allclose(params["kernel"], [2 - 0.1 * 2, -4 - 0.1 * (1 - 2)], rtol=1e-4)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_large_clip_norm_and_zero_decay_change_nothing_to_the_bit(kind):
    plain = train(make_optimizer(kind), [0.01] * 3, 0.0)
    jax.tree.map(
        np.testing.assert_array_equal,
        train(make_optimizer(kind, clip_norm=1e6, decay_norms=False), [0.01] * 3, 0.0),
        plain,
    )


def test_clipping_bounds_the_gradient_but_not_the_decay():
    optimizer = make_optimizer("sgd", momentum=0.0, clip_norm=1.0)
    params = {"kernel": jnp.array([10.0, 0.0])}
    grads = {"kernel": jnp.array([3.0, 4.0])}
    moved, _ = optimizer.step(grads, optimizer.init(params), params, 1.0, 0.5)
    np.testing.assert_allclose(moved["kernel"], [10 - 0.6 - 5, -0.8], rtol=1e-6)


def test_rates_and_decay_are_traced_and_batch_over_members():
    optimizer = make_optimizer("sgd")
    rates, decays = jnp.array([0.1, 0.2]), jnp.array([0.0, 0.1])
    grads = gradients(PARAMS)

    def member(rate, decay):
        return optimizer.step(grads, optimizer.init(PARAMS), PARAMS, rate, decay)[0]

    together = jax.vmap(member)(rates, decays)
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], together)
        assert_trees_close(one, member(rates[i], decays[i]), rtol=1e-6)


def test_optimizer_refuses_bad_settings():
    with pytest.raises(ValueError, match="adamw"):
        make_optimizer("adam")
    for momentum, clip_norm in ((1.0, 0.0), (-0.1, 0.0), (0.9, -1.0)):
        with pytest.raises(ValueError, match="momentum must be in"):
            make_optimizer("sgd", momentum, clip_norm)


def of_optax(schedule, steps):
    return np.array([schedule(step) for step in range(steps)], np.float32)


def warmed(after, warmup, steps):
    ramp = optax.linear_schedule(0.1 / warmup, 0.1, warmup - 1)
    return of_optax(optax.join_schedules([ramp, after], [warmup]), steps)


def test_constant_and_cosine_are_optaxs():
    ours = learning_rates("constant", 0.1, 50, 5, warmup_epochs=2)
    np.testing.assert_allclose(ours, warmed(optax.constant_schedule(0.1), 10, 50), rtol=1e-5)
    ours = learning_rates("cosine", 0.1, 50, 5, warmup_epochs=2)
    np.testing.assert_allclose(
        ours, warmed(optax.cosine_decay_schedule(0.1, 40), 10, 50), rtol=1e-4, atol=1e-8
    )
    ours = learning_rates("cosine", 0.1, 50, 5)
    expected = of_optax(optax.cosine_decay_schedule(0.1, 50), 50)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-8)


def test_onecycle_is_optaxs():
    expected = of_optax(optax.cosine_onecycle_schedule(50, 0.1), 50)
    ours = learning_rates("onecycle", 0.1, 50, 5)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-8)
    expected = of_optax(optax.cosine_onecycle_schedule(50, 0.1, pct_start=0.5), 50)
    ours = learning_rates("onecycle", 0.1, 50, 5, warmup_epochs=5)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-8)


def test_step_schedule_is_the_protocols():
    """200 epochs of 391 steps: warm-up 5 epochs, drops where epochs 160 and 180 begin."""
    rates = learning_rates("step", 0.1, 200 * 391, 391, warmup_epochs=5)
    assert rates.dtype == np.float32
    np.testing.assert_allclose(
        rates[[0, 977, 1954]], [0.1 / 1955, 0.1 * 978 / 1955, 0.1], rtol=1e-6
    )
    assert set(rates[1955 : 160 * 391].tolist()) == {np.float32(0.1)}
    assert set(rates[160 * 391 : 180 * 391].tolist()) == {np.float32(0.001)}
    assert set(rates[180 * 391 :].tolist()) == {np.float32(0.00001)}


def test_milestones_of_ones_own():
    rates = learning_rates("step", 1.0, 10, 1, milestones=((0.5, 0.5), (0.7, 0.1)))
    np.testing.assert_allclose(rates, [1] * 5 + [0.5] * 2 + [0.1] * 3, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "onecycle"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_short_runs_have_a_positive_rate_at_every_step(schedule, steps):
    for warmup_epochs in (0, 1, 5):
        rates = learning_rates(schedule, 0.1, steps, 3, warmup_epochs)
        assert rates.shape == (steps,)
        assert (rates > 0).all()
        assert (rates <= np.float32(0.1)).all()


def test_schedule_refuses_bad_settings():
    with pytest.raises(ValueError, match="cosine"):
        learning_rates("cosin", 0.1, 10, 1)
    for steps, per_epoch, warmup in ((0, 1, 0), (10, 0, 0), (10, 1, -1)):
        with pytest.raises(ValueError, match="must be at least 1"):
            learning_rates("constant", 0.1, steps, per_epoch, warmup)
