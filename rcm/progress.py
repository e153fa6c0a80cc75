"""What a user sees while a study runs: a live bar on a terminal, plain lines everywhere else."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_SECONDS = 15.0


class Display:
    """Progress of one stage at a time. `unit` is what a stage counts: member-steps or images."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._title = ""
        self._unit = ""
        self._total = self._done = 0
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
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
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def start(self, title: str, total: int, unit: str) -> None:
        """Begin a stage of `total` units."""
        self._title, self._unit, self._total, self._done = title, unit, max(total, 1), 0
        self._started = self._last_line = time.monotonic()
        if self._bar:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(title, total=self._total, rate="compiling", metrics="")
        else:
            self.say(f"{title}: {total:,} {unit}")

    def advance(self, units: int, metrics: str = "") -> None:
        """Count finished units; `metrics` is a short text such as `loss 0.53  accuracy 81.2 %`."""
        self._done += units
        now = time.monotonic()
        if self._bar and self._task is not None:
            rate = self._rate(now)
            self._bar.update(self._task, advance=units, rate=rate, metrics=metrics)
        elif now - self._last_line > LINE_SECONDS:
            self._last_line = now
            left = (self._total - self._done) * (now - self._started) / max(self._done, 1)
            share = f"{self._done / self._total:.0%}"
            self.say(f"{self._title}: {share}, {self._rate(now)}, {left:,.0f} s left  {metrics}")

    def finish(self) -> None:
        """End the stage with one line about what it took."""
        now = time.monotonic()
        self.say(f"{self._title}: done in {now - self._started:,.1f} s ({self._rate(now)})")

    def _rate(self, now: float) -> str:
        return f"{self._done / max(now - self._started, 1e-9):,.0f} {self._unit}/s"
