"""What the stages of a plan are made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm import config, members, rounds, sweep
from rcm.members import Members
from rcm.models import MODELS, pretrained
from rcm.plan import with_weights
from rcm.preparation import prepare
from rcm.store import Store
from rcm.sweep import Execution
from rcm.train import fit


@pytest.mark.parametrize(("feed", "room", "streamed"), [
    ("device", 1 << 30, False), ("device", 1000, True), ("stream", 1 << 30, True),
])  # fmt: skip
def test_images_that_would_fill_the_device_are_streamed(
    toy_study, tmp_path, monkeypatch, feed, room, streamed
):
    monkeypatch.setattr(members, "image_memory", lambda: room)
    toy_study.data.feed = feed
    plan, _ = prepare(toy_study)
    assert (Members(plan, Store(tmp_path)).feed is not None) == streamed


def test_balance_comes_in_at_a_share_of_the_whole_recipe(toy_study):
    """At 80 % of 1,000 steps; a stage that repeats them from step 900 on has it from the start."""
    plan, _ = prepare(toy_study)
    job = next(iter(plan.jobs.values()))
    recipe = config.Train(weights="class_balanced", defer=0.8)
    for begin, expected in ((0, 800), (300, 500), (900, -100)):
        stage = dataclasses.replace(job, recipe=recipe, whole=1000, begin=begin)
        assert members.begin_step(stage) == expected


def test_every_seed_begins_from_the_weights_with_a_head_of_its_own(toy_study, tmp_path):
    """A file of 5 classes for data of 3: students draw their own weights, and where the file lies
    is nobody's identity."""
    network = MODELS["tiny"](classes=5, width=4)
    weights = pretrained.own_names(network.init(jax.random.key(9), jnp.zeros((1, 8, 8, 3))))
    toy_study.pipelines = toy_study.pipelines[2:3]
    plain, _ = prepare(toy_study)
    plans = []
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, **weights)
        toy_study.model.pretrained = str(tmp_path / name)
        plans.append(prepare(toy_study)[0])
    plan = plans[0]
    assert plan.ends == plans[1].ends
    assert plan.ends["dense", 1, 0] != plain.ends["dense", 1, 0]
    assert plan.ends["tiny_w2", 1, 0] == plain.ends["tiny_w2", 1, 0]
    assert "the file's has 5 classes, the data 3" in plan.weights.note

    jobs = [plan.jobs[plan.ends["dense", 1, seed]] for seed in (0, 1)]
    members = Members(plan, Store(tmp_path / "runs"))
    assert members.lane(plan.jobs[plan.ends["tiny_w2", 1, 0]]).weights is None
    lanes = [members.lane(job) for job in jobs]
    state = rounds.begin_round(jobs[0].program, Execution("vmap", 2, 1, 1), lanes)
    begun = [pretrained.own_names(m.variables) for m in sweep.unstack(state, 2)]
    for name, array in weights.items():
        if "head" not in name:
            np.testing.assert_array_equal(begun[0][name], array)
            np.testing.assert_array_equal(begun[1][name], array)
    heads = [member["params/head/kernel"] for member in begun]
    assert heads[0].shape == (8, 3)
    assert np.all(heads[0] != heads[1])


def test_weights_of_torchvision_bring_its_inputs(toy_study, tmp_path, monkeypatch):
    found = pretrained.Pretrained({}, "imagenet", "sha256:0", "")
    monkeypatch.setattr(pretrained, "load", lambda *_: found)
    dataset = prepare(toy_study)[0].dataset
    for asked, given in (("", "imagenet"), ("symmetric", "symmetric")):
        model = config.Model("mobilenet_v2", pretrained="w.npz", inputs=asked)
        model, weights = with_weights(fit.complete(model), asked, dataset)
        assert (model.inputs, model.pretrained, weights) == (given, "sha256:0", found)
    with pytest.raises(ValueError, match="tiny reads symmetric inputs only"):
        fit.complete(config.Model("tiny", 4, inputs="imagenet"))
