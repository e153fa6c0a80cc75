"""Attacks: a model whose robust accuracy is known in closed form, and what must hold for all."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm.shift.apgd import ratio, ratio_to
from rcm.shift.attacks import ATTACKS, zero_gradients
from rcm.shift.ball import Budget, margin, project, random_start

SHAPE = (4, 4, 3)
GRADIENT = tuple(name for name in ATTACKS if name != "square")
DRAW = np.random.default_rng(0)
WEIGHTS = DRAW.normal(size=(int(np.prod(SHAPE)), 5)).astype(np.float32)
IMAGES = DRAW.uniform(0.3, 0.7, (64, *SHAPE)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), len(IMAGES))


every = pytest.mark.parametrize("name", ATTACKS)


def linear(images):
    """Five classes of which only the first two can win: a linear border between them."""
    scores = images.reshape(len(images), -1) - 0.5
    pair = jnp.matmul(scores, WEIGHTS[:, :2], precision="highest")
    return jnp.concatenate([pair, jnp.full((len(images), 3), -50.0)], 1)


LABELS = jnp.argmax(linear(jnp.asarray(IMAGES)), -1)


@jax.jit
def nonlinear(images):
    hidden = jnp.tanh(images.reshape(len(images), -1) @ WEIGHTS)
    return hidden @ WEIGHTS[:5, :5] * 3


@partial(jax.jit, static_argnames=("name", "model", "norm"))
def run(name, model, labels, images, keys, eps, steps, step_size, restarts, norm):
    budget = Budget(eps, steps, step_size, norm, restarts)
    return ATTACKS[name](model, images, labels, keys, budget)


def attacked(name, model, labels, budget, images=IMAGES, keys=KEYS):
    numbers = budget.eps, budget.steps, budget.step_size, budget.restarts
    return np.asarray(run(name, model, labels, images, keys, *numbers, budget.norm))


def robust(model, images, labels):
    return np.asarray(jnp.argmax(model(jnp.asarray(images)), -1) == labels)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", GRADIENT)
def test_robust_accuracy_of_a_linear_model_is_the_closed_form(name, norm):
    """An image survives where its margin exceeds eps times the dual norm of w1 - w0."""
    difference = WEIGHTS[:, 0] - WEIGHTS[:, 1]
    dual = np.abs(difference).sum() if norm == "linf" else np.linalg.norm(difference)
    distance = np.abs((IMAGES.reshape(64, -1) - 0.5) @ difference) / dual
    for eps in np.quantile(distance, [0.2, 0.5, 0.8]).round(4):
        images = attacked(name, linear, LABELS, Budget(eps, 40, 0.1, norm))
        expected = distance > eps
        clear = np.abs(distance - eps) > 0.02 * eps  # else rounding or the last step decides
        np.testing.assert_array_equal(robust(linear, images, LABELS)[clear], expected[clear])


def test_square_finds_nearly_all_that_can_be_found():
    difference = WEIGHTS[:, 0] - WEIGHTS[:, 1]
    distance = np.abs((IMAGES.reshape(64, -1) - 0.5) @ difference) / np.abs(difference).sum()
    eps = float(np.median(distance))
    survived = robust(linear, attacked("square", linear, LABELS, Budget(eps, 500)), LABELS)
    assert survived[distance > eps].all()
    assert survived[distance < 0.7 * eps].mean() < 0.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
@every
def test_images_stay_in_the_ball_and_in_the_unit_range_and_eps_zero_is_clean(name, norm):
    if (name, norm) == ("square", "l2"):
        pytest.skip("square searches L-inf balls only")
    images = np.concatenate([IMAGES[:8], np.zeros((4, *SHAPE)), np.ones((4, *SHAPE))])
    images = images.astype(np.float32)
    labels, keys = jnp.argmax(nonlinear(images), -1), KEYS[:16]
    for eps in (0.0, 0.1, 2.0):
        made = attacked(name, nonlinear, labels, Budget(eps, 7, 0.4, norm), images, keys)
        assert made.min() >= 0
        assert made.max() <= 1
        change = np.abs(made - images)
        size = change.max((1, 2, 3)) if norm == "linf" else np.sqrt((change**2).sum((1, 2, 3)))
        assert size.max() <= eps * (1 + 1e-5) + 1e-7


@every
def test_more_eps_never_helps_the_model(name):
    labels = jnp.argmax(nonlinear(IMAGES), -1)
    shares = [
        robust(nonlinear, attacked(name, nonlinear, labels, Budget(eps, 30, 0.2)), labels).mean()
        for eps in (0.0, 0.01, 0.03, 0.1, 0.3)
    ]
    assert shares[0] == 1
    assert all(b <= a + 0.02 for a, b in itertools.pairwise(shares))
    assert shares[-1] < 0.8


@every
def test_an_image_is_attacked_whatever_stands_beside_it(name):
    labels = jnp.argmax(nonlinear(IMAGES), -1)
    budget = Budget(0.05, 11, 0.3)
    whole = attacked(name, nonlinear, labels, budget)
    some = np.array([9, 3, 40])
    alone = attacked(name, nonlinear, labels[some], budget, IMAGES[some], KEYS[some])
    np.testing.assert_allclose(alone, whole[some], atol=1e-6)


@every
def test_one_program_for_every_eps_step_size_and_number_of_steps(name):
    images = jnp.asarray(IMAGES)
    before = run._cache_size()
    results = [
        attacked(name, linear, LABELS, Budget(eps, steps, 0.3), images)
        for eps, steps in ((0.01, 3), (0.02, 5), (0.0, 1))
    ]
    assert run._cache_size() <= before + 1
    assert np.abs(results[1] - IMAGES).max() > np.abs(results[0] - IMAGES).max()


@pytest.mark.parametrize("name", ["pgd", "apgd_ce", "apgd_dlr"])
def test_restarts_and_steps_only_find_more(name):
    labels = jnp.argmax(nonlinear(IMAGES), -1)
    few = attacked(name, nonlinear, labels, Budget(0.03, 2, 0.5))
    many = attacked(name, nonlinear, labels, Budget(0.03, 50, 0.1, restarts=3))
    few, many = (robust(nonlinear, x, labels).mean() for x in (few, many))
    assert many <= few


def test_hidden_gradients_are_seen_and_square_passes_them():
    """A model that rounds its input has no gradient; the search that asks for none succeeds."""

    def masked(images):
        return linear(jnp.round(images * 8) / 8)

    images = np.round(IMAGES * 8) / 8
    labels = jnp.argmax(masked(jnp.asarray(images)), -1)
    assert np.asarray(zero_gradients(masked, jnp.asarray(images), labels)).tolist() == [1] * 64
    assert np.asarray(zero_gradients(linear, jnp.asarray(images), labels)).max() == 0
    budget = Budget(0.13, 200)
    fooled = [
        1 - robust(masked, attacked(name, masked, labels, budget, images), labels).mean()
        for name in ("fgsm", "square")
    ]
    assert fooled[0] == 0
    assert fooled[1] > 0.5


def test_losses_by_hand():
    logits = jnp.float32([[3, 1, 0, -1, -5], [0, 4, 2, 1, 0]])
    labels = jnp.array([0, 2])
    assert np.asarray(margin(logits, labels)).tolist() == [2, -2]
    np.testing.assert_allclose(ratio(logits, labels), [-2 / 3, 2 / 3], rtol=1e-6)
    # towards class 3: (z_y - z_t) over z_1 - (z_3 + z_4) / 2
    targeted = ratio_to(logits, labels, jnp.array([3, 3]))
    np.testing.assert_allclose(targeted, [-4 / 3.5, -1 / 3.5], rtol=1e-6)


def test_the_ball_by_hand():
    image = jnp.full((1, 1, 1, 3), 0.5)
    moved = image + jnp.float32([0.3, -0.4, 0.0])[None, None, None]
    inside = np.asarray(project(moved, image, Budget(0.1))).ravel()
    np.testing.assert_allclose(inside, [0.6, 0.4, 0.5], atol=1e-6)
    inside = np.asarray(project(moved, image, Budget(0.25, norm="l2"))).ravel()
    np.testing.assert_allclose(inside, [0.65, 0.3, 0.5], atol=1e-6)


def test_random_starts_fill_the_l2_ball_evenly():
    """Of a ball of dimension n a share of r^n lies within radius r."""
    images = jnp.full((2000, 1, 1, 3), 0.5)
    keys = jax.random.split(jax.random.key(1), 2000)
    change = np.asarray(random_start(keys, images, Budget(0.2, norm="l2"))) - 0.5
    length = np.sqrt((change**2).sum((1, 2, 3))) / 0.2
    assert length.max() <= 1 + 1e-5
    np.testing.assert_allclose((length < 0.5).mean(), 0.125, atol=0.03)


# --- an outside oracle


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["fgsm", "pgd", "pgd_l2"])
def test_robust_accuracy_is_foolboxs(name):
    import eagerpy
    import foolbox

    draw = np.random.default_rng(2)
    images = draw.uniform(0, 1, (500, *SHAPE)).astype(np.float32)
    labels = jnp.argmax(nonlinear(images), -1)
    keys = jax.random.split(jax.random.key(2), 500)
    model = foolbox.JAXModel(nonlinear, bounds=(0, 1), data_format=None)
    theirs = {
        "fgsm": foolbox.attacks.LinfFastGradientAttack(),
        "pgd": foolbox.attacks.LinfPGD(steps=20, rel_stepsize=0.1),
        "pgd_l2": foolbox.attacks.L2PGD(steps=20, rel_stepsize=0.1),
    }[name]
    norm = "l2" if name == "pgd_l2" else "linf"
    for eps in (0.01, 0.05) if norm == "linf" else (0.05, 0.2):
        found = theirs(model, eagerpy.astensor(jnp.asarray(images)), eagerpy.astensor(labels),
                       epsilons=[eps])[2]  # fmt: skip
        made = attacked(
            name.split("_")[0], nonlinear, labels, Budget(eps, 20, 0.1, norm), images, keys
        )
        ours = robust(nonlinear, made, labels).mean()
        assert abs(ours - (1 - np.asarray(found.raw).mean())) <= 0.01
