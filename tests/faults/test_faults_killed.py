"""Fifty `kill -9` at random places of a study, one after the other on the same workdir: what is
left in the end are the bits of the run that nobody disturbed."""

import random

import pytest

from tests.commands import finish, require_equal

pytestmark = pytest.mark.long

# (what is being written, how often that happens in a run at most), in the order of a run; a number
# stands for seconds, because what libraries write below Python is seen by no hook
PLACES = (
    ("config.json", 1),
    ("record.json", 4),
    ("1.5", 1),
    (r"progress-\d+\.json", 12),
    (r"progress-\d+(\.orbax[^/]*)?$", 12),
    ("3.0", 1),
    ("final", 6),
    ("done.json", 4),
    ("6.0", 1),
    (r"predictions/.*\.npz", 6),
    ("results.parquet", 1),
    ("figures/", 6),
    ("report.html", 1),
    ("index.html", 1),
    ("log.jsonl", 1),
)
CHAINS, KILLS = 10, 5
ALWAYS = ("results.parquet", "figures/", "report.html", "index.html", "log.jsonl")  # by every run


@pytest.fixture(scope="module")
def seen():
    """All places at which a process was killed."""
    return []


@pytest.mark.parametrize("chain", range(CHAINS))
def test_kills_at_random_places_change_nothing(command, whole, tmp_path, seen, chain):
    draw, log, workdir = random.Random(chain), tmp_path / "log", tmp_path / "runs"
    # every place leads a chain or follows one: three in a row of the list, and others at random
    own = {chain * 3 % 15, chain * 3 % 15 + 1, chain * 3 % 15 + 2}
    own |= set(draw.sample(sorted(set(range(len(PLACES))) - own), KILLS - len(own)))
    places, kills = [PLACES[place] for place in sorted(own)], 0
    while kills < KILLS:
        pattern, most = places.pop(0) if places else (draw.choice(ALWAYS), 1)
        script = ("tests/faults/killer.py", str(log), pattern, str(draw.randint(1, most)))
        code, shown = finish(command(workdir, script=script))
        assert code in (0, -9), shown  # 0: this is never written so often after what was done
        if code:
            seen.append((pattern, log.read_text()))
            kills += 1
    code, shown = finish(command(workdir))
    assert code == 0, shown
    assert "Traceback" not in shown
    require_equal(workdir, whole)


def test_every_kind_of_write_was_cut_off(seen):
    """Of the chains above, all of which must have run."""
    assert {pattern for pattern, _ in seen} == {pattern for pattern, _ in PLACES}, seen
    assert len(seen) == CHAINS * KILLS
