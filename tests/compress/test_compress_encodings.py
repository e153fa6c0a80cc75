"""Every encoding gives back what it was given; Huffman's codes are as short as theory says."""

import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from rcm.compress import codes, places
from rcm.compress.encodings import LARGEST_BOOK, Allowed, decode_kernel, encode_kernel
from rcm.compress.integers import StoredGrid, grid_of

quick = settings(max_examples=60, deadline=None, derandomize=True)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
SHAPES = npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)
SYMBOLS = st.integers(1, 300).flatmap(
    lambda size: st.tuples(
        st.just(size), st.lists(st.integers(0, size - 1), max_size=200).map(np.array)
    )
)


@st.composite
def kernels(draw):
    """Any shape; few values with many ties; zero channels, extremes and subnormals among them."""
    shape = draw(SHAPES)
    values = draw(st.lists(FINITE, min_size=1, max_size=5))
    kernel = draw(npst.arrays(np.float32, shape, elements=st.sampled_from([0.0, *values])))
    if kernel.size and draw(st.booleans()):
        kernel[..., 0] = 0
    return kernel


def unchanged(kernel, allowed):
    for encoding, parts in encode_kernel(kernel, allowed):
        stream = b"".join(parts.values())
        back = decode_kernel(stream, kernel.shape, encoding)
        assert back.dtype == np.float32
        np.testing.assert_array_equal(back, kernel, err_msg=encoding.name)
        for squeeze, open_up in (
            (zlib.compress, zlib.decompress),
            (zstandard.compress, zstandard.decompress),
        ):
            assert open_up(squeeze(stream)) == stream


@quick
@given(
    kernels(),
    st.booleans(),
    st.sampled_from(["", "tensor", "channel"]),
    st.sampled_from(["float32", "float16", "bfloat16"]),
    st.sampled_from([(0, 0), (1, 2), (2, 4), (0, 3)]),
)
def test_every_encoding_of_floats_gives_the_kernel_back(kernel, pruned, books, numbers, pattern):
    unchanged(kernel, Allowed(pruned=pruned, books=books, numbers=numbers, pattern=pattern))


@quick
@given(kernels(), st.integers(2, 16), st.booleans(), st.booleans(), st.booleans())
def test_whatever_a_grid_cannot_hold_is_given_back_all_the_same(
    kernel, bits, per_channel, symmetric, pruned
):
    unchanged(kernel, Allowed(pruned=pruned, grid=StoredGrid(bits, per_channel, symmetric)))


EDGES = {
    "nan": [[np.nan, 1.0], [0.0, 2.0]],
    "infinite": [[np.inf, 1.0], [-np.inf, 0.0]],
    "subnormal": [[1e-45, 2.8e-45], [-4.2e-45, 0.0]],
    "wide": [[3.4e38, 1e-45], [-3.4e38, 0.0]],
}


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("grid", [None, StoredGrid(8), StoredGrid(2), StoredGrid(4, False, False)])
def test_numbers_at_the_edges_of_float32_are_written_as_they_are(name, grid):
    kernel = np.array(EDGES[name], np.float32)
    unchanged(kernel, Allowed(pruned=True, books="channel", grid=grid))


@pytest.mark.parametrize(("extra", "shared"), [(0, True), (1, False)])
def test_more_values_than_an_index_can_tell_apart_are_no_codebook(extra, shared):
    kernel = np.arange(1, LARGEST_BOOK + extra + 1, dtype=np.float32)[:, None]
    found = encode_kernel(kernel, Allowed(books="tensor"))
    assert any(encoding.books for encoding, _ in found) == shared
    unchanged(kernel, Allowed(books="tensor"))


@quick
@given(
    st.integers(2, 12),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "tensor", "channel"]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-42, 1e-30, 0.013, 1.0, 1e30]),
)
def test_every_encoding_of_integers_gives_the_kernel_back(
    bits, per_channel, symmetric, pruned, books, seed, scale
):
    """Kernels that lie on the grid, with a step from the largest weight; some channels are zero."""
    rng, grid = np.random.default_rng(seed), StoredGrid(bits, per_channel, symmetric)
    q = 2 ** (bits - 1) - 1
    integers = rng.integers(-q, q + 1, (3, 5, 4)) * rng.choice([0, 1], (3, 5, 4))
    integers[..., 0] = 0
    steps = (scale * rng.uniform(0.5, 2, 4 if per_channel else 1)).astype(np.float32)
    kernel = integers.astype(np.float32) * steps
    unchanged(kernel, Allowed(pruned=pruned, books=books, grid=grid))
    if bits <= 8:
        assert grid_of(kernel, grid) is not None


def test_integers_are_those_of_the_grid_whatever_the_step_was_made_from():
    """The step is the only one whose multiples the weights are, also where none is at the limit."""
    rng = np.random.default_rng(3)
    integers = rng.integers(-90, 91, (200, 6))
    integers[:2] = [[89], [90]]  # coprime: no larger step has all of them as multiples
    kernel = integers.astype(np.float32) * rng.uniform(0.1, 0.3, 6).astype(np.float32)
    found = grid_of(kernel, StoredGrid(8))
    np.testing.assert_array_equal(found.integers - 127, integers)


def test_asymmetric_grids_store_where_zero_lies():
    kernel = np.arange(-3, 13, dtype=np.float32)[:, None] * np.float32(0.3)
    assert grid_of(kernel, StoredGrid(4)) is None  # 16 values, and 4 symmetric bits have 15
    found = grid_of(kernel, StoredGrid(4, symmetric=False))
    np.testing.assert_array_equal(found.integers.ravel(), range(16))
    assert found.parts["zero points"] == np.array([3], np.int16).tobytes()


def test_weights_off_the_grid_are_floats():
    kernel = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    assert grid_of(kernel, StoredGrid(8)) is None
    assert [e.name for e, _ in encode_kernel(kernel, Allowed(grid=StoredGrid(8)))] == ["float32"]


@quick
@given(SYMBOLS, st.sampled_from(sorted(codes.CODES)))
def test_every_code_gives_the_symbols_back_and_refuses_other_lengths(sample, name):
    alphabet, values = sample
    values = values.astype(np.int64)
    assume(values.size)
    code = codes.CODES[name]
    data = code.encode(values, alphabet)
    np.testing.assert_array_equal(code.decode(data, values.size, alphabet), values)
    for wrong in (data + b"\0", data[:-1] if data else b"\1"):
        with pytest.raises(ValueError, match=r"bytes|values|lengths"):
            code.decode(wrong, values.size, alphabet)


@quick
@given(SYMBOLS)
def test_huffman_is_within_a_bit_of_the_entropy_and_a_prefix_code(sample):
    alphabet, values = sample
    counts = np.bincount(values.astype(np.int64), minlength=alphabet)
    assume(np.count_nonzero(counts) > 1)
    lengths = codes.code_lengths(counts)
    shares = counts[counts > 0] / counts.sum()
    entropy = -(shares * np.log2(shares)).sum()
    mean = (lengths * counts).sum() / counts.sum()
    assert entropy - 1e-9 <= mean < entropy + 1
    assert np.ldexp(1.0, -lengths[counts > 0]).sum() == 1  # Kraft: complete, so decodable
    np.testing.assert_array_equal(lengths > 0, counts > 0)


def test_canonical_codes_by_hand():
    """Lengths 2, 1, 3, 3: the codes 10, 0, 110, 111."""
    symbols, found = codes.canonical_codes(np.array([2, 1, 3, 3]))
    assert list(zip(symbols, found, strict=True)) == [(1, 0b0), (0, 0b10), (2, 0b110), (3, 0b111)]
    with pytest.raises(ValueError, match="no code has"):
        codes.canonical_codes(np.array([1, 1, 1]))


def test_huffman_beats_fixed_width_where_symbols_are_unequal():
    values = np.minimum(np.random.default_rng(0).geometric(0.5, 4000) - 1, 15)
    found = codes.every_code(values, 16)
    assert len(found["Huffman"]) < 0.55 * len(found["packed"])


@quick
@given(npst.arrays(bool, st.integers(0, 3000), elements=st.booleans(), fill=st.just(False)))
def test_masks_and_gaps_give_the_places_back(chosen):
    np.testing.assert_array_equal(places.read_mask(places.write_mask(chosen), chosen.size), chosen)
    bits, count, data = places.write_gaps(chosen)
    assert len(data) == -(-bits * count // 8)
    np.testing.assert_array_equal(places.read_gaps(data, bits, count, chosen.size), chosen)


@pytest.mark.parametrize(("n", "m"), [(0, 1), (1, 1), (2, 4), (4, 8), (3, 5), (32, 64)])
def test_patterns_take_the_bits_of_their_choice(n, m):
    rng = np.random.default_rng(0)
    order = rng.permuted(np.tile(np.arange(m), (3, 2 * 5, 1)), axis=-1).reshape(3, 2, 5, m)
    chosen = np.swapaxes(order < n, -1, -2).reshape(3, 2 * m, 5)
    data = places.write_pattern(chosen, n, m)
    assert len(data) == -(-3 * 2 * 5 * places.rank_bits(n, m) // 8)
    np.testing.assert_array_equal(places.read_pattern(data, n, m, chosen.shape), chosen)


def test_patterns_with_too_few_nonzeros_are_filled_and_with_too_many_refused():
    nonzero = np.array([[1, 0, 0, 0], [0, 0, 0, 0]], bool).T
    filled = places.fill_pattern(nonzero, 2, 4)
    np.testing.assert_array_equal(filled.T, [[1, 1, 0, 0], [1, 1, 0, 0]])
    assert places.fill_pattern(nonzero, 0, 4) is None


@pytest.mark.parametrize(
    ("kernel", "allowed"),
    [
        (np.eye(40, dtype=np.float32), Allowed(pruned=True)),
        (np.eye(8, dtype=np.float32), Allowed(books="channel")),
        (np.eye(8, dtype=np.float32), Allowed(grid=StoredGrid(4), pruned=True, pattern=(2, 4))),
    ],
)
def test_a_stream_cut_short_or_too_long_is_refused(kernel, allowed):
    for encoding, parts in encode_kernel(kernel, allowed):
        stream = b"".join(parts.values())
        for wrong in (stream[:-1], stream + b"\0", b""):
            with pytest.raises(ValueError, match=r"bytes|weights|values|lengths|kernel|choice"):
                decode_kernel(wrong, kernel.shape, encoding)
