"""TensorFlow Model Optimization (TFMOT) where it overlaps with ours.

Skipped where TFMOT is missing. It is in no extra, because TFMOT 0.8.1 declares absl-py below 2 and
rcm needs 2.1; installed without its dependencies it works (docs/compression.md). Its classes are
used without Keras layers, some of them from its internal modules.
"""

from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm import numerics
from rcm.compress import cluster, codebooks, kmeans, prune, weight_grids
from rcm.compress.base import Info
from rcm.compress.calibration import moving_average
from rcm.compress.masks import make_masks, pruned_count

KEY = jax.random.key(0)
CORE = "tensorflow_model_optimization.python.core."


@pytest.fixture(scope="module")
def tfmot():
    """TFMOT; while it is imported pytest ignores warnings, of which its own use of distutils is
    one."""
    for needed in ("tensorflow", "tf_keras", "tensorflow_model_optimization"):
        found = pytest.importorskip(needed, reason=f"{needed} is missing: see docs/compression.md")
    return found


@pytest.fixture(scope="module")
def tf(tfmot):
    return import_module("tensorflow")


@pytest.fixture(scope="module")
def pruning(tfmot):
    return import_module(f"{CORE}sparsity.keras.pruning_impl").Pruning


@pytest.fixture(scope="module")
def clustering(tfmot):
    return import_module(f"{CORE}clustering.keras.clustering_algorithm")


@pytest.fixture(scope="module")
def centroids(tfmot):
    return import_module(f"{CORE}clustering.keras.clustering_centroids")


@pytest.fixture(scope="module")
def quant_ops(tfmot):
    return import_module(f"{CORE}quantization.keras.quant_ops")


def normal(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def variables(kernel):
    return {"params": {"a": {"kernel": jnp.asarray(kernel, jnp.float32)}}}


# --- pruning


@pytest.mark.parametrize(("begin", "end"), [(0, 100), (20, 70)])
def test_the_cubic_schedule_is_polynomial_decay_of_power_three(tfmot, begin, end):
    """Inside [begin, end], where TFMOT uses it, and beyond, where it says what it would be."""
    theirs = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.9, begin, end, power=3, frequency=1)
    steps = np.arange(0, 120, 3)
    ours = jax.vmap(lambda step: prune.cubic_sparsity(0.9, begin, end, step))(steps)
    np.testing.assert_allclose(ours, [theirs(step)[1] for step in steps], atol=1e-6)


def mask_of(kernel, sparsity, structure="weights", group=1):
    scores, dead = {"a": jnp.abs(kernel)}, {"a": kernel == 0}
    masks = make_masks(scores, dead, np.float32(sparsity), "layer", structure, group)
    return np.asarray(masks["a"])


def pruner(tfmot, tf, pruning, kernel, schedule, **options):
    """(theirs at a step that is a variable, that variable, the kernel, its mask)."""
    step, weight = tf.Variable(1), tf.Variable(kernel)
    mask = tf.Variable(np.ones_like(kernel))
    how = {"block_size": (1, 1), "block_pooling_type": "AVG", **options}
    threshold = tf.Variable(0.0)
    made = pruning(lambda: step, [(weight, mask, threshold)], pruning_schedule=schedule, **how)
    return made, step, weight, mask


@pytest.mark.parametrize(
    ("sparsity", "structure", "group", "options"),
    [
        (0.3, "weights", 1, {}),
        (0.77, "weights", 1, {}),
        (0.5, "block", 4, {"block_size": (1, 4)}),
        (0.25, "block", 3, {"block_size": (1, 3)}),
        (0.5, "n_of_m", 4, {"sparsity_m_by_n": (2, 4)}),
        (0.75, "n_of_m", 8, {"sparsity_m_by_n": (6, 8)}),
    ],
)
def test_masks_are_those_of_prune_low_magnitude(
    tfmot, tf, pruning, sparsity, structure, group, options
):
    """For distinct magnitudes. Of equal ones TFMOT keeps all that reach the threshold, and in an
    N:M group those of the lowest index; we prune exactly so many, the lowest index first."""
    kernel = normal(1, (16, 12))
    schedule = tfmot.sparsity.keras.ConstantSparsity(sparsity, 0, frequency=1)
    theirs, _, _, mask = pruner(tfmot, tf, pruning, kernel, schedule, **options)
    theirs.conditional_mask_update()
    ours = mask_of(kernel, sparsity, structure, group)
    assert 0.2 < 1 - ours.mean() < 0.8
    np.testing.assert_array_equal(ours, mask.numpy().astype(bool))


def test_n_of_m_masks_of_a_convolution_lie_along_the_inputs_in_both(tfmot, tf, pruning):
    kernel = normal(2, (3, 3, 8, 5))
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, 0, frequency=1)
    theirs, _, _, mask = pruner(tfmot, tf, pruning, kernel, schedule, sparsity_m_by_n=(2, 4))
    theirs.conditional_mask_update()
    np.testing.assert_array_equal(mask_of(kernel, 0.5, "n_of_m", 4), mask.numpy().astype(bool))


def test_counts_differ_by_one_at_halves_only(tfmot, tf, pruning):
    """TFMOT rounds what is kept, at least one weight, and we what is pruned, both half to even."""
    for size, share in [(3, 0.5), (5, 0.5), (6, 0.25), (40, 0.77), (11, 0.33)]:
        kernel = np.arange(1, size + 1, dtype=np.float32)[None]
        schedule = tfmot.sparsity.keras.ConstantSparsity(share, 0, frequency=1)
        theirs, _, _, mask = pruner(tfmot, tf, pruning, kernel, schedule)
        theirs.conditional_mask_update()
        gap = int(pruned_count(share, size)) - int((mask.numpy() == 0).sum())
        assert abs(gap) == (1 if size * share in (1.5, 2.5) and size < 6 else 0), (size, share)


def test_a_gradual_pruning_of_moving_weights_goes_the_same_way(tfmot, tf, pruning):
    """Pruned weights stand still here: TFMOT lets them move, and return when the mask is next
    updated, while ours get no gradient and never return."""
    every, end = 5, 40
    kernel = normal(3, (12, 20))
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.8, 10, end, power=3, frequency=every)
    theirs, step, weight, mask = pruner(tfmot, tf, pruning, kernel, schedule)
    compressor = prune.prune(prune.Rule(schedule="cubic", every=every))
    levels = {"sparsity": np.float32(0.8), "begin": np.int32(10), "end": np.int32(end)}
    ours, state = variables(kernel), compressor.init(KEY, variables(kernel), levels)
    update, seen = jax.jit(compressor.update), set()
    for now in range(50):
        moves = 0.1 * normal(100 + now, kernel.shape) * mask.numpy()
        weight.assign_add(moves)
        step.assign(now)
        theirs.conditional_mask_update()
        theirs.weight_mask_op()
        moved = variables(ours["params"]["a"]["kernel"] + moves)
        ours, state = update(state, moved, Info(jnp.int32(now), KEY, None))
        np.testing.assert_array_equal(state.masks["a/kernel"], mask.numpy().astype(bool))
        np.testing.assert_array_equal(ours["params"]["a"]["kernel"], weight.numpy())
        seen.add(int(mask.numpy().sum()))
    assert len(seen) == 7
    assert min(seen) == 48


# --- clustering


def starts_of(name, weights, clusters, slots):
    ordered = kmeans.sort_weights(jnp.asarray(weights), jnp.zeros(len(weights), bool))
    return np.asarray(kmeans.STARTS[name](jnp.zeros((slots, 2)), ordered, clusters))[:clusters]


@pytest.mark.parametrize("clusters", [2, 7, 16])
def test_linear_starts_are_those_of_tfmot(centroids, clusters):
    weights = normal(4, 500)
    theirs = centroids.LinearCentroidsInitialisation(weights, clusters).get_cluster_centroids()
    np.testing.assert_allclose(starts_of("linear", weights, clusters, 16), theirs, atol=1e-6)


def test_density_starts_are_those_of_tfmot_on_its_grid_where_both_have_a_level(centroids):
    """Ours are the quantiles (i + 1/2) / K, TFMOT's those from 1 % to 100 % in equal steps, each
    moved up to the next of 30 points of the range; 17 levels are common to K = 50 and 34."""
    weights = np.random.default_rng(5).laplace(size=4000).astype(np.float32)
    theirs = centroids.DensityBasedCentroidsInitialisation(weights, 34).get_cluster_centroids()
    grid = (np.ptp(weights) + 0.02) / 29
    ahead = np.asarray(theirs)[:-1:2] - starts_of("density", weights, 50, 64)[::3]
    assert len(ahead) == 17
    assert ahead.min() > -1e-3
    assert ahead.max() < grid


@pytest.mark.parametrize("gradient", ["mean", "sum"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_assignments_and_gradients_of_values_are_those_of_tfmot(
    tf, clustering, gradient, per_channel
):
    """TFMOT keeps the unclustered weights beside the centroids and passes them the gradient of
    each weight; the centroids' own gradient is what ours, one and the same in a cluster, is."""
    kernel, upstream = normal(6, (3, 3, 4, 5)), normal(7, (3, 3, 4, 5))
    compressor = cluster.cluster(codebooks.Rule(16, gradient=gradient, per_channel=per_channel))
    state = compressor.init(KEY, variables(kernel), {"clusters": np.int32(6)})
    codebook = state.codebooks["a/kernel"]
    ours, pull_back = jax.vjp(lambda v: compressor.apply(v, state), variables(kernel))
    moves = np.asarray(pull_back(variables(upstream))[0]["params"]["a"]["kernel"])

    values = tf.Variable(np.asarray(codebook.values)[..., :6])
    rules = clustering.GradientAggregation
    rule = rules.AVG if gradient == "mean" else rules.SUM
    kind = "ClusteringAlgorithmPerChannel" if per_channel else "ClusteringAlgorithm"
    theirs = getattr(clustering, kind)(values, rule, "channels_last")
    places = theirs.get_pulling_indices(tf.constant(kernel))
    with tf.GradientTape() as tape:
        shared = theirs.get_clustered_weight(places, tf.constant(kernel))
        loss = tf.reduce_sum(shared * upstream)
    slopes = tf.convert_to_tensor(tape.gradient(loss, values)).numpy()

    np.testing.assert_array_equal(codebook.assignments, places.numpy())
    np.testing.assert_allclose(ours["params"]["a"]["kernel"], shared.numpy(), rtol=1e-6)
    found = slopes[np.arange(5), places.numpy()] if per_channel else slopes[places.numpy()]
    np.testing.assert_allclose(moves, found, rtol=1e-4, atol=1e-5)


# --- quantization


@pytest.mark.parametrize("bits", [4, 8])
def test_affine_ranges_and_grids_are_those_of_the_all_values_quantizer(tfmot, tf, bits):
    make = tfmot.quantization.keras.quantizers.AllValuesQuantizer
    theirs = make(num_bits=bits, per_axis=False, symmetric=False, narrow_range=False)
    ranges = {"min_var": tf.Variable(0.0), "max_var": tf.Variable(0.0)}
    x = normal(8, (2, 300)) + np.float32(0.4)
    for part in x:
        theirs(tf.constant(part), True, ranges)
    assert float(ranges["min_var"]) == x.min()
    assert float(ranges["max_var"]) == x.max()
    quantized = theirs(tf.constant(x), False, ranges)
    ours = numerics.fake_quant_affine(jnp.asarray(x), x.min(), x.max(), bits)
    np.testing.assert_allclose(ours, quantized, atol=1e-5)


def test_gradients_of_fake_quantization_differ_from_tfmot_by_half_a_step_at_the_ends(tfmot, tf):
    """TFMOT stops the gradient at the ends of the range, we (and PyTorch) half a step beyond,
    where the rounded number is no longer in it."""
    make = tfmot.quantization.keras.quantizers.AllValuesQuantizer
    theirs = make(num_bits=4, per_axis=False, symmetric=False, narrow_range=False)
    ranges = {"min_var": tf.Variable(-1.0), "max_var": tf.Variable(2.0)}  # step 0.2
    x = tf.constant([-2.0, -1.11, -1.09, -1.01, -0.99, 0.0, 1.99, 2.01, 2.09, 2.11, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(theirs(x, False, ranges))
    lo, hi = np.float32(-1), np.float32(2)
    ours = jax.grad(lambda x: numerics.fake_quant_affine(x, lo, hi, 4).sum())(jnp.asarray(x))
    np.testing.assert_array_equal(tape.gradient(total, x), [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(ours, [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0])


@pytest.mark.parametrize("bits", [4, 8])
def test_channel_grids_are_those_of_the_last_value_quantizer(tfmot, tf, bits):
    """Symmetric and of narrow range, {-q..q}, as TFMOT quantizes the weights of convolutions."""
    kernel = normal(9, (3, 3, 4, 6))
    make = tfmot.quantization.keras.quantizers.LastValueQuantizer
    theirs = make(num_bits=bits, per_axis=True, symmetric=True, narrow_range=True)
    ranges = {name: tf.Variable(tf.zeros(6)) for name in ("min_var", "max_var")}
    quantized = theirs(tf.constant(kernel), True, ranges)
    ours = weight_grids.on_grid(jnp.asarray(kernel), bits)
    np.testing.assert_allclose(ours, quantized, atol=1e-5)


def test_moving_averages_of_ranges_are_those_of_tfmot(tf, quant_ops):
    """At our decay, begun at the first batch; TFMOT's own are 0.999 and -6 to 6."""
    x = normal(10, (50, 7)) * np.linspace(1, 3, 50, dtype=np.float32)[:, None]
    first, *others = np.array_split(x, 10)
    lo, hi = tf.Variable(first.min()), tf.Variable(first.max())
    for part in others:
        quant_ops.MovingAvgQuantize(tf.constant(part), lo, hi, ema_decay=0.9)
    np.testing.assert_allclose(moving_average(jnp.asarray(x)), [lo, hi], rtol=1e-5)
