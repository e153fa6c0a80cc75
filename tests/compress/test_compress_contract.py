"""The contract that every technique and every chain keeps, on a two-convolution net."""

import itertools
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm.compress import TECHNIQUES, build_chain, levels_of, validate_chain
from rcm.compress.base import Info, kernels, named_leaves, with_kernels
from rcm.compress.configurations import CONFIGURATIONS
from rcm.models import MODELS

STEPS = 6
COUNTS = (500, 100, 20, 4)
EXAMPLES = {
    f"{name}{i}": (example,)
    for name, technique in TECHNIQUES.items()
    for i, example in enumerate(technique.examples())
}
FIRST = [f"{name}0" for name in TECHNIQUES]
PIPELINES = {c.name: c.steps for c in CONFIGURATIONS.values() if len(c.steps) > 1}
LONGEST = max(PIPELINES, key=lambda name: len(PIPELINES[name]))
PAIRS = {
    f"{one}-{two}": EXAMPLES[one] + EXAMPLES[two] for one, two in itertools.product(FIRST, FIRST)
}
CHAINS = EXAMPLES | PIPELINES | PAIRS
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
    begin: Any  # (key, variables, states but the last) -> states, the last technique's begun


def build(techniques):
    chain = build_chain(techniques, MODEL)
    levels = tuple(dict(level) for level in levels_of(techniques, STEPS, COUNTS))
    traces = []

    def init(key, variables, levels):
        traces.append(techniques)
        return chain.init(key, variables, levels)

    def pull_back(variables, states, grads):
        def effective(params):
            return chain.apply({**variables, "params": params}, states)["params"]

        return jax.vjp(effective, variables["params"])[1](grads)[0]

    def begin(key, variables, states):
        seen = build_chain(techniques[:-1], MODEL).apply(variables, states)
        last = techniques[-1].build(techniques[:-1], MODEL)
        return (*states, last.init(key, seen, levels[-1]))

    functions = (init, chain.apply, chain.update, pull_back, begin)
    return Machine(chain, levels, traces, *functions)


def machine(name):
    return jitted(CHAINS[name])


@lru_cache
def jitted(techniques):
    plain = build(techniques)
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


def legal(name):
    """Whether these techniques may stand in this order."""
    try:
        validate_chain(name, CHAINS[name], 32, MODEL.channels())
    except ValueError:
        return False
    return True


def moved(before, after):
    """Paths of what differs: kernels or, where none does, any other parameter."""
    for leaves in (kernels, named_leaves):
        old, new = leaves(before["params"]), leaves(after["params"])
        found = [path for path, leaf in new.items() if path not in old or not same(old[path], leaf)]
        if found:
            return found
    return []


every_example = pytest.mark.parametrize("name", EXAMPLES)
every_first = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] * (n not in FIRST)) for n in EXAMPLES]
)
every_chain = pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(n, marks=[pytest.mark.long] * (n not in FIRST)) for n in EXAMPLES),
        *(pytest.param(n, marks=pytest.mark.long) for n in PIPELINES),
        *(pytest.param(name, marks=pytest.mark.long) for name in PAIRS if legal(name)),
    ],
)
one_or_all = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.long] * (name != "qat0")) for name in (*FIRST, LONGEST)],
)


@every_first
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


@every_first
def test_full_levels_change_the_network(name):
    m, variables = machine(name), member()
    states = m.init(jax.random.key(1), variables, m.levels)
    _, states = m.update(states, variables, info(STEPS))  # gradual ones start dense by design
    assert moved(variables, m.apply(variables, states))


@every_chain
def test_invariant_holds_after_every_optimizer_step_and_into_the_next_stage(name):
    variables, states = member(), ()
    for stage in range(
        1, len(CHAINS[name]) + 1
    ):  # each technique begins when those before are done
        m = jitted(CHAINS[name][:stage])
        states = m.begin(jax.random.key(stage), variables, states)
        momentum = jax.tree.map(jnp.zeros_like, variables["params"])
        for step in range(STEPS if stage < len(CHAINS[name]) else STEPS + 2):
            step %= STEPS  # the last two are the beginning of a later stage
            moved = optimizer_step(m, variables, states, momentum, info(step))
            variables, states, momentum = moved
            effective = m.apply(variables, states)
            assert m.chain.check(jax.device_get(effective), jax.device_get(states)) == []
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((effective, momentum)))
    for level, state in zip(m.levels, states, strict=True):
        if hasattr(state, "sparsity"):
            assert state.sparsity == level["sparsity"]


@one_or_all
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


@every_first
def test_one_trace_serves_every_level(name):
    m, variables = machine(name), member()
    halved = jax.tree.map(lambda level: (level / 2).astype(level.dtype), m.levels)
    for levels in (m.levels, zero_levels(m.levels), halved):
        m.init(jax.random.key(1), variables, levels)
    assert len(m.traces) == 1


@one_or_all
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
    together = jax.jit(jax.vmap(partial(life, build(CHAINS[name])), in_axes=(0, 0, 0, None)))
    many = together(keys, stacked, stacked_levels, info(STEPS))
    for i in range(3):
        alone = life(m, keys[i], members[i], levels[i], info(STEPS))
        ours = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, alone
        )


@every_first
def test_check_names_the_tensor_of_a_planted_violation(name):
    m, variables = machine(name), member()
    states = m.init(jax.random.key(1), variables, m.levels)
    variables, states = m.update(states, variables, info(STEPS))
    effective, states = jax.device_get((m.apply(variables, states), states))
    assert m.chain.check(effective, states) == []
    for path in moved(member(), effective):
        shape = named_leaves(effective["params"])[path].shape
        noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        lines = m.chain.check(with_kernels(effective, {path: noise}), states)
        assert lines
        assert all(path.split("/")[0] in line for line in lines)


@every_example
def test_a_technique_says_what_it_promises_in_words(name):
    (technique,) = CHAINS[name]
    assert len(technique.promise().split()) > 2
    assert technique.describe()
    technique.validate("p", 32)
