"""A study that is interrupted and goes on with another number of devices."""

import re

import numpy as np
import pandas as pd
import pytest

from rcm import inventory
from rcm.store import Store, load_member
from tests.commands import finish, kill_once

pytestmark = pytest.mark.long


def machine(devices, lanes=99):
    """A command's script on a machine of so many devices with memory for so many lanes in all."""
    return {"script": ("tests/faults/machine.py", str(devices), str(lanes))}


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


@pytest.mark.parametrize(("first", "then"), [(8, 3), (3, 8), (1, 2)])
def test_a_study_goes_on_with_another_number_of_devices(command, whole, tmp_path, first, then):
    kill_once(command(tmp_path, **machine(first)), lambda: under_way(tmp_path))
    before = finished(tmp_path)
    code, shown = finish(command(tmp_path, **machine(then)))
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


def test_a_device_too_small_for_its_lanes_takes_half_as_many(command, whole, tmp_path):
    """In training and in testing; members, answers and results are those of a larger one."""
    code, shown = finish(command(tmp_path, **machine(2, lanes=1)))
    assert code == 0, shown
    assert "Too little memory for 2 lanes: 1 now." in shown
    require_same_members(tmp_path, whole)


def test_one_lane_that_fits_nowhere_ends_in_a_sentence_and_keeps_the_rest(command, whole, tmp_path):
    code, shown = finish(command(tmp_path, **machine(2, lanes=0)))
    assert code == 1
    assert "Traceback" not in shown
    assert "lower train.batch" in shown.splitlines()[-1]
    code, shown = finish(command(tmp_path))
    assert code == 0, shown
    require_same_members(tmp_path, whole)


def require_same_members(workdir, expected):
    """Results and members are equal, bit by bit, whatever members were run beside one another."""
    one, two = (pd.read_parquet(next(d.glob("toy-*/results.parquet"))) for d in (workdir, expected))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    for member in Store(expected).index():
        arrays = load_member(expected, member)
        for name, leaf in load_member(workdir, member).items():
            np.testing.assert_array_equal(leaf, arrays[name], strict=True)
