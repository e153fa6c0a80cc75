"""The CIFAR ResNets: size, shapes, shortcuts, precision, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm.models import MODELS
from rcm.models.resnet import Block, ResNet
from rcm.models.tiny import Tiny

# Millions of parameters in table 6 of He et al. 2016.
PUBLISHED = {
    "resnet20": 0.27,
    "resnet32": 0.46,
    "resnet44": 0.66,
    "resnet56": 0.85,
    "resnet110": 1.7,
}
IMAGES = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype(np.float32)


def shapes(model, images=(1, 32, 32, 3)):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(images))


def parameters(model):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(model)["params"]))


@pytest.mark.parametrize(("name", "millions"), PUBLISHED.items())
def test_parameter_count_is_the_published_one(name, millions):
    digits = 1 if millions > 1 else 2
    assert round(parameters(MODELS[name](classes=10)) / 1e6, digits) == millions


def test_resnet20_parameters_by_hand():
    kernels = 9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    assert parameters(MODELS["resnet20"](classes=10)) == kernels + norms + 64 * 10 + 10 == 269_722


def test_resnet8_has_one_block_a_stage_and_width_scales_its_kernels():
    kernels = 9 * (3 * 16 + 2 * 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    norms = 2 * (3 * 16 + 2 * 32 + 2 * 64)
    assert parameters(MODELS["resnet8"](classes=10)) == kernels + norms + 64 * 10 + 10
    wide = shapes(MODELS["resnet8"](classes=7, width=8))["params"]
    assert wide["stage3_block1"]["conv2"]["conv"]["kernel"].shape == (3, 3, 32, 32)
    assert wide["head"]["kernel"].shape == (32, 7)


def test_every_compressible_leaf_is_named_kernel():
    paths = jax.tree_util.tree_flatten_with_path(shapes(MODELS["resnet8"](classes=10))["params"])[0]
    names = {path[-1].key for path, leaf in paths if leaf.ndim > 1}
    assert names == {"kernel"}


@pytest.mark.parametrize("size", [32, 33, 8])
def test_logits_have_one_row_per_image_for_any_image_size(size):
    model = MODELS["resnet8"](classes=10)
    images = jax.ShapeDtypeStruct((5, size, size, 3), jnp.float32)
    variables = shapes(model, images.shape)
    logits = jax.eval_shape(model.apply, variables, images)
    assert (logits.shape, logits.dtype) == ((5, 10), jnp.float32)


def test_shortcut_a_strides_and_pads_channels_with_zeros():
    """With both kernels and the last norm's bias zero, a block is relu(shortcut)."""
    block = Block(features=6, stride=2, shortcut="A", dtype=jnp.float32)
    x = np.random.default_rng(1).normal(size=(2, 5, 5, 3)).astype(np.float32)
    variables = jax.eval_shape(lambda key: block.init(key, x, False), jax.random.key(0))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    expected = np.zeros((2, 3, 3, 6), np.float32)
    expected[..., 1:4] = np.maximum(x[:, ::2, ::2], 0)
    np.testing.assert_array_equal(
        jax.jit(block.apply, static_argnums=2)(variables, x, False), expected
    )


def test_shortcut_b_projects_where_the_shape_changes_and_nowhere_else():
    params = shapes(ResNet(classes=10, depth=20, shortcut="B"))["params"]
    projections = {name for name, block in params.items() if "project" in block}
    assert projections == {"stage2_block1", "stage3_block1"}
    assert params["stage2_block1"]["project"]["conv"]["kernel"].shape == (1, 1, 16, 32)


@pytest.mark.parametrize("depth", [7, 2, 21])
def test_refuses_a_depth_that_is_not_6n_plus_2(depth):
    with pytest.raises(ValueError, match="6n \\+ 2"):
        shapes(ResNet(classes=10, depth=depth))


def test_refuses_an_unknown_shortcut():
    with pytest.raises(ValueError, match="'A' or 'B'"):
        shapes(ResNet(classes=10, depth=8, shortcut="C"))


def training_gradients(model, variables, params, images):
    """(gradients, (logits, new batch statistics)) of one training batch."""

    def loss(params):
        v = {**variables, "params": params}
        logits, updated = model.apply(v, images, True, mutable=["batch_stats"])
        return jnp.square(logits).mean(), (logits, updated)

    return jax.grad(loss, has_aux=True)(params)


@pytest.mark.parametrize("name", ["tiny", "resnet8"])
def test_bfloat16_keeps_parameters_statistics_logits_and_gradients_in_float32(name):
    model = MODELS[name](classes=5, dtype=jnp.bfloat16)
    variables = shapes(model)
    images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)
    trained = jax.eval_shape(
        lambda v, x: training_gradients(model, v, v["params"], x), variables, images
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, trained))} == {jnp.dtype("float32")}


def test_bfloat16_computes_something_else_but_close():
    exact, narrow = Tiny(classes=5), Tiny(classes=5, dtype=jnp.bfloat16)
    variables = jax.jit(exact.init)(jax.random.key(0), IMAGES)
    want = jax.jit(exact.apply)(variables, IMAGES)
    difference = np.abs(jax.jit(narrow.apply)(variables, IMAGES) - want).max()
    assert 0 < difference < 0.05 * np.abs(want).max()


def test_evaluation_scans_over_batches_to_the_same_logits():
    model = Tiny(classes=5)
    variables = jax.jit(model.init)(jax.random.key(0), IMAGES)
    batches = IMAGES.reshape(2, 2, 8, 8, 3)
    scanned = jax.jit(lambda v: jax.lax.map(lambda x: model.apply(v, x), batches))(variables)
    whole = jax.jit(model.apply)(variables, IMAGES)
    np.testing.assert_allclose(scanned.reshape(4, 5), whole, rtol=1e-5, atol=1e-6)


def test_a_training_step_under_vmap_equals_members_alone():
    model = Tiny(classes=5)
    variables = jax.jit(model.init)(jax.random.key(0), IMAGES)
    scales = jnp.array([1.0, 0.5])

    @jax.jit
    def step(scale):
        params = jax.tree.map(lambda leaf: leaf * scale, variables["params"])
        return training_gradients(model, variables, params, IMAGES)

    together = jax.jit(jax.vmap(step))(scales)
    for i, scale in enumerate(scales):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-6),
            together,
            step(scale),
        )
