"""Ranges of activations by every method, integer biases and dynamic ranges, against numpy."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rcm import config, numerics
from rcm.compress import Quantize, build_chain, calibration
from rcm.compress.fold import integer_biases
from rcm.compress.select import nth_smallest
from rcm.models import MODELS
from rcm.models.layers import Dense
from rcm.train import fit
from rcm.train.step import TrainState

KEY = jax.random.key(0)
RANKED = jax.jit(nth_smallest)
MODEL = MODELS["tiny"](classes=4)
IMAGES = np.random.default_rng(0).uniform(size=(30, 8, 8, 3)).astype(np.float32)


def normal(seed, shape=(40, 25)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    values=arrays.arrays(
        np.float32, 12, elements=st.floats(width=32, allow_nan=False, allow_subnormal=False)
    ),
    n=st.integers(1, 12),
)
def test_the_value_of_a_rank_is_that_of_sorting(values, n):
    assert RANKED(values, n) == np.sort(values)[n - 1]


@pytest.mark.parametrize("percent", [50.5, 90.0, 99.0, 99.9, 100.0])
def test_percentiles_are_numpys(percent):
    x = normal(1)
    lo, hi = jax.jit(calibration.percentile)(x, percent)
    share = np.float32(percent) / np.float32(100)
    assert hi == np.quantile(x, share, method="inverted_cdf")
    assert lo == -np.quantile(-x, share, method="inverted_cdf")


def test_the_moving_average_by_hand():
    """30 images in ten parts of three: the extremes of each part enter with a tenth."""
    x = normal(3, (30, 4))
    lo, hi = x[:3].min(), x[:3].max()
    for start in range(3, 30, 3):
        lo = 0.9 * lo + 0.1 * x[start : start + 3].min()
        hi = 0.9 * hi + 0.1 * x[start : start + 3].max()
    np.testing.assert_allclose(calibration.moving_average(x), (lo, hi), rtol=1e-6)
    few = x[:2]  # fewer images than parts
    expected = 0.9 * few.min(1)[0] + 0.1 * few.min(1)[1]
    np.testing.assert_allclose(calibration.moving_average(few)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_least_squares_range_is_the_best_of_all_that_are_tried(bits):
    x = np.maximum(normal(4) ** 3, -1)  # heavy tail on one side
    lo, hi = jax.jit(calibration.least_squares)(x, bits)

    def error(share):
        return np.square(numerics.fake_quant_affine(x, x.min() * share, x.max() * share, bits) - x)

    errors = [float(error(np.float32(k / 64)).sum()) for k in range(1, 65)]
    found = np.square(numerics.fake_quant_affine(x, lo, hi, bits) - x).sum()
    np.testing.assert_allclose(found, min(errors), rtol=1e-4)
    assert lo / x.min() == pytest.approx(hi / x.max())
    assert bits == 8 or found < 0.7 * errors[-1]


def test_the_least_squares_range_is_judged_on_every_channel():
    """64 channels and a sample of every 8th value: seen by the quiet channels alone, the range
    would cut off all others."""
    x = np.maximum(normal(5, (32, 16, 16, 64)), 0)
    x[..., np.arange(64) % 8 > 0] *= 8
    lo, hi = jax.jit(calibration.least_squares, static_argnums=1)(x, 4)

    def error(lo, hi):
        return np.square(np.asarray(numerics.fake_quant_affine(x, lo, hi, 4)) - x).mean()

    assert error(lo, hi) < 0.6 * error(x.min(), x.max())
    for shape in ((32, 16, 16, 64), (200, 32, 32, 3), (7, 5), (1, 1)):
        distance = calibration.sample_distance(np.zeros(shape, np.float32))
        places = np.arange(0, math.prod(shape), distance)
        assert len(np.unique(places % shape[-1])) == shape[-1]
        assert places.size <= calibration.SAMPLE


@pytest.mark.parametrize("x", [np.zeros((4, 3), np.float32), np.full((4, 3), -2.5, np.float32)])
def test_constant_inputs_keep_their_value_by_every_method(x):
    for method in calibration.METHODS[1:]:
        lo, hi = calibration.observer(method, 99.9, lambda name: 8)("head", x)
        np.testing.assert_allclose(numerics.fake_quant_affine(x, lo, hi, 8), x, rtol=1e-6)


@pytest.fixture(scope="module")
def variables():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(MODEL.init, KEY, IMAGES)
    found = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), dict(shapes))
    return {**found, "batch_stats": jax.tree.map(np.abs, found["batch_stats"])}


def test_watching_the_points_sees_what_the_layers_observe(variables):
    watched = calibration.observe(MODEL, variables, IMAGES, lambda _, x: calibration.minmax(x))
    own = MODEL.apply(variables, IMAGES, mutable=["quant"])[1]["quant"]
    jax.tree.map(np.testing.assert_array_equal, watched, own)


def test_mse_ranges_follow_the_width_of_each_layer(variables):
    """At 8 bits nearly everything is covered, at 2 bits much less, and the outer layers have 8."""
    whole = MODEL.apply(variables, IMAGES, mutable=["quant"])[1]["quant"]
    technique = Quantize(8, 2, calibration="mse", edge_bits=8)
    found = calibration.observe(
        MODEL, variables, IMAGES, technique.observer(technique.levels(0), MODEL)
    )
    share = jax.tree.map(lambda a, b: float(a / b), found, whole)
    assert share["stem"]["conv"]["hi"] > 0.9
    assert share["head"]["hi"] > 0.9
    assert share["conv"]["conv"]["hi"] < 0.8


@pytest.mark.parametrize("method", ["percentile", "mse"])
def test_a_stage_begins_with_the_ranges_of_its_method(variables, method):
    technique = Quantize(8, 2, calibration=method, percentile=90.0)
    recipe, model = config.Train(batch=8, augment="none"), config.Model("tiny", 4)
    program = fit.make_program(model, None, recipe, (technique,), 4, (8, 8, 3))
    dense = TrainState(variables, (), (), jnp.bool_(True))
    images = (IMAGES * 255).astype(np.uint8)
    levels = (dict(technique.levels(0)),)
    begun = fit.begin(program, dense, np.uint32(0), levels, images)
    found = begun.variables["quant"]["stem"]["conv"]
    x = (images / np.float32(255) - 0.5) / np.float32(0.25)
    expected = {
        "percentile": (np.quantile(x, 0.1), np.quantile(x, 0.9)),
        "mse": calibration.least_squares(x, 2),
    }
    np.testing.assert_allclose((found["lo"], found["hi"]), expected[method], atol=0.02)
    assert found["hi"] < x.max()
    # every range is that of the member's own images, unaugmented, through norms that predict
    x, observer = images / np.float32(255), technique.observer(levels[0], MODEL)
    watched = calibration.observe(MODEL, variables, x, observer)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), begun.variables["quant"], watched)


def test_dynamic_ranges_are_each_images_own():
    layer, x = Dense(3), normal(5, (6, 8)) * np.arange(1, 7, dtype=np.float32)[:, None]
    params = {"kernel": normal(6, (8, 3)), "bias": normal(7, (3,))}
    y = layer.apply({"params": params, "quant": {"bits": jnp.int32(3)}}, x)
    for image, logits in zip(x, y, strict=True):
        seen = numerics.fake_quant_affine(image, image.min(), image.max(), 3)
        np.testing.assert_allclose(
            seen @ params["kernel"] + params["bias"], logits, rtol=1e-5, atol=1e-5
        )
        assert len(np.unique(seen)) <= 8


def test_a_dynamic_prediction_does_not_depend_on_its_batch(variables):
    technique = Quantize(8, 3, activations="dynamic", edge_bits=8)
    chain = build_chain((technique,), MODEL)
    states = chain.init(KEY, variables, (dict(technique.levels(0)),))  # no ranges are needed
    effective = chain.apply(variables, states)
    assert effective["quant"]["stem"]["conv"] == {"bits": 8}
    assert effective["quant"]["conv"]["conv"] == {"bits": 3}
    predict = jax.jit(MODEL.apply)
    louder = IMAGES.copy()
    louder[1:] *= 3
    alone, among = predict(effective, IMAGES)[0], predict(effective, louder)[0]
    np.testing.assert_allclose(alone, among, rtol=1e-6)
    assert not np.allclose(predict(effective, IMAGES), predict(variables, IMAGES), rtol=1e-2)


def test_integer_biases_by_hand():
    """Steps 0.5 (weights) and 2/255 (input): biases are multiples of 1/255."""
    point = {"lo": jnp.float32(0), "hi": jnp.float32(2), "bits": jnp.int32(8)}
    bias = jnp.array([0.101, -0.003, 1.0])
    variables = {
        "params": {"head": {"kernel": jnp.zeros((4, 3)), "bias": bias}},
        "quant": {"head": point},
    }
    step = {"head/kernel": jnp.full((1, 1), 0.5)}
    found = integer_biases(variables, step, jnp.int32(32))["params"]["head"]["bias"]
    np.testing.assert_allclose(found, np.array([26, -1, 255]) / 255, rtol=1e-5)
    saturated = integer_biases(variables, step, jnp.int32(8))["params"]["head"]["bias"]
    np.testing.assert_allclose(saturated, np.array([26, -1, 127]) / 255, rtol=1e-5)
    for bits, width in ((0, 8), (32, 0)):
        off = {**variables, "quant": {"head": {**point, "bits": jnp.int32(width)}}}
        same = integer_biases(off, step, jnp.int32(bits))["params"]["head"]["bias"]
        np.testing.assert_array_equal(same, bias)


def test_a_norm_that_is_not_folded_takes_its_multiplier_into_the_step():
    """Multiplier -2 (scale -4, variance 4), mean 3, offset 1: 1 + 6 = 7 on steps of 2 * 0.5 / 255;
    a channel with multiplier 0 keeps its offset."""
    params = {
        "conv": {"kernel": jnp.zeros((1, 1, 1, 2)), "bias": jnp.zeros(2)},
        "norm": {"scale": jnp.array([-4.0, 0.0]), "bias": jnp.array([1.0009, 0.1234])},
    }
    stats = {"norm": {"mean": jnp.array([3.0, 3.0]), "var": jnp.full(2, 4 - 1e-5)}}
    point = {"lo": jnp.float32(0), "hi": jnp.float32(1), "bits": jnp.int32(8)}
    variables = {
        "params": {"stem": params},
        "batch_stats": {"stem": stats},
        "quant": {"stem": {"conv": point}},
    }
    step = {"stem/conv/kernel": jnp.full((1, 1, 1, 1), 0.5)}
    found = integer_biases(variables, step, jnp.int32(32))
    norm = found["params"]["stem"]["norm"]
    np.testing.assert_allclose(norm["scale"], [-2, 0], rtol=1e-6)
    np.testing.assert_allclose(norm["bias"], [np.rint(7.0009 * 255) / 255, 0.1234], rtol=1e-6)
    assert norm["bias"][0] != pytest.approx(7.0009, abs=1e-5)
    np.testing.assert_array_equal(found["batch_stats"]["stem"]["norm"]["mean"], [0, 0])


@pytest.mark.parametrize(
    ("technique", "sentence"),
    [
        (Quantize(weights="assymetric"), "did you mean 'asymmetric'"),
        (Quantize(granularity="row"), "granularity"),
        (Quantize(weight_range="least"), "weight_range"),
        (Quantize(calibration="mean"), "calibration"),
        (Quantize(percentile=50.0), r"percentile must lie in \(50, 100\]"),
        (Quantize(edge_bits=1), "edge_bits must be 0"),
        (Quantize(activations="dynamic", activation_bits=0), "dynamic activations"),
        (Quantize(activations="dynamic", calibration="mse"), "dynamic activations"),
        (Quantize(bias_bits=4), r"lie in 8\.\.32"),
        (Quantize(bias_bits=32, activation_bits=0), "integer biases need static"),
        (Quantize(bias_bits=32, activations="dynamic"), "integer biases need static"),
    ],
)
def test_bad_words_and_numbers_are_refused(technique, sentence):
    with pytest.raises(ValueError, match=sentence):
        technique.validate("p", 100)
