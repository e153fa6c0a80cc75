"""The networks of the papers: published sizes, shapes, gradients, batch-norm folding."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm.compress.quantize import fold_batch_norm
from rcm.models import MODELS
from rcm.models.count import count
from rcm.models.deep_resnet import Bottleneck
from rcm.models.layers import ConvNorm
from rcm.models.mobilenet import InvertedResidual, divisible
from rcm.models.vgg import VGG, halved
from rcm.models.wideresnet import PreactivationBlock, WideResNet

# parameters and multiply-accumulates at 224 x 224 and 1,000 classes, as torchvision documents them
# (https://docs.pytorch.org/vision/stable/models.html; GMACs to three digits)
IMAGENET = {
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "vgg11": (132_863_336, 7.609),
    "vgg16": (138_357_544, 15.470),
    "vgg19": (143_667_240, 19.632),
    "vgg11_bn": (132_868_840, 7.609),
    "vgg16_bn": (138_365_992, 15.470),
    "vgg19_bn": (143_678_248, 19.632),
    "mobilenet_v2": (3_504_872, 0.301),
}
# millions of parameters in table 4 of Zagoruyko & Komodakis 2016
WIDE = {"wrn16_8": 11.0, "wrn22_8": 17.2, "wrn28_10": 36.5}
FEATURES = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype(np.float32)
BLOCKS = {
    "bottleneck": Bottleneck(8, (2, 3), 2, True, jnp.float32),
    "preactivation": PreactivationBlock(6, 5, 2, True, jnp.float32),
    "inverted": InvertedResidual(4, 8, 1, True, True, jnp.float32),
    "inverted, stride 2": InvertedResidual(6, 4, 2, False, False, jnp.float32),
}
FURTHER = ("preactivation", "inverted, stride 2")


@pytest.mark.parametrize(("name", "published"), IMAGENET.items())
def test_imagenet_networks_have_the_published_size(name, published):
    parameters, gigamacs = published
    found = count(MODELS[name](classes=1000, stem="imagenet"), (224, 224, 3))
    assert found.parameters == parameters
    assert round(found.macs / 1e9, 3) == gigamacs


@pytest.mark.parametrize(("name", "millions"), WIDE.items())
def test_wide_networks_have_the_published_size(name, millions):
    assert round(count(MODELS[name](classes=10), (32, 32, 3)).parameters / 1e6, 1) == millions


def test_macs_of_a_network_by_hand():
    """Tiny: 3 x 3 x 3 x 4 on 4 x 4 pixels, 3 x 3 x 4 x 8 on 4 x 4, 8 x 5."""
    found = count(MODELS["tiny"](classes=5, width=4), (8, 8, 3))
    assert found.macs == 9 * 3 * 4 * 16 + 9 * 4 * 8 * 16 + 8 * 5
    assert found.parameters == 9 * 3 * 4 + 2 * 4 + 9 * 4 * 8 + 2 * 8 + 8 * 5 + 5


def test_half_a_mobilenet_has_the_published_size():
    found = count(MODELS["mobilenet_v2"](classes=1000, width=16, stem="imagenet"), (224, 224, 3))
    assert (found.parameters, round(found.macs / 1e6)) == (1_968_680, 97)


def test_channels_are_rounded_to_eights_and_lose_at_most_a_tenth():
    assert [divisible(c) for c in (3, 8, 11.9, 12, 33.6, 42, 1280)] == [8, 8, 16, 16, 32, 40, 1280]


@functools.cache
def shapes(model, images=(1, 32, 32, 3)):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(images))


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_is_a_kernel_and_every_vector_is_not(name):
    params = shapes(MODELS[name](classes=7, dtype=jnp.bfloat16))["params"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert (path[-1].key == "kernel") == (leaf.ndim > 1)


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_statistics_are_float32_in_bfloat16_too(name):
    model = MODELS[name](classes=7, dtype=jnp.bfloat16)
    logits, updated = jax.eval_shape(
        lambda v, x: model.apply(v, x, True, mutable=["batch_stats"]),
        shapes(model),
        jax.ShapeDtypeStruct((3, 32, 32, 3), jnp.float32),
    )
    assert (logits.shape, logits.dtype) == ((3, 7), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} <= {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "name", ["bottleneck", "inverted", *(pytest.param(n, marks=pytest.mark.long) for n in FURTHER)]
)
def test_a_block_trains_and_folds_exactly(name):
    """Gradients reach every kernel, and inference with norms folded gives the same output."""
    block = BLOCKS[name]
    variables = jax.jit(block.init, static_argnums=2)(jax.random.key(0), FEATURES, True)

    @jax.jit
    def train(params):
        v = {**variables, "params": params}
        y, updated = block.apply(v, FEATURES, True, mutable=["batch_stats"])
        return jnp.sin(y).sum(), updated

    grads, updated = jax.grad(train, has_aux=True)(variables["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        if path[-1].key == "kernel":
            assert np.isfinite(leaf).all(), path
            assert np.any(leaf != 0), path
    noise = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * noise.normal(size=leaf.shape).astype(np.float32),
        variables["params"],
    )
    apply = jax.jit(lambda v: block.apply(v, FEATURES, False))
    trained = {"params": params, **updated}
    folded = fold_batch_norm(trained)
    np.testing.assert_allclose(apply(folded), apply(trained), rtol=1e-4, atol=1e-4)
    moved = jax.tree.map(lambda a, b: np.any(a != b), folded["params"], params)
    assert any(jax.tree.leaves(moved))


def test_a_convolution_bias_is_folded_away():
    block = ConvNorm(4, use_bias=True)
    variables = block.init(jax.random.key(0), FEATURES, False)
    variables["params"]["conv"]["bias"] = jnp.arange(4.0)
    folded = fold_batch_norm(variables)
    np.testing.assert_array_equal(folded["params"]["conv"]["bias"], np.zeros(4))
    np.testing.assert_allclose(
        block.apply(folded, FEATURES, False), block.apply(variables, FEATURES, False), atol=1e-5
    )


def test_halving_is_max_pooling_with_its_gradients():
    x = np.random.default_rng(0).normal(size=(2, 5, 8, 3)).astype(np.float32)

    def loss(function, x):
        return jnp.sin(function(x)).sum()

    for function in (lambda f: f, lambda f: jax.grad(functools.partial(loss, f))):
        found, expected = function(halved)(x), function(pooled)(x)
        np.testing.assert_array_equal(found, expected)


def pooled(x):
    return nn.max_pool(x, (2, 2), (2, 2))


def test_vgg_refuses_images_that_it_cannot_halve_and_a_head_that_does_not_fit():
    with pytest.raises(ValueError, match="32 x 32 or larger"):
        shapes(VGG(classes=10), (1, 16, 16, 3))
    with pytest.raises(ValueError, match="multiples of 224"):
        shapes(VGG(classes=10, stem="imagenet"), (1, 64, 64, 3))
    with pytest.raises(ValueError, match="use 11, 16 or 19"):
        shapes(VGG(classes=10, depth=12))


def test_wide_resnet_refuses_a_depth_that_is_not_6n_plus_4():
    with pytest.raises(ValueError, match="6n \\+ 4"):
        shapes(WideResNet(classes=10, depth=17))
