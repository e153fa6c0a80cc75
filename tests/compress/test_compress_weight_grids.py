"""Grids of weights and shorter floats: qwix, numpy, brute force, and what can be read back."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import qwix
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rcm import numerics
from rcm.compress import QAT, Cast, Cluster, Prune, Quantize, build_chain, validate_chain
from rcm.compress.cast import from_halves, halves
from rcm.compress.encodings import decode_kernel
from rcm.compress.integers import StoredGrid, grid_of
from rcm.compress.size import write_down
from rcm.compress.weight_grids import (
    Grid,
    affine_weights,
    best_share,
    on_grid,
    read_steps,
    violations,
)

GRIDS = [
    Grid(per_channel, symmetric) for per_channel in (True, False) for symmetric in (True, False)
]
QUANTIZED = jax.jit(on_grid, static_argnums=2)
FAKE_CAST = jax.jit(numerics.fake_cast)
SHARE = jax.jit(best_share, static_argnums=2)


def normal(seed, shape=(3, 3, 4, 6)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
def test_asymmetric_weights_agree_with_qwix(bits):
    kernel = normal(0) + 0.5
    how = {"calibration_method": "minmax", "channelwise_axes": [3]}
    theirs = qwix.dequantize(qwix.quantize(kernel, f"int{bits}", **how))
    np.testing.assert_allclose(on_grid(kernel, bits, Grid(True, False)), theirs, atol=1e-5)


def test_an_asymmetric_grid_by_hand():
    """2 bits on [-1, 2]: step 1, zero point 1; the second channel is all positive."""
    kernel = np.array([[-1.0, 0.3], [0.4, 1.6], [2.0, 3.0]], np.float32)
    found = np.asarray(on_grid(kernel, 2, Grid(True, False)))
    np.testing.assert_array_equal(found, [[-1, 0], [0, 2], [2, 3]])
    integers, steps, zeros = affine_weights(found, 2, True)
    np.testing.assert_array_equal(integers, [[0, 0], [1, 2], [3, 3]])
    np.testing.assert_array_equal((steps, zeros), ([[1, 1]], [[1, 0]]))


def test_a_range_whose_ends_both_round_inwards_is_read_back():
    """4 bits on [-2.5, 12.5]: step 1, but -2.5 and 12.5 are halves and go to -2 and 12."""
    kernel = np.array([[-2.5], [3.0], [5.0], [7.0], [12.5]], np.float32)
    found = np.asarray(on_grid(kernel, 4, Grid(True, False)))
    np.testing.assert_array_equal(found.ravel(), [-2, 3, 5, 7, 12])
    integers, steps, zeros = affine_weights(found, 4, True)
    np.testing.assert_array_equal((steps, zeros), ([[1]], [[2]]))
    np.testing.assert_array_equal(integers.ravel(), [0, 5, 7, 9, 14])
    assert violations("k", found, 4, Grid(True, False)) == []


LARGEST, SMALLEST = 2.0**126, 2.0**-149  # float32 numbers, a subnormal one
SHAPES = [(2, 3, 4), (1, 1), (0, 2)]  # each is another program
magnitudes = st.floats(-LARGEST, LARGEST, width=32, allow_subnormal=False)
ELEMENTS = magnitudes | st.sampled_from([0.0, 1.0, LARGEST, 2.0**-126, SMALLEST])


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(SHAPES[:1] * 3 + SHAPES),
    constant=ELEMENTS,
    bits=st.sampled_from([2, 3, 4, 8, 12, 16]),
    data=st.data(),
)
def test_every_grid_keeps_zeros_holds_few_values_and_can_be_read_back(shape, constant, bits, data):
    grid = data.draw(st.sampled_from(GRIDS))
    kernel = data.draw(arrays.arrays(np.float32, shape, elements=ELEMENTS))
    kernel[..., 1:2] = constant
    if shape[-1] > 1:
        kernel[..., 0] = 0
    share = np.float32(data.draw(st.sampled_from([1.0, 0.5, 1 / 64])))
    if share < 1:  # of a step that is nearly subnormal there is no share
        kernel = np.where(np.abs(kernel) < 2.0**-60, 0, kernel)
    found = np.asarray(QUANTIZED(kernel, bits, grid, share))
    assert np.isfinite(found).all()
    assert np.all(found[kernel == 0] == 0)
    assert violations("k", found, bits, grid) == []
    assert found.shape == shape
    columns = np.moveaxis(found, -1, 0) if grid.per_channel else [found]
    assert all(len(np.unique(column)) <= 2**bits for column in columns)
    steps = read_steps(found, bits, grid)
    if not grid.symmetric:
        integers, steps, zeros = affine_weights(found, bits, grid.per_channel)
        assert np.all((integers >= 0) & (integers < 2**bits))
        rebuilt = (integers - zeros) * steps
        np.testing.assert_allclose(rebuilt, found, rtol=1e-4, atol=steps.max() * 1e-3)
    if share == 1:
        assert np.all(np.abs(found - kernel) <= np.broadcast_to(steps, kernel.shape) * 0.501)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("grid", GRIDS)
def test_what_is_not_finite_is_on_no_grid(grid, wrong):
    """No comparison with NaN is true, so that counting what is too far off would not find it."""
    kernel = np.array([[1, 0], [-1, wrong]], np.float32)
    assert violations("k", kernel, 2, grid) == ["k: 1 weights are no finite numbers."]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("bits", [2, 4])
def test_the_best_share_is_that_of_brute_force(grid, bits):
    kernel = normal(1) ** 3
    axes = (0, 1, 2) if grid.per_channel else None

    def error(share):
        found = np.asarray(QUANTIZED(kernel, bits, grid, jnp.float32(share)))
        return np.square(found - kernel).sum(axes)

    errors = np.stack([error(k / 64) for k in range(1, 65)])
    share = SHARE(kernel, bits, grid)
    found = np.square(np.asarray(QUANTIZED(kernel, bits, grid, share)) - kernel).sum(axes)
    np.testing.assert_allclose(found, errors.min(0), rtol=1e-4)
    assert np.sum(found) < np.sum(errors[-1])
    assert share.shape == ((1, 1, 1, 6) if grid.per_channel else (1, 1, 1, 1))


def test_the_whole_range_is_kept_where_nothing_is_better():
    kernel = np.stack([np.zeros(6), np.full(6, -3.0)], -1).astype(np.float32)
    np.testing.assert_array_equal(SHARE(kernel, 4, Grid()), [[1, 1]])
    np.testing.assert_array_equal(SHARE(kernel[:0], 4, Grid()), [[1, 1]])


def test_subnormal_steps_are_read_without_a_warning():
    """A step one number below the smallest is 0."""
    kernel = np.array([[3 * SMALLEST], [2 * SMALLEST]], np.float32)
    for symmetric in (True, False):
        found = grid_of(kernel, StoredGrid(4, True, symmetric))
        assert found is not None
        assert np.ptp(found.integers) == 1


finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


@settings(max_examples=30, deadline=None)
@given(
    x=arrays.arrays(np.float32, 24, elements=finite | st.floats(-(2.0**-13), 2.0**-13, width=32))
)
def test_casts_are_those_of_numpy_and_ml_dtypes(x):
    x = np.where(np.abs(x) < np.finfo(np.float32).tiny, 0, x)
    for code, dtype in ((1, np.float16), (2, ml_dtypes.bfloat16)):
        limit = float(ml_dtypes.finfo(dtype).max)
        expected = np.clip(x, -limit, limit).astype(dtype).astype(np.float32)
        found = np.asarray(FAKE_CAST(x, code))
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(from_halves(halves(found, code), code), found)
    assert np.asarray(FAKE_CAST(x, 0)).tobytes() == x.tobytes()


def test_a_cast_survives_compilation_and_passes_gradients():
    x = jnp.array([1.0 + 2.0**-9, 3e-6, -7e4])
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(numerics.fake_cast), (0, None)))(x, 2)
    np.testing.assert_array_equal(value, np.asarray(x).astype(ml_dtypes.bfloat16))
    np.testing.assert_array_equal(slope, np.ones(3))


def written(*techniques):
    """How the kernels of a network without norms are written down under a chain, after its
    checks; what is read back is what was written."""
    network = SimpleNamespace(edges=("stem", "head"))
    made = {name: {"kernel": normal(i, (8, 8))} for i, name in enumerate(("stem", "conv", "head"))}
    chain = build_chain(techniques, network)
    levels = tuple(dict(t.levels(0)) for t in techniques)
    states = chain.init(jax.random.key(0), {"params": made}, levels)
    effective = jax.device_get(chain.apply({"params": made}, states))
    assert chain.check(effective, jax.device_get(states)) == []
    entries = write_down(effective, states, techniques, network).entries
    entries = [(entry, parts) for entry, parts in entries if entry.kind == "kernel"]
    for entry, parts in entries:
        kernel = effective["params"][entry.name.split("/")[0]]["kernel"]
        stream = b"".join(parts.values())
        np.testing.assert_array_equal(decode_kernel(stream, kernel.shape, entry.encoding), kernel)
    return {entry.name.split("/")[0]: entry.encoding for entry, _ in entries}


def test_outer_layers_are_written_at_their_own_width_and_casts_by_name():
    narrow = written(Quantize(3, 0, edge_bits=7))
    assert {name: e.grid.bits for name, e in narrow.items()} == {"stem": 7, "conv": 3, "head": 7}
    for word in ("symmetric", "asymmetric"):
        grids = [
            e.grid for e in written(Quantize(8, 8, weights=word, activations="dynamic")).values()
        ]
        assert {(g.bits, g.per_channel, g.symmetric) for g in grids} == {
            (8, True, word == "symmetric")
        }
    for name in ("float16", "bfloat16"):
        assert {e.numbers for e in written(Cast(name)).values()} == {name}


def test_orders_that_would_leave_a_format_or_split_a_codebook_are_refused():
    for chain in (
        (Cluster(), Quantize(granularity="channel")),
        (Prune(), Cluster(), QAT(granularity="channel")),
    ):
        with pytest.raises(ValueError, match="granularity 'tensor' or 'auto'"):
            validate_chain("p", chain, 100)
    validate_chain("p", (Cluster(), Quantize(granularity="tensor")), 100)
    validate_chain("p", (Prune(), Cluster(), Cast()), 100)
    with pytest.raises(ValueError, match="nothing can follow a cast"):
        validate_chain("p", (Cast(), Quantize()), 100)
    with pytest.raises(ValueError, match="can follow QAT, because"):
        validate_chain("p", (QAT(), Cast()), 100)
    with pytest.raises(ValueError, match="did you mean 'float16'"):
        validate_chain("p", (Cast("float15"),), 100)
