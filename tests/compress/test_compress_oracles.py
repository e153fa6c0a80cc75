"""Other people's libraries where they overlap with ours: scikit-learn and PyTorch.

kmeans1d and qwix stand beside the techniques that they check, TFMOT in
`test_compress_oracles_tfmot.py`. PyTorch is no dependency of the tests; the extra `oracles` has it,
and without it its tests are skipped. Where libraries differ on purpose, the test says how.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans, kmeans_plusplus

from rcm import numerics
from rcm.compress import codebooks, filters, kmeans, lsq, weight_grids
from rcm.compress.calibration import moving_average
from rcm.compress.fold import fold_batch_norm
from rcm.compress.masks import make_masks, pruned_count
from rcm.models.channels import Channels
from rcm.models.layers import BN_EPSILON

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is missing: install the extra 'oracles'")


@pytest.fixture(scope="module")
def prune(torch):
    return pytest.importorskip("torch.nn.utils.prune")


@pytest.fixture(scope="module")
def observer(torch):
    return pytest.importorskip("torch.ao.quantization.observer")


def normal(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def masks_of(kernels, sparsity, scope="layer", structure="weights", group=1):
    """Our masks by magnitude, as numpy."""
    scores = {name: jnp.abs(k) for name, k in kernels.items()}
    dead = {name: k == 0 for name, k in kernels.items()}
    masks = make_masks(scores, dead, np.float32(sparsity), scope, structure, group)
    return {name: np.asarray(mask) for name, mask in masks.items()}


def mask_of(kernel, sparsity, structure="weights", group=1):
    return masks_of({"a": kernel}, sparsity, "layer", structure, group)["a"]


# --- scikit-learn: K-means


@pytest.mark.parametrize("start", ["linear", "density"])
@pytest.mark.parametrize("clusters", [3, 8])
def test_lloyd_ends_where_that_of_scikit_learn_does_from_the_same_start(start, clusters):
    weights = normal(1, 600)
    ordered = kmeans.sort_weights(jnp.asarray(weights), jnp.zeros(600, bool))
    first = np.asarray(kmeans.STARTS[start](jnp.zeros((16, 2)), ordered, clusters))[:clusters]
    theirs = KMeans(clusters, init=first[:, None], n_init=1, tol=0, max_iter=300)
    theirs.fit(weights[:, None])
    rule = codebooks.Rule(16, start=start)
    ours = codebooks.cluster_weights(jnp.zeros((1, 16, 2)), weights, 600, clusters, rule)
    assert np.abs(theirs.cluster_centers_.ravel() - first).max() > 0.02  # Lloyd had work to do
    np.testing.assert_array_equal(ours.assignments, theirs.labels_)
    np.testing.assert_allclose(ours.values[:clusters], theirs.cluster_centers_.ravel(), rtol=1e-5)


def test_plus_plus_draws_the_same_triples_as_often_as_scikit_learn():
    """With one trial for each centroid; by default scikit-learn keeps the best of several."""
    weights = np.array([0.0, 1.0, 3.0, 3.5, 7.0], np.float32)
    trials = [
        kmeans_plusplus(weights[:, None], 3, random_state=seed, n_local_trials=1)[0]
        for seed in range(1000)
    ]
    ordered = kmeans.sort_weights(jnp.asarray(weights), jnp.zeros(5, bool))
    draws = jax.random.uniform(KEY, (20_000, 4, 2))
    ours = jax.jit(jax.vmap(lambda u: kmeans.plus_plus(u, ordered, 3)))(draws)[:, :3]
    found = [shares(np.sort(np.asarray(x).reshape(-1, 3), axis=1)) for x in (ours, trials)]
    for triple in set(found[0]) | set(found[1]):
        assert abs(found[0].get(triple, 0) - found[1].get(triple, 0)) < 0.05


def shares(rows):
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    return {tuple(map(float, row)): n / len(rows) for row, n in zip(distinct, counts, strict=True)}


# --- PyTorch: pruning


@pytest.mark.parametrize("amount", [0.1, 0.5, 0.77])
def test_single_weights_fall_as_in_l1_unstructured(torch, prune, amount):
    kernel = normal(0, (3, 3, 6, 10))
    theirs = prune.L1Unstructured(amount).compute_mask(
        torch.tensor(kernel), torch.ones(3, 3, 6, 10)
    )
    np.testing.assert_array_equal(mask_of(kernel, amount), theirs.numpy().astype(bool))


def test_of_equal_weights_as_many_fall_as_in_pytorch(torch, prune):
    """Which ones is left open by torch.topk; ours are those of the lowest index."""
    kernel = np.repeat(np.float32([1, 2]), 10)
    theirs = prune.L1Unstructured(0.3).compute_mask(torch.tensor(kernel), torch.ones(20)).numpy()
    ours = mask_of(kernel[None], 0.3)[0]
    assert (theirs[:10].sum(), theirs[10:].sum()) == (ours[:10].sum(), ours[10:].sum()) == (4, 10)
    np.testing.assert_array_equal(ours[:10], np.arange(10) >= 6)


def test_counts_are_those_of_pytorch_but_for_halves_in_another_precision(torch, prune):
    """Both round n * amount half to even, PyTorch the float64 and we the float32 product."""
    differ = []
    for size in (*range(1, 60), 432, 999, 2304):
        for amount in np.arange(1, 20) / 20:
            ones = torch.ones(size)
            mask = prune.RandomUnstructured(float(amount)).compute_mask(ones, ones)
            theirs, ours = int((mask == 0).sum()), int(pruned_count(amount, size))
            if theirs != ours:
                differ.append((abs(theirs - ours), abs(size * amount % 1 - 0.5)))
    assert len(differ) < 10
    assert all(gap == 1 and from_half < 1e-4 for gap, from_half in differ)


def test_all_kernels_together_fall_as_in_global_unstructured(torch, prune):
    kernels = {"a": normal(1, (8, 12)), "b": 3 * normal(2, (12, 5)), "c": normal(3, (5, 2))}
    layers = {name: torch.nn.Linear(*k.shape, bias=False) for name, k in kernels.items()}
    for name, layer in layers.items():
        layer.weight.data = torch.tensor(kernels[name].T.copy())
    every = [(layer, "weight") for layer in layers.values()]
    prune.global_unstructured(every, pruning_method=prune.L1Unstructured, amount=0.6)
    for name, ours in masks_of(kernels, 0.6, "global").items():
        np.testing.assert_array_equal(ours.T, layers[name].weight_mask.numpy().astype(bool))


def test_a_second_pruning_counts_all_weights_where_pytorch_counts_those_that_are_left(torch, prune):
    """Half and half again there is 50 % and 75 % here."""
    kernel = normal(4, (20, 10))
    layer = torch.nn.Linear(20, 10, bias=False)
    layer.weight.data = torch.tensor(kernel.T.copy())
    first = mask_of(kernel, 0.5)
    for _ in range(2):
        prune.l1_unstructured(layer, "weight", amount=0.5)
    second = mask_of(np.where(first, kernel, 0), 0.75)
    np.testing.assert_array_equal(second.T, layer.weight_mask.numpy().astype(bool))
    assert second.sum() == 50


@pytest.mark.parametrize(("score", "power"), [("l1", 1), ("l2", 2)])
@pytest.mark.parametrize("amount", [0.25, 0.6])
def test_filters_fall_as_in_ln_structured(torch, prune, score, power, amount):
    kernel = normal(5, (3, 3, 4, 16)) ** 3  # heavy tails, so that the two norms disagree
    method = prune.LnStructured(amount, n=power, dim=0)
    oihw = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
    theirs = method.compute_mask(oihw, torch.ones_like(oihw)).numpy()[:, 0, 0, 0]
    group = Channels("conv", 1, ("conv",), ())
    compressor = filters.prune_filters({group: 0}, score)
    params = {"params": {"conv": {"kernel": jnp.asarray(kernel)}}}
    state = compressor.init(KEY, params, {"rates": np.float32([amount])})
    np.testing.assert_array_equal(state.keep["conv"], theirs.astype(bool))


@pytest.mark.parametrize(("structure", "level", "zeros"), [("n_of_m", 1.0, 2), ("block", 0.5, 4)])
def test_patterns_are_those_of_the_weight_norm_sparsifier(torch, structure, level, zeros):
    """Its blocks lie along the last axis: inputs, for N:M, of our kernel transposed."""
    pruning = pytest.importorskip("torch.ao.pruning")
    kernel = normal(6, (16, 12))
    weight = kernel.T if structure == "n_of_m" else kernel
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = torch.tensor(weight.copy())
    sparsifier = pruning.WeightNormSparsifier(level, (1, 4), zeros, norm=1)
    model = torch.nn.Sequential(layer)
    sparsifier.prepare(model, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()
    theirs = layer.parametrizations.weight[0].mask.numpy().astype(bool)
    ours = mask_of(kernel, 0.5, structure, 4)
    np.testing.assert_array_equal(ours.T if structure == "n_of_m" else ours, theirs)


# --- PyTorch: quantization


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zero", [0, 1, 3])
def test_affine_grid_and_gradient_are_those_of_fake_quantize(torch, bits, zero):
    """A step of a power of two, so that ties are ties in both: half to even, half a step beyond
    the range still passes a gradient."""
    step, limit = 0.25, 2**bits - 1
    x = np.concatenate([2 * normal(bits, 300), np.arange(-9, 70) / 8]).astype(np.float32)
    lo, hi = np.float32(-zero * step), np.float32((limit - zero) * step)
    ours, pull_back = jax.vjp(lambda x: numerics.fake_quant_affine(x, lo, hi, bits), x)
    there = torch.tensor(x, requires_grad=True)
    theirs = torch.fake_quantize_per_tensor_affine(there, step, zero, 0, limit)
    theirs.sum().backward()
    np.testing.assert_array_equal(ours, theirs.detach().numpy())
    np.testing.assert_array_equal(pull_back(jnp.ones_like(x))[0], there.grad.numpy())
    assert 0 < there.grad.sum() < len(x)


@pytest.mark.parametrize("bits", [4, 8])
def test_channel_grids_are_those_of_fake_quantize_and_the_symmetric_observer(torch, observer, bits):
    kernel, q = normal(bits, (3, 3, 4, 6)), 2 ** (bits - 1) - 1
    how = {"dtype": torch.qint8, "qscheme": torch.per_channel_symmetric, "ch_axis": 3}
    watch = observer.PerChannelMinMaxObserver(quant_min=-q, quant_max=q, **how)
    watch(torch.tensor(kernel))
    scale, zero = watch.calculate_qparams()
    np.testing.assert_allclose(
        weight_grids.step_of(jnp.asarray(kernel), bits).ravel(), scale, rtol=1e-6
    )
    ours, pull_back = jax.vjp(lambda k: weight_grids.on_grid(k, bits), jnp.asarray(kernel))
    there = torch.tensor(kernel, requires_grad=True)
    theirs = torch.fake_quantize_per_channel_affine(there, scale, zero.int(), 3, -q, q)
    theirs.sum().backward()
    np.testing.assert_allclose(ours, theirs.detach(), atol=1e-6)
    np.testing.assert_array_equal(pull_back(jnp.ones_like(kernel))[0], there.grad)


@pytest.mark.parametrize("shift", [-9.0, -0.3, 0.7, 9.0])
def test_affine_step_and_zero_point_are_those_of_the_observer(torch, observer, shift):
    x = normal(1, 200) + np.float32(shift)
    watch = observer.MinMaxObserver(dtype=torch.quint8, qscheme=torch.per_tensor_affine)
    watch(torch.tensor(x))
    scale, zero = numerics.affine_grid(x.min(), x.max(), 8)
    np.testing.assert_allclose(scale, watch.calculate_qparams()[0][0], rtol=1e-6)
    assert int(zero) == int(watch.calculate_qparams()[1][0])


def test_moving_averages_of_ranges_are_those_of_the_observer(torch, observer):
    x = normal(2, (50, 7)) * np.linspace(1, 3, 50, dtype=np.float32)[:, None]
    watch = observer.MovingAverageMinMaxObserver(averaging_constant=0.1)
    for part in np.array_split(x, 10):
        watch(torch.tensor(part))
    lo, hi = moving_average(jnp.asarray(x))
    np.testing.assert_allclose([lo, hi], [watch.min_val, watch.max_val], rtol=1e-6)
    assert watch.max_val < x.max()


@pytest.mark.parametrize("bits", [3, 8])
def test_learned_steps_move_as_those_of_the_learnable_fake_quantizer(torch, bits):
    """One SGD step from LSQ's start, up to the bound max |w| / q that is ours (8 bits meet it).

    PyTorch's operator is internal, hence its underscore."""
    kernel, upstream, rate = normal(7, (30, 5)), normal(8, (30, 5)), 0.01
    q, grid = 2 ** (bits - 1) - 1, weight_grids.Grid(per_channel=False)
    step = lsq.weight_step(jnp.asarray(kernel), jnp.int32(bits), grid)
    size = torch.tensor(np.asarray(step.size).ravel(), requires_grad=True)
    factor = 1 / np.sqrt(kernel.size * q)
    there = torch._fake_quantize_learnable_per_tensor_affine(
        torch.tensor(kernel), size, torch.zeros(1), -q, q, factor
    )
    there.backward(torch.tensor(upstream))
    moved = lsq.move_weight_step(
        step, kernel, kernel, jnp.asarray(upstream), jnp.int32(bits), rate, grid
    )
    np.testing.assert_allclose(moved.momentum.ravel(), size.grad, rtol=1e-4)
    free = (size - rate * size.grad).detach().numpy()
    expected = np.minimum(free, np.abs(kernel).max() / q)
    np.testing.assert_allclose(moved.size.ravel(), expected, rtol=1e-5)


def test_a_folded_norm_is_that_of_fuse_conv_bn_weights(torch):
    fusion = pytest.importorskip("torch.nn.utils.fusion")
    kernel, bias, mean, scale, shift = (
        normal(s, n) for s, n in enumerate([(3, 3, 2, 4), *[4] * 4])
    )
    var = np.square(normal(9, 4)) + 0.1
    node = {"conv": {"kernel": kernel, "bias": bias}, "norm": {"scale": scale, "bias": shift}}
    stats = {"norm": {"mean": mean, "var": var}}
    ours = fold_batch_norm({"params": {"a": node}, "batch_stats": {"a": stats}})["params"]["a"]
    oihw, *rest = (torch.tensor(x) for x in (kernel.transpose(3, 2, 0, 1).copy(), bias, mean, var))
    fused = fusion.fuse_conv_bn_weights(
        oihw, *rest, BN_EPSILON, torch.tensor(scale), torch.tensor(shift)
    )
    theirs = [part.detach().numpy() for part in fused]
    np.testing.assert_allclose(
        ours["conv"]["kernel"], theirs[0].transpose(2, 3, 1, 0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(ours["norm"]["bias"], theirs[1], rtol=1e-5, atol=1e-6)
