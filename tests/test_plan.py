"""The graph of member-stages: who is shared, paired and identified as what."""

import dataclasses

import pytest

from rcm import config
from rcm.compress import Cluster, Prune, Quantize
from rcm.config import Distill, Finetune, Replica, Scratch
from rcm.members import stage_seed
from rcm.outcome import describe_pipelines
from rcm.preparation import prepare
from rcm.steps import Rewound
from rcm.tails import tail_identity


def test_a_student_is_paired_with_the_same_network_trained_alone(toy_study):
    plan, _ = prepare(toy_study)
    seeds = {}
    for pipeline in ("distilled", "tiny_w2"):
        job = plan.jobs[plan.ends[pipeline, 1, 1]]
        seeds[pipeline] = (job.seed, stage_seed(job), job.steps)
    assert seeds["distilled"] == seeds["tiny_w2"]


def test_what_follows_a_student_is_compared_with_as_much_training_of_its_network(toy_study):
    rewound = Rewound(Cluster(8), to=0.5, weights=False)
    toy_study.pipelines = (
        config.Pipeline("a", (Distill(2), Prune(0.5), rewound, Quantize(8))),
        config.Pipeline("b", (Prune(0.5), Distill(3), Distill(2))),
        config.Pipeline("c", (Distill(2), Quantize(8))),
    )
    plan, _ = prepare(toy_study)
    infos = {info.name: info for info in describe_pipelines(plan)}
    control = "tiny_w2-then-finetune-then-finetune_from-0.5"
    assert [infos[n].baseline for n in "abc"] == [control, "tiny_w2", "tiny_w2"]
    assert {infos[n].kind for n in "abc"} == {"student"}
    assert set(infos) == {"dense", *"abc", control, "tiny_w2"}
    assert (infos[control].kind, infos[control].baseline) == ("control", "tiny_w2")
    one = plan.jobs[plan.jobs[plan.ends["a", 1, 0]].parent]  # int8 trains nothing
    two = plan.jobs[plan.ends[control, 1, 0]]
    for _ in range(3):
        assert (one.recipe, one.steps, one.begin, one.depth, one.program.model) == (
            two.recipe, two.steps, two.begin, two.depth, two.program.model,
        )  # fmt: skip
        assert two.program.techniques == two.teachers == ()
        one, two = plan.jobs.get(one.parent), plan.jobs.get(two.parent)
    assert one is two is None


def test_equal_prefixes_are_shared(toy_study):
    toy_study.pipelines = (
        config.Pipeline("a", (Prune(0.5),)),
        config.Pipeline("b", (Prune(0.5), Quantize(8))),
        config.Pipeline("c", (Prune(0.5), Cluster(8))),
    )
    plan, _ = prepare(toy_study)
    labels = [job.label for job in plan.jobs.values() if job.seed == 0 and job.ratio == 1]
    assert labels.count("prune 50%") == 1
    assert plan.ends["finetune", 1, 0] != plan.ends["finetune2", 1, 0]


def test_every_ratio_has_the_same_steps_unless_asked(toy_study):
    toy_study.train = dataclasses.replace(toy_study.train, steps=0, epochs=2)
    steps = lambda: {  # noqa: E731
        job.ratio: job.steps for job in prepare(toy_study)[0].jobs.values() if job.depth == 0
    }
    assert len(set(steps().values())) == 1
    toy_study.train.budget = "epochs"
    assert steps()[4] < steps()[1]


def test_a_network_alone_that_is_the_dense_one_is_not_trained_again(toy_study):
    toy_study.pipelines = (config.Pipeline("again", (Scratch(toy_study.model.width),)),)
    plan, _ = prepare(toy_study)
    assert {job.label for job in plan.jobs.values()} == {"dense"}
    assert plan.ends["again", 4, 1] == plan.ends["dense", 4, 1]
    assert plan.largest == 4


def test_a_network_alone_may_have_a_budget_of_its_own(toy_study):
    width, whole = toy_study.model.width, toy_study.train.steps
    short = config.Pipeline("short", (Scratch(width, steps=whole - 1),))
    same = config.Pipeline("same", (Scratch(width, steps=whole),))
    toy_study.pipelines = (short, same)
    plan, _ = prepare(toy_study)
    assert plan.jobs[plan.ends["short", 4, 1]].steps == whole - 1
    assert plan.ends["same", 4, 1] == plan.ends["dense", 4, 1]
    toy_study.pipelines = (config.Pipeline("bad", (Scratch(width, steps=-1),)),)
    with pytest.raises(ValueError, match="steps must be at least 0, not -1"):
        prepare(toy_study)


def test_a_replica_is_the_dense_member_of_a_seed_that_the_study_does_not_use(toy_study):
    toy_study.pipelines = (config.Pipeline("again", (Replica(),)),)
    plan, _ = prepare(toy_study)
    more = dataclasses.replace(toy_study, seeds=2 * toy_study.seeds)
    larger, _ = prepare(more)
    for seed in range(toy_study.seeds):
        shifted = larger.ends["dense", 4, seed + toy_study.seeds]
        assert plan.ends["again", 4, seed] == shifted != plan.ends["dense", 4, seed]
    toy_study.pipelines = (config.Pipeline("again", (Replica(), Finetune())),)
    with pytest.raises(ValueError, match="Replica stands alone"):
        prepare(toy_study)


def test_another_network_is_compressed_against_itself_with_the_same_further_steps(toy_study):
    big = Scratch(width=6)
    toy_study.pipelines = (
        config.Pipeline("big", (big,)),
        config.Pipeline("big_int8", (big, Quantize(8))),
        config.Pipeline("big_pruned", (Scratch(6, "tiny"), Prune(0.5), Quantize(8))),
        config.Pipeline("taught", (big, Distill(3))),
        config.Pipeline("other", (Scratch(5), Prune(0.5))),
        config.Pipeline("pruned", (Prune(0.5),)),
    )
    plan, _ = prepare(toy_study)
    told = {i.name: (i.kind, i.baseline, i.parent) for i in describe_pipelines(plan)}
    assert told == {
        "dense": ("dense", "", ""),
        "tiny_w6-then-finetune": ("control", "big", "big"),
        "tiny_w3": ("control", "dense", "dense"),
        "tiny_w5-then-finetune": ("control", "tiny_w5", "tiny_w5"),
        "tiny_w5": ("control", "dense", "dense"),
        "finetune": ("control", "dense", "dense"),
        "big": ("control", "dense", "dense"),
        "big_int8": ("post_training", "big", "big"),
        "big_pruned": ("trained", "tiny_w6-then-finetune", "big"),
        "taught": ("student", "tiny_w3", "big"),
        "other": ("trained", "tiny_w5-then-finetune", "tiny_w5"),
        "pruned": ("trained", "finetune", "dense"),
    }
    end = {name: plan.jobs[plan.ends[name, 4, 1]] for name in told}
    assert end["big_int8"].parent == plan.jobs[end["big_pruned"].parent].parent
    assert end["big_int8"].parent == end["big"].fingerprint
    assert end["taught"].teachers == (end["big"].fingerprint,)
    one, two = (end[name] for name in ("other", "tiny_w5-then-finetune"))
    assert (one.parent, one.recipe, one.steps) == (two.parent, two.recipe, two.steps)


@pytest.mark.parametrize(
    ("pipelines", "words"),
    [
        ({"late": (Prune(0.5), Scratch(4))}, "Scratch starts anew and comes first"),
        (
            {"tiny_w6": (Scratch(5),), "a": (Scratch(6), Quantize(8))},
            "'tiny_w6': that name belongs",
        ),
        ({"back": (Scratch(6), Rewound(Prune(0.5), to=0.0))}, "weights go back to those of the de"),
        ({"int4": (Scratch(6), Quantize(4), Prune(0.5))}, "nothing can follow quantize"),
    ],
)
def test_what_another_network_cannot_undergo_is_named(toy_study, pipelines, words):
    toy_study.pipelines = tuple(config.Pipeline(*pair) for pair in pipelines.items())
    with pytest.raises(ValueError, match=words):
        prepare(toy_study)


def in_steps(study):
    """The steps of the study's two epochs, given as steps."""
    steps = next(iter(prepare(study)[0].jobs.values())).steps
    return dataclasses.replace(study, train=dataclasses.replace(study.train, steps=steps, epochs=7))


def with_minority(study):
    """Another share of minority classes, which exponential tails do not have."""
    return dataclasses.replace(study, data=dataclasses.replace(study.data, minority=0.7))


def run_otherwise(study):
    """Streamed batches and more frequent checkpoints."""
    data = dataclasses.replace(study.data, feed="stream")
    return dataclasses.replace(study, data=data, checkpoint_seconds=1.0)


def test_without_wrong_labels_a_tail_is_identified_as_before_there_were_any():
    """Members stored by earlier versions are found; so are those of one share of noise."""
    before = {
        "type": "Data", "name": "", "data_dir": "", "feed": "", "imbalance": "exp",
        "ratios": [10], "minority": 0.0, "val_per_class": -1, "data_seed": 0, "class_order": "id",
    }  # fmt: skip
    assert tail_identity(config.Data(ratios=(1, 10)), 10) == before
    noisy = config.Data(ratios=(1, 10), label_noise=0.05)
    assert tail_identity(noisy, 10) == before | {"label_noise": 0.05}


def in_whole_numbers(study):
    """An int where the study has the equal float."""
    recipe = dataclasses.replace(study.fine_tune, warmup_epochs=0, momentum=0)
    study.fine_tune.momentum = 0.0
    return dataclasses.replace(study, fine_tune=recipe)


@pytest.mark.parametrize("change", [in_steps, with_minority, run_otherwise, in_whole_numbers])
def test_what_does_not_change_a_member_does_not_change_its_identity(toy_study, change):
    toy_study.train = dataclasses.replace(toy_study.train, steps=0, epochs=2.0)
    other = change(toy_study)
    assert prepare(other)[0].jobs.keys() == prepare(toy_study)[0].jobs.keys()


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("train", "learning_rate", 0.01),
        ("train", "momentum", 0.8),
        ("train", "budget", "epochs"),
        ("data", "data_seed", 1),
        ("data", "val_per_class", 3),
        ("data", "imbalance", "step"),
        ("data", "label_noise", 0.1),
        ("model", "precision", "bfloat16"),
    ],
)
def test_what_changes_a_member_changes_its_identity(toy_study, part, name, value):
    changed = dataclasses.replace(getattr(toy_study, part), **{name: value})
    other = dataclasses.replace(toy_study, **{part: changed})
    assert not prepare(other)[0].jobs.keys() & prepare(toy_study)[0].jobs.keys()


def test_fingerprints_cover_defaults_and_types():
    assert config.fingerprint(config.Finetune()) != config.fingerprint({})
    one, two = config.Train(), config.Train(momentum=0.8)
    assert config.fingerprint(one) != config.fingerprint(two)
    assert config.fingerprint(one) == config.fingerprint(config.Train(momentum=0.9))
