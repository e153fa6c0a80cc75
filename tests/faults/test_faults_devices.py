"""A study that is interrupted and goes on with another number of devices."""

import contextlib
import os
import re

import pytest

from rcm import inventory
from rcm.store import Store
from tests.commands import finish, kill_once

pytestmark = pytest.mark.long


@contextlib.contextmanager
def on_cores(count):
    """Commands that are started meanwhile may use so many cores, and have as many devices."""
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(every)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def under_way(workdir):
    """Whether a round is finished and another has a checkpoint."""
    found = inventory.chunks(Store(workdir, create=False))
    return any(one.finished for one in found) and any(
        one.step and not one.finished for one in found
    )


def finished(workdir):
    """When and as what each finished round was finished."""
    notes = sorted(workdir.glob("stages/*/done.json"))
    return {path.parent.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in notes}


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="takes two cores, and a system that lets a process be kept to one",
)
@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_a_study_goes_on_with_another_number_of_devices(command, whole, tmp_path, first, then):
    with on_cores(first):
        kill_once(command(tmp_path), lambda: under_way(tmp_path))
    before = finished(tmp_path)
    with on_cores(then):
        code, shown = finish(command(tmp_path))
    assert code == 0, shown
    assert "begun on another machine, version or device count; it starts again" in shown
    # what was finished is kept, and every member was finished once
    after = finished(tmp_path)
    assert before.items() < after.items()
    store, members = Store(tmp_path), Store(whole).index().keys()
    records = {chunk: store.record(chunk) for chunk in after}
    assert sorted(m for record in records.values() for m in record["members"]) == sorted(members)
    assert not store.unfinished()
    # which rounds ran how is in their records, and on the page
    devices = {chunk: record["environment"]["devices"] for chunk, record in records.items()}
    assert devices == {chunk: first if chunk in before else then for chunk in after}
    (page,) = tmp_path.glob("toy-*/report.md")
    told = re.search(r"Rounds differ in their environment \((.*)\)", page.read_text())[1]
    kinds = dict(kind.split(": ") for kind in told.split("; "))
    stages = {name: set(listed.split(", ")) for name, listed in kinds.items()}
    assert stages == {
        f"devices {count}, threads {count}": {
            record["labels"][0].partition(" ratio ")[0]
            for chunk, record in records.items()
            if devices[chunk] == count
        }
        for count in (first, then)
    }
