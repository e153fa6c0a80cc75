"""Stored bytes against packings worked out by hand."""

import zlib
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm.compress import Cluster, Prune, PruneFilters, Quantize, build_chain
from rcm.compress.codes import pack_bits
from rcm.compress.encodings import Allowed, Encoding, encode_kernel
from rcm.compress.integers import StoredGrid
from rcm.compress.size import smallest, stored_bytes
from rcm.models import MODELS

DENSE = Allowed()


def deflate(data):
    return len(zlib.compress(data, 9))


def encoded(kernel, allowed):
    """Streams by the names of their encodings."""
    return {e.name: b"".join(parts.values()) for e, parts in encode_kernel(kernel, allowed)}


def test_pack_bits_by_hand():
    assert pack_bits(np.array([1, 2, 3, 0, 7]), 3) == bytes([0b00101001, 0b10001110])
    assert pack_bits(np.array([10, 5, 15]), 4) == bytes([0xA5, 0xF0])
    assert pack_bits(np.array([300]), 9) == bytes([0b10010110, 0b00000000])


def test_dense_model_is_its_float32_bytes():
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    bias = np.array([7.0, 8.0, 9.0], np.float32)
    report = stored_bytes({"params": {"head": {"kernel": kernel, "bias": bias}}})
    assert (report.raw, report.packed) == (36, 36)
    assert report.deflated == deflate(kernel.tobytes() + bias.tobytes())
    assert report.encodings == {"head/kernel": "float32"}


def test_pruned_kernel_is_a_bit_mask_and_the_nonzero_values():
    kernel = np.zeros((4, 4), np.float32)
    kernel[0, 1], kernel[3, 3] = 1.5, -2.5
    found = encoded(kernel, DENSE._replace(pruned=True))
    mask = bytes([0b01000000, 0b00000001])
    assert found["mask + float32"] == mask + np.array([1.5, -2.5], np.float32).tobytes()


def test_clustered_kernel_is_a_codebook_and_indices():
    kernel = np.array([[3.0, -1.0], [-1.0, 0.5]], np.float32)
    found = encoded(kernel, DENSE._replace(books="tensor"))
    codebook = np.array([-1.0, 0.5, 3.0], np.float32).tobytes()
    assert found["codebook + 2-bit indices"] == codebook + bytes([0b10000001])
    assert found["codebook + byte-aligned indices"] == codebook + bytes([2, 0, 0, 1])


def test_quantized_kernel_is_steps_and_integers():
    steps = np.array([0.1, 0.05], np.float32)
    kernel = np.array([[7, -2], [-2, 7]], np.float32) * steps
    found = encoded(kernel, DENSE._replace(grid=StoredGrid(4)))
    integers = bytes([(7 + 7) << 4 | (-2 + 7), (-2 + 7) << 4 | (7 + 7)])
    assert found["4-bit"] == steps.tobytes() + integers
    whole = np.array([[7, -2], [-1, 3]], np.float32) * steps[0]
    assert (
        len(encoded(whole, DENSE._replace(grid=StoredGrid(4, per_channel=False)))["4-bit"]) == 4 + 2
    )


def test_everything_together_is_mask_integer_codebook_and_indices():
    kernel = np.array([7.0, 0.0, 0.0, -3.0, 7.0, 0.0, 0.0, 0.0], np.float32)
    allowed = Allowed(pruned=True, books="tensor", grid=StoredGrid(4, per_channel=False))
    stream = encoded(kernel, allowed)["mask + codebook + 1-bit indices"]
    step = np.float32(1).tobytes()
    assert stream == step + bytes([0b10011000]) + bytes([(-3 + 7) << 4 | (7 + 7)]) + bytes(
        [0b10100000]
    )


def test_a_2_of_4_pattern_is_ranks_and_two_values_of_four():
    """C(4, 2) = 6 choices take 3 bits; the ranks of {0, 1} and {2, 3} are 0 and 5."""
    kernel = np.array([[3.0, 0], [4, 0], [0, 5], [0, 6]], np.float32)
    found = encoded(kernel, Allowed(pruned=True, pattern=(2, 4)))["pattern + float32"]
    values = np.array([3, 4, 5, 6], np.float32).tobytes()
    assert found == bytes([0b00010100]) + values


def test_few_nonzeros_are_gaps_and_values():
    """Two weights in 400: skips of 5 and 299; 9 bits take them without an escape, 18 in all."""
    kernel = np.zeros(400, np.float32)
    kernel[5], kernel[305] = 1, 2
    stream = encoded(kernel, DENSE._replace(pruned=True))["gaps + float32"]
    assert stream == pack_bits(np.array([5, 299]), 9) + np.array([1, 2], np.float32).tobytes()


def test_codebooks_per_channel_are_filled_up_to_the_longest():
    kernel = np.array([[1.0, 7], [2, 7], [1, 7], [2, 7]], np.float32)
    found = encoded(kernel, DENSE._replace(books="channel"))
    books = np.array([1, 2, 7, 7], np.float32).tobytes()
    assert found["codebooks + 1-bit indices"] == books + bytes([0b00100010])


def test_the_smallest_after_deflate_is_chosen():
    noise = np.random.default_rng(0).bytes(300)
    long, short = (Encoding(code=code) for code in ("packed", "Huffman"))
    assert smallest([(short, {"numbers": noise}), (long, {"numbers": b"a" * 4000})])[0] == long


@pytest.mark.parametrize(
    "allowed",
    [
        DENSE._replace(pruned=True),
        DENSE._replace(books="tensor"),
        DENSE._replace(pruned=True, books="channel"),
        Allowed(pruned=True, grid=StoredGrid(8, per_channel=False)),
    ],
)
def test_an_all_zero_kernel_can_be_stored(allowed):
    encoding, parts = smallest(encode_kernel(np.zeros((3, 5), np.float32), allowed))
    assert encoding.name
    assert len(b"".join(parts.values())) <= 60


def norm(scale, offset, mean, var):
    params = {"norm": {"scale": scale, "bias": offset}}
    return {"params": params, "batch_stats": {"norm": {"mean": mean, "var": var}}}


def test_norms_are_stored_as_inference_needs_them():
    four = np.arange(1, 5, dtype=np.float32)
    assert stored_bytes(norm(four, four, four, four)).packed == 2 * 16
    ones = np.ones(4, np.float32)
    identity = norm(ones, four, 0 * ones, ones - np.float32(1e-5))
    assert stored_bytes(identity).packed == 16


def test_activation_ranges_count_only_when_they_are_on():
    point = {"lo": np.float32(0), "hi": np.float32(1)}
    for bits, expected in ((0, 0), (8, 8)):
        quant = {"head": {**point, "bits": np.int32(bits)}}
        assert stored_bytes({"params": {}, "quant": quant}).packed == expected
    assert stored_bytes({"params": {}, "quant": {"head": point}}).packed == 0


def test_states_must_match_techniques():
    with pytest.raises(ValueError, match="0 states for 1 techniques"):
        stored_bytes({"params": {}}, (), (Prune(),))


@pytest.fixture(scope="module")
def network():
    model = MODELS["tiny"](classes=10, width=16)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    images = jax.random.uniform(jax.random.key(1), (4, 8, 8, 3))
    observe = jax.jit(partial(model.apply, mutable=["quant"]))
    return {**variables, "quant": observe(variables, images)[1]["quant"]}


@lru_cache
def compress(static):
    """(variables, levels) -> (effective variables, states) of a chain of default techniques."""
    chain = build_chain(static)

    def run(variables, levels):
        states = chain.init(jax.random.key(2), variables, levels)
        return chain.apply(variables, states), states

    return jax.jit(run)


def report(network, *techniques, off=()):
    """Size with the levels of the techniques, those at the positions `off` set to 0."""
    levels = [dict(technique.levels(0)) for technique in techniques]
    for i in off:
        levels[i] = jax.tree.map(np.zeros_like, levels[i])
    static = tuple(type(technique)() for technique in techniques)
    effective, states = jax.device_get(compress(static)(network, tuple(levels)))
    return stored_bytes(effective, states, techniques)


def test_a_real_network_shrinks_as_its_levels_say(network):
    parent = stored_bytes(jax.device_get(network))
    everything = (Prune(0.5), Cluster(16), Quantize(8, 8))
    ratio = {
        "prune": report(network, *everything, off=(1, 2)).ratio(parent),
        "cluster": report(network, *everything, off=(0, 2)).ratio(parent),
        "all": report(network, *everything).ratio(parent),
        "int8": report(network, Quantize(8, 8)).ratio(parent),
        "int4": report(network, Quantize(4, 8)).ratio(parent),
    }
    assert 1.6 < ratio["prune"] < 2
    assert 3 < ratio["int8"] < 4.2
    assert 5 < ratio["int4"] < 8.2
    assert 5 < ratio["cluster"] < 8.2
    assert ratio["all"] > ratio["cluster"]
    assert parent.ratio(parent) == 1


def test_techniques_switched_off_count_as_absent(network):
    everything = (Prune(0.5), Cluster(16), Quantize(8, 8))
    off = report(network, *everything, off=(0, 1, 2))
    assert off == stored_bytes(jax.device_get(network))


def test_filters_that_are_taken_out_are_not_counted():
    """Tiny of width 4 on 8 x 8 images with two of the stem's four filters left, by hand."""
    model, image = MODELS["tiny"](classes=5, width=4), (8, 8, 3)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *image)))
    whole = stored_bytes(jax.device_get(variables), (), (), model)
    technique = PruneFilters((0.5,))
    chain = build_chain((technique,), model)
    states = chain.init(jax.random.key(0), variables, (technique.levels(1),))
    effective, states = jax.device_get((chain.apply(variables, states), states))
    smaller = stored_bytes(effective, states, (technique,), model)
    macs = {n: 16 * (9 * 3 * n + 9 * n * 8) + 8 * 5 for n in (2, 4)}
    assert (smaller.counted(image)["macs"], whole.counted(image)["macs"]) == (macs[2], macs[4])
    left = 9 * 3 * 2 + 2 * 2 + 9 * 2 * 8 + 2 * 8 + 8 * 5 + 5
    assert smaller.counted(image)["parameters"] == left
    assert smaller.totals.items() < smaller.counted(image).items()
