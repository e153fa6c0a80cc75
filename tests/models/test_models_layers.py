"""Norm against Flax, the cosine head, stages, and activation quantization points."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm.models import MODELS
from rcm.models.layers import COSINE_SCALE, Cosine, Dense, Norm, exposed, normalise

MODEL = MODELS["tiny"](classes=5)
IMAGES = np.random.default_rng(0).uniform(size=(6, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(MODEL.init)(jax.random.key(0), IMAGES)


@pytest.fixture(scope="module")
def observed(variables):
    """The `quant` collection after one forward pass that observes ranges."""
    apply = jax.jit(lambda v: MODEL.apply(v, IMAGES, mutable=["quant"]))
    return apply(variables)[1]["quant"]


def logits(variables, quant=None):
    collections = variables if quant is None else {**variables, "quant": quant}
    return np.asarray(jax.jit(MODEL.apply)(collections, IMAGES))


def with_bits(quant, bits):
    """`bits` beside each lo and hi, as the quantizer's `apply` puts it there."""
    is_point = lambda node: "lo" in node  # noqa: E731
    return jax.tree.map(lambda node: {**node, "bits": jnp.int32(bits)}, quant, is_leaf=is_point)


@pytest.fixture(scope="module")
def norms():
    """x, ours and Flax's norm with the same scale, bias and non-trivial running statistics."""
    rng = np.random.default_rng(1)
    x = rng.normal(2.0, 3.0, size=(4, 5, 6, 7)).astype(np.float32)
    draw = lambda low: rng.uniform(low, 2, size=7).astype(np.float32)  # noqa: E731
    variables = {
        "params": {"scale": draw(0.5), "bias": draw(-1)},
        "batch_stats": {"mean": draw(-1), "var": draw(0.5)},
    }
    return x, variables


@pytest.mark.parametrize("train", [True, False])
def test_norm_equals_flax(norms, train):
    x, variables = norms
    flax_norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, use_fast_variance=False)
    got, got_stats = Norm().apply(variables, x, train, mutable=["batch_stats"])
    want, want_stats = flax_norm.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got_stats, want_stats)


def test_norm_gradient_equals_flax(norms):
    x, variables = norms
    flax_norm = nn.BatchNorm(False, momentum=0.9, epsilon=1e-5, use_fast_variance=False)

    def gradients(apply):
        def loss(params, x):
            y, _ = apply({**variables, "params": params}, x)
            return jnp.sin(y).sum()

        return jax.grad(loss, argnums=(0, 1))(variables["params"], x)

    ours = gradients(lambda v, x: Norm().apply(v, x, True, mutable=["batch_stats"]))
    flax = gradients(lambda v, x: flax_norm.apply(v, x, mutable=["batch_stats"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, flax)


def test_normalised_batch_has_mean_bias_and_deviation_scale(norms):
    x, variables = norms
    y, mean, var = normalise(x, variables["params"]["scale"], variables["params"]["bias"])
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(var, x.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(y.mean((0, 1, 2)), variables["params"]["bias"], atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), variables["params"]["scale"], rtol=1e-4)


def test_running_statistics_by_hand():
    """x = (1, 3): mean 2, biased variance 1; from (0, 1) one step of momentum 0.9."""
    x = np.array([[1.0], [3.0]], np.float32)
    norm = Norm()
    variables = norm.init(jax.random.key(0), x, True)
    _, updated = norm.apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [0.2], rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], [1.0], rtol=1e-6)


def test_dense_by_hand():
    kernel, bias = np.array([[1.0, 2], [3, 4]], np.float32), np.array([10.0, 20], np.float32)
    y = Dense(2).apply({"params": {"kernel": kernel, "bias": bias}}, np.array([[1.0, 1]]))
    np.testing.assert_array_equal(y, [[14, 26]])


def test_observed_range_is_the_range_of_each_input(observed):
    scaled = (IMAGES - 0.5) / 0.25
    stem = observed["stem"]["conv"]
    np.testing.assert_allclose([stem["lo"], stem["hi"]], [scaled.min(), scaled.max()], rtol=1e-6)
    assert observed["conv"]["conv"]["lo"] == 0  # what follows a relu
    assert set(observed) == {"stem", "conv", "head"}


def test_observing_again_only_ever_widens(variables, observed):
    both = {**variables, "quant": observed}
    observe = jax.jit(lambda images: MODEL.apply(both, images, mutable=["quant"]))
    _, wider = observe(IMAGES * 2)
    _, same = observe(IMAGES)
    assert wider["quant"]["stem"]["conv"]["hi"] > observed["stem"]["conv"]["hi"]
    jax.tree.map(np.testing.assert_array_equal, same["quant"], observed)
    _, still = observe(IMAGES * 0 + 0.5)
    jax.tree.map(np.testing.assert_array_equal, still["quant"]["stem"], observed["stem"])


def test_observing_leaves_the_logits_alone(variables):
    watched, _ = jax.jit(lambda v: MODEL.apply(v, IMAGES, mutable=["quant"]))(variables)
    np.testing.assert_allclose(watched, logits(variables), rtol=1e-6, atol=1e-6)


def test_zero_bits_is_a_bit_exact_identity(variables, observed):
    dense = logits(variables)
    np.testing.assert_array_equal(logits(variables, with_bits(observed, 0)), dense)
    np.testing.assert_array_equal(logits(variables, observed), dense)


def test_more_bits_bring_the_logits_closer(variables, observed):
    dense = logits(variables)
    errors = [
        np.abs(logits(variables, with_bits(observed, bits)) - dense).mean() for bits in (2, 4, 8)
    ]
    assert errors[0] > 2 * errors[1] > 8 * errors[2] > 0


def test_the_layers_contain_no_quantization_without_the_collection(variables, observed):
    plain = str(jax.make_jaxpr(MODEL.apply)(variables, IMAGES))
    quantized = {**variables, "quant": with_bits(observed, 8)}
    assert "round" not in plain
    assert str(jax.make_jaxpr(MODEL.apply)(quantized, IMAGES)).count("round") >= 3


def test_the_cosine_head_by_hand():
    """(3, 4) against columns (0, 2), (-5, 0) and (4, 3): cosines 0.8, -0.6 and 0.96."""
    kernel = jnp.array([[0.0, -5.0, 4.0], [2.0, 0.0, 3.0]])
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    y = Cosine(3).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(y, [[24.0, -18.0, 28.8], [0, 0, 0]], rtol=1e-6)
    shifted = Cosine(3).apply({"params": {"kernel": kernel, "bias": jnp.array([1.0, 0, 2])}}, x)
    np.testing.assert_allclose(shifted, y + jnp.array([[1.0, 0, 2]]), rtol=1e-6)


def test_the_cosine_head_sees_no_lengths_and_pulls_across_them():
    """Logits do not change with the length of a feature vector or a column, so gradients are
    perpendicular to both (Cao et al. 2019 normalise both)."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(5, 6)), rng.normal(size=(6, 3))
    x, kernel = x.astype(np.float32), kernel.astype(np.float32)

    @jax.jit
    def head(x, kernel):
        return Cosine(3).apply({"params": {"kernel": kernel}}, x)

    longer = head(x * rng.uniform(0.1, 9, (5, 1)), kernel * rng.uniform(0.1, 9, (1, 3)))
    np.testing.assert_allclose(longer, head(x, kernel), rtol=1e-4, atol=1e-4)
    assert np.abs(longer).max() <= COSINE_SCALE
    of_x, of_kernel = jax.grad(lambda *a: jnp.sin(head(*a)).sum(), argnums=(0, 1))(x, kernel)
    np.testing.assert_allclose((of_x * x).sum(1), np.zeros(5), atol=1e-3)
    np.testing.assert_allclose((of_kernel * kernel).sum(0), np.zeros(3), atol=1e-3)
    assert np.abs(of_kernel).min() > 1e-3


def test_a_cosine_head_has_a_kernel_and_nothing_else():
    model = MODELS["tiny"](classes=5, classifier="cosine")
    head = jax.eval_shape(model.init, jax.random.key(0), IMAGES)["params"]["head"]
    assert {name: leaf.shape for name, leaf in head.items()} == {"kernel": (8, 5)}
    with pytest.raises(ValueError, match="use 'linear' or 'cosine'"):
        jax.eval_shape(MODELS["tiny"](5, classifier="angle").init, jax.random.key(0), IMAGES)


# sides of the stages' outputs for 32 x 32 images and the CIFAR stem
SIDES = {
    "tiny": [16, 16],
    "resnet8": [32, 16, 8],
    "wrn16_8": [32, 16, 8],
    "resnet18": [32, 16, 8, 4],
    "resnet50": [32, 16, 8, 4],
    "vgg11_bn": [32, 16, 8, 4, 2],
    "mobilenet_v2": [32, 16, 8, 4],
}


@pytest.mark.parametrize("name", SIDES)
def test_stages_are_exposed_on_demand_and_are_no_part_of_the_variables(name):
    model, images = MODELS[name](classes=5), jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert set(variables) <= {"params", "batch_stats"}
    look = lambda v, x: exposed(model.apply(v, x, mutable=["features"])[1])  # noqa: E731
    stages = jax.eval_shape(look, variables, images)
    assert [stage.shape[:3] for stage in stages] == [(2, n, n) for n in SIDES[name]]


def test_exposing_stages_changes_no_logit(variables):
    plain = logits(variables)
    seen = jax.jit(lambda v: MODEL.apply(v, IMAGES, mutable=["features"]))(variables)
    np.testing.assert_array_equal(seen[0], plain)
    last = exposed(seen[1])[-1].mean((1, 2)) @ variables["params"]["head"]["kernel"]
    bias = variables["params"]["head"]["bias"][None]
    np.testing.assert_allclose(last + bias, plain, rtol=1e-4, atol=1e-5)
