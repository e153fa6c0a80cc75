"""What is shown while a study runs: shares and rates, of all processes together."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from rcm import progress
from rcm.hosts import Hosts
from rcm.progress import LINE_SECONDS, Display


class KeyValues:
    """As JAX's distributed runtime keeps them, for all processes of a run."""

    def __init__(self):
        self.kept = {}

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite or key not in self.kept
        self.kept[key] = value

    def key_value_dir_get(self, folder):
        return [(key, value) for key, value in self.kept.items() if key.startswith(folder)]


@pytest.fixture
def displays(monkeypatch):
    """Of three processes, on a clock that goes on by `clock.seconds`; what each has printed."""
    clock, store = SimpleNamespace(seconds=0.0), KeyValues()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.seconds))
    monkeypatch.setattr(Hosts, "_client", store)
    shown = [io.StringIO() for _ in range(3)]
    made = [Display(Console(file=file, width=200)) for file in shown]
    for index, display in enumerate(made):
        display.join(Hosts(index, 3))
        display.start("dense", 120, "member-steps")
    return clock, made, shown


def test_the_leading_process_counts_what_all_have_done(displays):
    """20, 10 and 30 of 120 in 20 seconds: half is left, which takes as long again."""
    clock, (first, second, third), shown = displays
    clock.seconds = LINE_SECONDS + 5.0
    second.advance(10)
    third.advance(30)
    first.advance(20, "loss 0.5")
    *_, line = shown[0].getvalue().splitlines()
    assert line == "dense: 50%, 3 member-steps/s, 20 s left  loss 0.5"
    second.advance(30)
    third.advance(10)
    for display in (second, third, first):
        display.finish()
    *_, line = shown[0].getvalue().splitlines()
    assert re.fullmatch(r"dense: done in 20\.0 s \(5 member-steps/s\)", line)
    assert not shown[1].getvalue() + shown[2].getvalue()


def test_what_other_stages_have_done_is_not_counted(displays):
    clock, (first, second, _), shown = displays
    second.advance(40)
    second.finish()
    first.start("pruned", 100, "member-steps")
    clock.seconds += LINE_SECONDS + 1.0
    first.advance(25)
    assert "pruned: 25%," in shown[0].getvalue()
