"""A member that diverges beside others."""

import numpy as np
import pandas as pd
import pytest

from rcm.store import Store, load_member
from tests.commands import finish, kill_once

pytestmark = pytest.mark.long


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "killed and resumed"])
def test_a_member_that_is_no_number_costs_the_others_nothing(command, whole, tmp_path, killed):
    """It is named and left out; the other seed's members, answers and results stay, to the bit."""
    poisoned = {"script": ("tests/faults/poisoned.py", "1")}
    if killed:
        kill_once(command(tmp_path, **poisoned), lambda: any(tmp_path.glob("stages/*/done.json")))
    code, shown = finish(command(tmp_path, **poisoned))
    assert code == 0, shown
    frame, expected = (
        pd.read_parquet(next(folder.glob("toy-*/results.parquet"))) for folder in (tmp_path, whole)
    )
    lost = frame[frame["seed"] == 1]
    assert set(lost["status"]) == set(lost["metric"]) == {"diverged"}
    assert set(lost["pipeline"]) == set(expected["pipeline"])
    kept, before = (table[table["seed"] == 0].reset_index(drop=True) for table in (frame, expected))
    pd.testing.assert_frame_equal(kept, before, check_exact=True)
    page = next(tmp_path.glob("toy-*/report.md")).read_text()
    assert "ratio 1, seed 1" in page
    same = 0
    for member in Store(whole).index():
        arrays, found = load_member(whole, member), load_member(tmp_path, member)
        equal = [np.array_equal(found[name], leaf) for name, leaf in arrays.items()]
        same += all(equal)
    assert same == len(Store(whole).index()) / 2
