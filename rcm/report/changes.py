"""Tests of what compression changes, and what other test images would have changed, as sections."""

from collections.abc import Mapping, Sequence

import pandas as pd

from rcm.analysis.changes import STATED
from rcm.analysis.claims import ALPHA, UNDECIDED_FOR_FEW
from rcm.analysis.statistics import BLOCK, PipelineInfo
from rcm.report.layout import NONE, CellText, number
from rcm.report.rendering import p_value
from rcm.report.sections import Section, margin_text, told_apart

TESTED = (
    "Top-1 accuracy minus that of what each is compared with, points, paired by seed, and p of the "
    "paired t test, of flips of signs and of Wilcoxon's signed ranks, which assume no normality; "
    "uncorrected; bold: at most 0.05. A test that so many seeds could not bring there is "
    "undecided, with the least p that it has. Detectable: the effect that so many seeds of this "
    f"spread find in 80 %, points. Power: the chance to find {STATED:g} point. Those of tail "
    "recall and against the parent are in tables/changes.csv."
)
IMAGES = (
    "Top-1 accuracy, percent, mean over members, and its change against the parent, points, with "
    "95 % intervals over test images (weights of Poisson, the same for all members): how far other "
    "images of the kind would have moved these members. What other seeds would have done is not in "
    "them; bold: the interval of a change leaves out 0."
)
FLIPS = ("p_sign_flip", "p_wilcoxon")
HEADS = ["top-1", "t test", "sign flips", "Wilcoxon", "detectable", f"power for {STATED:g}"]


def change_sections(
    tables: Mapping[str, pd.DataFrame], pipelines: Sequence[PipelineInfo]
) -> list[Section]:
    """Sections of the tables `changes` and `image_intervals`, if they have rows."""
    labels = {pipeline.name: pipeline.label for pipeline in pipelines}
    against = {pipeline.name: pipeline.baseline for pipeline in pipelines}
    tested = tables["changes"]
    shown = (tested["quantity"] == "accuracy_change") & (tested["n"] > 1)
    shown &= tested["baseline"] == tested["pipeline"].map(against)
    made = [
        Section("Changes tested", TESTED, HEADS, _rows(tested[shown], labels, _tested)),
        Section("Other test images", IMAGES, ["top-1", "change"],
                _rows(tables["image_intervals"], labels, _over_images)),
    ]  # fmt: skip
    return [one for one in made if one.rows]


def _rows(table: pd.DataFrame, labels: Mapping[str, str], cells) -> list:
    """(label, cells(row)) of every row, block by block, the pipelines in their order."""
    order = list(labels)
    rows = []
    for block, part in table.groupby([*BLOCK, "ratio"], sort=False) if len(table) else ():
        apart = told_apart(table, block)
        ordered = part.sort_values("pipeline", key=lambda names: names.map(order.index))
        rows += [(labels[row["pipeline"]] + apart, cells(row)) for _, row in ordered.iterrows()]
    return rows


def _tested(row: pd.Series) -> list[CellText]:
    least = row["smallest_p"]
    note = f"least {p_value(least)}" if least > ALPHA else ""
    return [
        CellText(number(row["mean"], signed=True), margin_text(row)),
        _p(row["p"]),
        *(CellText(UNDECIDED_FOR_FEW, note=note) if note else _p(row[p]) for p in FLIPS),
        CellText(NONE if pd.isna(row["detectable"]) else number(row["detectable"])),
        CellText(NONE if pd.isna(row["power"]) else f"{number(100 * row['power'], 0)} %"),
    ]


def _p(p: float) -> CellText:
    return CellText(p_value(p), strong=bool(p <= ALPHA))


def _over_images(row: pd.Series) -> list[CellText]:
    own = CellText(number(row["accuracy"]), f"[{number(row['lo'])}, {number(row['hi'])}]")
    if pd.isna(row["change"]):
        return [own, CellText(NONE)]
    low, high = row["change_lo"], row["change_hi"]
    ends = f"[{number(low, signed=True)}, {number(high, signed=True)}]"
    change = number(row["change"], signed=True)
    return [own, CellText(change, ends, bool(low > 0 or high < 0))]
