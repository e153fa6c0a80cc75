"""Members packed into wide convolutions, against a convolution for each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm.models import convolution, packed
from rcm.models.convolution import convolve
from rcm.models.packed import convolve_packed, from_diagonal, members_of_a_group, on_diagonal

MEMBERS = 4


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def value_and_gradients(function, stride):
    """(y, dx, dkernel) of all members, of a loss whose cotangent differs from entry to entry."""

    def loss(x, kernel):
        y = function(x, kernel, stride)
        return jnp.sin(y).sum(), y

    def one(x, kernel):
        gradients, y = jax.grad(loss, argnums=(0, 1), has_aux=True)(x, kernel)
        return y, *gradients

    return jax.jit(jax.vmap(one))


@pytest.mark.parametrize(
    ("members", "channels", "together"),
    [
        (16, 16, 4),  # 64 channels
        (10, 16, 5),  # 80: 4 do not divide 10
        (7, 16, 7),  # 112: less than twice as many as are wanted
        (7, 32, 1),  # 224 would be more
        (16, 64, 1),
        (2, 3, 2),  # all there are
        (1, 3, 1),
    ],
)
def test_so_many_share_a_group(members, channels, together):
    assert members_of_a_group(members, channels) == together


def test_fewer_share_one_without_tensor_cores():
    with jax.default_matmul_precision("highest"):
        assert members_of_a_group(16, 16) == 2


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(3, 16), (16, 16), (16, 48), (40, 5)])
def test_value_and_gradients_are_those_of_each_member(size, stride, channels):
    with jax.enable_x64(True):
        x = draw(MEMBERS, 2, 7, 10, channels[0])
        kernels = draw(MEMBERS, size, size, *channels, seed=1)
        found = value_and_gradients(convolve_packed, stride)(x, kernels)
        expected = value_and_gradients(packed.plain, stride)(x, kernels)
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("axes", [(None, 0), (0, None)])
def test_what_members_share_is_given_to_each(axes):
    x = draw(*([MEMBERS] if axes[0] == 0 else []), 2, 6, 6, 3)
    kernel = draw(*([MEMBERS] if axes[1] == 0 else []), 3, 3, 3, 8, seed=1)
    found = jax.vmap(lambda x, k: convolve_packed(x, k, 1), axes)(x, kernel)
    for i in range(MEMBERS):
        own = packed.plain(x[i] if axes[0] == 0 else x, kernel[i] if axes[1] == 0 else kernel, 1)
        np.testing.assert_allclose(found[i], own, rtol=1e-4, atol=1e-5)


def test_kernels_lie_on_a_diagonal_of_zeros():
    kernels = jnp.asarray(draw(6, 3, 3, 2, 5))
    wide = np.asarray(on_diagonal(kernels, 3))  # two groups of three
    assert wide.shape == (3, 3, 3 * 2, 6 * 5)
    for member in range(6):
        place = member % 3
        columns = wide[..., 5 * member : 5 * member + 5]
        np.testing.assert_array_equal(columns[:, :, 2 * place : 2 * place + 2], kernels[member])
        assert np.count_nonzero(columns) == kernels[member].size
    np.testing.assert_array_equal(from_diagonal(jnp.asarray(wide), 6, 3), kernels)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["images", "kernel"])
def test_a_member_that_diverged_leaves_its_companions_alone(poison, what):
    x = draw(MEMBERS, 2, 6, 6, 16).astype(np.float32)
    kernels = draw(MEMBERS, 3, 3, 16, 16, seed=1).astype(np.float32)
    function = value_and_gradients(convolve_packed, 1)
    healthy = function(x, kernels)
    (x if what == "images" else kernels)[1].flat[5] = poison
    companions = [0, 2, 3]
    for got, want in zip(function(x, kernels), healthy, strict=True):
        np.testing.assert_array_equal(got[np.array(companions)], want[np.array(companions)])


def test_members_become_one_convolution_on_a_gpu(monkeypatch):
    x, kernels = draw(16, 2, 6, 6, 16), draw(16, 3, 3, 16, 16, seed=1)
    monkeypatch.setattr(convolution.jax, "default_backend", lambda: "gpu")
    text = str(jax.make_jaxpr(jax.vmap(lambda x, k: convolve(x, k, 1)))(x, kernels))
    assert text.count("conv_general_dilated[") == 1
    assert "feature_group_count=4" in text
