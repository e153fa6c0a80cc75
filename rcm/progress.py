"""What a user sees while a study runs: a live bar on a terminal, plain lines everywhere else."""

import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.segment import Segment

from rcm.hosts import Hosts
from rcm.words import shown

LINE_SECONDS = 15.0
POST_SECONDS = 2.0  # between what a process tells the others


class Display:
    """Progress of one stage at a time. `unit` is what a stage counts: member-steps or images.

    In a distributed run that of all processes, shown by the one that leads.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or Console()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._title = ""
        self._unit = ""
        self._total = self._done = 0
        self._started = self._last_line = self._last_post = time.monotonic()
        self._hosts, self._elsewhere = Hosts(), 0
        self._left: list[_Left] = []

    def join(self, hosts: Hosts) -> None:
        """Count what other processes do, too; only the one that leads says anything."""
        self._hosts = hosts
        self.console.quiet = not hosts.leads
        hosts.meanwhile = self._wait

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[metrics]}"),
            )
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(shown(text), highlight=False, markup=False, soft_wrap=True)

    def show(self, tables: RenderableType) -> None:
        """Tables and the like, whose names may come from elsewhere."""
        self.console.print(_Shown(tables))

    def ask(self, question: str) -> bool:
        """Whether the user says yes; without a terminal to answer on nobody does."""
        if not sys.stdin.isatty():
            return False
        if self._bar:
            self._bar.stop()
        try:
            return input(f"{shown(question)} [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            return False

    def start(self, title: str, total: int, unit: str) -> None:
        """Begin a stage of `total` units, in all processes together."""
        self._title, self._unit, self._total, self._done = shown(title), unit, max(total, 1), 0
        self._started = self._last_line = self._last_post = time.monotonic()
        self._exchange()
        if self._bar:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(
                self._title, total=self._total, rate="compiling", metrics=""
            )
        else:
            self.say(f"{title}: {total:,} {unit}")

    def advance(self, units: int, metrics: str = "") -> None:
        """Count finished units; `metrics` is a short text such as `loss 0.53  accuracy 81.2 %`."""
        self._done += units
        now = time.monotonic()
        if now - self._last_post > POST_SECONDS:
            self._last_post = now
            self._exchange()
        if self._bar and self._task is not None:
            rate = self._rate(now)
            self._bar.update(self._task, completed=self._all, rate=rate, metrics=metrics)
        elif now - self._last_line > LINE_SECONDS:
            self._last_line = now
            left = (self._total - self._all) * (now - self._started) / max(self._all, 1)
            share = f"{self._all / self._total:.0%}"
            self.say(f"{self._title}: {share}, {self._rate(now)}, {left:,.0f} s left  {metrics}")

    def finish(self) -> None:
        """End this process's part of the stage; one line about what it took says when all have
        ended theirs, at the latest when they meet."""
        self._exchange()
        if self._all < self._total and self._hosts.count > 1:
            left = _Left(self._title, self._unit, self._total, self._done, self._started)
            self._left += [left] if self._hosts.leads else []
        else:
            self._say_done(self._title, self._unit, self._all, self._started)

    def _say_done(self, title: str, unit: str, units: int, started: float) -> None:
        seconds = time.monotonic() - started
        self.say(f"{title}: done in {seconds:,.1f} s ({_rate(units, seconds, unit)})")

    def _wait(self, met: bool) -> None:
        """While others are waited for, and once they are `met`: what they still do."""
        now, due = time.monotonic(), False
        if now - self._last_line > LINE_SECONDS:
            self._last_line, due = now, True
        for one in list(self._left):
            done = one.done + (0 if met else self._hosts.posted(one.title))
            if met or done >= one.total:
                self._left.remove(one)
                self._say_done(one.title, one.unit, one.total, one.started)
            elif due:
                self.say(f"{one.title}: {done / one.total:.0%}, by other processes")

    @property
    def _all(self) -> int:
        """Units done so far, in all processes."""
        return min(self._done + self._elsewhere, self._total)

    def _exchange(self) -> None:
        self._hosts.post(self._title, self._done)
        self._elsewhere = self._hosts.posted(self._title) if self._hosts.leads else 0

    def _rate(self, now: float) -> str:
        return _rate(self._all, now - self._started, self._unit)


def _rate(units: int, seconds: float, unit: str) -> str:
    return f"{units / max(seconds, 1e-9):,.0f} {unit}/s"


class _Left(NamedTuple):
    """A stage of which others have something left: units in all and those done here, and when it
    was started."""

    title: str
    unit: str
    total: int
    done: int
    started: float


class _Shown:
    """What rich would print, none of its letters steering the terminal."""

    def __init__(self, inner: RenderableType):
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            yield segment._replace(text=shown(segment.text))
