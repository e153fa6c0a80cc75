"""What the stages of a plan are made of."""

import pytest

from rcm import members
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
