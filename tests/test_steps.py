"""What wrapped pipeline steps are: their recipes, jobs, controls and names."""

import dataclasses
import math
import re

import numpy as np
import pytest

from rcm import config, members
from rcm.compress import QAT, Adjust, Cluster, Prune, Quantize
from rcm.config import Distill, Finetune, Pipeline, Scratch
from rcm.members import Members
from rcm.outcome import describe_pipelines
from rcm.preparation import prepare
from rcm.steps import FromStart, Rewound, Tuned, tuned
from rcm.store import Store
from rcm.train import fit

KD = {"teacher": "dense", "temperature": 4.0, "mixing": 0.9}


def planned(study, *pipelines, **changes):
    """The plan of the study with these pipelines, named a, b, c, ..."""
    named = tuple(Pipeline(chr(97 + i), steps) for i, steps in enumerate(pipelines))
    return prepare(dataclasses.replace(study, pipelines=named, **changes))[0]


def end(plan, pipeline, ratio=1, seed=0):
    return plan.jobs[plan.ends[pipeline, ratio, seed]]


def labels(plan):
    """Labels of the first seed's jobs at ratio 1, sorted."""
    return sorted(j.label for j in plan.jobs.values() if (j.seed, j.ratio) == (0, 1))


def test_a_tuned_step_has_a_recipe_of_its_own(toy_study):
    step = tuned(Prune(0.5), loss="logit_adjusted", tau=2, steps=7)
    plan = planned(toy_study, (step,), (Prune(0.5),))
    own, plain = end(plan, "a"), end(plan, "b")
    expected = dataclasses.replace(toy_study.fine_tune, loss="logit_adjusted", tau=2.0, steps=7)
    assert (own.recipe, own.steps) == (expected, 7)
    assert (plain.recipe, plain.steps) == (toy_study.fine_tune, 4)
    assert own.label == "prune 50% (loss logit_adjusted, tau 2, steps 7)"
    assert own.parent == plain.parent == plan.ends["dense", 1, 0]
    assert len(Members(plan, Store(".", create=False))._rates(own)) == 7


def test_epochs_put_the_recipe_s_steps_out_of_force(toy_study):
    plan = planned(toy_study, (tuned(Finetune(), epochs=2),))
    per_epoch = math.ceil(plan.tails[1].counts.max() * 3 / 16)
    assert end(plan, "a").steps == 2 * per_epoch


def test_what_changes_nothing_is_the_same_member(toy_study):
    same = (
        (Prune(0.5),),
        (tuned(Prune(0.5)),),
        (tuned(Prune(0.5), tau=1),),
        (tuned(Prune(0.5), teacher="dense", mixing=0),),
        (tuned(Prune(0.5), temperature=9.0),),
    )
    plan = planned(toy_study, *same)
    assert len({plan.ends[name, 4, 1] for name in "abcde"}) == 1
    assert {p.baseline for p in describe_pipelines(plan) if p.name in "abcde"} == {"finetune"}


def test_steps_are_values(toy_study):
    one, two = tuned(Prune(0.5), tau=2, loss="logit_adjusted"), tuned(Prune(0.5), tau=2.0)
    assert hash(two) == hash(Tuned(Prune(0.5), (("tau", 2.0),)))
    assert one != two
    prints = [config.fingerprint(s) for s in (one, two, Rewound(Prune(0.5)), Prune(0.5))]
    assert len(set(prints)) == 4
    assert config.fingerprint(tuned(Prune(0.5), tau=2)) == prints[1]


# teachers


def test_fine_tuning_by_the_dense_member(toy_study):
    plan = planned(toy_study, (tuned(Prune(0.5), **KD), QAT(4, 4)), (Prune(0.5),))
    job = plan.jobs[end(plan, "a").parent]
    dense = plan.ends["dense", 1, 0]
    assert job.teachers == (dense,)
    assert job.parent == dense
    assert job.program.teacher == plan.jobs[dense].program.model
    assert end(plan, "a").teachers == ()
    assert end(plan, "a").program.teacher is None
    assert fit.without_recipe(job.program) == fit.without_recipe(end(plan, "b").program)
    everywhere = dataclasses.replace(toy_study.fine_tune, **KD)
    whole = planned(toy_study, (Prune(0.5),), fine_tune=everywhere)
    assert whole.ends["a", 1, 0] == job.fingerprint
    assert whole.jobs[whole.ends["finetune", 1, 0]].teachers == (dense,)


def test_the_teacher_of_a_student_s_stages_is_the_dense_member(toy_study):
    plan = planned(toy_study, (Distill(2), tuned(Prune(0.5), teacher="dense")))
    job = end(plan, "a")
    assert job.teachers == (plan.ends["dense", 1, 0],)
    assert (job.program.model[1], job.program.teacher[1]) == (2, 4)


@pytest.mark.parametrize("step", [
    Distill(2, teachers=2), tuned(Prune(0.5), teacher="ensemble", teachers=2),
])  # fmt: skip
def test_an_ensemble_does_not_depend_on_how_many_seeds_a_study_has(toy_study, step):
    three, five = (planned(toy_study, (step,), seeds=seeds) for seeds in (3, 5))
    for seed in range(3):
        assert three.ends["a", 1, seed] == five.ends["a", 1, seed]
        taught_by = [three.jobs[teacher].seed for teacher in end(three, "a", 1, seed).teachers]
        assert taught_by == [seed // 2 * 2, seed // 2 * 2 + 1]
    extra = [job for job in three.jobs.values() if job.seed == 3]
    assert {(job.label, job.ratio) for job in extra} == {("dense", 1), ("dense", 4)}
    assert {job.seed for job in five.jobs.values()} == set(range(6))
    assert not three.ends.keys() & {("dense", 1, 3), ("a", 1, 3)}
    new = [job for job in five.jobs.values() if job.fingerprint not in three.jobs]
    assert {job.seed for job in new} == {3, 4, 5}


def test_ensembles_behind_other_steps_are_of_members_that_underwent_them(toy_study):
    plan = planned(toy_study, (Prune(0.5), Distill(2, teachers=2)), seeds=1)
    teachers = [plan.jobs[teacher] for teacher in end(plan, "a").teachers]
    assert [(job.seed, job.label) for job in teachers] == [(0, "prune 50%"), (1, "prune 50%")]


def test_one_teacher_is_an_ensemble_of_one(toy_study):
    plan = planned(
        toy_study,
        (tuned(Finetune(), teacher="dense"),),
        (tuned(Finetune(), teacher="ensemble", teachers=1),),
    )
    assert plan.ends["a", 1, 0] == plan.ends["b", 1, 0]


def test_a_mixing_of_zero_is_no_teacher(toy_study):
    plan = planned(toy_study, (Distill(2, mixing=0.0, teachers=3),), (Distill(2),), seeds=1)
    assert plan.ends["a", 1, 0] == plan.ends["tiny_w2", 1, 0]
    assert {job.seed for job in plan.jobs.values()} == {0}


def test_stages_never_hold_a_job_that_another_of_them_needs(toy_study):
    born_again = (Distill(4), Distill(4), Distill(4))
    plan = planned(toy_study, born_again, (Rewound(Prune(0.5)), Rewound(Prune(0.8))))
    done = set()
    for stage in plan.stages:
        assert all(job.needs <= done for job in stage.jobs)
        done |= {job.fingerprint for job in stage.jobs}
    assert done == plan.jobs.keys()


def test_a_member_with_a_diverged_teacher_or_early_weights_is_not_alive(toy_study, monkeypatch):
    ensemble, ticket = tuned(Prune(0.5), teacher="ensemble", teachers=2), Rewound(Prune(0.5))
    plan = planned(toy_study, (ensemble,), (ticket,))
    of = Members(plan, Store(".", create=False))
    monkeypatch.setattr(members.sweep, "effective", lambda program, execution, states: states)
    for job, source in ((end(plan, "a"), end(plan, "a").teachers[1]),
                        (end(plan, "b"), end(plan, "b").early)):  # fmt: skip
        for alive in (True, False):
            state = of.template(end(plan, "dense"))
            fake = lambda name: state._replace(alive=alive or name != source)  # noqa: E731, B023
            monkeypatch.setattr(of, "state", fake)
            assert of.lane(job).alive is alive


# rewinding


def test_a_ticket_s_jobs(toy_study):
    """Main training has 6 steps: 1/3 of it is 2, and 4 are left."""
    steps = Rewound(Prune(0.5), to=1 / 3), Rewound(Prune(0.75), to=1 / 3)
    plan = planned(toy_study, steps, seeds=1, data=dataclasses.replace(toy_study.data, ratios=(1,)))
    second = end(plan, "a")
    first = plan.jobs[second.parent]
    early, dense = plan.jobs[first.early], end(plan, "dense")
    assert first.parent == dense.fingerprint
    assert second.early == first.early
    assert (early.steps, early.whole, early.begin, early.depth) == (2, 6, 0, 0)
    assert [(j.steps, j.begin, j.depth) for j in (first, second)] == [(4, 2, 1), (4, 2, 2)]
    assert first.recipe == dense.recipe == early.recipe
    rates = Members(plan, Store(".", create=False))._rates
    np.testing.assert_array_equal(rates(dense)[:2], rates(early))
    np.testing.assert_array_equal(rates(dense)[2:], rates(first))
    assert len(plan.jobs) == 6  # dense, early, two tickets, two stages of the control


def test_learning_rate_rewinding_needs_no_early_weights(toy_study):
    plan = planned(toy_study, (Rewound(Cluster(8), to=0.5, weights=False), Quantize(8)), seeds=1)
    job = plan.jobs[end(plan, "a").parent]
    assert (job.early, job.steps, job.begin) == ("", 3, 3)
    assert labels(plan) == sorted([
        "dense", "cluster 8 (learning rate rewound to 50%)",
        "cluster 8 (learning rate rewound to 50%) > int W8A8",
        "finetune (learning rate rewound to 50%)",
    ])  # fmt: skip


@pytest.mark.parametrize(("to", "steps"), [(0.0, 0), (0.99, 5)])
def test_the_ends_of_rewinding(toy_study, to, steps):
    plan = planned(toy_study, (Rewound(Prune(0.5), to=to),), seeds=1)
    job = end(plan, "a")
    assert (plan.jobs[job.early].steps, job.steps) == (steps, 6 - steps)


# controls


def test_controls_have_the_recipe_of_what_they_are_compared_with(toy_study):
    adjusted = {"loss": "logit_adjusted", "tau": 1.5}
    plan = planned(
        toy_study,
        (tuned(Prune(0.5), **adjusted), Quantize(8)),
        (tuned(Prune(0.9), tau=1.5, loss="logit_adjusted", momentum=0.9),),  # 0.9 is the study's
        (Prune(0.5), Cluster(8)),
        (Rewound(Prune(0.5)), Rewound(Prune(0.75)), Finetune()),
        (tuned(Prune(0.5), epochs=1),),
        (tuned(Prune(0.5), teacher="dense"),),
        (Quantize(8),),
    )
    infos = {info.name: info for info in describe_pipelines(plan)}
    baselines = [infos[name].baseline for name in "abcdefg"]
    same, rewound = "finetune_loss-logit_adjusted_tau-1.5", "finetune2_from-0.05-then-finetune"
    assert baselines == [
        same, same, "finetune2", rewound, "finetune_epochs-1.0", "finetune_teacher-dense", "dense",
    ]  # fmt: skip
    assert [infos[name].kind for name in "abcdefg"] == ["trained"] * 6 + ["post_training"]
    controls = [info for info in infos.values() if info.kind == "control"]
    assert {info.name for info in controls} == set(baselines) - {"dense"}
    assert all(re.fullmatch(r"[\w.-]+", info.name) for info in controls)
    assert {info.baseline for info in controls} == {"dense"}
    for name, control in zip("bcdef", baselines[1:], strict=False):
        one, two = end(plan, name), end(plan, control)
        while one.parent:
            assert (one.recipe, one.steps, one.begin, one.depth, one.teachers) == (
                two.recipe, two.steps, two.begin, two.depth, two.teachers,
            )  # fmt: skip
            assert two.program.techniques == ()
            assert two.early == ""
            one, two = plan.jobs[one.parent], plan.jobs[two.parent]
    assert infos[same].label == "finetune (loss logit_adjusted, tau 1.5)"
    assert infos["finetune2"].label == "finetune2"
    assert infos["a"].techniques == ("prune", "quantize")
    assert infos["a"].bits == 8.0
    assert infos["d"].techniques == ("prune", "prune")


def test_a_study_s_own_control_is_taken(toy_study):
    plan = planned(
        toy_study,
        (tuned(Finetune(), mixing=0.5, teacher="dense"),),
        (tuned(Prune(0.5), teacher="dense", mixing=0.5),),
        (Rewound(Finetune()),),
        (Rewound(Prune(0.5)),),
    )
    infos = {info.name: info for info in describe_pipelines(plan)}
    assert (infos["a"].kind, infos["b"].baseline) == ("control", "a")
    assert infos["d"].baseline == "finetune_from-0.05"  # not c, whose weights went back
    assert set(infos) == {"dense", *"abcd", "finetune_from-0.05"}


def test_a_student_s_control_is_its_own_network_at_its_whole_budget(toy_study):
    adjusted = tuned(Prune(0.5), loss="logit_adjusted")
    plan = planned(toy_study, (Distill(8), Distill(2)), (Distill(2), adjusted, Quantize(8)))
    infos = {info.name: info for info in describe_pipelines(plan)}
    baselines = [infos[name].baseline for name in "ab"]
    assert baselines == ["tiny_w2", "tiny_w2-then-finetune_loss-logit_adjusted"]
    assert [infos[name].kind for name in ("a", "b", *baselines)] == ["student"] * 2 + [
        "control"
    ] * 2
    assert set(infos) == {"dense", "a", "b", *baselines}
    one, two = plan.jobs[end(plan, "b").parent], end(plan, baselines[1])
    assert (one.recipe, one.steps, one.depth) == (two.recipe, two.steps, two.depth)
    assert one.program.model == two.program.model
    assert two.program.techniques == ()
    assert two.parent == plan.ends["tiny_w2", 1, 0]


def test_an_adjustment_is_the_control_s_too(toy_study):
    """As is a loss for long tails: what differs is the compression."""
    repair = Adjust(1.5)
    pipelines = ((Prune(0.5), repair), (Quantize(8), repair), (Distill(2), repair), (repair,))
    plan = planned(toy_study, *pipelines)
    infos = {info.name: info for info in describe_pipelines(plan)}
    controls = ["finetune-then-adjust-1.5", "d", "tiny_w2-then-adjust-1.5"]
    assert [infos[name].baseline for name in "abcd"] == [*controls, "dense"]
    assert [infos[name].kind for name in "abcd"] == [
        "trained",
        "post_training",
        "student",
        "control",
    ]
    assert set(infos) == {"dense", *"abcd", *controls}
    for control in controls:
        assert end(plan, control).program.techniques == (repair,)
        assert {infos[control].kind, infos[control].baseline} == {"control", "dense"}


# what is refused


def on(step):
    return (Pipeline("p", step if isinstance(step, tuple) else (step,)),)


@pytest.mark.parametrize(("pipelines", "sentence"), [
    (on(tuned(Quantize(8), steps=3)), "p': Tuned holds Quantize(bits=8"),
    (on(tuned(Distill(2), steps=3)), "which is not fine-tuned"),
    (on(Rewound(Scratch(2))), "which is not fine-tuned"),
    (on(Rewound(tuned(Prune(0.5), tau=2.0))), "expected Finetune"),
    (on(tuned("prune", tau=2.0)), "expected Finetune"),
    (on(Tuned(Prune(0.5), {"tau": 2.0})), "write it as tuned(step, field=value)"),
    (on(tuned(Prune(0.5), tauu=2.0)), "did you mean 'tau'?"),
    (on(tuned(Prune(0.5), tau="2")), "tau must be of type float"),
    (on(tuned(Prune(0.5), loss="logit")), "did you mean 'logit_adjusted'?"),
    (on(tuned(Prune(0.5), teacher="denes")), "did you mean 'dense'?"),
    (on(tuned(Prune(0.5), teacher="dense", mixing=1.5)), "mixing in [0, 1]"),
    (on(tuned(Prune(0.5), teacher="ensemble", teachers=0)), "teachers must be at least 1"),
    (on(Distill(2, teachers=0)), "teachers must be at least 1"),
    (on(tuned(Prune(1.5), tau=2.0)), "sparsity must lie in [0, 1)"),
    (on((tuned(Cluster(8)), Prune(0.5))), "put prune before cluster"),
    (on(Rewound(Prune(0.5), to=1.0)), "needs to in [0, 1)"),
    (on(Rewound(Prune(0.5), to="5%")), "to must be of type float"),
    (on(Rewound(Prune(0.5), weights=1)), "weights must be of type bool"),
    (on(Rewound(Prune(0.5, schedule="cubic"))), "only one-shot Prune has"),
    (on((QAT(8, 8), Rewound(Finetune()))), "only one-shot Prune has"),
    (on((Distill(2), Rewound(Prune(0.5)))), "not of a student"),
    (on(FromStart(Finetune())), "is the dense member itself"),
    (on(FromStart(Quantize(8))), "which is not fine-tuned"),
    (on((Prune(0.5), FromStart(Cluster(8)))), "put it first"),
    (on(tuned(Prune(0.5), teacher="dense", distillation="atention")), "did you mean 'attention'?"),
    (on(tuned(Prune(0.5), teacher="ensemble", distillation="attention")), "cannot learn from 3"),
    ((Pipeline("finetune", (tuned(Finetune(), tau=2.0),)),), "belongs to the control"),
    ((*on(tuned(Prune(0.5), tau=2.0)), Pipeline("finetune_tau-2.0", (Prune(0.5),))),
     "belongs to the control"),
    ((*on(Distill(2)), Pipeline("tiny_w2", (Prune(0.5),))), "belongs to the control"),
])  # fmt: skip
def test_bad_steps_get_one_sentence(toy_study, pipelines, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        prepare(dataclasses.replace(toy_study, pipelines=pipelines))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "?"))


def test_the_dense_member_has_no_teacher(toy_study):
    toy_study.train = dataclasses.replace(toy_study.train, teacher="dense")
    with pytest.raises(ValueError, match=r"^train\.teacher is 'dense', but"):
        prepare(toy_study)
