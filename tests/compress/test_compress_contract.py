"""The contract that every technique and every chain keeps, on a two-convolution net."""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm.compress import (
    QAT,
    TECHNIQUES,
    Cast,
    Cluster,
    DynamicSparse,
    Prune,
    PruneFilters,
    Quantize,
    build_chain,
)
from rcm.compress.base import Info, kernels, with_kernels
from rcm.models import MODELS

STEPS = 6
CHAINS = {
    "prune": (Prune(0.7),),
    "prune_global": (Prune(0.7, scope="global"),),
    "prune_cubic": (Prune(0.9, schedule="cubic", end=1.0, every=2),),
    "prune_erk_random": (Prune(0.7, scope="erk", score="random"),),
    "prune_n_of_m": (Prune(0.5, structure="n_of_m", group=2),),
    "prune_blocks_taylor": (
        Prune(0.5, schedule="cubic", end=1.0, every=2, score="taylor", structure="block"),
    ),
    "prune_movement": (Prune(0.5, schedule="cubic", end=1.0, every=1, score="movement"),),
    "filters": (PruneFilters((0.5,)),),
    "filters_prune_cluster": (PruneFilters((0.5,)), Prune(0.8), Cluster(5)),
    "rigl": (DynamicSparse(0.6, every=2),),
    "set": (
        DynamicSparse(0.6, growth="random", scope="layer", decay="constant", every=1, end=1.0),
    ),
    "quantize": (Quantize(4, 8),),
    "quantize_asymmetric_dynamic": (
        Quantize(
            4, 4, weights="asymmetric", weight_range="mse", activations="dynamic", edge_bits=8
        ),
    ),
    "cast": (Cast("bfloat16"),),
    "cluster": (Cluster(5),),
    "qat": (QAT(4, 4),),
    "qat_learned": (QAT(4, 4, step="learned", freeze=0.5),),
    "prune_cluster_qat": (Prune(0.7), Cluster(5), QAT(8, 8)),
    "qat_quantize": (QAT(8, 8), Quantize(8, 8)),
    "cluster_learned": (Cluster(5), QAT(4, 4, step="learned")),
    "prune_quantize": (Prune(0.7), Quantize(8, 4)),
    "prune_cluster_quantize": (Prune(0.7), Cluster(5), Quantize(8, 8)),
    "cluster_asymmetric_biases": (
        Cluster(5),
        Quantize(8, 8, weights="asymmetric", bias_bits=32),
    ),
}
GRADUAL = {n for n, chain in CHAINS.items() if getattr(chain[0], "schedule", "") == "cubic"}
MODEL = MODELS["tiny"](classes=4)
PREDICT = jax.jit(MODEL.apply)
OBSERVE = jax.jit(partial(MODEL.apply, mutable=["quant"]))


class Machine(NamedTuple):
    """A chain, its levels and its functions, jitted."""

    chain: Any
    levels: tuple
    traces: list  # grows when `init` is traced
    init: Any
    apply: Any
    update: Any
    pull_back: Any  # (variables, states, gradients of effective params) -> gradients of params


def build(name):
    chain = build_chain(CHAINS[name], MODEL)
    levels = tuple(dict(technique.levels(STEPS)) for technique in CHAINS[name])
    traces = []

    def init(key, variables, levels):
        traces.append(name)
        return chain.init(key, variables, levels)

    def pull_back(variables, states, grads):
        def effective(params):
            return chain.apply({**variables, "params": params}, states)["params"]

        return jax.vjp(effective, variables["params"])[1](grads)[0]

    functions = (init, chain.apply, chain.update, pull_back)
    return Machine(chain, levels, traces, *functions)


@lru_cache
def machine(name):
    plain = build(name)
    return Machine(*plain[:3], *(jax.jit(function) for function in plain[3:]))


def optimizer_step(m, variables, states, momentum, info):
    """Momentum with weight decay, then the chain's update; all three states."""
    grads, params = m.pull_back(variables, states, info.grads), variables["params"]
    info = info._replace(before=params)
    momentum = jax.tree.map(lambda m, g, p: 0.9 * m + g + 0.01 * p, momentum, grads, params)
    moved = jax.tree.map(lambda p, m: p - 0.1 * m, params, momentum)
    variables, states = m.update(states, {**variables, "params": moved}, info)
    return variables, states, momentum


@lru_cache
def member(seed=0):
    """Variables with random norms, statistics and observed ranges; kernels have many ties."""
    variables = jax.jit(MODEL.init)(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)))
    rng = np.random.default_rng(seed)
    stats = jax.tree.map(lambda x: rng.uniform(0.5, 2, x.shape), variables["batch_stats"])
    params = jax.tree.map(lambda x: x + 0.2 * rng.normal(size=x.shape), variables["params"])
    tied = {name: np.round(kernel, 2) for name, kernel in kernels(params).items()}
    variables = with_kernels({"params": params, "batch_stats": stats}, tied)
    variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), variables)
    quant = OBSERVE(variables, images(seed))[1]["quant"]
    return {**variables, "quant": quant}


def images(seed=0):
    return jax.random.uniform(jax.random.key(seed + 100), (8, 8, 8, 3))


def gradients(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), member()["params"])


def info(step):
    ranges = jax.tree.map(jnp.sin, member()["quant"])
    rate = {"learning_rate": jnp.float32(0.1), "before": member()["params"], "quant_grads": ranges}
    return Info(jnp.int32(step), jax.random.key(step), gradients(step), **rate)


def same(a, b):
    """Equal to the bit, signs of zeros included."""
    a, b = np.asarray(a), np.asarray(b)
    return a.tobytes() == b.tobytes() and a.shape == b.shape and a.dtype == b.dtype


def all_same(a, b):
    return all(jax.tree.leaves(jax.tree.map(same, a, b)))


def zero_levels(levels):
    return jax.tree.map(np.zeros_like, levels)


# kernels that a chain compresses, where these are not all: channels that can go, groups that fit,
# kernels that ERK leaves dense
AFFECTED = {
    "filters": {"stem/conv/kernel"},
    "prune_n_of_m": {"conv/conv/kernel", "head/kernel"},
    "prune_erk_random": {"conv/conv/kernel", "stem/conv/kernel"},
    "rigl": {"conv/conv/kernel", "stem/conv/kernel"},
}


every_chain = pytest.mark.parametrize("name", CHAINS)


def test_every_technique_stands_alone_in_the_battery():
    assert {type(chain[0]) for chain in CHAINS.values() if len(chain) == 1} == set(
        TECHNIQUES.values()
    )


@every_chain
def test_level_zero_is_the_identity_to_the_bit(name):
    m, variables = machine(name), member()
    states = m.init(jax.random.key(1), variables, zero_levels(m.levels))
    effective = m.apply(variables, states)
    for collection in ("params", "batch_stats"):
        assert all_same(effective[collection], variables[collection])
    assert same(PREDICT(effective, images()), PREDICT(variables, images()))
    updated, _ = m.update(states, variables, info(0))
    assert all_same(updated, variables)
    assert all_same(m.pull_back(variables, states, gradients(3)), gradients(3))


@every_chain
def test_full_levels_change_the_network(name):
    m, variables = machine(name), member()
    states = m.init(jax.random.key(1), variables, m.levels)
    if name in GRADUAL:  # starts dense by design
        _, states = m.update(states, variables, info(STEPS))
    changed = kernels(m.apply(variables, states)["params"])
    moved = {k for k, v in kernels(variables["params"]).items() if not same(changed[k], v)}
    assert moved == AFFECTED.get(name, set(changed))


@every_chain
def test_invariant_holds_after_every_optimizer_step_and_into_the_next_stage(name):
    m, variables = machine(name), member()
    states = m.init(jax.random.key(1), variables, m.levels)
    momentum = jax.tree.map(jnp.zeros_like, variables["params"])
    for step in (*range(STEPS), 0, 1):  # the last two are the beginning of a later stage
        variables, states, momentum = optimizer_step(m, variables, states, momentum, info(step))
        effective = m.apply(variables, states)
        assert m.chain.check(jax.device_get(effective), jax.device_get(states)) == []
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((effective, momentum)))
    for level, state in zip(m.levels, states, strict=True):
        if hasattr(state, "sparsity"):
            assert state.sparsity == level["sparsity"]


@pytest.mark.parametrize("name", ["prune", "quantize", "cluster", "prune_cluster_quantize"])
def test_gradient_of_the_network_is_finite_and_reaches_kernels(name):
    m, variables = machine(name), member()
    states = m.init(jax.random.key(1), variables, m.levels)

    @jax.jit
    def loss(params):
        effective = m.chain.apply({**variables, "params": params}, states)
        return jnp.square(MODEL.apply(effective, images())).sum()

    for gradient in kernels(jax.grad(loss)(variables["params"])).values():
        assert np.isfinite(gradient).all()
        assert np.any(gradient != 0)


@every_chain
def test_one_trace_serves_every_level(name):
    m, variables = machine(name), member()
    halved = jax.tree.map(lambda level: (level / 2).astype(level.dtype), m.levels)
    for levels in (m.levels, zero_levels(m.levels), halved):
        m.init(jax.random.key(1), variables, levels)
    assert len(m.traces) == 1


@pytest.mark.parametrize("name", ["prune", "prune_cubic", "quantize", "prune_cluster_quantize"])
def test_vmap_over_members_gives_each_its_own_result(name):
    m = machine(name)
    members = [member(0), member(1), member(2)]
    levels = [m.levels, m.levels, zero_levels(m.levels)]
    keys = jax.random.split(jax.random.key(5), 3)

    def life(m, key, variables, levels, info):
        states = m.init(key, variables, levels)
        momentum = jax.tree.map(jnp.zeros_like, variables["params"])
        return optimizer_step(m, variables, states, momentum, info)

    stacked, stacked_levels = (
        jax.tree.map(lambda *leaves: np.stack(leaves), *trees) for trees in (members, levels)
    )
    together = jax.jit(jax.vmap(partial(life, build(name)), in_axes=(0, 0, 0, None)))
    many = together(keys, stacked, stacked_levels, info(STEPS))
    for i in range(3):
        alone = life(m, keys[i], members[i], levels[i], info(STEPS))
        ours = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, alone
        )


@every_chain
def test_check_names_the_tensor_of_a_planted_violation(name):
    m, variables = machine(name), member()
    states = m.init(jax.random.key(1), variables, m.levels)
    if name in GRADUAL:
        variables, states = m.update(states, variables, info(STEPS))
    effective, states = jax.device_get((m.apply(variables, states), states))
    assert m.chain.check(effective, states) == []
    broken = "head/kernel" if name not in AFFECTED else sorted(AFFECTED[name])[0]
    broken = "stem/conv/kernel" if PruneFilters in map(type, CHAINS[name]) else broken
    noise = np.random.default_rng(0).normal(size=kernels(effective["params"])[broken].shape)
    broken_variables = with_kernels(effective, {broken: noise.astype(np.float32)})
    lines = m.chain.check(broken_variables, states)
    assert len(lines) >= len(CHAINS[name])
    assert all(broken.removesuffix("/conv/kernel") in line for line in lines)
