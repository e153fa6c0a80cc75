"""Attacks in a study: every member by itself, resumed by cell, refused where they cannot work."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from rcm import evaluate, inventory, results, status, unreferred
from rcm.cells import BATCH, AttackSpec
from rcm.compress import QAT, Cluster, Prune, Quantize
from rcm.config import Attack, Distill, Pipeline, Scratch, Shift
from rcm.data.augment import to_float
from rcm.members import Members
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.report import page
from rcm.shift.attacks import ATTACKS as KNOWN
from rcm.shift.ball import Budget, cross_entropy, distance
from rcm.store import Store
from rcm.study import Options, execute
from rcm.sweep import Execution
from rcm.train import attack, fit

ATTACKS = (
    Attack("fgsm", eps=(4, 64)),
    Attack("pgd", eps=(4, 64), steps=5),
    Attack("square", eps=(64,), steps=30),
)


def run(study, workdir, monkeypatch, **options):
    monkeypatch.setattr(page, "all_figures", lambda *_: [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(workdir / "cache"))
    with Display() as display:
        path = execute(study, Options(workdir=str(workdir), lanes=2, **options), display)
    return pd.read_parquet(path.parent / "results.parquet")


@pytest.fixture
def study(toy_study):
    toy_study.shift.attacks, toy_study.shift.attack_images = ATTACKS, 30
    toy_study.train.steps = 40
    toy_study.data.ratios = (1,)
    toy_study.pipelines = tuple(p for p in toy_study.pipelines if p.name == "int8")
    return toy_study


def test_every_member_is_attacked_and_a_lost_cell_is_made_again(study, tmp_path, monkeypatch):
    frame = run(study, tmp_path, monkeypatch)
    accuracy = frame[frame["metric"] == "robust_accuracy"]
    members = accuracy.groupby(["shift", "severity"])["fingerprint"].nunique()
    assert set(members.index) == {
        ("fgsm", 4), ("fgsm", 64), ("pgd5", 4), ("pgd5", 64), ("square30", 64), ("worst", 4),
        ("worst", 64),
    }  # fmt: skip
    assert set(members) == {frame["fingerprint"].nunique()}
    assert not frame[frame["shift"] == "pgd5"]["metric"].eq("accuracy").any()
    mean = accuracy.groupby(["shift", "severity"])["value"].mean()
    assert mean["pgd5", 64] < mean["pgd5", 4]
    assert mean["worst", 64] <= min(mean["pgd5", 64], mean["fgsm", 64], mean["square30", 64])
    best = accuracy[accuracy["severity"] == 64].pivot(
        index="fingerprint", columns="shift", values="value"
    )
    masked = frame[frame["metric"] == "masked_gradients"]  # where Square was asked, and only there
    assert set(zip(masked["shift"], masked["severity"], strict=True)) == {("worst", 64)}
    expected = best["square30"] < best[["fgsm", "pgd5"]].min(axis=1)
    assert masked.set_index("fingerprint")["value"].to_dict() == expected.astype(float).to_dict()
    lost = sorted(tmp_path.glob("stages/*/predictions/pgd5*eps64*"))
    assert lost
    lost[0].unlink()
    again = run(study, tmp_path, monkeypatch)
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    notes = [p.read_text() for p in tmp_path.glob("*/report.md")]
    assert not any("another version" in text for text in notes)
    monkeypatch.setattr(results, "shift_source", lambda: "newer")  # and as many cells are outdated
    run(study, tmp_path, monkeypatch, report_only=True)
    made = [p for p in tmp_path.glob("stages/*/predictions/*.npz") if "clean" not in p.name]
    [text] = [p.read_text() for p in tmp_path.glob("*/report.md")]
    assert f"{len(made)} stored predictions are of images that another version" in text


def test_compressed_members_are_attacked_through_their_layers(study, tmp_path, monkeypatch):
    """A gradient reaches nearly every pixel of whatever was compressed, and finds about as many
    weak images as against the parent. Where pruning has left nothing of a network there is none,
    and a row says so; no accuracy is left there to lose."""
    study.shift.attacks, study.shift.attack_images = (Attack("pgd", eps=(56,), steps=5),), 60
    study.shift.corruptions = ()
    study.model.width, study.seeds, study.train.steps = 16, 1, 60
    sound = {"int8": Quantize(8), "qat": QAT(8, 8), "cluster": Cluster(8), "prune50": Prune(0.5)}
    steps = {**sound, "prune99": Prune(0.99)}
    study.pipelines = tuple(Pipeline(name, (step,)) for name, step in steps.items())
    frame = run(study, tmp_path, monkeypatch)
    whole = frame[(frame["metric"] == "accuracy") & (frame["shift"] == "clean")]
    names = ["robust_accuracy", "zero_gradients", "hidden_gradients"]
    attacked = frame[(frame["shift"] == "pgd5") & frame["metric"].isin(names)]
    found = attacked.pivot(index="pipeline", columns="metric", values="value")
    lost = whole.set_index("pipeline")["value"] - found["robust_accuracy"]
    assert lost["dense"] > 0.5
    for name in sound:
        assert found["zero_gradients"][name] <= 0.1
        assert abs(lost[name] - lost["dense"]) < 0.2
    assert set(found.index) >= {"dense", "finetune", *steps}
    assert found["zero_gradients"]["prune99"] > 0.5
    assert found["hidden_gradients"].to_dict() == {
        name: float(name == "prune99") for name in found.index
    }
    [text] = [path.read_text() for path in tmp_path.glob("*/report.md")]
    assert text.count("no gradient in over 10 % of pixels (1 of 1)") == 1


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_members_are_as_robust_as_foolbox_says(study, tmp_path, monkeypatch):
    """Dense and compressed ones, on 4,000 images that they answer as labelled, each twice: rates
    from one random start to the next differ by up to a point."""
    import foolbox

    study.shift.attacks, study.shift.corruptions = (), ()
    study.model.width, study.seeds, study.train.steps = 16, 1, 60
    steps = {"int8": Quantize(8), "qat": QAT(8, 8), "cluster": Cluster(8), "prune50": Prune(0.5)}
    study.pipelines = tuple(Pipeline(name, (step,)) for name, step in steps.items())
    run(study, tmp_path, monkeypatch)
    plan, _ = prepare(study)
    members, images = Members(plan, Store(tmp_path)), toy_images(4000)
    theirs = {
        ("fgsm", "linf"): foolbox.attacks.LinfFastGradientAttack(),
        ("pgd", "linf"): foolbox.attacks.LinfPGD(steps=20, rel_stepsize=0.1),
        ("pgd", "l2"): foolbox.attacks.L2PGD(steps=20, rel_stepsize=0.1),
    }
    found = {}
    for pipeline in ("dense", *steps):
        fingerprint = plan.ends[pipeline, 1, 0]
        program, state = plan.jobs[fingerprint].program, members.state(fingerprint)
        for (name, norm), other in theirs.items():
            for eps in (36 / 255, 44 / 255) if norm == "linf" else (1.4, 1.7):
                pair = rates(program, state, other, name, norm, np.float32(eps), images)
                found[pipeline, name, norm, eps] = pair
    ours, others = np.array(list(found.values())).T
    assert np.abs(ours - others).max() <= 0.01, found
    assert ((ours > 0.05) & (ours < 0.95)).mean() > 0.5, found


def toy_images(count):
    """Like those of the toy data set: one colour is lighter than the others."""
    draw = np.random.default_rng(5)
    images = draw.integers(0, 120, (count, 8, 8, 3))
    images[np.arange(count), :, :, draw.integers(0, 3, count)] += 90
    return images.astype(np.uint8)


def rates(program, state, theirs, name, norm, eps, images):
    """Robust accuracy by our attack and by foolbox's, of labels that the member gives."""
    import eagerpy
    import foolbox

    variables, model = fit.effective_variables(program, state), fit.parts_of(program).model
    answer = jax.jit(lambda x: model.apply(variables, x))
    clean = to_float(jnp.asarray(images))
    labels, ids = jnp.argmax(answer(clean), -1), np.arange(len(images))
    numbers = (eps, np.int32(20), np.float32(0.1), np.int32(1))
    make = jax.jit(partial(attack.attack, program, None, name, norm))
    subject = foolbox.JAXModel(answer, bounds=(0, 1), data_format=None)
    pairs = []
    for start in range(2):
        eagerpy.JAXTensor.key = jax.random.PRNGKey(start)  # of foolbox's random starts
        made = make(jax.random.key(start), images, labels, ids, numbers, (state,))[0]
        lost = theirs(subject, eagerpy.astensor(clean), eagerpy.astensor(labels), epsilons=[eps])[2]
        pairs.append(((jnp.argmax(made, -1) == labels).mean(), 1 - np.asarray(lost.raw).mean()))
    ours, others = np.mean(pairs, axis=0)
    return float(ours), float(others)


def test_images_are_transferred_between_a_network_and_its_own_parent(study, tmp_path, monkeypatch):
    """What compresses another network than the study's is shown that network's images, and shows it
    its own; neither has to do with the dense one's."""
    study.shift.attacks, study.seeds = (Attack("fgsm", eps=(96,), transfer=True),), 1
    study.pipelines += (
        Pipeline("wide", (Scratch(6),)), Pipeline("wide_int8", (Scratch(6), Quantize(8))),
    )  # fmt: skip
    frame = run(study, tmp_path, monkeypatch)
    plan, cells = prepare(study)
    asked = {c.source: set(c.asked) for c in cells if isinstance(c, AttackSpec) and c.source}
    assert asked == {
        "dense": {"int8", "wide"}, "int8": {"dense"}, "wide": {"dense", "wide_int8"},
        "wide_int8": {"wide"},
    }  # fmt: skip
    store = Store(tmp_path)
    for pipeline, parent in (("int8", "dense"), ("wide", "dense"), ("wide_int8", "wide")):
        for way, source, shown in (
            ("from_parent", parent, pipeline), ("to_parent", pipeline, parent),
        ):  # fmt: skip
            place = store.index()[plan.ends[shown, 1, 0]]
            [cell] = [c for c in cells if getattr(c, "source", "") == source]
            stored = store.load_predictions(place.chunk, cell.key)["label"][place.row]
            rows = frame[(frame["metric"] == way) & (frame["pipeline"] == pipeline)]
            assert rows["value"].tolist() == [np.mean(stored == cell.labels)]


def test_images_are_shown_to_the_other_of_a_pair(study, tmp_path, monkeypatch):
    """Every transferred answer is what `predict` says to the images of the one that was attacked,
    found here by one step along the gradient. A dense member of another seed, which only teaches,
    is stored beside the one that is asked."""
    study.shift.attacks, study.seeds = (Attack("fgsm", eps=(96,), transfer=True),), 1
    study.pipelines = (Pipeline("other", (Distill(width=2, teachers=2),)),)
    frame = run(study, tmp_path, monkeypatch)
    plan, cells = prepare(study)
    store = Store(tmp_path)
    [path] = tmp_path.glob("*/stages.json")
    told = inventory.read_references(path.parent)
    there, asked = status.tested(told, inventory.places(inventory.chunks(store)))
    assert there == asked == 7 + 6 + 6  # dense ones see images made against both others
    assert unreferred.find(store).what == ""
    members, [cell] = Members(plan, store), [c for c in cells if c.shift == "fgsm" and not c.source]
    images, labels = jnp.asarray(cell.images, jnp.float32) / 255, jnp.asarray(cell.labels)

    def moved(logits):
        gradient = jax.grad(lambda x: cross_entropy(logits(x), labels).sum())(images)
        return jnp.clip(images + 96 / 255 * jnp.sign(gradient), 0, 1)

    found = {}
    for name in ("dense", "other"):
        job = plan.jobs[plan.ends[name, 1, 0]]
        variables = fit.effective_variables(job.program, members.state(job.fingerprint))
        found[name] = partial(fit.parts_of(job.program).model.apply, variables)
    for attacked, asked, way in (
        ("dense", "other", "from_parent"), ("other", "dense", "to_parent"),
    ):  # fmt: skip
        answers = jnp.argmax(found[asked](moved(found[attacked])), -1)
        place = store.index()[plan.ends[asked, 1, 0]]
        [shown] = [c for c in cells if getattr(c, "source", "") == attacked]
        stored = store.load_predictions(place.chunk, shown.key)["label"][place.row]
        assert (stored == np.asarray(answers)).mean() > 0.95  # but for ties of rounding
        rows = frame[(frame["metric"] == way) & (frame["pipeline"] == "other")]
        assert float(rows["value"].iloc[0]) == np.mean(stored == cell.labels)
        for wrong in (moved(found[asked]), images):  # what a mistake would show it
            assert (stored == np.asarray(jnp.argmax(found[asked](wrong), -1))).mean() < 0.9


@pytest.mark.long
def test_a_pair_is_found_among_members_of_a_larger_plan(study, tmp_path, monkeypatch):
    """Its members lie in one stored round with another seed's, which this plan does not have."""
    study.shift.attacks = (Attack("fgsm", eps=(96,), transfer=True),)
    alone = run(replace(study, seeds=1), tmp_path / "alone", monkeypatch)
    run(replace(study, seeds=2, shift=Shift()), tmp_path / "both", monkeypatch)
    after = run(replace(study, seeds=1), tmp_path / "both", monkeypatch)
    rows = alone["metric"].isin(["from_parent", "to_parent"])
    assert rows.sum() == 2 * alone[alone["pipeline"] != "dense"]["pipeline"].nunique()
    pd.testing.assert_frame_equal(after, alone, check_exact=True)


@pytest.mark.parametrize(
    ("attack", "sentence"),
    [
        (Attack("pdg"), "did you mean 'pgd'"),
        (Attack(eps=(-1,)), "must be positive 255ths"),
        (Attack(eps=()), "must be positive 255ths"),
        (Attack(steps=0), "at least one step"),
        (Attack(norm="l3"), "norm of the attack pgd"),
        (Attack("square", norm="l2"), "L-inf balls only"),
        (Attack("apgd_targeted"), "compares 4 classes, and the data has 3"),
        (Attack(steps=2.5), "steps must be of type int"),
        (Attack(eps=4), "must be positive 255ths"),
        (Attack(eps=("4",)), "must be positive 255ths"),
        (Attack(eps=(8 / 255,)), "8 is what others write as 8/255"),
        (Attack(eps=(256,)), "8 is what others write as 8/255"),
        (Attack(eps=(4, 4.0)), "repeats itself"),
        (Attack("apgd_ce", restarts=5), "apgd_ce has no restarts"),
        ("pgd", "cannot be given as a flag"),
    ],
)
def test_impossible_attacks_are_refused_before_anything_runs(toy_study, attack, sentence):
    toy_study.shift.attacks = (attack,)
    with pytest.raises(ValueError, match=sentence):
        prepare(toy_study)


def test_an_attack_cannot_be_asked_for_twice(toy_study):
    toy_study.shift.attacks = (Attack(eps=(1,)), Attack(eps=(2,)))
    with pytest.raises(ValueError, match="repeats itself"):
        prepare(toy_study)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", sorted(set(KNOWN) - {"square"}))
def test_what_rounding_does_to_whole_images_is_allowed_and_little_more(name, norm):
    """An L2 length of 3,072 rounded changes was 1e-4 of an eps of 1/255 too long."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    x = jnp.asarray(images, jnp.float32) / 255
    first, last = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((3072, 5), (5, 5)))

    def logits(shown):
        return jnp.tanh(shown.reshape(len(shown), -1) @ first / 32) @ last

    labels, keys = jnp.argmax(logits(x), -1), jax.random.split(jax.random.key(0), 8)
    for eps in (0.1, 1.0, 8.0):
        budget = Budget(np.float32(eps / 255), 7, np.float32(0.25), norm, 1)
        moved = KNOWN[name](logits, x, labels, keys, budget)
        cell = AttackSpec(Attack(name, norm=norm), eps, images, np.zeros(8), np.arange(8), 0)
        beyond = distance(moved, x, norm) / budget.eps - 1
        assert float(beyond.max()) <= evaluate.rounding(cell)
    assert evaluate.rounding(cell) < 1e-3  # of eps 8


def test_a_plan_knows_what_attacks_cost(toy_study):
    from rcm.backend import choose_execution
    from rcm.estimate import evaluation_cost, here

    execution = here(choose_execution())
    before = evaluation_cost(*prepare(toy_study), execution).seconds
    toy_study.shift.attacks = (Attack(steps=20),)
    assert evaluation_cost(*prepare(toy_study), execution).seconds > 5 * before
    assert np.isfinite(before)


@pytest.mark.parametrize(
    ("eps", "overstep", "allowed"),
    [
        (1, 1.6e-5, True), (1, 1e-4, False), (8, 1.2e-5, True), (8, 1e-4, False),
        (8, np.nan, False),
    ],
)  # fmt: skip
def test_only_rounding_may_leave_the_ball(monkeypatch, eps, overstep, allowed):
    """A float32 pixel's last place is 1.5e-5 of an eps of 1/255, and an eighth of that of 8/255."""
    logits = np.zeros((1, BATCH, 3), np.float32)
    answer = (logits, np.zeros((1, BATCH)), np.full((1, BATCH), overstep))
    monkeypatch.setattr(evaluate, "without_recipe", lambda program: program)
    monkeypatch.setattr(evaluate.sweep, "compiled_attack", lambda *_: lambda *_: answer)
    images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int32)
    cell = AttackSpec(Attack("square"), eps, images, labels, np.arange(4), 0)
    given = (None, Execution("loop", 1, 1, 1), [None], cell, lambda _: None)
    if allowed:
        assert evaluate.attack_cell(*given)["label"].shape == (1, 4)
    else:
        with pytest.raises(RuntimeError, match="moved pixels out of their range"):
            evaluate.attack_cell(*given)
