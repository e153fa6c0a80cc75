"""K-means against the exact one-dimensional optimum, and the shared-value algebra."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import kmeans1d
import numpy as np
import pytest

from rcm.compress import Cluster, Prune, Quantize, cluster, codebooks, kmeans, validate_chain
from rcm.compress.base import Info

KEY = jax.random.key(0)


@lru_cache
def compiled(rule):
    def run(draws, flat, clusters):
        return codebooks.cluster_weights(draws, flat, flat.size, clusters, rule)

    return jax.jit(run)


def clustered(weights, clusters, slots=16, seed=0, **options):
    draws = jax.random.uniform(jax.random.key(seed), (codebooks.ATTEMPTS, slots, 2))
    run = compiled(codebooks.Rule(slots, **options))
    return run(draws, jnp.asarray(weights, jnp.float32), clusters)


def values_of(codebook):
    return np.asarray(codebook.values, np.float64)[np.asarray(codebook.assignments)]


def cost(weights, values):
    return np.square(np.asarray(weights, np.float64) - values).sum()


def best(weights, clusters):
    assignments, centroids = kmeans1d.cluster(np.asarray(weights, np.float64), clusters)
    return cost(weights, np.array(centroids)[assignments])


@pytest.mark.parametrize("law", ["normal", "laplace", "uniform"])
@pytest.mark.parametrize("clusters", [2, 5, 16])
def test_cost_is_near_the_exact_optimum_and_never_below(law, clusters):
    weights = getattr(np.random.default_rng(1), law)(size=4000).astype(np.float32)
    optimum = best(weights, clusters)
    costs = [cost(weights, values_of(clustered(weights, clusters, seed=s))) for s in range(5)]
    assert min(costs) >= optimum * (1 - 1e-6)
    assert np.median(costs) <= optimum * 1.05


def test_separable_data_is_solved_exactly():
    rng = np.random.default_rng(0)
    centers = np.array([-5, -2, 1, 4, 9.0])
    weights = (rng.choice(centers, 4000) + 0.01 * rng.normal(size=4000)).astype(np.float32)
    solved = [
        cost(weights, values_of(clustered(weights, 5, seed=s))) <= best(weights, 5) * (1 + 1e-5)
        for s in range(5)
    ]
    assert sum(solved) >= 4  # D^2 draws miss a group once in a while, uniform ones mostly do


def test_a_fixed_point_of_lloyd():
    """Every weight has the nearest centroid, every centroid is the mean of its weights."""
    weights = np.random.default_rng(2).normal(size=4000).astype(np.float32)
    codebook = clustered(weights, 7)
    used = np.asarray(codebook.values)[:7]
    assignments = np.asarray(codebook.assignments)
    nearest = np.abs(weights[:, None] - used[None]).argmin(1)
    np.testing.assert_array_equal(assignments, nearest)
    means = [weights[assignments == j].astype(np.float64).mean() for j in range(7)]
    np.testing.assert_allclose(used, means, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(codebook.counts[:7], np.bincount(assignments))


def test_prefix_sums_of_a_million_weights_are_exact():
    """Interval sums against float64; float32 prefix sums miss them by orders of magnitude."""
    weights = np.sort(np.random.default_rng(0).normal(loc=3, size=10**6).astype(np.float32))
    sums = jax.jit(kmeans.prefix_sums)(kmeans.Sorted(weights, jnp.int32(10**6)))
    edges = np.array([0, 10, 1000, 500_000, 500_100, 999_900, 10**6])
    ours, counts = kmeans.interval_sums(sums, edges)
    exact = np.diff(np.concatenate([[0], np.cumsum(weights, dtype=np.float64)])[edges])
    naive = np.diff(np.concatenate([[0], np.cumsum(weights)])[edges])
    np.testing.assert_array_equal(counts, np.diff(edges))
    np.testing.assert_allclose(ours, exact, rtol=2e-7)
    assert np.abs(naive / exact - 1).max() > 1e-5


def test_plus_plus_draws_by_squared_distance():
    mass = jnp.array([0.0, 1.0, 0.0, 5.0, 4.0, 0.0, 0.0])
    draws = jax.random.uniform(jax.random.key(3), (20_000, 2))
    drawn = np.asarray(jax.vmap(lambda u: kmeans._draw(u, mass))(draws))
    shares = np.bincount(drawn, minlength=7) / len(drawn)
    np.testing.assert_allclose(shares, np.asarray(mass) / 10, atol=0.015)
    assert set(drawn) == {1, 3, 4}


def test_the_second_centroid_follows_the_squared_distance_to_the_first():
    """From 0, the weights 1 and 3 are drawn with odds 1 : 9."""
    weights = kmeans.sort_weights(jnp.array([0.0, 3.0, 0.0, 1.0]), jnp.zeros(4, bool))
    draws = jax.random.uniform(KEY, (2000, 16, 2)).at[:, 0].set(0)  # the first weight, 0
    starts = jax.jit(jax.vmap(lambda u: kmeans.plus_plus(u, weights, 2)))(draws)
    assert set(np.asarray(starts[:, 1])) == {1, 3}
    assert abs(np.mean(starts[:, 1] == 3) - 0.9) < 0.03


def test_an_empty_cluster_keeps_its_centroid():
    weights = kmeans.sort_weights(jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.zeros(4, bool))
    draws = jax.random.uniform(KEY, (2, 16, 2))
    centroids = kmeans.kmeans(draws, weights, 4, 50)
    assert set(np.asarray(centroids[:4])) == {0, 1}
    assert np.isinf(centroids[4:]).all()


def test_fewer_distinct_weights_than_clusters_are_kept_exactly():
    weights = np.array([0.3, -1.5, 0.3, 2.25, 2.25, -1.5] * 700, np.float32)[:4000]
    np.testing.assert_allclose(values_of(clustered(weights, 12)), weights, rtol=2e-7)


@pytest.mark.parametrize(
    ("clusters", "slots"), [(1, 16), (3, 16), (16, 16), (200, 256), (300, 512)]
)
def test_at_most_k_values_and_the_smallest_index_type(clusters, slots):
    weights = np.random.default_rng(4).normal(size=4000)
    codebook = clustered(weights, clusters, slots)
    assert len(np.unique(values_of(codebook))) <= clusters
    assert codebook.assignments.dtype == (jnp.uint8 if slots <= 256 else jnp.int32)


def test_a_pinned_zero_counts_as_one_of_k_and_takes_exactly_the_zeros():
    weights = np.random.default_rng(5).normal(size=4000).astype(np.float32)
    weights[::3] = 0
    codebook = clustered(weights, 5)
    values = values_of(codebook)
    assert codebook.pinned
    np.testing.assert_array_equal(values == 0, weights == 0)
    assert len(np.unique(values)) == 5
    assert cost(weights, values) <= 1.1 * best(weights[weights != 0], 4)


@pytest.mark.parametrize(
    ("zeros", "clusters", "pin_zero"), [(False, 5, True), (True, 5, False), (True, 1, True)]
)
def test_nothing_is_pinned_without_zeros_the_option_or_a_second_cluster(zeros, clusters, pin_zero):
    weights = np.random.default_rng(5).normal(size=4000)
    weights[::3] *= not zeros
    assert not clustered(weights, clusters, pin_zero=pin_zero).pinned


def test_all_zeros_stay_zero_and_finite():
    codebook = clustered(np.zeros(4000), 4)
    np.testing.assert_array_equal(codebook.values, np.zeros(16))
    np.testing.assert_array_equal(values_of(codebook), np.zeros(4000))


def test_a_tensor_too_large_for_exact_sums_is_refused():
    too_many = jax.ShapeDtypeStruct((2**23 + 1,), jnp.float32)
    with pytest.raises(ValueError, match="too large to cluster"):
        jax.eval_shape(kmeans.sort_weights, too_many, too_many)


# --- the compressor


def variables(kernel):
    return {"params": {"head": {"kernel": jnp.asarray(kernel, jnp.float32)}}}


def kernel_of(tree):
    return tree["params"]["head"]["kernel"]


COMPRESSOR = cluster.cluster(codebooks.Rule(16))
INIT = jax.jit(COMPRESSOR.init)
INFO = Info(jnp.int32(0), KEY, None)


def start(kernel, clusters):
    return INIT(KEY, variables(kernel), {"clusters": np.int32(clusters)})


def test_gradient_is_the_mean_over_each_cluster():
    state = start([1.0, 1.0, 5.0, 5.0, 5.0, 1.0], 2)
    weigh = jnp.array([1.0, 3.0, 10.0, 20.0, 60.0, 5.0])
    loss = lambda v: (kernel_of(COMPRESSOR.apply(v, state)) * weigh).sum()  # noqa: E731
    gradient = kernel_of(jax.grad(loss)(variables(jnp.ones(6))))
    np.testing.assert_allclose(gradient, [3, 3, 30, 30, 30, 3])


def test_backward_is_the_orthogonal_projection_onto_shared_values():
    kernel = np.random.default_rng(7).normal(size=60)
    state = start(kernel, 4)
    pull_back = jax.vjp(lambda v: COMPRESSOR.apply(v, state), variables(kernel))[1]
    project = lambda g: np.asarray(kernel_of(pull_back(variables(g))[0]))  # noqa: E731
    g = np.random.default_rng(8).normal(size=60)
    np.testing.assert_allclose(project(project(g)), project(g), atol=1e-6)
    assert abs(np.dot(g - project(g), project(g))) < 1e-4
    assert len(np.unique(project(g))) == 4


def test_pinned_zeros_get_no_gradient_and_never_move():
    kernel = np.array([0.0, 0.0, 1.0, 1.1, 3.0, 0.0], np.float32)
    state = start(kernel, 3)
    loss = lambda v: kernel_of(COMPRESSOR.apply(v, state)).sum()  # noqa: E731
    gradient = kernel_of(jax.grad(loss)(variables(kernel)))
    np.testing.assert_array_equal(gradient, [0, 0, 1, 1, 1, 0])
    moved, state = COMPRESSOR.update(state, variables(kernel + 1), INFO)
    np.testing.assert_array_equal(kernel_of(moved)[np.array([0, 1, 5])], [0, 0, 0])


def test_update_moves_the_codebook_to_the_mean_of_the_moved_weights():
    state = start([1.0, 1.0, 5.0, 5.0, 5.0, 5.0], 2)
    moved, state = COMPRESSOR.update(state, variables([1.0, 2.0, 5.0, 4.0, 4.0, 5.0]), INFO)
    np.testing.assert_allclose(kernel_of(moved), [1.5, 1.5, 4.5, 4.5, 4.5, 4.5])
    again, _ = COMPRESSOR.update(state, moved, INFO)
    np.testing.assert_array_equal(kernel_of(again), kernel_of(moved))


def test_check_names_a_grown_zero():
    kernel = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 1.0], np.float32)
    state = start(kernel, 2)
    assert COMPRESSOR.check(variables(kernel), state) == []
    grown = COMPRESSOR.check(variables([1.0, 0.0, 1.0, 1.0, 1.0, 1.0]), state)
    assert grown == ["head/kernel: 1 weights of the pinned zero cluster are not zero."]


# --- the technique


def test_numbers_of_clusters_up_to_a_power_of_two_share_a_program():
    assert {Cluster(k).static() for k in (1, 2, 5, 15, 16)} == {Cluster(16).static()}
    assert Cluster(17).slots == 32
    assert Cluster(256).slots == 256
    assert Cluster(16, pin_zero=False).static() != Cluster(16).static()


@pytest.mark.parametrize(
    ("chain", "sentence"),
    [
        ((Cluster(0),), "clusters must be at least 1"),
        ((Cluster(33),), "more than the 32 weights"),
        ((Prune(), Cluster(8, pin_zero=False)), "pin_zero=True"),
        ((Prune(), Cluster(1)), "at least 2 clusters"),
        ((Cluster(8), Prune()), "put prune before cluster"),
        ((Quantize(), Cluster(8)), "put it last"),
        ((Quantize(), Prune()), "put it last"),
        ((Prune(0.5), Cluster(8), Quantize(0)), "bits"),
    ],
)
def test_bad_chains_are_refused(chain, sentence):
    with pytest.raises(ValueError, match=f"^mixed: .*{sentence}"):
        validate_chain("mixed", chain, 32)


def test_good_chains_are_accepted():
    validate_chain("all", (Prune(0.5), Cluster(32), Quantize(8)), 32)
    validate_chain("dense", (), 32)


# --- starts and gradients


def starts_of(name, weights, clusters, slots=8):
    ordered = kmeans.sort_weights(jnp.asarray(weights, jnp.float32), jnp.zeros(len(weights), bool))
    draws = jax.random.uniform(KEY, (slots, 2))
    return np.asarray(kmeans.STARTS[name](draws, ordered, clusters))


def test_linear_starts_span_the_range_and_density_starts_the_quantiles():
    weights = np.concatenate([np.zeros(90), np.arange(1.0, 11)])
    np.testing.assert_allclose(starts_of("linear", weights, 5)[:5], [0, 2.5, 5, 7.5, 10])
    np.testing.assert_allclose(starts_of("density", weights, 10, 16)[:10], [0] * 9 + [6])


@pytest.mark.parametrize("name", kmeans.STARTS)
def test_every_start_uses_as_many_slots_as_asked_for_in_order(name):
    weights = np.random.default_rng(0).normal(size=200)
    for clusters in (1, 5, 8):
        found = starts_of(name, weights, clusters)
        assert np.isfinite(found[:clusters]).all()
        assert np.isinf(found[clusters:]).all()
        np.testing.assert_array_equal(found, np.sort(found))


@pytest.mark.parametrize("name", kmeans.STARTS)
def test_every_start_ends_in_a_codebook_not_far_from_the_optimum(name):
    weights = np.random.default_rng(1).normal(size=4000).astype(np.float32)
    found = cost(weights, values_of(clustered(weights, 6, start=name)))
    assert best(weights, 6) * (1 - 1e-6) <= found <= 1.25 * best(weights, 6)


def test_the_sum_gradient_is_the_mean_times_the_size_of_the_cluster():
    kernel = [1.0, 1.0, 5.0, 5.0, 5.0, 1.0]
    state = start(kernel, 2)
    summing = cluster.cluster(codebooks.Rule(16, gradient="sum"))
    weigh = jnp.array([1.0, 3.0, 10.0, 20.0, 60.0, 5.0])
    loss = lambda v: (kernel_of(summing.apply(v, state)) * weigh).sum()  # noqa: E731
    gradient = kernel_of(jax.grad(loss)(variables(jnp.ones(6))))
    np.testing.assert_allclose(gradient, [9, 9, 90, 90, 90, 9])


@pytest.mark.parametrize(
    ("technique", "sentence"),
    [(Cluster(4, start="kmeans++"), "start"), (Cluster(4, gradient="median"), "gradient")],
)
def test_unknown_words_are_refused(technique, sentence):
    with pytest.raises(ValueError, match=f"Unknown p: {sentence}"):
        technique.validate("p", 100)
