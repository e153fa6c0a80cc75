"""Codebooks per channel, with exceptions and from the exact optimum; what is padded together."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import kmeans1d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcm.compress import Cluster, Prune, codebooks, exact, kmeans, validate_chain
from rcm.compress.base import Info, kernels
from rcm.compress.cluster import cluster, clusters_of
from rcm.models import MODELS

KEY = jax.random.key(0)
quick = settings(max_examples=60, deadline=None, derandomize=True)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
NORMAL = np.random.default_rng(0).normal(size=400).astype(np.float32)


def cost(weights, values):
    return np.square(np.asarray(weights, np.float64) - values).sum()


def best(weights, clusters):
    clusters = min(clusters, len(weights))
    assignments, centroids = kmeans1d.cluster(np.asarray(weights, np.float64), clusters)
    return cost(weights, np.array(centroids)[assignments])


def nearest(weights, centroids):
    used = centroids[np.isfinite(centroids)].astype(np.float64)
    return used[np.abs(weights[:, None].astype(np.float64) - used).argmin(1)]


# --- the exact optimum


@quick
@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=60),
    st.integers(1, 16),
    st.sampled_from([0.25, 1e-20, 1e20]),
)
def test_the_optimum_is_that_of_kmeans1d_also_with_ties(integers, clusters, scale):
    weights = np.sort(np.array(integers, np.float32) * np.float32(scale))
    found = exact.optimal_centroids(weights, 16, clusters)
    assert np.isfinite(found).sum() == min(clusters, np.unique(weights).size)
    np.testing.assert_array_equal(found, np.sort(found))
    optimum = best(weights / np.float32(scale), clusters) * scale**2
    assert cost(weights, nearest(weights, found)) == pytest.approx(
        optimum, rel=1e-5, abs=1e-10 * scale**2
    )


def test_no_weights_or_no_clusters_have_no_centroids():
    assert np.isinf(exact.optimal_centroids(np.zeros(0, np.float32), 4, 3)).all()
    assert np.isinf(exact.optimal_centroids(np.ones(5, np.float32), 4, 0)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_of_a_diverged_member_have_no_centroids_and_raise_nothing(bad):
    weights = np.sort(np.array([1, 2, 2, bad, 3], np.float32))
    assert np.isinf(exact.optimal_centroids(weights, 4, 2)).all()


@lru_cache
def compiled(start, per_channel=False, slots=16):
    rule = codebooks.Rule(slots, start=start, per_channel=per_channel)

    def run(kernel, clusters):
        return codebooks.make_codebooks(KEY, {"k": kernel}, {"k": clusters}, rule)["k"]

    return jax.jit(run)


def values_of(codebook):
    values, assignments = np.asarray(codebook.values), np.asarray(codebook.assignments)
    return values[assignments] if values.ndim == 1 else values[np.arange(len(values)), assignments]


@pytest.mark.parametrize("clusters", [1, 2, 7, 16])
def test_the_exact_start_ends_at_the_optimum(clusters):
    found = values_of(compiled("exact")(NORMAL, clusters))
    assert np.unique(found).size == clusters
    assert cost(NORMAL, found) == pytest.approx(best(NORMAL, clusters), rel=1e-5)


def test_the_exact_start_keeps_zeros_and_spends_the_rest_on_the_others():
    weights = np.where(np.arange(400) % 3 == 0, 0, NORMAL)
    found = values_of(compiled("exact")(weights, 6))
    np.testing.assert_array_equal(found == 0, weights == 0)
    alive = weights != 0
    assert cost(weights[alive], found[alive]) == pytest.approx(best(weights[alive], 5), rel=1e-5)


def test_too_many_weights_for_the_optimum_start_by_plus_plus(monkeypatch):
    def host_is_asked(size):
        weights = kmeans.Sorted(jnp.zeros(size), jnp.int32(size))
        start = kmeans.STARTS["exact"]
        return "callback" in str(jax.make_jaxpr(start)(jnp.zeros((16, 2)), weights, 5))

    monkeypatch.setattr(exact, "LARGEST", 399)
    assert host_is_asked(399)
    assert not host_is_asked(400)
    rule = codebooks.Rule(16, start="exact")
    assert len(codebooks._batches({"a": (1, 399), "b": (1, 400)}, rule)) == 2


# --- any weights


@quick
@given(
    st.lists(FINITE, min_size=1, max_size=8),
    st.integers(0, 2**32 - 1),
    st.integers(1, 16),
    st.sampled_from(["plus_plus", "linear", "exact"]),
)
def test_whatever_the_weights_there_are_at_most_k_finite_values_and_zeros_stay(
    some, seed, k, start
):
    """Ties, constants, extremes; K above the number of distinct values. Sums are exact to 2^-24 of
    the largest weight, so means are too."""
    weights = np.random.default_rng(seed).choice(np.array([0, *some], np.float32), 64)
    codebook = compiled(start)(weights, k)
    found = values_of(codebook)
    assert np.isfinite(codebook.values).all()
    assert np.unique(found).size <= k
    smallest, largest = float(weights.min()), float(weights.max())
    unit = 2.0**-23 * max(-smallest, largest)
    assert float(found.min()) >= smallest - unit
    assert float(found.max()) <= largest + unit
    if k > 1:
        assert (found[weights == 0] == 0).all()
    if np.unique(weights).size == 1:
        np.testing.assert_allclose(found, weights, rtol=1e-6)


# --- per channel


def test_every_channel_has_its_own_optimum_and_its_own_zero():
    kernel = np.random.default_rng(1).normal(size=(5, 8, 3)).astype(np.float32)
    kernel[:, :, 1] = 0
    kernel[:2, :, 2] = 0
    codebook = compiled("exact", per_channel=True)(kernel, 4)
    found = values_of(codebook)
    np.testing.assert_array_equal(codebook.pinned, [False, True, True])
    for channel, clusters in ((0, 4), (2, 3)):
        weights, shared = kernel[..., channel].ravel(), found[..., channel].ravel()
        np.testing.assert_array_equal(shared == 0, weights == 0)
        alive = weights != 0
        assert cost(weights, shared) == pytest.approx(best(weights[alive], clusters), rel=1e-5)
    np.testing.assert_array_equal(found[..., 1], 0)
    np.testing.assert_array_equal(codebook.counts.sum(1), [40, 40, 40])


RULE = codebooks.Rule(16, start="exact", per_channel=True)
CHANNELS = cluster(RULE)


def of(kernel):
    return {"params": {"head": {"kernel": jnp.asarray(kernel, jnp.float32)}}}


def kernel_of(tree):
    return tree["params"]["head"]["kernel"]


@pytest.fixture(scope="module")
def state():
    kernel = [[1.0, 1, 0], [1, 5, 0], [9, 5, 2], [9, 5, 3]]
    return jax.jit(CHANNELS.init)(KEY, of(kernel), {"clusters": np.int32(2)})


def test_gradients_are_means_over_the_clusters_of_each_channel(state):
    weigh = jnp.array([[1.0, 5, 7], [3, 1, 9], [10, 2, 20], [20, 3, 40]])
    loss = lambda v: (kernel_of(CHANNELS.apply(v, state)) * weigh).sum()  # noqa: E731
    gradient = kernel_of(jax.grad(loss)(of(jnp.ones((4, 3)))))
    np.testing.assert_allclose(gradient, [[2, 5, 0], [2, 2, 0], [15, 2, 30], [15, 2, 30]])


def test_update_moves_each_channel_to_the_mean_of_its_own_weights(state):
    moved = of([[2.0, 1, 1], [4, 4, 1], [9, 5, 2], [9, 6, 6]])
    moved, after = CHANNELS.update(state, moved, Info(jnp.int32(0), KEY, None))
    expected = [[3, 1, 0], [3, 5, 0], [9, 5, 4], [9, 5, 4]]
    np.testing.assert_allclose(kernel_of(moved), expected, atol=1e-6)
    assert CHANNELS.check(jax.device_get(moved), after) == []


def test_check_counts_values_by_channel(state):
    lines = CHANNELS.check(of(np.arange(12).reshape(4, 3)), state)
    assert lines[0] == "head/kernel: 4 distinct values in a channel, expected at most 2."


# --- exceptions


def test_exceptions_have_their_own_number_and_zero_spares():
    technique = Cluster(4, start="linear", exceptions=(("a/x", 0), ("a", 2)))
    compressor = technique.build((), None)
    rng = np.random.default_rng(0)
    parts = {"x": {"kernel": rng.normal(size=(40, 1))}, "y": {"kernel": rng.normal(size=(40, 1))}}
    variables = {"params": {"a": parts, "ab": {"kernel": rng.normal(size=(40, 1))}}}
    variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), variables)
    state = jax.jit(compressor.init)(KEY, variables, dict(technique.levels(0)))
    found = kernels(compressor.apply(variables, state)["params"])
    distinct = {name: np.unique(kernel).size for name, kernel in found.items()}
    assert distinct == {"a/x/kernel": 40, "a/y/kernel": 2, "ab/kernel": 4}
    assert compressor.check({"params": {}}, state) == []
    lines = compressor.check(variables, state)
    assert [line.split(":")[0] for line in lines] == ["a/y/kernel", "ab/kernel"]
    assert clusters_of(state, "a/y/kernel", technique.rule) == 2


def test_numbers_of_exceptions_are_traced():
    assert Cluster(4, exceptions=(("head", 9),)).static() == (
        Cluster(7, exceptions=(("head", 0),)).static()
    )
    assert Cluster(4, exceptions=(("head", 40),)).slots == 64
    assert Cluster(4).levels(0).keys() == {"clusters"}


@pytest.mark.parametrize(
    ("chain", "sentence"),
    [
        ((Cluster(4, exceptions=(("haed", 4),)),), "did you mean 'head'"),
        ((Cluster(4, exceptions=(("head", 65),)),), "more than the 64 weights of a kernel in head"),
        ((Cluster(4, exceptions=(("head", -1),)),), "exceptions are pairs"),
        ((Cluster(4, exceptions=("head",)),), "exceptions are pairs"),
        ((Prune(), Cluster(4, exceptions=(("head", 1),))), "at least 2 clusters"),
    ],
)
def test_bad_exceptions_are_refused(chain, sentence):
    sizes = {"stem/conv/kernel": 32, "head/kernel": 64}
    with pytest.raises(ValueError, match=f"p.*{sentence}"):
        validate_chain("p", chain, 32, kernel_sizes=sizes)


def test_good_exceptions_are_accepted():
    sizes = {"stem/conv/kernel": 32, "head/kernel": 64}
    chain = (Prune(), Cluster(4, exceptions=(("head", 64), ("stem/conv", 0))))
    validate_chain("p", chain, 32, kernel_sizes=sizes)


# --- what is padded and clustered together


def shapes_of(name, **options):
    model = MODELS[name](classes=10, **options)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    params = jax.eval_shape(model.init, KEY, image)["params"]
    return {path: (1, leaf.size) for path, leaf in kernels(params).items()}


def test_little_is_padded_of_large_networks_and_small_ones_need_two_programs():
    rule = codebooks.Rule(16)
    shapes = shapes_of("resnet50")
    batches = codebooks._batches(shapes, rule)
    assert sorted(name for batch in batches for name in batch.names) == sorted(shapes)
    needed = sum(size for _, size in shapes.values())
    sorted_weights = sum(codebooks._padded(shapes, batch.names) for batch in batches)
    assert sorted_weights < 1.15 * needed
    small = codebooks._batches(shapes_of("resnet20"), rule)
    assert [batch.chunk for batch in small] == [0, 0]


@pytest.mark.parametrize("chunk", [0, 1, 2, 3, 7])
def test_chunks_change_nothing(chunk):
    rows = [jnp.arange(1, 9).reshape(2, 4), jnp.array([[9, 10]]), jnp.arange(11, 17).reshape(2, 3)]

    def one(row, i):
        return {"sum": row.sum() + 100 * i, "row": row}

    made = codebooks._map_rows(one, chunk, rows, jnp.arange(5))
    assert made["row"].tolist() == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 10, 0, 0],
        [11, 12, 13, 0],
        [14, 15, 16, 0],
    ]
    assert made["sum"].tolist() == [10, 126, 219, 336, 445]


def test_codebooks_of_a_large_network_take_less_memory_than_two_more_copies_of_it():
    found = {f"layer{i}": jax.ShapeDtypeStruct((2**21, 1), np.float32) for i in range(8)}

    def make(key, found):
        clusters = dict.fromkeys(found, jnp.int32(4))
        return codebooks.make_codebooks(key, found, clusters, codebooks.Rule(16))

    memory = jax.jit(make).lower(KEY, found).compile().memory_analysis()
    size = sum(4 * kernel.size for kernel in found.values())
    assert 0.25 * size < memory.output_size_in_bytes + memory.temp_size_in_bytes < 2 * size
