"""Files from elsewhere that mean harm: each ends in one sentence, and nothing else happens."""

import signal
import tracemalloc
from collections.abc import Iterator

import pytest

from rcm import foreign
from rcm.records import Damaged
from tests.hostile import images, models, stored
from tests.hostile.making import MARKER

TABLE = [*images.ROWS, *models.ROWS, *stored.ROWS]
MOST_MEMORY = 2**26  # bytes; no row needs a tenth of it


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """A reader that waits, as at a pipe, fails."""

    def late(*_: object) -> None:
        raise AssertionError("the reader waits")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def test_the_table_is_long_enough_and_names_each_row_once():
    names = [row.name for row in TABLE]
    assert len(names) >= 40
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_hostile_file_ends_in_one_sentence(row, tmp_path, no_waiting, monkeypatch):
    monkeypatch.setattr(foreign, "SMALL", 2**20)  # so that bombs can be small
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inside"
    folder.mkdir()
    given = row.make(folder)
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, Damaged), match=row.sentence) as caught:
            row.read(given)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value).splitlines()) == 1
    assert "allow_pickle" not in str(caught.value)  # which would be bad advice
    assert peak < MOST_MEMORY
    assert list(tmp_path.iterdir()) == [folder]
    assert not (folder / MARKER).exists()
