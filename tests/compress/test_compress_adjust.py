"""Post-hoc logit adjustment: what it does to logits, bytes and other techniques."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm.compress import QAT, Adjust, Prune, Quantize, build_chain, validate_chain
from rcm.compress.size import stored_bytes
from rcm.models import MODELS
from rcm.train.losses import adjusted, log_prior

COUNTS = (500, 50, 5)
KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).uniform(size=(8, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=["linear", "cosine"])
def network(request):
    """(network, its variables with observed ranges)."""
    model = MODELS["tiny"](classes=3, classifier=request.param)
    variables = jax.jit(model.init)(KEY, IMAGES)
    quant = jax.jit(partial(model.apply, mutable=["quant"]))(variables, IMAGES)[1]["quant"]
    return model, {**variables, "quant": quant}


def behind(network, *techniques):
    """(states, effective variables, logits) of the chain."""
    model, variables = network
    chain = build_chain(techniques, model)
    levels = [
        dict(t.levels(1, COUNTS) if isinstance(t, Adjust) else t.levels(1)) for t in techniques
    ]
    states = jax.jit(chain.init)(KEY, variables, tuple(levels))
    effective = jax.jit(chain.apply)(variables, states)
    assert chain.check(jax.device_get(effective), jax.device_get(states)) == []
    return states, effective, jax.jit(model.apply)(effective, IMAGES)


@pytest.mark.parametrize("others", [(), (Prune(0.5), Quantize(8, 8))], ids=["alone", "last"])
def test_logits_move_by_tau_times_the_log_prior_and_nothing_else_does(network, others):
    _, before, plain = behind(network, *others)
    _, after, logits = behind(network, *others, Adjust(1.5))
    np.testing.assert_allclose(logits, adjusted(plain, log_prior(COUNTS), -1.5), atol=1e-5)
    own = after["params"]["head"].pop("bias")
    np.testing.assert_allclose(own, -1.5 * log_prior(COUNTS), rtol=1e-5)
    before["params"]["head"].pop("bias", None)
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_tau_zero_changes_no_logit(network):
    np.testing.assert_array_equal(behind(network, Adjust(0.0))[2], behind(network)[2])


def test_a_linear_classifier_pays_no_byte_and_a_cosine_its_bias(network):
    def packed(*techniques):
        states, effective, _ = behind(network, *techniques)
        return stored_bytes(*jax.device_get((effective, states)), techniques, network[0]).packed

    extra = packed(Quantize(8), Adjust()) - packed(Quantize(8))
    assert extra == (0 if network[0].classifier == "linear" else 3 * 4)


def test_a_bias_that_was_changed_afterwards_is_named(network):
    model, variables = network
    chain = build_chain((Adjust(),), model)
    states = chain.init(KEY, variables, (dict(Adjust().levels(1, COUNTS)),))
    effective = chain.apply(variables, states)
    effective["params"]["head"]["bias"] = jnp.zeros(3)
    assert chain.check(effective, states) == [
        "head/bias: not the bias that the adjustment gave it."
    ]


def test_it_stands_last():
    for chain in ((Quantize(), Adjust()), (QAT(), Adjust()), (QAT(), Quantize(), Adjust())):
        validate_chain("p", chain, 100)
    with pytest.raises(ValueError, match="nothing can follow adjust"):
        validate_chain("p", (Adjust(), Prune()), 100)
    with pytest.raises(ValueError, match="off the grid of integer biases"):
        validate_chain("p", (Quantize(8, 8, bias_bits=32), Adjust()), 100)
    with pytest.raises(ValueError, match="tau must be 0"):
        validate_chain("p", (Adjust(-1.0),), 100)
