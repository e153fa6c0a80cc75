"""What the stages of a plan are made of."""

import dataclasses

import pytest

from rcm import config, members
from rcm.members import Members
from rcm.store import Store
from rcm.study import prepare


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
