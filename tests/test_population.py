"""One program for a population that mixes what can be swept, through the plan and its runner."""

import numpy as np
import pytest

from rcm import config, sweep
from rcm.compress import QAT, Cluster, Prune
from rcm.compress.base import kernels
from rcm.members import Members
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.run import Runner
from rcm.store import Store
from rcm.sweep import Execution

MIX = ((0.0, 2, 4), (0.3, 4, 16), (0.5, 8, 4), (0.8, 2, 16), (0.9, 4, 4), (0.9, 8, 16))
LANES = Execution("loop", 4, 4, 1)


def members(mix):
    """(sparsity, bits, clusters) -> its name and steps."""
    return {
        f"s{sparsity}_b{bits}_k{clusters}": (Prune(sparsity), Cluster(clusters), QAT(bits, bits))
        for sparsity, bits, clusters in mix
    }


@pytest.fixture(scope="module")
def ran(make_toy_study, tmp_path_factory):
    """(plan, members, traces by kind and program) of the mix: one seed, two steps a stage."""
    study = make_toy_study()
    study.seeds, study.data.ratios = 1, (1,)
    study.train.steps = study.fine_tune.steps = 2
    study.pipelines = tuple(config.Pipeline(*named) for named in members(MIX).items())
    sweep.TRACES.clear()
    with pytest.MonkeyPatch.context() as patch, Display() as display:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        plan, _ = prepare(study)
        store = Store(tmp_path_factory.mktemp("population"))
        Runner(plan, store, LANES, False, display).run()
    return plan, Members(plan, store), dict(sweep.TRACES)


def test_five_sparsities_three_bit_widths_and_two_codebooks_compile_once(ran):
    plan, _, traces = ran
    ends = [plan.jobs[plan.ends[name, 1, 0]] for name in members(MIX)]
    assert len({job.fingerprint for job in ends}) == len(MIX)
    assert len({job.program for job in ends}) == 1
    assert [len(stage.jobs) for stage in plan.stages if ends[0] in stage.jobs] == [len(MIX)]
    assert set(traces.values()) == {1}
    steps = {program for kind, program, *_ in traces if kind == "step"}
    assert len(steps) == 4  # dense, and behind each of the three techniques


def test_every_member_of_the_mix_has_its_own_levels(ran):
    """Distinct weights are as many as the codebook and the grid leave; zeros as pruned or more."""
    plan, members_of, _ = ran
    states = {name: members_of.state(plan.ends[name, 1, 0]) for name in members(MIX)}
    for (sparsity, bits, clusters), (name, state) in zip(MIX, states.items(), strict=True):
        job = plan.jobs[plan.ends[name, 1, 0]]
        assert state.alive
        pruned, clustered, quantized = state.compression
        assert (pruned.sparsity, clustered.clusters) == (np.float32(sparsity), clusters)
        assert quantized.levels["bits"] == bits
        (seen,) = sweep.effective(job.program, LANES, [state])
        for path, kernel in kernels(seen["params"]).items():
            assert np.unique(kernel).size <= clusters
            assert np.count_nonzero(kernel) <= kernel.size - round(sparsity * kernel.size)
            assert not kernel[~pruned.masks[path]].any()
    heads = (state.variables["params"]["head"]["kernel"] for state in states.values())
    assert len({head.tobytes() for head in heads}) == len(MIX)
