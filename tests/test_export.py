"""Exported files do what the simulated members do, and others are not written."""

import importlib.util
from functools import lru_cache, partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm import export
from rcm.compress import QAT, Cluster, Prune, Quantize, build_chain
from rcm.data.augment import to_float
from rcm.data.datasets import Split
from rcm.export import Disagrees, export_int8, export_stablehlo, export_tflite
from rcm.models.deep_resnet import POOL_PADDING
from rcm.models.layers import BN_MOMENTUM, Conv, ConvNorm, Dense, standardise
from rcm.models.mobilenet import InvertedResidual
from rcm.parity import Bound, compare

SIZE = 32
CHAINS = {
    "dense": (),
    "quantize": (Quantize(8, 8),),
    "prune_cluster_quantize": (Prune(0.2), Cluster(64), Quantize(6, 6)),
    "qat": (QAT(3, 3),),
}
MISSING = [name for name in export.TOOLS if importlib.util.find_spec(name) is None]
needs_tools = pytest.mark.skipif(
    bool(MISSING), reason=f"the extra `export` is not installed ({', '.join(MISSING)} is missing)"
)
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (60, SIZE, SIZE, 3)).astype(np.uint8)


class Small(nn.Module):
    """Every kind of layer of the networks, those that are hard to convert above all."""

    classes: int = 4
    dtype: jnp.dtype = jnp.float32
    edges: ClassVar[tuple[str, ...]] = ("stem", "head")

    @nn.compact
    def __call__(self, images, train=False):
        x = standardise(images, self.dtype, "imagenet")
        x = nn.relu(ConvNorm(8, 7, 2, self.dtype, use_bias=True, name="stem")(x, train))
        x = nn.max_pool(jnp.pad(x, POOL_PADDING), (3, 3), (2, 2))
        x = InvertedResidual(8, 16, 1, True, True, self.dtype, name="inverted")(x, train)
        x = nn.relu(Conv(8, dtype=self.dtype, use_bias=True, name="plain")(x))
        return Dense(self.classes, name="head")(x.mean((1, 2)))


NETWORK = Small()
PREDICT = jax.jit(lambda variables, images: NETWORK.apply(variables, to_float(images)))


@lru_cache
def trained():
    """Variables with the running statistics of the images and labels of every class."""
    images = to_float(IMAGES)
    variables = jax.jit(NETWORK.init)(jax.random.key(0), images)
    train = jax.jit(partial(NETWORK.apply, train=True, mutable=["batch_stats"]))
    moved = train(variables, images)[1]
    stats = jax.tree.map(
        lambda new, old: (new - BN_MOMENTUM * old) / (1 - BN_MOMENTUM),
        moved["batch_stats"], variables["batch_stats"],
    )  # fmt: skip
    variables = {**variables, "batch_stats": stats}
    variables["params"]["head"]["bias"] = -PREDICT(variables, IMAGES).mean(0)
    return variables


@lru_cache
def made(chain):
    """The chain's effective variables, and those without quantization."""
    techniques, variables = CHAINS[chain], trained()
    kept = tuple(t for t in techniques if not isinstance(t, Quantize | QAT))
    before = effective(variables, kept)
    if len(kept) < len(techniques):
        observe = jax.jit(partial(NETWORK.apply, mutable=["quant"]))
        variables = {**variables, "quant": observe(before, to_float(IMAGES))[1]["quant"]}
    return effective(variables, techniques), before


def effective(variables, techniques):
    chain = build_chain(techniques, NETWORK)
    levels = tuple(technique.levels(1) for technique in techniques)
    return jax.jit(lambda v: chain.apply(v, chain.init(jax.random.key(1), v, levels)))(variables)


def labelled(variables, wrong=0):
    """The images with the network's own labels, but `wrong` of them with others."""
    labels = np.asarray(PREDICT(variables, IMAGES)).argmax(-1)
    labels[:wrong] = (labels[:wrong] + 1) % 4
    return Split(IMAGES, labels.astype(np.int32))


@pytest.mark.parametrize(
    "chain", [pytest.param(c, marks=[pytest.mark.long] * (c != "quantize")) for c in CHAINS]
)
def test_stablehlo_equals_the_simulated_model_for_any_batch(chain, tmp_path):
    """To float tolerance; a rounding that falls the other way moves an activation by a step, so
    that some images of a quantized model are a little further off."""
    variables, before = made(chain)
    path = tmp_path / "made" / "m.stablehlo"
    report = export_stablehlo(NETWORK, variables, path, labelled(variables, 6))
    assert report.bytes == path.stat().st_size
    assert report.agreement.accuracy == report.agreement.simulated == 0.9
    assert report.agreement.disagreement == 0
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    assert {"cpu", "cuda", "tpu"} <= set(exported.platforms)
    single, found = np.asarray(exported.call(IMAGES[:1])), np.asarray(exported.call(IMAGES))
    assert (found.shape, found.dtype) == ((60, 4), np.float32)
    expected, was = (np.asarray(PREDICT(v, IMAGES)) for v in (variables, before))
    error = np.abs(found - expected).max(1)
    scale = np.abs(expected).max()
    assert np.median(error) < 1e-5 * scale
    np.testing.assert_allclose(single[0], found[0], atol=0.02 * scale)
    if chain != "dense":  # what a file without quantization would give is further off
        assert np.abs(was - expected).max(1).mean() > 20 * error.mean()


def relabelled(logits, count):
    """Logits whose first `count` labels are others."""
    return np.concatenate([np.roll(logits[:count], 1, axis=1), logits[count:]])


LOGITS = DRAW.normal(size=(60, 4)).astype(np.float32)


@pytest.mark.parametrize(("changed", "close"), [(0, True), (12, True), (13, False)])
def test_disagreement_is_bound_by_what_quantization_itself_changes(changed, close):
    """The float model labels 8 of 60 images in another way, so 12 may differ."""
    wrong = np.full(60, -1)  # nobody is right, so that accuracies are equal
    before = relabelled(LOGITS, 8)
    found = compare(relabelled(LOGITS, changed), LOGITS, before, wrong, integer=True)
    assert found.close == close
    assert found.disagreement == changed / 60
    assert found.allowed == pytest.approx(0.2)


@pytest.mark.parametrize(("changed", "close"), [(3, True), (4, False)])
def test_accuracy_may_differ_by_the_bound(changed, close):
    bound, labels, before = Bound(0.05, 100), LOGITS.argmax(-1), relabelled(LOGITS, 1)
    other = relabelled(LOGITS, changed)
    found = compare(other, LOGITS, before, labels, bound, integer=True)
    assert found.close == close
    assert (found.accuracy, found.simulated) == (1 - changed / 60, 1)


@pytest.mark.parametrize(("share", "kept"), [(1.0, True), (0.6, True), (0.4, False), (0.0, False)])
def test_a_simulation_must_not_lie_at_the_model_with_float_activations(share, kept):
    noise = 1e-4 * DRAW.normal(size=LOGITS.shape).astype(np.float32)
    found = compare(LOGITS + share * noise, LOGITS + noise, LOGITS, LOGITS.argmax(-1))
    assert found.disagreement == 0
    assert found.kept == found.close == kept
    assert compare(LOGITS, LOGITS, LOGITS, LOGITS.argmax(-1)).close  # switched off


def test_without_quantization_next_to_nothing_may_differ():
    found = compare(relabelled(LOGITS, 1), LOGITS, None, np.full(60, -1))
    assert not found.close
    assert not compare(np.full_like(LOGITS, np.nan), LOGITS, None, np.zeros(60)).close


def test_a_file_that_disagrees_is_not_written(monkeypatch, tmp_path):
    """Such as one whose converter silently dropped quantization."""
    variables, _ = made("quantize")
    whole = export.stablehlo
    lost = export.float_activations(variables)
    monkeypatch.setattr(export, "stablehlo", lambda network, _, image: whole(network, lost, image))
    path = tmp_path / "m.stablehlo"
    with pytest.raises(Disagrees, match=r"m\.stablehlo was not written.* activations are not"):
        export_stablehlo(NETWORK, variables, path, labelled(variables))
    assert not list(tmp_path.iterdir())


def test_absent_tools_are_named_with_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "TOOLS", ("no_such_package",))
    with pytest.raises(ValueError, match=r"no_such_package, which is not installed: pip install"):
        export_tflite(NETWORK, trained(), tmp_path / "m.tflite", Split(IMAGES, np.zeros(60)))


@needs_tools
def test_tflite_equals_the_simulated_model(tmp_path):
    variables, _ = made("prune_cluster_quantize")
    test = labelled(variables, 6)
    report = export_tflite(NETWORK, variables, tmp_path / "m.tflite", test, batch=4)
    assert report.agreement.accuracy == report.agreement.simulated == 0.9
    content = (tmp_path / "m.tflite").read_bytes()
    assert len(content) == report.bytes
    found = export.in_batches(export.tflite_runner(content), IMAGES, 4)
    expected = np.asarray(PREDICT(variables, IMAGES))
    assert np.median(np.abs(found - expected).max(1)) < 1e-5 * np.abs(expected).max()


@needs_tools
def test_a_file_in_floats_is_no_full_integer_file(monkeypatch, tmp_path):
    """By labels it could pass: it is exactly as far off as quantization itself, and 1.5 times that
    is allowed."""
    variables, before = made("quantize")
    whole = export.tflite
    monkeypatch.setattr(
        export, "tflite", lambda network, _, shape, __: whole(network, before, shape)
    )
    path, bound = tmp_path / "m.int8.tflite", Bound(accuracy=1)
    with pytest.raises(Disagrees, match=r"not full-integer: \d+ of its tensors are floats"):
        export_int8(NETWORK, before, path, labelled(variables), IMAGES, variables, bound)
    assert not list(tmp_path.iterdir())


@needs_tools
@pytest.mark.parametrize("chain", [pytest.param("dense", marks=pytest.mark.long), "quantize"])
def test_a_full_integer_file_is_as_near_to_the_simulated_int8_model_as_that_to_float(
    chain, tmp_path
):
    variables, before = made(chain)
    path, test = tmp_path / "m.int8.tflite", labelled(variables)
    simulated = variables if chain == "quantize" else None
    bound = Bound(accuracy=0.05)
    report = export_int8(NETWORK, before, path, test, IMAGES, simulated, bound)
    assert report.bytes == path.stat().st_size
    interpreter = export.tflite_runner(path.read_bytes())
    found = export.in_batches(interpreter, IMAGES, 1)
    simulated = simulated or export.simulate_int8(NETWORK, before, IMAGES)
    expected, was = (np.asarray(PREDICT(v, IMAGES)) for v in (simulated, before))
    off, quantized = (np.abs(logits - expected).mean() for logits in (found, was))
    assert quantized > 0
    assert off < 4 * quantized  # the sums and the logits, too, are on grids of 8 bits
