"""Learned steps and frozen norms: the paper's gradient, bounds, a training stage, conversion."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm import config, numerics
from rcm.compress import QAT, Quantize, build_chain
from rcm.compress.base import kernels
from rcm.compress.lsq import Step, move_input_step, move_weight_step, range_of, weight_step
from rcm.compress.qat import bits_of
from rcm.compress.weight_grids import Grid, best_share, on_grid
from rcm.models import MODELS
from rcm.models.layers import Dense, Norm
from rcm.train import fit
from rcm.train.losses import LossHyper
from rcm.train.step import Batch, Hyper, train_step

MODEL = MODELS["tiny"](classes=4)
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
WHOLE = Grid(per_channel=False)
STEPS = 6


def normal(seed, shape=(3, 3, 4, 6)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def learned(size, zero=0.0):
    size = jnp.asarray(size, jnp.float32)
    return Step(size, jnp.zeros_like(size), jnp.full_like(size, zero))


def test_the_gradient_by_a_step_is_the_papers_but_for_where_the_range_ends():
    """Equation 3 at step 0.5 and q = 3 (3 bits): round(v/s) - v/s inside, -q and q outside; 1.6 is
    inside by our end of the range, 3.5 steps, and outside by the paper's, 3."""
    v = np.array([-9.0, -1.4, -0.3, 0.2, 0.9, 1.6, 4.0], np.float32)
    expected = np.array([-3, -3 + 2.8, -1 + 0.6, -0.4, 2 - 1.8, 3 - 3.2, 3])
    slope = jax.vmap(jax.grad(lambda s, v: numerics.fake_quant_symmetric(v, s, 3)), (None, 0))
    np.testing.assert_allclose(slope(jnp.float32(0.5), v), expected, atol=1e-5)


def test_the_gradient_by_an_inputs_step_is_the_papers():
    """3 bits, step 0.5, zero point 2: integers from -2 to 5."""
    v = np.array([-9.0, -0.8, 0.2, 1.3, 2.4, 8.0], np.float32)
    expected = np.array([-2, -2 + 1.6, -0.4, 3 - 2.6, 5 - 4.8, 5])

    def quantized(size, v):
        return numerics.fake_quant_affine(v, *range_of(learned(size, 2.0), jnp.int32(3)), 3)

    slope = jax.vmap(jax.grad(quantized), (None, 0))(jnp.float32(0.5), v)
    np.testing.assert_allclose(slope, expected, atol=1e-5)


def test_a_weight_step_moves_by_hand():
    """Weights 0.9 and 0.4 at step 0.3 and 3 bits: 0.9 is 3 steps, and 0.4 has the slope 1 - 4/3,
    here times the gradient 10, over sqrt(2 * 3); the second time with momentum 1.9."""
    kernel, gradient = jnp.array([[0.9], [0.4]]), jnp.array([[1.0], [10.0]])
    after = 10 * kernel  # weights that have grown leave the step unbounded
    slope, step = (1 - 0.4 / 0.3) * 10 / np.sqrt(6), learned([[0.3]])
    move = partial(move_weight_step, bits=jnp.int32(3), rate=jnp.float32(0.01), grid=WHOLE)
    first = move(step, kernel, after, gradient)
    np.testing.assert_allclose(first.size, 0.3 - 0.01 * slope, rtol=1e-5)
    second = move(first._replace(size=step.size), kernel, after, gradient)
    np.testing.assert_allclose(second.size, 0.3 - 0.01 * 1.9 * slope, rtol=1e-5)


def test_an_inputs_step_moves_by_hand():
    """Zero point 2 of {0..7}: the slope is -2 dlo + 5 dhi."""
    gradients = {"lo": jnp.float32(0.5), "hi": jnp.float32(-0.2), "bits": None}
    moved = move_input_step(learned(1.0, 2.0), gradients, jnp.int32(3), jnp.float32(0.1))
    np.testing.assert_allclose(moved.size, 1 - 0.1 * (-2 * 0.5 + 5 * -0.2), rtol=1e-6)
    assert moved.zero == 2


def test_steps_stay_positive_and_never_leave_the_grids_ends_unused():
    kernel, bits = jnp.asarray(normal(0)), jnp.int32(4)
    start = weight_step(kernel, bits, Grid())
    for slope in (1e30, -1e30):
        gradient = slope * jnp.sign(numerics.fake_quant_symmetric(kernel, start.size, 4) - kernel)
        step = start
        for _ in range(3):
            step = move_weight_step(step, kernel, kernel, gradient, bits, jnp.float32(1), Grid())
            assert np.all(step.size > 0)
            assert np.all(step.size <= jnp.abs(kernel).max((0, 1, 2), keepdims=True) / 6.99)
    moved = move_input_step(
        learned(1.0), {"lo": 0.0, "hi": jnp.float32(1e30)}, jnp.int32(4), jnp.float32(1)
    )
    assert moved.size == 0.5


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_learning_to_round_well_ends_near_the_best_step(bits):
    """With the squared error of rounding as the loss, the step goes where a search goes."""
    kernel = jnp.asarray(normal(1, (400, 1)) ** 3)

    @jax.jit
    def run(bits):
        def move(_, step):
            found = numerics.fake_quant_symmetric(kernel, step.size, bits)
            slope = 2 * (found - kernel)
            return move_weight_step(step, kernel, kernel, slope, bits, rate, WHOLE)

        rate = jnp.float32(1e-3) * weight_step(kernel, bits, WHOLE).size[0, 0]
        step = jax.lax.fori_loop(0, 2000, move, weight_step(kernel, bits, WHOLE))
        searched = on_grid(kernel, bits, WHOLE, best_share(kernel, bits, WHOLE))
        found = numerics.fake_quant_symmetric(kernel, step.size, bits)
        usual = on_grid(kernel, bits, WHOLE)
        return [jnp.square(k - kernel).sum() for k in (found, searched, usual)]

    found, searched, usual = run(jnp.int32(bits))
    assert found <= 1.1 * searched
    assert found <= 1.001 * usual


def test_layers_scale_the_gradients_of_learned_ranges():
    """By 1 / sqrt(N q): N = 12 inputs, q = 7; the range itself is not observed."""
    x, layer = normal(2, (5, 12)), Dense(3)
    params = {"kernel": normal(3, (12, 3)), "bias": normal(4, (3,))}

    def loss(range_, extra):
        quant = {"lo": range_[0], "hi": range_[1], "bits": jnp.int32(3), **extra}
        y, updated = layer.apply({"params": params, "quant": quant}, x, mutable=["quant"])
        return jnp.square(y).sum(), updated["quant"]

    ends, decay = (jnp.float32(-0.5), jnp.float32(1.0)), {"decay": jnp.float32(1.0)}
    slopes, seen = jax.grad(loss, has_aux=True)(ends, {"learned": jnp.bool_(True)})
    plain, _ = jax.grad(loss, has_aux=True)(ends, decay)
    np.testing.assert_allclose(slopes, np.array(plain) / np.sqrt(12 * 7), rtol=1e-5)
    assert (seen["lo"], seen["hi"]) == ends


def test_a_frozen_norm_trains_as_it_predicts_and_keeps_its_statistics():
    x = normal(5, (4, 3, 3, 2)) * 3 + 1
    variables = {
        "params": {"scale": jnp.array([1.5, -0.5]), "bias": jnp.array([0.1, 0.2])},
        "batch_stats": {"mean": jnp.array([0.3, -1.0]), "var": jnp.array([2.0, 0.5])},
    }

    def train(frozen):
        extra = {} if frozen is None else {"quant": {"frozen": jnp.bool_(frozen)}}
        return Norm().apply({**variables, **extra}, x, True, mutable=["batch_stats"])

    y, updated = train(True)
    np.testing.assert_allclose(y, Norm().apply(variables, x, False), rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])
    free, expected = train(False), train(None)
    jax.tree.map(np.testing.assert_array_equal, free, expected)
    assert not np.allclose(free[0], y, atol=0.1)


def program(*techniques):
    recipe = config.Train(batch=8, augment="none", steps=STEPS)
    return fit.make_program(config.Model("tiny", 4), None, recipe, techniques, 4, (8, 8, 3))


@pytest.fixture(scope="module")
def stage():
    """(program, its states after 0, 1, .. steps): learned steps at 3 bits, norms frozen at half."""
    technique = QAT(3, 3, step="learned", freeze=0.5)
    levels, made = (dict(technique.levels(STEPS)),), program(technique)

    @jax.jit
    def begin():
        dense = fit.fresh(program(), np.uint32(0), ())
        return fit.begin(made, dense, np.uint32(0), levels, IMAGES)

    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    hyper = Hyper(np.uint32(0), np.float32(0), LossHyper(ones, zeros, 0.0, 0.0, 1.0))
    batch = Batch(IMAGES, np.arange(8, dtype=np.int32) % 4, np.float32(0.02))
    step_function = jax.jit(partial(train_step, fit.parts_of(made)))
    states = [begin()]
    for step in range(STEPS):
        states.append(step_function(states[-1], None, hyper, batch, np.int32(step))[0])
    return made, jax.device_get(states)


def test_every_step_learns_and_the_grids_hold(stage):
    made, states = stage
    first, last = states[0].compression[0], states[-1].compression[0]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[-1])
    assert first.weights.keys() == {"stem/conv/kernel", "conv/conv/kernel", "head/kernel"}
    assert first.points.keys() == {"stem/conv", "conv/conv", "head"}
    for before, after in ((first.weights, last.weights), (first.points, last.points)):
        for name in before:
            assert np.all(before[name].size != after[name].size), name
            assert np.all(after[name].size > 0)
    effective = jax.device_get(fit.effective_variables(made, states[-1]))
    assert fit.parts_of(made).chain.check(effective, states[-1].compression) == []
    point, seen = last.points["conv/conv"], effective["quant"]["conv"]["conv"]
    np.testing.assert_allclose(seen["hi"], (7 - point.zero) * point.size, rtol=1e-6)
    assert bits_of(last, "stem/conv", "bits", MODEL.edges) == 8


def test_norms_freeze_at_their_step(stage):
    """freeze 0.5 of 6 steps: statistics move in the first three and then stay to the bit."""
    means = [state.variables["batch_stats"]["conv"]["norm"]["mean"] for state in stage[1]]
    moved = [bool(np.any(a != b)) for a, b in pairwise(means)]
    assert moved == [True] * 3 + [False] * 3


def test_conversion_keeps_the_learned_integers_and_ranges(stage):
    """Quantize behind learned steps reads the integers off the kernels and takes the ranges."""
    _, states = stage
    chain = (QAT(3, 3, step="learned", freeze=0.5), Quantize(3, 3, edge_bits=8))
    variables, state = states[-1].variables, states[-1].compression[0]
    aware = build_chain(chain[:1], MODEL).apply(variables, (state,))
    compressor = chain[1].build(chain[:1], MODEL)
    levels = dict(chain[1].levels(0))
    converted = compressor.apply(aware, compressor.init(jax.random.key(0), aware, levels))
    for name, kernel in kernels(aware["params"]).items():
        axes = tuple(range(kernel.ndim - 1))
        pair = np.asarray(kernel), np.asarray(kernels(converted["params"])[name])
        limit = 3 if name == "conv/conv/kernel" else 127
        integers = [np.rint(k / np.abs(k).max(axes, keepdims=True) * limit) for k in pair]
        np.testing.assert_array_equal(*integers)
    for name in ("lo", "hi", "bits"):
        found = [tree["quant"]["conv"]["conv"][name] for tree in (aware, converted)]
        np.testing.assert_array_equal(*found)
    images = IMAGES / np.float32(255)
    predict = jax.jit(MODEL.apply)
    np.testing.assert_allclose(
        predict(aware, images), predict(converted, images), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("technique", "sentence"),
    [
        (QAT(step="learnt"), "did you mean 'learned'"),
        (QAT(freeze=1.5), r"freeze must lie in \[0, 1\]"),
        (QAT(granularity="filter"), "granularity"),
    ],
)
def test_bad_words_and_numbers_are_refused(technique, sentence):
    with pytest.raises(ValueError, match=sentence):
        technique.validate("p", 100)
