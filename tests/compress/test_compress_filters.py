"""Filter pruning and shrinking: counts, coupling, equal logits on every family of networks."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcm.compress import PruneFilters, build_chain, filters, validate_chain
from rcm.compress.base import Info, kernels
from rcm.compress.filters import channel_scores, shrink
from rcm.compress.fold import fold_batch_norm
from rcm.compress.size import stored_bytes
from rcm.models import MODELS
from rcm.models.channels import Channels
from rcm.models.count import count

KEY = jax.random.key(0)
TINY = MODELS["tiny"](classes=4, width=8)
SMALL = {
    "resnet8": {"width": 4},
    "resnet20": {"width": 4, "shortcut": "B"},
    "resnet18": {"width": 4},
    "resnet50": {"width": 4},
    "vgg11_bn": {"width": 4},
    "vgg11": {"width": 4},
    "mobilenet_v2": {"width": 8},
    "wrn16_8": {"width": 2},
}


def network(name, **options):
    return MODELS[name](classes=3, **options)


@lru_cache
def shapes_of(model, size=32):
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(model.init, KEY, image)


def trained_like(model, size=32):
    """Random variables with norms and biases far from where training starts."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("var", "scale"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = max(1, int(np.prod(leaf.shape[:-1]))) if path[-1].key == "kernel" else 4
        return (rng.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree.map_with_path(draw, shapes_of(model, size))


def pruned(model, variables, technique):
    """(effective variables, state) behind the technique."""
    compressor = technique.build((), model)
    state = jax.jit(compressor.init)(KEY, variables, dict(technique.levels(1)))
    effective = compressor.apply(variables, state)
    assert compressor.check(jax.device_get(effective), jax.device_get(state)) == []
    return jax.device_get(effective), jax.device_get(state)


@pytest.mark.parametrize("name", SMALL)
def test_channel_groups_agree_with_the_network(name):
    """Outputs and inputs of a group have as many channels; no module is produced twice; every
    stage has an inner group."""
    model = network(name, **SMALL[name])
    params = shapes_of(model)["params"]
    seen = []
    for group in model.channels():
        sizes = {leaf.shape[-1] for p in group.outputs for leaf in leaves(params, p)}
        assert len(sizes) == 1, group
        for path in group.inputs:
            kernel = next(leaf for leaf in leaves(params, path) if leaf.ndim > 1)
            assert kernel.shape[-2] == sizes.copy().pop(), (group, path)
        seen += group.outputs
    assert len(seen) == len(set(seen))
    stages = {group.stage for group in model.channels() if not group.stream}
    assert stages >= {1, 2, 3} or name == "mobilenet_v2"


def leaves(params, path):
    node = params
    for part in path.split("/"):
        node = node[part]
    return jax.tree.leaves(node)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] * (name in ("resnet50", "mobilenet_v2")))
        for name in SMALL
    ],
)
def test_a_network_can_be_built_at_any_size_of_its_groups(name):
    """Shapes of `shrink` are those that the smaller network initialises."""
    model = network(name, **SMALL[name])
    keep = {}
    for i, group in enumerate(model.channels()):
        size = leaves(shapes_of(model)["params"], group.outputs[0])[0].shape[-1]
        keep[group.name] = np.arange(size) > i % 3
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes_of(model))
    smaller, taken = shrink(model, variables, keep)
    expected = jax.tree.map(lambda leaf: leaf.shape, shapes_of(smaller))
    assert jax.tree.map(lambda leaf: leaf.shape, taken) == expected
    assert count(smaller, (32, 32, 3)).macs < count(model, (32, 32, 3)).macs


@pytest.mark.parametrize(
    ("name", "streams", "classifier"),
    [
        ("resnet8", False, "linear"),
        ("vgg11_bn", False, "linear"),
        ("vgg11", False, "cosine"),
        pytest.param("mobilenet_v2", True, "linear", marks=pytest.mark.long),
    ],
)
def test_the_smaller_network_gives_the_same_logits(name, streams, classifier):
    """Also where the head reads pruned channels and brings its columns to unit length."""
    model = network(name, **SMALL[name], classifier=classifier)
    effective, state = pruned(model, trained_like(model), PruneFilters((0.5, 0.4), streams=streams))
    smaller, taken = shrink(model, effective, state.keep)
    images = np.random.default_rng(1).uniform(size=(4, 32, 32, 3)).astype(np.float32)
    whole, small = jax.jit(model.apply)(effective, images), jax.jit(smaller.apply)(taken, images)
    np.testing.assert_allclose(small, whole, rtol=1e-4, atol=1e-4 * np.abs(whole).max())
    assert np.ptp(whole) > 0


def test_streams_of_a_preactivation_network_can_go_too():
    """The norms that read a stream go with it; checked on one group by hand."""
    model = MODELS["wrn16_8"](classes=3, width=1, widening=4)
    variables = trained_like(model)
    effective, state = pruned(model, variables, PruneFilters((0.5,), streams=True))
    smaller, taken = shrink(model, effective, state.keep)
    images = np.random.default_rng(1).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    whole, small = jax.jit(model.apply)(effective, images), jax.jit(smaller.apply)(taken, images)
    np.testing.assert_allclose(small, whole, rtol=1e-4, atol=1e-4)


def tiny_variables(kernel, scale=None):
    """Tiny with the stem's filters given, [8] numbers, each filling a filter."""
    variables = trained_like(TINY, 8)
    stem = variables["params"]["stem"]
    stem["conv"]["kernel"] = np.broadcast_to(
        np.asarray(kernel, np.float32), stem["conv"]["kernel"].shape
    ).copy()
    if scale is not None:
        stem["norm"]["scale"] = np.asarray(scale, np.float32)
    return variables


def test_scores_by_hand():
    variables = tiny_variables(np.arange(8) - 3, np.arange(8.0) - 6)
    [group] = TINY.channels()
    found = {s: channel_scores(variables["params"], group, s) for s in filters.SCORES}
    np.testing.assert_allclose(found["l1"], 27 * np.abs(np.arange(8) - 3))
    np.testing.assert_allclose(found["l2"], np.sqrt(27) * np.abs(np.arange(8) - 3), rtol=1e-6)
    np.testing.assert_allclose(found["scale"], np.abs(np.arange(8.0) - 6))


def test_the_weakest_filters_go_with_their_norms():
    variables = tiny_variables([5, -1, 3, 0.5, -4, 2, 1, 6])
    effective, state = pruned(TINY, variables, PruneFilters((0.5,)))
    np.testing.assert_array_equal(state.keep["stem"], [1, 0, 1, 0, 1, 0, 0, 1])
    stem = effective["params"]["stem"]
    for leaf in (stem["conv"]["kernel"], stem["norm"]["scale"], stem["norm"]["bias"]):
        assert not leaf[..., ~state.keep["stem"]].any()
        assert leaf[..., state.keep["stem"]].all()


def test_pruned_channels_stay_zero_where_norms_are_folded():
    """Integers behind filter pruning: the invariant is still read off the folded network."""
    variables = tiny_variables([5, -1, 3, 0.5, -4, 2, 1, 6])
    technique = PruneFilters((0.5,))
    effective, state = pruned(TINY, variables, technique)
    folded = fold_batch_norm(effective)
    assert build_chain((technique,), TINY).check(folded, (state,)) == []
    images = jax.random.uniform(KEY, (2, 8, 8, 3))
    expected, found = (TINY.apply(v, images) for v in (effective, folded))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


NUMBERS = [0.0, -0.0, 1.0, -1.0, 2.0, 1e-30, 1e15]  # ties, nothing, next to nothing, a lot
GROUPS = {Channels("alone", 1, ("a",), ()): 0, Channels("stream", 1, ("b", "c"), (), True): 1}


@lru_cache
def of_groups(score):
    compressor = filters.prune_filters(GROUPS, score)
    return compressor, jax.jit(compressor.init)


@settings(max_examples=60, deadline=None)
@given(
    score=st.sampled_from(filters.SCORES),
    rates=st.tuples(*2 * [st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 0.99])]),
    seed=st.integers(0, 2**32 - 1),
    zero=st.lists(st.integers(0, 4), max_size=5),
)
def test_exactly_the_weakest_channels_of_every_group_go(score, rates, seed, zero):
    """Also with ties and channels of zeros; what adds to one stream goes in one piece."""
    draw = np.random.default_rng(seed)

    def layer():
        kernel, (scale, bias) = draw.choice(NUMBERS, (2, 5)), draw.choice(NUMBERS, (2, 5))
        kernel[:, zero] = scale[zero] = 0
        kernel, scale, bias = (x.astype(np.float32) for x in (kernel, scale, bias))
        return {"conv": {"kernel": kernel}, "norm": {"scale": scale, "bias": bias}}

    params = {name: layer() for name in "abc"}
    compressor, init = of_groups(score)
    state = init(KEY, {"params": params}, {"rates": np.array(rates, np.float32)})
    effective = compressor.apply({"params": params}, state)
    assert compressor.check(effective, state) == []
    for group, place in GROUPS.items():
        scores, keep = channel_scores(params, group, score), np.asarray(state.keep[group.name])
        gone = np.argsort(scores, kind="stable")[: min(round(rates[place] * 5), 4)]
        np.testing.assert_array_equal(np.flatnonzero(~keep), np.sort(gone))
        for path in group.outputs:
            for old, new in zip(
                leaves(params, path), leaves(effective["params"], path), strict=True
            ):
                np.testing.assert_array_equal(new, np.where(keep, old, 0))
    moved = {"params": jax.tree.map(lambda x: x + 1, params)}  # by momentum or decay
    again, _ = compressor.update(state, moved, Info(jnp.int32(0), KEY, None))
    assert compressor.check(again, state) == []


def test_one_channel_is_always_left():
    _, state = pruned(TINY, tiny_variables(np.ones(8)), PruneFilters((0.99,)))
    np.testing.assert_array_equal(state.keep["stem"], [0] * 7 + [1])


def test_rates_by_stage_and_exceptions_by_block():
    """S1's v1: 60/50/30 %, and 10 % in the second block of the third stage."""
    model = MODELS["resnet20"](classes=10)
    technique = PruneFilters((0.6, 0.5, 0.3), (("stage3_block2", 0.1),))
    rates = technique.levels(1)["rates"]
    found = {group.name: rates[i] for group, i in technique.places(model.channels()).items()}
    assert found["stage1_block3/conv1"] == np.float32(0.6)
    assert found["stage2_block1/conv1"] == np.float32(0.5)
    assert found["stage3_block1/conv1"] == np.float32(0.3)
    assert found["stage3_block2/conv1"] == np.float32(0.1)
    assert len(found) == 9


def test_gradients_of_what_is_pruned_are_zero_and_of_the_rest_are_not():
    technique = PruneFilters((0.5,))
    compressor = technique.build((), TINY)
    variables = tiny_variables(np.arange(1, 9))
    state = compressor.init(KEY, variables, dict(technique.levels(1)))
    images = np.random.default_rng(1).uniform(size=(2, 8, 8, 3)).astype(np.float32)

    @jax.jit
    def gradient(params):
        effective = lambda p: compressor.apply({**variables, "params": p}, state)  # noqa: E731
        return jax.grad(lambda p: jnp.square(TINY.apply(effective(p), images)).sum())(params)

    stem = gradient(variables["params"])["stem"]
    keep = np.asarray(state.keep["stem"])
    assert not stem["conv"]["kernel"][..., ~keep].any()
    assert not stem["norm"]["scale"][~keep].any()
    assert stem["conv"]["kernel"][..., keep].any()


def test_stored_bytes_are_those_of_the_smaller_network():
    effective, state = pruned(TINY, trained_like(TINY, 8), PruneFilters((0.5,)))
    techniques = (PruneFilters((0.5,)),)
    smaller, taken = shrink(TINY, effective, state.keep)
    chain = ((state,), techniques, TINY)
    assert stored_bytes(effective, *chain) == stored_bytes(taken, network=smaller)
    assert stored_bytes(effective, *chain).deflated < stored_bytes(effective).deflated


def test_an_unknown_group_and_an_empty_one_are_refused():
    variables = trained_like(TINY, 8)
    with pytest.raises(ValueError, match="Unknown group of channels 'stom': did you mean 'stem'"):
        shrink(TINY, variables, {"stom": np.ones(8, bool)})
    with pytest.raises(ValueError, match="keep one"):
        shrink(TINY, variables, {"stem": np.zeros(8, bool)})


@pytest.mark.parametrize(
    ("technique", "sentence"),
    [
        (PruneFilters(()), "rates is empty"),
        (PruneFilters((1.0,)), r"rates must lie in \[0, 1\)"),
        (PruneFilters((0.5,), (("stem", 2.0),)), "rates must lie"),
        (PruneFilters((0.5,), (("stem",),)), "exceptions are pairs"),
        (PruneFilters((0.5,), ("stem", 0.5)), "exceptions are pairs"),
        (PruneFilters(score="l3"), "Unknown p: score 'l3'"),
    ],
)
def test_bad_numbers_and_words_are_refused(technique, sentence):
    with pytest.raises(ValueError, match=sentence):
        technique.validate("p", 100)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "wrn16_8", "resnet8"])
def test_scores_by_norms_are_refused_where_there_are_none(name):
    """Without norms all scores would be nothing, and nothing would be pruned."""
    model = network(name, **SMALL[name])
    sizes = {path: leaf.size for path, leaf in kernels(shapes_of(model)["params"]).items()}
    chain = (PruneFilters((0.5,), score="scale", streams=True),)
    if name != "vgg11":
        validate_chain("p", chain, 100, model.channels(), sizes)
        return
    with pytest.raises(ValueError, match=r"^p: stage1_conv1 has no batch norm"):
        validate_chain("p", chain, 100, model.channels(), sizes)


def test_exceptions_must_name_a_block():
    technique = PruneFilters((0.5,), (("stage9_block1", 0.1),))
    with pytest.raises(ValueError, match="stage9_block1"):
        technique.validate_network("p", MODELS["resnet8"](classes=10).channels())
