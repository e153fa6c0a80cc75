"""Weight and activation quantization, and exact batch-norm folding on a real net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix

from rcm.compress import Cluster, Prune, Quantize
from rcm.compress.base import kernels, map_kernels
from rcm.compress.fold import fold_batch_norm
from rcm.compress.quantize import Rule, quantize
from rcm.compress.weight_grids import Grid, integer_weights, on_grid
from rcm.models import MODELS

KEY = jax.random.key(0)
MODEL = MODELS["tiny"](classes=4)
PREDICT = jax.jit(MODEL.apply)


def images(seed=1):
    return jax.random.uniform(jax.random.key(seed), (8, 8, 8, 3))


def member(model=MODEL, seed=0, size=8):
    """Random parameters and statistics: norms far from the identity."""
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, size, size, 3)))
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: 0.5 * rng.normal(size=x.shape), shapes["params"])
    stats = jax.tree.map(lambda x: rng.uniform(0.1, 3, x.shape), shapes["batch_stats"])
    return jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float32), {"params": params, "batch_stats": stats}
    )


def calibrated(variables):
    observed = MODEL.apply(variables, images(), mutable=["quant"])[1]["quant"]
    return {**variables, "quant": observed}


def levels(bits, activation_bits=0):
    return dict(Quantize(bits, activation_bits).levels(0))


def compressed(variables, bits, activation_bits=0, **options):
    compressor = quantize(Rule(**options))
    return compressor.apply(
        variables, compressor.init(KEY, variables, levels(bits, activation_bits))
    )


def test_folding_leaves_the_predictions():
    variables = member()
    before, after = PREDICT(variables, images()), PREDICT(fold_batch_norm(variables), images())
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    assert not np.allclose(before, 0)


def test_a_folded_norm_multiplies_by_exactly_one_and_adds_its_bias():
    folded = fold_batch_norm(member())
    norm, stats = folded["params"]["stem"]["norm"], folded["batch_stats"]["stem"]["norm"]
    multiplier = jax.jit(lambda scale, var: scale * jax.lax.rsqrt(var + 1e-5))
    np.testing.assert_array_equal(multiplier(norm["scale"], stats["var"]), jnp.ones(4))
    np.testing.assert_array_equal(stats["mean"], jnp.zeros(4))


def test_folding_by_hand():
    variables = {
        "params": {
            "conv": {"kernel": jnp.full((1, 1, 1, 2), 3.0)},
            "norm": {"scale": jnp.array([2.0, 4.0]), "bias": jnp.array([1.0, -1.0])},
        },
        "batch_stats": {
            "norm": {"mean": jnp.array([5.0, 6.0]), "var": jnp.array([4.0, 1.0]) - 1e-5}
        },
    }
    folded = fold_batch_norm(variables)
    np.testing.assert_allclose(folded["params"]["conv"]["kernel"].ravel(), [3, 12], rtol=1e-6)
    np.testing.assert_allclose(folded["params"]["norm"]["bias"], [1 - 5, -1 - 24], rtol=1e-6)


def test_folding_twice_is_folding_once():
    once = fold_batch_norm(member())
    jax.tree.map(np.testing.assert_array_equal, fold_batch_norm(once), once)


def test_every_norm_of_a_deep_resnet_is_folded():
    model = MODELS["resnet20"](classes=10, width=4, shortcut="B")
    variables = member(model, size=8)
    folded = fold_batch_norm(variables)
    assert jax.tree.structure(folded) == jax.tree.structure(variables)
    scales = [x for path, x in jax.tree.leaves_with_path(folded) if path[-1].key == "scale"]
    assert len(scales) == 19 + 2
    assert all(np.all(scale == 1) for scale in scales)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_are_the_written_out_grid(bits, per_channel):
    variables = member()
    effective = compressed(variables, bits, grid=Grid(per_channel), fold=False)
    q = 2 ** (bits - 1) - 1
    for name, w in kernels(variables["params"]).items():
        w = np.asarray(w)
        axes = tuple(range(w.ndim - 1)) if per_channel else None
        step = np.abs(w).max(axis=axes, keepdims=True) / q
        expected = np.clip(np.rint(w / step), -q, q) * step
        np.testing.assert_allclose(kernels(effective["params"])[name], expected, atol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_per_channel_weights_agree_with_qwix(bits):
    """qwix spreads the range over q + 1/2 steps; the factor undoes that."""
    w, q = member()["params"]["stem"]["conv"]["kernel"], 2 ** (bits - 1) - 1
    how = {"calibration_method": f"absmax,{(q + 0.5) / q}", "channelwise_axes": [3]}
    theirs = qwix.quantize(w, f"int{bits}", **how)
    integers, steps = integer_weights(np.asarray(on_grid(w, bits)), bits, True)
    np.testing.assert_array_equal(integers, theirs.qvalue.astype(jnp.int32))
    np.testing.assert_allclose(steps, theirs.scale, rtol=1e-5)


def test_folding_commutes_with_per_channel_grids():
    variables = member()
    after = compressed(variables, 4)  # fold, then quantize
    quantized = {
        **variables,
        "params": map_kernels(lambda w: on_grid(w, 4), variables["params"]),
    }
    before = fold_batch_norm(quantized)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after, before)


def test_a_grid_per_tensor_keeps_the_number_of_shared_values():
    rng = np.random.default_rng(0)
    kernel = rng.choice(rng.normal(size=9).astype(np.float32), (3, 3, 4, 8))
    assert len(np.unique(on_grid(kernel, 8, Grid(per_channel=False)))) <= 9
    assert len(np.unique(on_grid(kernel, 8))) > 9


def test_integers_rebuild_the_weights():
    effective = np.asarray(on_grid(member()["params"]["conv"]["conv"]["kernel"], 8))
    integers, steps = integer_weights(effective, 8, True)
    assert np.abs(integers).max() == 127
    np.testing.assert_allclose(integers * steps, effective, rtol=1e-6)


def test_weight_gradient_passes_straight_through():
    w = member()["params"]["stem"]["conv"]["kernel"]
    gradient = jax.grad(lambda w: (on_grid(w, 3) * jnp.arange(4.0).reshape(1, 1, 1, 4)).sum())(w)
    expected = np.broadcast_to(np.arange(4.0), w.shape)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_eight_bits_are_close_and_two_are_not():
    variables = calibrated(member())
    reference = PREDICT(member(), images())

    def error(bits):
        logits = PREDICT(compressed(variables, bits, bits), images())
        return float(jnp.abs(logits - reference).max() / jnp.abs(reference).max())

    assert error(8) < 0.05 < error(2)
    assert error(16) < 1e-3


def test_activations_alone_are_quantized_when_weight_bits_are_zero():
    variables = calibrated(member())
    effective = compressed(variables, 0, 3)
    jax.tree.map(np.testing.assert_array_equal, effective["params"], variables["params"])
    assert effective["quant"]["head"]["bits"] == 3
    assert not np.allclose(PREDICT(effective, images()), PREDICT(member(), images()), rtol=1e-3)


def test_activation_bits_reach_every_quantization_point():
    effective = compressed(calibrated(member()), 8, 5)
    points = [
        node
        for path, node in jax.tree.leaves_with_path(effective["quant"])
        if path[-1].key == "bits"
    ]
    assert [int(bits) for bits in points] == [5, 5, 5]


def test_missing_ranges_are_named():
    with pytest.raises(ValueError, match="calibration images"):
        compressed(member(), 8, 8)
    with pytest.raises(ValueError, match="calibration images"):
        jax.jit(lambda level: quantize().init(KEY, member(), level))(levels(8, 0))


def test_weights_can_be_quantized_without_ranges():
    assert "quant" not in compressed(member(), 8, 0)


def test_behind_clustering_grids_are_per_tensor_and_norms_stay():
    variables = calibrated(member())
    compressor = Quantize(8, 0).build((Prune(), Cluster()), None)
    effective = compressor.apply(variables, compressor.init(KEY, variables, levels(8)))
    np.testing.assert_array_equal(
        effective["params"]["stem"]["norm"]["scale"], variables["params"]["stem"]["norm"]["scale"]
    )
    assert Quantize().grid((Prune(),)).per_channel
    assert not Quantize().grid((Prune(), Cluster())).per_channel


@pytest.mark.parametrize(
    ("technique", "sentence"),
    [
        (Quantize(bits=0), r"bits must lie in 2\.\.16, not 0"),
        (Quantize(bits=1), "nothing but zero"),
        (Quantize(bits=17), "bits"),
        (Quantize(activation_bits=-1), "activation_bits"),
        (Quantize(activation_bits=32), "activation_bits"),
        (Quantize(calibration_images=0), "calibration_images"),
    ],
)
def test_bad_bit_widths_are_refused(technique, sentence):
    with pytest.raises(ValueError, match=sentence):
        technique.validate("int8", 100)
