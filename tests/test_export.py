"""Exported files do what the simulated members do, and others are not written."""

import importlib.util

import jax
import numpy as np
import pytest

from rcm import export
from rcm.compress import QAT, Cluster, Prune, Quantize, build_chain
from rcm.data.augment import to_float
from rcm.data.datasets import Split
from rcm.export import Bound, Disagrees, export_int8, export_stablehlo, export_tflite
from rcm.models import MODELS

SIZE = 16
CHAINS = {
    "dense": (),
    "quantize": (Quantize(8, 8),),
    "prune_cluster_quantize": (Prune(0.5), Cluster(8), Quantize(4, 4)),
    "qat": (QAT(4, 4),),
}
MISSING = [name for name in export.TOOLS if importlib.util.find_spec(name) is None]
needs_tools = pytest.mark.skipif(
    bool(MISSING), reason=f"the extra `export` is not installed ({', '.join(MISSING)} is missing)"
)
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (60, SIZE, SIZE, 3)).astype(np.uint8)


def make(name, chain="dense", **fields):
    """(network, effective variables, those without quantization) with running statistics and a
    spread of logits as after training."""
    network, techniques = MODELS[name](classes=4, width=8, **fields), CHAINS[chain]
    images = to_float(IMAGES)
    variables = network.init(jax.random.key(0), images)
    for _ in range(20):
        updated = network.apply(variables, images, True, mutable=["batch_stats"])[1]
        variables = {**variables, **updated}
    kept = tuple(t for t in techniques if not isinstance(t, Quantize | QAT))
    levels = tuple(technique.levels(1) for technique in techniques)
    before = effective(network, variables, kept, levels[: len(kept)])
    if len(kept) < len(techniques):
        quant = network.apply(before, images, mutable=["quant"])[1]["quant"]
        variables = {**variables, "quant": quant}
    return network, effective(network, variables, techniques, levels), before


def effective(network, variables, techniques, levels):
    chain = build_chain(techniques, network)
    return chain.apply(variables, chain.init(jax.random.key(1), variables, levels))


def labelled(network, variables, wrong=0):
    """The images with the network's own labels, but `wrong` of them with others."""
    labels = logits_of(network, variables).argmax(-1)
    labels[:wrong] = (labels[:wrong] + 1) % 4
    return Split(IMAGES, labels.astype(np.int32))


def logits_of(network, variables, images=IMAGES):
    return np.asarray(jax.jit(network.apply)(variables, to_float(images)))


@pytest.mark.parametrize("chain", CHAINS)
def test_stablehlo_equals_the_simulated_model_for_any_batch(chain, tmp_path):
    network, variables, before = make("resnet8", chain)
    path = tmp_path / "made" / "m.stablehlo"
    report = export_stablehlo(network, variables, path, labelled(network, variables, 6), before)
    assert report.bytes == path.stat().st_size
    assert report.agreement.accuracy == report.agreement.simulated == 0.9
    assert report.agreement.disagreement == 0
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    assert {"cpu", "cuda", "tpu"} <= set(exported.platforms)
    for count in (1, 7):
        found = exported.call(IMAGES[:count])
        assert (found.shape, found.dtype) == ((count, 4), np.float32)
        expected = logits_of(network, variables, IMAGES[:count])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    if chain != "dense":  # far enough from the float model to tell that quantization is kept
        assert np.abs(logits_of(network, before) - logits_of(network, variables)).max() > 0.01


def relabelled(logits, count):
    """Logits whose first `count` labels are others."""
    return np.concatenate([np.roll(logits[:count], 1, axis=1), logits[count:]])


LOGITS = DRAW.normal(size=(60, 4)).astype(np.float32)


@pytest.mark.parametrize(("changed", "close"), [(0, True), (12, True), (13, False)])
def test_disagreement_is_bound_by_what_quantization_itself_changes(changed, close):
    """The float model labels 8 of 60 images in another way, so 12 may differ."""
    wrong = np.full(60, -1)  # nobody is right, so that accuracies are equal
    found = export.compare(relabelled(LOGITS, changed), LOGITS, relabelled(LOGITS, 8), wrong)
    assert found.close == close
    assert found.disagreement == changed / 60
    assert found.allowed == pytest.approx(0.2)


@pytest.mark.parametrize(("changed", "close"), [(3, True), (4, False)])
def test_accuracy_may_differ_by_the_bound(changed, close):
    bound = Bound(accuracy=0.05, factor=1, floor=1)
    found = export.compare(relabelled(LOGITS, changed), LOGITS, None, LOGITS.argmax(-1), bound)
    assert found.close == close
    assert (found.accuracy, found.simulated) == (1 - changed / 60, 1)


def test_without_quantization_next_to_nothing_may_differ():
    found = export.compare(relabelled(LOGITS, 1), LOGITS, None, np.full(60, -1))
    assert not found.close
    assert not export.compare(np.full_like(LOGITS, np.nan), LOGITS, None, np.zeros(60)).close


def test_a_file_that_disagrees_is_not_written(monkeypatch, tmp_path):
    network, variables, before = make("tiny", "quantize")
    monkeypatch.setattr(export, "in_batches", lambda f, images, _: np.negative(f(images)))
    broken = monkeypatch.setattr
    broken(
        jax.export, "deserialize", lambda _: type("", (), {"call": lambda self, x: x[:, 0, 0]})()
    )
    with pytest.raises(Disagrees, match=r"m\.stablehlo was not written.* of its labels differ"):
        export_stablehlo(network, variables, tmp_path / "m.stablehlo", labelled(network, before))
    assert not list(tmp_path.iterdir())


def test_absent_tools_are_named_with_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "TOOLS", ("no_such_package",))
    network, variables, _ = make("tiny")
    with pytest.raises(ValueError, match=r"no_such_package, which is not installed: pip install"):
        export_tflite(network, variables, tmp_path / "m.tflite", labelled(network, variables))


@needs_tools
@pytest.mark.parametrize("chain", ["dense", "prune_cluster_quantize"])
def test_tflite_equals_the_simulated_model(chain, tmp_path):
    network, variables, before = make("resnet8", chain)
    test = labelled(network, variables, 6)
    report = export_tflite(network, variables, tmp_path / "m.tflite", test, before, batch=4)
    assert report.agreement.accuracy == report.agreement.simulated == 0.9
    assert report.agreement.error < 1e-3
    assert (tmp_path / "m.tflite").stat().st_size == report.bytes


@needs_tools
@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2", "resnet18"])
def test_a_full_integer_file_is_as_good_as_the_simulated_int8_model(name, tmp_path):
    """A quarter of the bytes, no float tensor but in the ranges, and logits as near to the
    simulated model's as that model's are to the float one's."""
    fields = {"resnet18": {"stem": "imagenet"}}.get(name, {})
    network, variables, _ = make(name, **fields)
    test, bound = labelled(network, variables), Bound(accuracy=0.1, factor=1.5, floor=0.1)
    path = tmp_path / "m.int8.tflite"
    report = export_int8(network, variables, path, test, IMAGES[:20], bound=bound)
    simulated = logits_of(network, export.simulate_int8(network, variables, IMAGES[:20]))
    scale = np.abs(simulated).max()
    assert report.agreement.error < 0.1 * scale
    kernels = [leaf.size for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim > 1]
    assert report.bytes < 2 * sum(kernels) + 40_000
