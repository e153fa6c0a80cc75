"""Grids and fake quantization against written-out arithmetic and an independent library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rcm import numerics

pytestmark = pytest.mark.optimized

BITS = (2, 3, 4, 8, 16)


def normal(seed, shape=(64,)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("bits", "signed", "unsigned"),
    [(1, 0, 1), (2, 1, 3), (4, 7, 15), (8, 127, 255), (16, 32767, 65535)],
)
def test_limits_of_the_grids(bits, signed, unsigned):
    assert numerics.signed_limit(bits) == signed
    assert numerics.unsigned_limit(bits) == unsigned
    assert float(numerics.signed_limit(32)) == 2**31  # of biases; float32 holds no 2^31 - 1


def test_round_clip_passes_the_gradient_up_to_the_ends_of_the_range_and_no_further():
    x = jnp.array([-3.0, -2.6, -2.4, -2.0, 0.3, 1.0, 1.4, 1.6, 9.0])
    value, gradient = jax.vmap(jax.value_and_grad(numerics.round_clip), (0, None, None))(
        x, -2.0, 1.0
    )
    np.testing.assert_array_equal(value, [-2, -2, -2, -2, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(gradient, [0, 0, 1, 1, 1, 1, 1, 0, 0])


def test_rounding_is_half_to_even():
    x = jnp.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    np.testing.assert_array_equal(numerics.round_clip(x, -9.0, 9.0), [-2, -2, 0, 0, 2, 2])


@pytest.mark.parametrize("bits", BITS)
def test_symmetric_quantizer_is_the_written_out_formula(bits):
    x = normal(bits, (3, 5, 4))
    q = 2 ** (bits - 1) - 1
    scale = np.abs(x).max((0, 1), keepdims=True) / np.float32(q)
    expected = np.clip(np.rint(x / scale), -q, q).astype(np.float32) * scale
    ours = numerics.symmetric_scale(x, bits, (0, 1))
    np.testing.assert_allclose(ours, scale, rtol=1e-6)
    np.testing.assert_allclose(
        numerics.fake_quant_symmetric(x, ours, bits), expected, rtol=1e-6, atol=1e-7
    )


def test_symmetric_grid_by_hand():
    x = jnp.array([-7.0, -3.4, 0.0, 0.6, 3.5])
    scale = numerics.symmetric_scale(x, 4)
    np.testing.assert_array_equal(scale, [1.0])
    np.testing.assert_array_equal(
        numerics.fake_quant_symmetric(x, scale, 4), [-7.0, -3.0, 0.0, 1.0, 4.0]
    )


def test_affine_grid_by_hand():
    scale, zero = numerics.affine_grid(jnp.float32(-1), jnp.float32(2), 2)
    assert (scale, zero) == (1, 1)
    x = jnp.array([-5.0, -0.6, -0.4, 0.0, 1.4, 2.6])
    quantized = numerics.fake_quant_affine(x, jnp.float32(-1), jnp.float32(2), 2)
    np.testing.assert_array_equal(quantized, [-1, -1, 0, 0, 1, 2])


@settings(max_examples=50, deadline=None)
@given(lo=st.floats(-4, 4, width=32), span=st.floats(0, 8, width=32), bits=st.sampled_from(BITS))
def test_affine_grid_holds_zero_exactly_and_errs_by_at_most_half_a_step(lo, span, bits):
    lo, hi = np.float32(lo), np.float32(lo + span)
    x = jnp.linspace(min(lo, 0), max(hi, 0), 33).at[0].set(0)
    scale, zero = numerics.affine_grid(lo, hi, bits)
    quantized = numerics.fake_quant_affine(x, lo, hi, bits)
    assert quantized[0] == 0
    assert zero == jnp.round(zero)
    assert 0 <= zero <= 2**bits - 1
    # Rounding the zero point may push an end of the range off the grid by half a step.
    assert jnp.max(jnp.abs(quantized - x)) <= float(scale) * 1.0001 / 2 + 1e-6


@jax.jit
def every_grid(x, bits):
    """(quantized, step broadcast to x) by each kind of grid: per channel, per tensor, per image."""
    step = numerics.symmetric_scale(x, bits, tuple(range(x.ndim - 1)))
    lo, hi = x.min(initial=0), x.max(initial=0)
    image = tuple(range(1, x.ndim))
    ends = x.min(image, keepdims=True), x.max(image, keepdims=True)
    found = (
        (numerics.fake_quant_symmetric(x, step, bits), step),
        (numerics.fake_quant_affine(x, lo, hi, bits), numerics.affine_grid(lo, hi, bits)[0]),
        (numerics.fake_quant_dynamic(x, bits), numerics.affine_grid(*ends, bits)[0]),
    )
    return [(quantized, jnp.broadcast_to(scale, x.shape)) for quantized, scale in found]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from([(2, 3, 4), (1, 1), (0, 2)]),
    constant=st.booleans(),
    bits=st.sampled_from((2, 3, 4, 8, 12)),
    exponent=st.sampled_from([-149, -126, -100, 0, 0, 100, 126]),
    data=st.data(),
)
def test_shapes_constants_and_extreme_magnitudes(shape, constant, bits, exponent, data):
    """Finite, exact at zero, half a step off at most, but for subnormal values, which XLA may take
    for 0; where a step would be subnormal it is 1."""
    unit = st.floats(-1, 1, width=32, allow_subnormal=False)
    x = data.draw(arrays.arrays(np.float32, shape, elements=unit, fill=unit))
    x = np.full(shape, x.ravel()[:1], np.float32) if constant and x.size else x
    x = np.ldexp(x, exponent)
    for quantized, step in jax.device_get(every_grid(x, bits)):
        assert quantized.shape == shape
        assert np.isfinite(quantized).all()
        assert np.all(quantized[x == 0] == 0)
        taken_for_zero = (np.abs(x) < np.finfo(np.float32).tiny) & (quantized == 0)
        assert np.all((np.abs(quantized - x) <= step * 0.501) | taken_for_zero)
    same = jax.device_get(every_grid(x, 0))
    assert all(quantized.tobytes() == x.tobytes() for quantized, _ in same)


def test_two_bits_hold_three_signed_values_and_four_unsigned_ones():
    x = jnp.linspace(-1, 1, 41).reshape(1, 41, 1)
    sizes = [len(np.unique(quantized)) for quantized, _ in every_grid(x, 2)]
    assert sizes == [3, 4, 4]


@pytest.mark.parametrize("bits", [4, 8])
def test_affine_quantizer_agrees_with_qwix(bits):
    x = normal(1, (16, 16)) + 0.7
    theirs = qwix.dequantize(qwix.quantize(x, f"int{bits}", calibration_method="minmax"))
    ours = numerics.fake_quant_affine(x, x.min(), x.max(), bits)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_symmetric_quantizer_agrees_with_qwix(bits):
    """qwix spreads the range over q + 1/2 steps; the factor undoes that."""
    x, q = normal(2, (16, 8)), 2 ** (bits - 1) - 1
    method = f"absmax,{(q + 0.5) / q}"
    how = {"calibration_method": method, "channelwise_axes": [1]}
    theirs = qwix.dequantize(qwix.quantize(x, f"int{bits}", **how))
    ours = numerics.fake_quant_symmetric(x, numerics.symmetric_scale(x, bits, (0,)), bits)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_zero_bits_is_the_identity_to_the_bit_and_passes_gradients():
    x = jnp.array([-0.0, 1e-30, -3.3, 7.7])
    for quantizer in (
        lambda x: numerics.fake_quant_symmetric(x, numerics.symmetric_scale(x, 0), 0),
        lambda x: numerics.fake_quant_affine(x, jnp.float32(jnp.inf), jnp.float32(-jnp.inf), 0),
    ):
        assert np.asarray(quantizer(x)).tobytes() == np.asarray(x).tobytes()
        np.testing.assert_array_equal(jax.grad(lambda x, f=quantizer: f(x).sum())(x), jnp.ones(4))


def test_affine_gradient_passes_relu_zeros_and_stops_outside_the_range():
    x = jnp.array([-1.0, 0.0, 0.01, 1.0, 3.0])
    f = lambda x: numerics.fake_quant_affine(x, jnp.float32(0), jnp.float32(1), 8).sum()  # noqa: E731
    np.testing.assert_allclose(jax.grad(f)(x), [0, 1, 1, 1, 0], rtol=1e-6)


def test_all_zero_input_stays_zero_and_finite():
    x = jnp.zeros((2, 3))
    np.testing.assert_array_equal(numerics.symmetric_scale(x, 8, (0,)), jnp.ones((1, 3)))
    np.testing.assert_array_equal(
        numerics.fake_quant_symmetric(x, numerics.symmetric_scale(x, 8), 8), x
    )
    np.testing.assert_array_equal(numerics.fake_quant_affine(x, x.min(), x.max(), 8), x)


def test_bits_are_traced_and_activations_keep_their_dtype():
    x = jnp.asarray(normal(3), jnp.bfloat16)
    traced = jax.jit(
        lambda bits: numerics.fake_quant_affine(x, jnp.float32(-2), jnp.float32(2), bits)
    )
    sizes = [len(np.unique(np.asarray(traced(b), np.float32))) for b in (2, 3)]
    assert traced(jnp.int32(2)).dtype == jnp.bfloat16
    assert sizes[0] <= 4 < sizes[1] <= 8
