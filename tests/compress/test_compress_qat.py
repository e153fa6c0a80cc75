"""Quantization-aware training: ranges that follow, widths by layer, a delay, training steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm import config, numerics
from rcm.compress import QAT, Cast, Cluster, Prune, Quantize, validate_chain
from rcm.compress.base import Info, kernels
from rcm.compress.qat import bits_of
from rcm.models import MODELS
from rcm.models.layers import Dense
from rcm.train import fit
from rcm.train.losses import LossHyper
from rcm.train.step import Batch, Hyper, train_step

KEY = jax.random.key(0)
MODEL = MODELS["tiny"](classes=4)
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)


def member():
    variables = jax.jit(MODEL.init)(KEY, jnp.zeros((1, 8, 8, 3)))
    quant = jax.jit(partial(MODEL.apply, mutable=["quant"]))(variables, IMAGES / np.float32(255))
    return {**variables, "quant": quant[1]["quant"]}


def started(technique, variables, steps=10):
    compressor = technique.build((), MODEL)
    return compressor, compressor.init(KEY, variables, dict(technique.levels(steps)))


def test_a_layer_follows_the_range_and_quantizes_with_it():
    """lo = 0.9 (-1) + 0.1 (-2), hi = 0.9 (1) + 0.1 (6), 2 bits: four values from -1.1 to 1.5."""
    layer = Dense(1)
    x = np.array([[-2.0], [0.0], [0.4], [6.0]], np.float32)
    params = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    quant = {"lo": -1.0, "hi": 1.0, "bits": 2, "decay": 0.9}
    quant = {name: jnp.asarray(value) for name, value in quant.items()}
    y, updated = layer.apply({"params": params, "quant": quant}, x, mutable=["quant"])
    np.testing.assert_allclose(updated["quant"]["lo"], -1.1, rtol=1e-6)
    np.testing.assert_allclose(updated["quant"]["hi"], 1.5, rtol=1e-6)
    expected = numerics.fake_quant_affine(x, jnp.float32(-1.1), jnp.float32(1.5), 2)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert len(np.unique(y)) <= 4


def test_the_first_and_the_last_layer_have_their_own_width():
    compressor, state = started(QAT(2, 3, edge_bits=8), member())
    effective = compressor.apply(member(), state)
    quant = effective["quant"]
    nodes = (quant["stem"]["conv"], quant["conv"]["conv"], quant["head"])
    assert [int(node["bits"]) for node in nodes] == [8, 3, 8]
    values = {name: len(np.unique(k)) for name, k in kernels(effective["params"]).items()}
    per_channel = np.asarray(effective["params"]["conv"]["conv"]["kernel"])
    assert all(len(np.unique(per_channel[..., i])) <= 3 for i in range(8))
    assert values["head/kernel"] > 20
    assert bits_of(state, "conv/conv/kernel", "bits", MODEL.edges) == 2


def test_activations_wait_for_the_delay():
    variables = member()
    compressor, state = started(QAT(8, 4, delay=0.5), variables, steps=10)
    seen = []
    for step in range(7):
        seen.append(int(compressor.apply(variables, state)["quant"]["conv"]["conv"]["bits"]))
        variables, state = compressor.update(state, variables, Info(jnp.int32(step), KEY, None))
    assert seen == [0, 0, 0, 0, 0, 4, 4]


def program(*techniques):
    recipe = config.Train(batch=8, augment="none", steps=3)
    model = config.Model("tiny", 4)
    return fit.make_program(model, None, recipe, techniques, 4, (8, 8, 3))


def trained(techniques, steps=3, learning_rate=0.1):
    dense = fit.fresh(program(), np.uint32(0), ())
    levels = tuple(dict(t.levels(steps)) for t in techniques)
    made = program(*techniques)
    state = fit.begin(made, dense, np.uint32(0), levels, IMAGES)
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    hyper = Hyper(np.uint32(0), np.float32(0), LossHyper(ones, zeros, 0.0, 0.0, 1.0))
    batch = Batch(IMAGES, np.arange(8, dtype=np.int32) % 4, np.float32(learning_rate))
    step_function = jax.jit(partial(train_step, fit.parts_of(made)))
    states = [state]
    for step in range(steps):
        states.append(step_function(states[-1], None, hyper, batch, np.int32(step))[0])
    return made, states


def test_training_moves_ranges_weights_and_statistics_and_keeps_the_structure():
    made, states = trained((QAT(4, 4, decay=0.5),))
    first, last = states[0], states[-1]
    assert jax.tree.structure(first) == jax.tree.structure(last)
    assert set(last.variables["quant"]["head"]) == {"lo", "hi"}
    moved = jax.tree.map(lambda a, b: np.any(a != b), first.variables, last.variables)
    assert moved["quant"]["head"]["hi"]
    assert moved["params"]["conv"]["conv"]["kernel"]
    assert moved["batch_stats"]["conv"]["norm"]["mean"]
    effective = jax.device_get(fit.effective_variables(made, last))
    assert fit.parts_of(made).chain.check(effective, jax.device_get(last.compression)) == []


def test_prediction_quantizes_with_the_last_ranges():
    made, states = trained((QAT(4, 4, decay=0.5),))
    seen = fit.effective_variables(made, states[-1])["quant"]["conv"]["conv"]
    ranges = states[-1].variables["quant"]["conv"]["conv"]
    assert seen == {**ranges, "bits": 4, "decay": 0.5}
    assert np.ptp(fit.predict(made, states[-1], IMAGES)) > 0


def test_int8_after_training_with_it_keeps_every_integer():
    """A per-channel grid commutes with folding: the kernels are the same up to the multiplier."""
    made, states = trained((QAT(8, 8),))
    chain = (QAT(8, 8), Quantize(8, 8))
    converted = program(*chain)
    state = fit.begin(
        converted, states[-1], np.uint32(0), (dict(Quantize(8, 8).levels(0)),), IMAGES
    )
    aware = kernels(fit.effective_variables(made, states[-1])["params"])
    integer = kernels(fit.effective_variables(converted, state)["params"])
    for name, kernel in aware.items():
        axes = tuple(range(kernel.ndim - 1))
        steps = [jnp.abs(k).max(axes, keepdims=True) / 127 for k in (kernel, integer[name])]
        rounded = [jnp.round(k / s) for k, s in zip((kernel, integer[name]), steps, strict=True)]
        np.testing.assert_array_equal(*rounded)


@pytest.mark.parametrize("granularity", ["auto", "tensor"])
def test_integers_of_grids_per_tensor_are_kept_too(granularity):
    """Folding would give each channel a multiplier of its own, and the tensor's grid other
    integers."""
    variables = member()
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.2, 3, 8).astype(np.float32)
    variables["params"]["conv"]["norm"]["scale"] = scale
    int4 = Quantize(4, 4, edge_bits=8, granularity=granularity)
    chain = (QAT(4, 4, granularity="tensor"), int4)
    aware, state = started(chain[0], variables)
    before = aware.apply(variables, state)
    compressor = chain[1].build(chain[:1], MODEL)
    after = compressor.apply(before, compressor.init(KEY, before, dict(chain[1].levels(0))))
    for name, kernel in kernels(before["params"]).items():
        np.testing.assert_allclose(kernels(after["params"])[name], kernel, rtol=1e-6)
    np.testing.assert_array_equal(after["params"]["conv"]["norm"]["scale"], scale)
    assert not chain[1].grid(chain[:1]).per_channel
    validate_chain("p", chain, 100)


def test_off_is_the_dense_step():
    """0 bits everywhere train as the chain without QAT does, up to how XLA fuses the program."""
    off = QAT(8, 8)
    levels = {name: np.zeros_like(level) for name, level in off.levels(3).items()}
    made = program(off)
    dense = fit.fresh(program(), np.uint32(0), ())
    state = fit.begin(made, dense, np.uint32(0), (levels,), IMAGES)
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    hyper = Hyper(np.uint32(0), np.float32(0), LossHyper(ones, zeros, 0.0, 0.0, 1.0))
    batch = Batch(IMAGES, np.arange(8, dtype=np.int32) % 4, np.float32(0.1))
    step = jax.jit(train_step, static_argnums=0)
    quantized = step(fit.parts_of(made), state, None, hyper, batch, np.int32(0))[0]
    plain = step(fit.parts_of(program()), dense, None, hyper, batch, np.int32(0))[0]
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7),
        quantized.variables["params"],
        plain.variables["params"],
    )


@pytest.mark.parametrize(
    ("technique", "sentence"),
    [
        (QAT(1), "bits must lie in 2..16"),
        (QAT(edge_bits=0), "edge_bits must lie in 2..16"),
        (QAT(delay=2.0), "delay must lie in"),
        (QAT(decay=1.0), "decay in"),
        (QAT(calibration_images=0), "calibration_images"),
    ],
)
def test_bad_numbers_are_refused(technique, sentence):
    with pytest.raises(ValueError, match=sentence):
        technique.validate("p", 100)


def test_what_can_follow():
    """What keeps weights on their grids; of pruning, what never takes the largest weight alone."""
    validate_chain("p", (Prune(), Cluster(), QAT(), Quantize()), 100)
    validate_chain("p", (QAT(), Prune(0.9, scope="global", schedule="cubic"), Quantize()), 100)
    validate_chain("p", (QAT(4, 4), Quantize(4, 8, edge_bits=8)), 100)
    for integers in (Quantize(4), Quantize(8), Quantize(4, edge_bits=4)):
        with pytest.raises(
            ValueError, match=r"behind QAT at 4 .8., .* give it bits 4 and edge_bits 8"
        ):
            validate_chain("p", (QAT(4, 4), integers), 100)
    for words in ({"granularity": "tensor"}, {"weights": "asymmetric"}):
        with pytest.raises(ValueError, match="which trained other ones: leave weights symmetric"):
            validate_chain("p", (QAT(8, 8), Quantize(8, 8, **words)), 100)
    for other in (Cluster(), Prune(score="random"), Prune(structure="n_of_m"), Cast()):
        with pytest.raises(ValueError, match="can follow QAT, because anything else"):
            validate_chain("p", (QAT(), other), 100)
