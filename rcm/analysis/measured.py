"""What a study measured, and what many of its claims are read off, each computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from rcm.analysis.attacks import WORST
from rcm.analysis.corruption import accuracies, corruption_errors, over_shifts
from rcm.analysis.corruption_error import counted
from rcm.analysis.effective import above_line
from rcm.analysis.elsewhere import BY, SOURCE
from rcm.analysis.statistics import COMPRESSED, PipelineInfo, per_seed, usable, wide

LEAST = 0.01  # the share of images that some pipeline must keep for a radius to tell anything


def of_dense(pipelines: Sequence[PipelineInfo]) -> list[PipelineInfo]:
    """The dense pipeline, the first if there are several, and those that it is the parent of:
    without what is made of other networks, whose sizes, rates and images are others'."""
    dense = next((p.name for p in pipelines if p.kind == "dense"), "")
    return [p for p in pipelines if dense and dense in (p.name, p.parent)]


class Shifted(NamedTuple):
    """All members under one kind of shift: a row per seed, a column per pipeline.

    away: accuracy on shifted images, percent; drop: accuracy on the same images, or classes, before
    the shift minus `away`, points; kept: `away` in percent of that accuracy; note: what to mind.
    """

    away: pd.DataFrame
    drop: pd.DataFrame
    kept: pd.DataFrame
    note: str


@dataclass(frozen=True, eq=False)
class Measured:
    """A results table and its pipelines; what is derived from them is kept when first asked for."""

    frame: pd.DataFrame
    pipelines: Sequence[PipelineInfo]

    @cached_property
    def unrepaired(self) -> "Measured":
        """Without pipelines that repair a long tail: what a repair does is no compression's."""
        kept = [p for p in self.pipelines if not p.repair]
        if len(kept) == len(self.pipelines):
            return self
        return Measured(self.frame[self.frame["pipeline"].isin([p.name for p in kept])], kept)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The table without diverged members. ValueError if it lacks columns."""
        return usable(self.frame)

    @cached_property
    def sizes(self) -> pd.Series:
        """Mean stored bytes by pipeline."""
        return per_seed(wide(self.rows, "bytes")).mean()

    @cached_property
    def corrupted(self) -> pd.DataFrame:
        """Every member's mean errors, see `over_shifts`, over what the study has of the benchmark,
        as published: without the extra corruptions."""
        return over_shifts(self._errors, counted(self._errors.index.unique("shift")))

    @cached_property
    def _errors(self) -> pd.DataFrame:
        return corruption_errors(self.frame, self.pipelines)

    @cached_property
    def above_line(self) -> pd.DataFrame:
        """Every member's effective robustness, points, a column per pipeline; empty without lines
        through dense networks."""
        return self._effective[0]

    @property
    def line_note(self) -> str:
        """How well those lines fit, which decides what being above one tells, and of what they are
        where figures show more; "" without any."""
        fits, shifts = self._effective[1]["r2"], self._errors.index.unique("shift")
        ends = dict.fromkeys(f"{fit:.2f}" for fit in (fits.min(), fits.max()))
        alone = (
            " of the benchmark's corruptions alone" if len(counted(shifts)) < len(shifts) else ""
        )
        words = f"r\N{SUPERSCRIPT TWO} of the line {' to '.join(ends)}{alone}"
        return words if len(fits) else ""

    @cached_property
    def _effective(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        members = accuracies(self.frame, self.corrupted["corrupted_accuracy"])
        return above_line(members, self.pipelines)

    @cached_property
    def attacked(self) -> Shifted | None:
        """Under the worst case over attacks, averaged over the radii at which some pipeline keeps
        one percent in the mean over its members; None without any."""
        worst = self.rows[self.rows["shift"].str.startswith(WORST).astype(bool)]
        away = wide(worst, "robust_accuracy", None, BY)
        best = away.groupby(level=list(BY)).mean().max(axis="columns")
        telling = best.index[best >= LEAST]
        away = away[away.reset_index(list(BY)).set_index(list(BY)).index.isin(telling)]
        notes = []
        if len(telling) < len(best):
            radii = ", ".join(f"{eps:g}" for eps in sorted(telling.unique("severity")))
            notes.append(f"radii {radii} (at others no pipeline keeps one percent)")
        if not (worst["metric"] == "masked_gradients").any():
            notes.append("every attack follows gradients")
        return _shifted(worst, away, "; ".join(notes))

    @cached_property
    def elsewhere(self) -> Shifted | None:
        """In other domains, averaged; None without any."""
        return _shifted(self.rows, wide(self.rows, "domain_accuracy", None, BY), "")


def _shifted(rows: pd.DataFrame, away: pd.DataFrame, note: str) -> Shifted | None:
    if away.empty:
        return None
    home = wide(rows, SOURCE, None, BY).reindex_like(away)
    parts = (100 * away, 100 * (home - away), 100 * away / home.where(home > 0))
    return Shifted(*(per_seed(part) for part in parts), note=note)


def primary_pairs(pipelines: Sequence[PipelineInfo]) -> list[tuple[str, str]]:
    """Compressed pipelines with what they are compared with: the primary baseline, and of students
    the teacher, because claims are about the cost of compression."""
    return [
        (p.name, p.parent if p.kind == "student" else p.baseline or p.parent)
        for p in pipelines
        if p.kind in COMPRESSED
    ]
