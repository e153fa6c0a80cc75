"""Repairs for long tails and distillation of features, from the config to what is stored."""

import dataclasses

import jax
import numpy as np
import pytest

from rcm import config, pipelines, rounds, sweep
from rcm.compress import Adjust, Prune, Quantize
from rcm.config import Distill, Finetune, Pipeline
from rcm.members import Members
from rcm.plan import make_plan
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.rounds import Lane, Pool
from rcm.store import Store
from rcm.study import Options, execute
from rcm.sweep import Execution
from rcm.train import fit
from rcm.train.losses import LossHyper, class_numbers
from rcm.train.step import Hyper
from rcm.validation import validate_recipe, validate_study

COUNTS = (40, 10, 4)
MODEL = config.Model(name="tiny", width=4)
COSINE = dataclasses.replace(MODEL, classifier="cosine")
LDAM_DRW = {"loss": "ldam", "weights": "class_balanced", "defer": 0.5}
ONE = Execution("loop", 1, 1, 1)


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def repaired(make_toy_study, tmp_path_factory):
    """(plan, its members) of a finished study: LDAM with everything deferred, then a student that
    learns features and is quantized and adjusted."""
    study = make_toy_study()
    study.seeds, study.data.ratios, study.model = 1, (4,), COSINE
    balance = {"sampling": "class_balanced", **LDAM_DRW}
    study.train = dataclasses.replace(study.train, **balance)
    study.shift = config.Shift()
    hints = Distill(width=2, kind="features", hint=5.0)
    study.pipelines = (Pipeline("hints", (hints, Quantize(8), Adjust())),)
    workdir = tmp_path_factory.mktemp("repaired")
    with Display() as display:
        execute(study, Options(workdir=str(workdir), lanes=1), display)
    plan, _ = prepare(study)
    return plan, Members(plan, Store(workdir))


def last(plan, pipeline):
    return plan.jobs[plan.ends[pipeline, 4, 0]]


def test_a_member_is_given_what_its_recipe_asks_for(repaired):
    plan, members = repaired
    lane = members.lane(last(plan, "dense"))
    tail = plan.tails[4]
    assert lane.hyper.loss.begin == lane.balance.begin == 3
    assert lane.hyper.loss.margin.argmax() == tail.counts.argmin()
    drawn = rounds.index_schedule([lane], 15)(0, 6)[:, 0]
    by_class = [np.bincount(plan.dataset.train.labels[step], minlength=3) for step in drawn]
    assert np.array_equal(by_class[3:], np.full((3, 3), 5))
    np.testing.assert_array_equal(np.sum(by_class[:3], 0) > 15, [True, False, False])


def test_a_projection_is_trained_and_not_kept(repaired):
    plan, members = repaired
    adjusted = last(plan, "hints")
    quantized = plan.jobs[adjusted.parent]
    hints = plan.jobs[quantized.parent]
    begun = jax.eval_shape(lambda: fit.fresh(hints.program, np.uint32(0), ()))
    shapes = {k: v.shape for k, v in begun.variables["params"]["projection"].items()}
    assert shapes == {"weight": (4, 8), "bias": (8,)}
    alone = plan.jobs[last(plan, "tiny_w2-then-adjust-1").parent]
    states = [members.state(job.fingerprint) for job in (hints, alone, adjusted)]
    structures = {jax.tree.structure(state.variables["params"]) for state in states}
    assert len(structures) == 1
    kernels = [state.variables["params"]["stem"]["conv"]["kernel"] for state in states]
    assert not np.array_equal(kernels[0], kernels[1])
    np.testing.assert_array_equal(kernels[0], kernels[2])
    size = {j.label: members.store.notes(members.store.index()[j.fingerprint].chunk)["bytes"][0]
            for j in (hints, alone)}  # fmt: skip
    assert max(size.values()) < 1.1 * min(size.values())


def test_the_adjustment_is_that_of_the_members_own_tail(repaired):
    plan, members = repaired
    state = members.state(last(plan, "hints").fingerprint)
    counts = plan.tails[4].counts
    expected = -np.log(counts / counts.sum())
    np.testing.assert_allclose(state.compression[-1].bias, expected, rtol=1e-5)


def test_five_taus_share_one_program():
    program = fit.make_program(MODEL, None, config.Train(batch=4, augment="none"), (), 3, (8, 8, 3))
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (54, 8, 8, 3), np.uint8)
    pool = sweep.share(ONE, Pool(images, draw.integers(0, 3, 54, np.int32)))
    sweep.TRACES.clear()
    biases = []
    for tau in (0.0, 0.5, 1.0, 1.5, 2.0):
        recipe = config.Train(loss="logit_adjusted", tau=tau)
        numbers = class_numbers(recipe, COUNTS, 3, "linear")
        zero = np.float32(0)
        loss = LossHyper(smoothing=zero, mixing=zero, temperature=np.float32(1), **numbers)
        rates, table = np.full(3, 0.1, np.float32), np.arange(54, dtype=np.int32)
        lane = Lane(0, 0, table, rates, Hyper(np.uint32(0), zero, loss), ())
        state = rounds.begin_round(program, ONE, [lane])
        state = rounds.run_round(program, ONE, pool, [lane], state, 0, lambda *_: None)
        biases.append(np.asarray(state.variables["params"]["head"]["bias"])[0])
    assert [count for (kind, *_), count in sweep.TRACES.items() if kind == "step"] == [1]
    rare_over_frequent = [bias[2] - bias[0] for bias in biases]
    assert np.all(np.diff(rare_over_frequent) > 0)


def test_adjustments_of_five_taus_are_one_population(toy_study):
    taus = (0.0, 0.5, 1.0, 1.5, 2.0)
    toy_study.pipelines = tuple(Pipeline(f"tau{tau:g}", (Adjust(tau),)) for tau in taus)
    plan, _ = prepare(toy_study)
    stages = [stage for stage in plan.stages if stage.first.added]
    assert [len(stage.jobs) for stage in stages] == [5 * 2 * 2]


def program(recipe, model=COSINE, **rest):
    return fit.make_program(model, None, recipe, (), 3, (8, 8, 3), **rest)


def test_what_decides_the_program_and_what_does_not():
    plain = program(config.Train())
    for same in ({"tau": 2.0}, {"loss": "ldam"}, {"weights": "class_balanced"},
                 {"sampling": "class_balanced", "defer": 0.8}):  # fmt: skip
        assert program(config.Train(**same)) == plain
    assert program(config.Train(**LDAM_DRW)) != plain
    assert program(config.Train(), MODEL) != plain
    assert program(config.Train(), distillation="attention") != plain


def test_ldam_needs_cosines(toy_study):
    toy_study.fine_tune.loss = "ldam"
    with pytest.raises(ValueError, match=r"set model\.classifier to 'cosine'"):
        prepare(toy_study)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"loss": "class_balanced"}, r"train\.loss"),
        ({"weights": "balanced"}, r"train\.weights"),
        ({"sampling": "class-balanced"}, "did you mean 'class_balanced'"),
        ({"weights": "class_balanced", "defer": 1.0}, r"defer must lie in \[0, 1\)"),
        ({"defer": 0.8}, "neither is asked for"),
        ({"tau": -1.0}, "tau must not be negative"),
    ],
)
def test_bad_recipes_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        validate_recipe("train", config.Train(**changes))


def test_an_unknown_classifier_is_refused(toy_study):
    toy_study.model.classifier = "angular"
    with pytest.raises(ValueError, match=r"model\.classifier"):
        validate_study(toy_study)


def test_the_adjustment_ends_a_network(toy_study):
    dataset = prepare(toy_study)[0].dataset
    for steps in ((Adjust(), Finetune()), (Adjust(), Prune()), (Quantize(), Adjust(), Finetune())):
        toy_study.pipelines = (Pipeline("p", steps),)
        with pytest.raises(ValueError, match="nothing can follow"):
            pipelines.validate_pipelines(toy_study, dataset)
    for steps in ((Quantize(), Adjust()), (Adjust(), Distill(width=2))):
        toy_study.pipelines = (Pipeline("p", steps),)
        make_plan(toy_study, dataset)
