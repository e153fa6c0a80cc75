"""`convolve` against `lax.conv_general_dilated` and its automatic derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from rcm.models.convolution import convolve, plain_convolutions

CHANNELS = [(3, 8), (3, 16), (16, 16), (16, 32), (32, 48), (5, 3)]


def reference(x, kernel, stride, groups=1):
    pad = (kernel.shape[0] - 1) // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def draw(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def value_and_gradients(function, stride):
    """Jitted (y, dx, dkernel) of a loss whose cotangent differs from entry to entry."""

    def loss(x, kernel):
        y = function(x, kernel, stride)
        return jnp.sin(y).sum(), y

    gradients = jax.grad(loss, argnums=(0, 1), has_aux=True)

    def call(x, kernel):
        (dx, dkernel), y = gradients(x, kernel)
        return y, dx, dkernel

    return jax.jit(call)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("stride", [1, 2])
def test_float64_value_and_gradients_equal_those_of_lax(channels, stride):
    """An odd height and an even width, in whole and broken packs of columns."""
    with jax.enable_x64(True):
        x = draw((3, 7, 10, channels[0]), np.float64)
        kernel = draw((3, 3, *channels), np.float64, seed=1)
        ours = value_and_gradients(convolve, stride)(x, kernel)
        expected = value_and_gradients(reference, stride)(x, kernel)
        for got, want in zip(ours, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(1, 1), (2, 2), (2, 1), (3, 3), (4, 4), (2, 6)])
def test_tiny_images_are_those_of_lax(stride, sides):
    with jax.enable_x64(True):
        x = draw((3, *sides, 5), np.float64)
        kernel = draw((3, 3, 5, 7), np.float64, seed=1)
        ours = value_and_gradients(convolve, stride)(x, kernel)
        expected = value_and_gradients(reference, stride)(x, kernel)
        for got, want in zip(ours, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("sides", "size"), [((7, 10), 3), ((8, 8), 3), ((1, 2), 3), ((9, 8), 7)])
def test_depthwise_value_and_gradients_equal_those_of_lax(stride, sides, size):
    with jax.enable_x64(True):
        x, kernel = draw((2, *sides, 5), np.float64), draw((size, size, 1, 5), np.float64, seed=1)
        ours = value_and_gradients(partial(convolve, groups=5), stride)(x, kernel)
        expected = value_and_gradients(partial(reference, groups=5), stride)(x, kernel)
        for got, want in zip(ours, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_members_side_by_side_are_those_alone(stride):
    x, kernel = draw((3, 2, 6, 6, 4)), draw((3, 3, 3, 1, 4), seed=1)
    alone = value_and_gradients(partial(convolve, groups=4), stride)
    for together, *each in zip(jax.vmap(alone)(x, kernel), *map(alone, x, kernel), strict=True):
        np.testing.assert_allclose(together, np.stack(each), rtol=1e-5, atol=1e-5)


@pytest.mark.optimized
def test_the_large_kernel_of_imagenet_stems_equals_lax():
    x, kernel = draw((2, 9, 12, 3)), draw((7, 7, 3, 4), seed=1)
    np.testing.assert_allclose(convolve(x, kernel, 2), reference(x, kernel, 2), atol=1e-4)


def test_groups_are_one_or_every_channel():
    with pytest.raises(ValueError, match="4 channels to 4 in 2 groups"):
        convolve(draw((1, 4, 4, 4)), draw((3, 3, 2, 4)), 1, groups=2)


@pytest.mark.optimized
@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_kernel_equals_lax(stride):
    x, kernel = draw((2, 5, 6, 4)), draw((1, 1, 4, 7), seed=1)
    ours = value_and_gradients(convolve, stride)(x, kernel)
    expected = value_and_gradients(reference, stride)(x, kernel)
    for got, want in zip(ours, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.optimized
def test_by_hand_on_a_ramp():
    """A kernel with one tap above the centre reads the row above; row 0 reads the padding."""
    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[0, 1] = 1
    rows = np.asarray(convolve(x, kernel, 1))[0, :, :, 0]
    np.testing.assert_array_equal(rows, [[0, 0, 0], [0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(np.asarray(convolve(x, kernel, 2))[0, :, :, 0], [[0, 0], [3, 5]])


@pytest.mark.optimized
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batched", [(0, 0), (None, 0), (0, None)])
def test_vmap_equals_a_loop(stride, batched):
    x = draw((3, 2, 6, 6, 3) if batched[0] == 0 else (2, 6, 6, 3))
    kernel = draw((3, 3, 3, 3, 16) if batched[1] == 0 else (3, 3, 3, 16), seed=1)
    one = value_and_gradients(convolve, stride)
    together = jax.vmap(one, in_axes=batched)(x, kernel)
    for i in range(3):
        alone = one(x[i] if batched[0] == 0 else x, kernel[i] if batched[1] == 0 else kernel)
        for got, want in zip(together, alone, strict=True):
            np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-5)


@pytest.mark.optimized
def test_gradient_inside_a_scan_equals_the_one_outside():
    x, kernel = draw((4, 8, 8, 16)), draw((3, 3, 16, 16), seed=1)
    gradients = value_and_gradients(convolve, 1)
    _, stacked = jax.jit(
        lambda x, kernel: lax.scan(lambda k, _: (k, gradients(x, k)[2]), kernel, length=2)
    )(x, kernel)
    expected = gradients(x, kernel)[2]
    np.testing.assert_allclose(stacked, np.stack([expected] * 2), rtol=1e-4, atol=1e-4)


@pytest.mark.optimized
@pytest.mark.parametrize("check_vma", [True, False])
def test_kernels_on_four_devices_each_get_their_own_gradient(check_vma):
    """The images are on every device, the kernels differ: their gradients must not be summed."""
    x, kernels = draw((2, 6, 6, 3)), draw((4, 3, 3, 3, 16), seed=1)
    one = value_and_gradients(convolve, 1)

    def on_device(x, kernels):
        return one(x, kernels[0])[2][None]

    mesh = jax.make_mesh((4,), ("members",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = (P(), P("members"))
    mapped = jax.shard_map(
        on_device, mesh=mesh, in_specs=specs, out_specs=P("members"), check_vma=check_vma
    )
    got = jax.jit(mapped)(x, kernels)
    expected = np.stack([one(x, kernel)[2] for kernel in kernels])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_plain_convolutions_contain_nothing_of_the_cpu():
    x, kernel = draw((2, 6, 6, 3)), draw((3, 3, 3, 16), seed=1)
    tuned = str(jax.make_jaxpr(lambda x, k: convolve(x, k, 1))(x, kernel))
    with plain_convolutions():
        plain = str(jax.make_jaxpr(lambda x, k: convolve(x, k, 1))(x, kernel))
        same = convolve(x, kernel, 1)
    assert "custom_vjp" in tuned
    assert "custom_vjp" not in plain
    assert plain.count("conv_general_dilated") == 1
    np.testing.assert_allclose(same, convolve(x, kernel, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(5, 1), (2, 1), (3, 3)])
def test_refuses_what_it_has_no_lowering_for(size, stride):
    with pytest.raises(ValueError, match="use a size of 1, 3 or 7"):
        convolve(draw((1, 8, 8, 3)), draw((size, size, 3, 4)), stride)


@pytest.mark.optimized
def test_bfloat16_stays_bfloat16_and_close():
    x, kernel = draw((2, 8, 8, 16)), draw((3, 3, 16, 16), seed=1)
    narrow = value_and_gradients(convolve, 1)(
        jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16)
    )
    wide = reference(x, kernel, 1)
    assert {leaf.dtype for leaf in narrow} == {jnp.dtype(jnp.bfloat16)}
    error = np.abs(np.asarray(narrow[0], np.float32) - wide)
    assert error.max() < 0.02 * np.abs(wide).max()
