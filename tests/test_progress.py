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
    made, hosts = [Display(Console(file=file, width=200)) for file in shown], []
    for index, display in enumerate(made):
        hosts.append(Hosts(index, 3))
        display.join(hosts[-1])
        display.start("dense", 120, "member-steps")
    return clock, made, shown, hosts


def test_the_leading_process_counts_what_all_have_done(displays):
    """20, 10 and 30 of 120 in 20 seconds: half is left, which takes as long again."""
    clock, (first, second, third), shown, _ = displays
    clock.seconds = LINE_SECONDS + 5.0
    second.advance(10)
    third.advance(30)
    first.advance(20, "loss 0.5")
    *_, line = shown[0].getvalue().splitlines()
    assert line == "dense: 50%, 3 member-steps/s, 20 s left  loss 0.5"
    second.advance(30)
    third.advance(10)
    first.advance(20)
    for display in (second, third, first):
        display.finish()
    *_, line = shown[0].getvalue().splitlines()
    assert re.fullmatch(r"dense: done in 20\.0 s \(6 member-steps/s\)", line)
    assert not shown[1].getvalue() + shown[2].getvalue()


def test_what_other_stages_have_done_is_not_counted(displays):
    clock, (first, second, _), shown, _ = displays
    second.advance(40)
    second.finish()
    first.start("pruned", 100, "member-steps")
    clock.seconds += LINE_SECONDS + 1.0
    first.advance(25)
    assert "pruned: 25%," in shown[0].getvalue()


def test_the_leading_process_tells_of_what_is_left_to_others(displays):
    """It has ended 20 of 120 itself and has nothing to do in another stage: both are done only when
    the others have met it."""
    clock, (first, second, third), shown, (leader, _, _) = displays
    first.advance(20)
    first.finish()
    for display in (first, second, third):
        display.start("pruned", 60, "member-steps")
    first.finish()
    assert "done in" not in shown[0].getvalue()
    third.advance(60)
    third.finish()
    clock.seconds = LINE_SECONDS + 1.0
    leader.meanwhile(False)
    *_, one, other = shown[0].getvalue().splitlines()
    assert one == "dense: 17%, by other processes"
    assert other == "pruned: done in 16.0 s (4 member-steps/s)"
    clock.seconds = 24.0
    leader.meanwhile(True)
    assert shown[0].getvalue().splitlines()[-1] == "dense: done in 24.0 s (5 member-steps/s)"


def test_no_more_is_shown_than_there_is(displays):
    """Others may tell of images that were counted as done before."""
    clock, (first, second, _), shown, _ = displays
    second.advance(115)
    second.finish()
    clock.seconds = LINE_SECONDS + 1.0
    first.advance(20)
    assert "dense: 100%, 8 member-steps/s, 0 s left" in shown[0].getvalue()
