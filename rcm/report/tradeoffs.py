"""Fronts and budgets, as sections of the page."""

from collections.abc import Mapping, Sequence

import pandas as pd

from rcm.analysis.statistics import BLOCK, PipelineInfo
from rcm.report.layout import NONE, CellText, number
from rcm.report.sections import Section, told_apart

FRONT = (
    "How often a pipeline is on the front of costs and objectives (none is as cheap and as good "
    "in all of them, and better in one) among studies whose seeds are drawn again from this one's, "
    "percent; bold: it is there by this study's means; knee: of those, the nearest to the best of "
    "all objectives at once. Pipelines that are never there are left out. Front: the share that it "
    "covers of the box between the worst and the best mean (hypervolume), with the middle 95 % of "
    "such studies; what is the worst in one objective covers nothing, so that of many objectives "
    "little may be covered. Few seeds make all this too sure."
)
BUDGET = (
    "The best pipeline among those that are so much smaller than the dense parent, or within so "
    "many KiB, its mean, and in how many of the resampled studies it is the best of them. The "
    "worst case under attack is that of the middle radius."
)
WORDS = {
    "accuracy": "accuracy",
    "macs": "multiply-accumulates, accuracy",
    "recall_tail": "tail recall",
    "corrupted_accuracy": "corrupted accuracy",
    "mce": "mCE, accuracy",
    "robust_accuracy": "worst case under attack",
    "all": "all of them",
}
ALONE = {
    "bytes": "size", "macs": "multiply-accumulates", "mce": "mCE", "relative_mce": "relative mCE"
}  # fmt: skip


def tradeoff_sections(
    tables: Mapping[str, pd.DataFrame], pipelines: Sequence[PipelineInfo]
) -> list[Section]:
    """Sections of the tables `fronts`, `volumes` and `budgets`, if they have rows."""
    labels = {pipeline.name: pipeline.label for pipeline in pipelines}
    made = [_fronts(tables["fronts"], tables["volumes"], labels)]
    made.append(_budgets(tables["budgets"], labels))
    return [one for one in made if one.rows]


def _fronts(table: pd.DataFrame, volumes: pd.DataFrame, labels: dict[str, str]) -> Section:
    shown = table[(table["membership"] >= 0.01) | table["on_front"].astype(bool)]
    names = list(dict.fromkeys(shown["objectives"]))
    rows = []
    for block, part in shown.groupby([*BLOCK, "ratio"], sort=False):
        for pipeline in sorted(part["pipeline"].unique(), key=list(labels).index):
            own = part[part["pipeline"] == pipeline].set_index("objectives")
            cells = [_membership(own.loc[n]) if n in own.index else CellText(NONE) for n in names]
            rows.append((labels[pipeline] + told_apart(table, block), cells))
        own = volumes[(volumes[[*BLOCK, "ratio"]] == list(block)).all(axis=1)].set_index(
            "objectives"
        )
        cells = [_covered(own.loc[n]) if n in own.index else CellText(NONE) for n in names]
        rows.append((f"front{told_apart(table, block)}", cells))
    return Section("Trade-offs", FRONT, [_traded(n) for n in names], rows)


def _traded(name: str) -> str:
    if name in WORDS:
        return WORDS[name] if name == "macs" else f"size, {WORDS[name]}"
    return ", ".join((WORDS | ALONE)[one] for one in name.split("+"))  # the study's own choice


def _membership(row: pd.Series) -> CellText:
    share = NONE if pd.isna(row["membership"]) else number(100 * row["membership"], 0)
    return CellText(share, strong=bool(row["on_front"]), note="knee" if row["knee"] else "")


def _covered(volume: pd.Series) -> CellText:
    mean, low, high = (number(100 * volume[name]) for name in ("mean", "lo", "hi"))
    return CellText(f"{mean} %", "" if pd.isna(volume["lo"]) else f"[{low}, {high}]")


def _budgets(table: pd.DataFrame, labels: dict[str, str]) -> Section:
    names = list(dict.fromkeys(table["objective"]))
    rows = []
    budget = [*BLOCK, "ratio", "times", "kib"]
    for (*block, _, _), part in table.groupby(budget, sort=False, dropna=False):
        own = part.set_index("objective")
        times, kib = part[["times", "kib"]].iloc[0]
        cells = [_best(own.loc[n], labels) if n in own.index else CellText(NONE) for n in names]
        limit = f"within {kib:g} KiB" if pd.isna(times) else f"{times:g} times smaller"
        rows.append((limit + told_apart(table, block), cells))
    heads = [f"by {WORDS[n]}" for n in names]
    return Section("Best under a budget", BUDGET, heads, rows, "budget")


def _best(row: pd.Series, labels: dict[str, str]) -> CellText:
    share = number(100 * row["share"], 0)
    return CellText(labels[row["pipeline"]], f"{number(100 * row['value'])} %, best in {share} %")
