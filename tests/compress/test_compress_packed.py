"""Packed files: the loaded model predicts what the simulated one did, and bad files are refused."""

import hashlib
import json
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcm.compress import (
    QAT,
    Cast,
    Cluster,
    DynamicSparse,
    Prune,
    PruneFilters,
    Quantize,
    build_chain,
    container,
)
from rcm.compress.base import kernels
from rcm.compress.filters import shrink
from rcm.compress.packed import load_packed, save_packed
from rcm.compress.size import stored_bytes
from rcm.models import MODELS
from rcm.models.record import network_fields, read_network

pytestmark = pytest.mark.optimized

CHAINS = {
    "dense": (),
    "prune": (Prune(0.95),),
    "prune_n_of_m": (Prune(0.5, structure="n_of_m", group=4),),
    "filters": (PruneFilters((0.5,)),),
    "cluster_per_channel": (
        Cluster(3, start="linear", per_channel=True, exceptions=(("head", 0),)),
    ),
    "quantize": (Quantize(4, 8),),
    "qat": (QAT(4, 4),),
    "quantize_dynamic": (Quantize(4, 4, weights="asymmetric", activations="dynamic", edge_bits=8),),
    "cast": (DynamicSparse(0.9), Cast("bfloat16")),
    "qat_learned": (QAT(3, 4, step="learned", freeze=0.5),),
    "biases": (Cluster(8), Quantize(8, 8, weights="asymmetric", bias_bits=32)),
    "cluster": (Prune(0.7), Cluster(16), Quantize(8, 8)),
    "prune_cluster_quantize": (Prune(0.7), Cluster(16), Quantize(8, 8)),
}
OFF = {"cluster": (0, 2)}  # places in the chain whose levels are 0
MODEL = MODELS["tiny"](classes=10, width=12)
IMAGES = jax.random.uniform(jax.random.key(9), (8, 8, 8, 3))
SHORT = ("dense", "filters", "quantize_dynamic", "prune_cluster_quantize")
every_chain = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] * (n not in SHORT)) for n in CHAINS]
)


@lru_cache
def member():
    """Variables with random norms and biases, and observed ranges."""
    variables = jax.jit(MODEL.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    rng = np.random.default_rng(0)
    stats = jax.tree.map(lambda x: rng.uniform(0.5, 2, x.shape), variables["batch_stats"])
    params = jax.tree.map(lambda x: x + 0.2 * rng.normal(size=x.shape), variables["params"])
    moved = {"params": params, "batch_stats": stats}
    moved = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), moved)
    observe = jax.jit(partial(MODEL.apply, mutable=["quant"]))
    return {**moved, "quant": observe(moved, IMAGES)[1]["quant"]}


@lru_cache
def compiled(techniques):
    chain = build_chain(techniques, MODEL)

    def run(variables, levels):
        states = chain.init(jax.random.key(2), variables, levels)
        return chain.apply(variables, states), states

    return jax.jit(run)


@lru_cache
def simulated(name, off=False):
    """(effective variables, states) of a chain; off: with all levels at 0."""
    techniques = CHAINS[name]
    levels = [dict(technique.levels(0)) for technique in techniques]
    for i in range(len(levels)) if off else OFF.get(name, ()):
        levels[i] = jax.tree.map(np.zeros_like, levels[i])
    return jax.device_get(compiled(techniques)(member(), tuple(levels)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("packed")


@lru_cache
def saved(name, folder, off=False):
    path = folder / f"{name}-{off}.rcm"
    return path, save_packed(path, *simulated(name, off), CHAINS[name], MODEL)


def predict(network, variables):
    return np.asarray(jax.jit(network.apply)(variables, IMAGES))


def expected(name, off=False):
    """Logits of the simulated model, after filter pruning of the smaller network."""
    effective, states = simulated(name, off)
    if name == "filters":
        return predict(*shrink(MODEL, effective, states[0].keep))
    return predict(MODEL, effective)


@every_chain
def test_the_loaded_model_predicts_the_same_to_the_bit(name, folder):
    path, report = saved(name, folder)
    loaded = load_packed(path)
    np.testing.assert_array_equal(predict(*loaded), expected(name))
    on = [t for i, t in enumerate(CHAINS[name]) if i not in OFF.get(name, ())]
    quantizes = any(isinstance(technique, Quantize | QAT) for technique in on)
    assert ("quant" in loaded.variables) == quantizes
    assert path.stat().st_size == report.file
    assert report == stored_bytes(*simulated(name), CHAINS[name], MODEL)
    assert report.packed == sum(report.parts.values())
    assert sum(entry.bytes for entry in taken(path).entries) == report.packed


def taken(path):
    return container.take_apart(path.read_bytes())


@every_chain
def test_kernels_come_back_to_the_value(name, folder):
    found = kernels(load_packed(saved(name, folder)[0]).variables["params"])
    effective, states = simulated(name)
    if name == "filters":
        effective = shrink(MODEL, effective, states[0].keep)[1]
    for path, kernel in kernels(effective["params"]).items():
        np.testing.assert_array_equal(found[path], kernel)


def test_encodings_use_what_the_chain_allows(folder):
    chains = ("dense", "prune", "prune_n_of_m", "cluster", "cluster_per_channel", "quantize")
    names = {name: saved(name, folder)[1].encodings["conv/conv/kernel"] for name in chains}
    assert names["dense"] == "float32"
    assert names["prune"].endswith(" + float32")
    assert names["prune_n_of_m"] == "pattern + float32"
    assert names["cluster"].startswith("codebook + ")
    assert names["cluster_per_channel"].startswith("codebooks + ")
    assert names["quantize"] in ("4-bit", "Huffman")
    assert saved("cluster_per_channel", folder)[1].encodings["head/kernel"] == "float32"
    sizes = {name: saved(name, folder)[1].file for name in chains}
    assert sizes["dense"] == max(sizes.values())


def test_techniques_switched_off_are_not_written(folder):
    path, report = saved("qat", folder, off=True)
    assert report.packed == saved("dense", folder)[1].packed
    np.testing.assert_array_equal(predict(*load_packed(path)), expected("dense"))


def test_a_bfloat16_network_keeps_its_precision(folder):
    network = MODEL.clone(dtype=jnp.bfloat16)
    effective, states = simulated("prune")
    save_packed(folder / "half.rcm", effective, states, CHAINS["prune"], network)
    loaded = load_packed(folder / "half.rcm")
    assert loaded.network == network
    np.testing.assert_array_equal(predict(*loaded), predict(network, effective))


@pytest.mark.parametrize("name", MODELS)
def test_every_network_is_described_and_built_again(name):
    network = MODELS[name](classes=7)
    assert read_network(json.loads(json.dumps(network_fields(network)))) == network


# --- what is refused


def test_a_truncated_file_is_refused_by_name(folder):
    path, _ = saved("prune_cluster_quantize", folder)
    data, broken = path.read_bytes(), folder / "truncated.rcm"
    for length in (0, 7, 8, 20, 24, 100, len(data) // 2, len(data) - 1):
        broken.write_bytes(data[:length])
        expected = "truncated" if length >= 8 else "not a packed model"
        with pytest.raises(ValueError, match=rf"{broken} is {expected}"):
            load_packed(broken)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data())
def test_a_flipped_bit_is_refused(data):
    whole = flippable()
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place // 8] ^= 1 << place % 8
    with pytest.raises(ValueError, match=r"is (damaged|truncated|not a packed model)"):
        container.take_apart(bytes(flipped))


@lru_cache
def flippable():
    return container.assemble({"class": "Tiny"}, [], bytes(range(256)))


def sealed(data):
    """The bytes with the checksum that belongs to them."""
    return data[: -container.CHECKSUM] + hashlib.sha256(data[: -container.CHECKSUM]).digest()


def test_a_newer_and_a_foreign_file_are_refused_by_name(folder):
    data = bytearray(saved("cluster", folder)[0].read_bytes())
    newer, foreign = folder / "newer.rcm", folder / "foreign.rcm"
    data[8] = container.VERSION + 1
    newer.write_bytes(sealed(bytes(data)))
    with pytest.raises(ValueError, match=rf"{newer} has version 2 .* newer than 1; update rcm"):
        load_packed(newer)
    foreign.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match=rf"{foreign} is not a packed model of rcm"):
        load_packed(foreign)
    with pytest.raises(ValueError, match="cannot be read"):
        load_packed(folder / "none.rcm")
    with pytest.raises(ValueError, match="cannot be read"):
        load_packed(folder)


@lru_cache
def header_of(path):
    data = path.read_bytes()
    size = container.PREFIX.unpack_from(data)[2]
    end = container.PREFIX.size + size
    return json.loads(data[container.PREFIX.size : end]), data[end : -container.CHECKSUM]


def with_header(header, body):
    text = json.dumps(header).encode()
    total = container.PREFIX.size + len(text) + len(body) + container.CHECKSUM
    prefix = container.PREFIX.pack(container.MAGIC, container.VERSION, len(text), total)
    return sealed(prefix + text + body + bytes(container.CHECKSUM))


JUNK = [None, True, -1, 0, 1, 3, 2**40, 2**70, 1.5, "", "mask", "kernel", "Huffman", "head/bias"]
JUNK += [[], [-1], [[]], [2, 0], [64, 64], [2**20, 2**20], {}, {"class": "ResNet"}]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_a_lying_header_raises_nothing_but_a_sentence(lying, data):
    """Any value of a well-formed header replaced by another, with a checksum that fits."""
    path, folder = lying
    header, body = header_of(path)
    header = json.loads(json.dumps(header))
    nodes = list(containers(header))
    node = data.draw(st.sampled_from(nodes))
    key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    node[key] = data.draw(st.sampled_from(JUNK))
    broken = folder / "lying.rcm"
    broken.write_bytes(with_header(header, body))
    try:
        load_packed(broken)
    except ValueError as error:
        assert str(error).startswith(str(broken))  # noqa: PT017


def test_a_norm_of_three_vectors_is_refused(folder):
    header, body = header_of(saved("dense", folder)[0])
    header, place = json.loads(json.dumps(header)), 0
    for tensor in header["tensors"]:
        place += tensor["bytes"]
        if tensor["kind"] == "norm":
            break
    third = bytes(4 * tensor["shape"][0])
    tensor["bytes"] += len(third)
    broken = folder / "norm.rcm"
    broken.write_bytes(with_header(header, body[:place] + third + body[place:]))
    with pytest.raises(ValueError, match=f"{broken} cannot be decoded at .* norm of 3 vectors"):
        load_packed(broken)


def containers(node):
    """Every non-empty dict and list in it."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    if children:
        yield node
    for child in children:
        yield from containers(child)


@pytest.fixture(scope="module")
def lying(folder):
    return saved("prune_cluster_quantize", folder)[0], folder


def test_what_is_not_the_networks_cannot_be_saved(folder):
    effective, states = simulated("dense")
    other = MODELS["tiny"](classes=10, width=13)
    with pytest.raises(ValueError, match="does not hold the tensors of its network"):
        save_packed(folder / "x.rcm", effective, states, (), other)
    broken = {**effective, "params": jax.tree.map(lambda x: x * np.nan, effective["params"])}
    with pytest.raises(ValueError, match="not finite"):
        save_packed(folder / "x.rcm", broken, states, (), MODEL)
    with pytest.raises(ValueError, match="cannot be written"):
        save_packed("/proc/none/x.rcm", effective, states, (), MODEL)
    assert not (folder / "x.rcm").exists()


def test_fields_that_no_network_has_are_refused():
    fields = network_fields(MODEL)
    for wrong, sentence in (
        ({**fields, "class": "Tinny"}, "did you mean 'Tiny'"),
        ({**fields, "width": "12"}, "cannot be '12'"),
        ({**fields, "width": 2**30}, "cannot be"),
        ({**fields, "dtype": "int8"}, "dtype"),
        ({"class": "Tiny"}, "has the fields"),
        (None, "class and its fields"),
    ):
        with pytest.raises(ValueError, match=sentence):
            read_network(wrong)
