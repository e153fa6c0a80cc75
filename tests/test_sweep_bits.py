"""The engine's promises: companions, devices and order never change a bit of a member."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from rcm import rounds, sweep
from rcm.sweep import Execution
from tests.engine import LOOP, POOL, equal, lane, program, train

pytestmark = pytest.mark.optimized


def test_a_member_does_not_depend_on_its_companions():
    alone = train(LOOP, [lane(1)], POOL)[0]
    together = train(LOOP, [lane(0), lane(1)], POOL)
    assert equal(alone, together[1])
    assert not equal(together[0].variables, together[1].variables)


def test_permuted_seeds_permute_results():
    one, two = train(LOOP, [lane(0), lane(1)], POOL)
    swapped = train(LOOP, [lane(1), lane(0)], POOL)
    assert equal(swapped, [two, one])


@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=pytest.mark.long)])
def test_any_number_of_devices_gives_the_same_bits(devices):
    lanes = [lane(seed) for seed in range(devices)]
    wide = train(Execution("loop", devices, devices, 1), lanes, POOL)
    narrow = [train(Execution("loop", 1, 1, 1), [member], POOL)[0] for member in lanes]
    assert equal(wide, narrow)


COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


@pytest.mark.parametrize("lanes", [2, 4])
def test_devices_tell_each_other_nothing_in_a_step(lanes):
    """No collective operation in the compiled program; a sum over devices has one."""
    strategy = "loop" if lanes == 2 else "vmap"
    step = rounds.lower_step(program(), Execution(strategy, lanes, 2, 1), POOL, lane(0), False)
    text = step.compile().as_text()
    assert "fusion" in text
    assert not [name for name in COLLECTIVES if name in text]
    mesh = sweep.mesh_of(2)
    total = jax.shard_map(
        lambda x: jax.lax.psum(x, "members"), mesh=mesh, in_specs=P("members"), out_specs=P()
    )
    told = jax.jit(total).lower(np.ones(2, np.float32)).compile().as_text()
    assert "all-reduce" in told


def test_lanes_of_one_device_do_not_see_each_other():
    vmap = Execution("vmap", 4, 2, 1)
    lanes = [lane(seed) for seed in range(4)]
    assert equal(train(vmap, lanes, POOL)[2], train(vmap, [lane(2), lane(0)], POOL)[0])


def test_a_diverged_member_is_frozen_and_hurts_nobody():
    healthy = train(LOOP, [lane(0)], POOL)[0]
    both = train(LOOP, [lane(0), lane(1, rate=np.inf)], POOL)
    assert equal(healthy, both[0])
    assert both[0].alive
    assert not both[1].alive
