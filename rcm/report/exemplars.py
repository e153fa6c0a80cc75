"""Forgotten images and harmed classes, as sections of the page."""

from collections.abc import Mapping, Sequence

import pandas as pd

from rcm.analysis.exemplars import LEAST
from rcm.analysis.metrics import CLEAN
from rcm.analysis.statistics import BLOCK, PipelineInfo, records
from rcm.report.layout import NONE, CellText, number
from rcm.report.sections import Section, apart, margin_text, section, told_apart

GUIDE = (
    "Exemplars: clean test images whose modal label in a population differs from that of its dense "
    "parents; ties go to the largest label id, as published. Beside each rate, percent of the "
    "images, stands what chance alone makes: members and parents swapped at random, and, against "
    "dense members of other seeds, the two dense populations split anew. p: the share of 200 such "
    "draws with a rate at least as large. Swapping is a weak null: images that really move enter "
    "it as doubtful ones. Taxicab: mean distance of the label histograms, of at most 2."
)
ACCURACY = (
    "Accuracy on exemplars and on the other images, percent: the mean over members, each measured "
    "on the exemplars that all other members define, ± half of a jackknife's 95 % interval. "
    "Excess: percent of the images that are exemplars against dense members of other seeds, minus "
    "the dense parents' own. These intervals cover 98 % and more where 95 are meant. Bold: the "
    "interval leaves out 0."
)
SHIFTED = (
    "Rate of exemplars on shifted images, percent, and beyond that between dense members (excess, "
    "bold: the interval leaves out 0). Overlap: the Jaccard index, percent, of these exemplars "
    "with those among the same images as they were, 100 if they are the same ones."
)
SHOWN = ("rate", "excess", "overlap")  # of shifted images
DOUBT = (
    "The chance that an exemplar is more doubtful than another image, percent (50: no relation), "
    "and p of Mann and Whitney's test. Members: the share of a dense population of other seeds "
    "that does not give its modal label; people: the entropy of their answers (CIFAR-10H)."
)
HARM = (
    "Classes whose recall changes beyond the change of accuracy: how many at p of at most 0.05 by "
    "Welch's test (as published), how many chance gives, and how many after Benjamini and "
    "Hochberg's correction over the classes, by Welch's and by the paired test; the class that "
    "loses most and how much, points."
)


def exemplar_sections(
    tables: Mapping[str, pd.DataFrame], pipelines: Sequence[PipelineInfo]
) -> list[Section]:
    """Sections of the tables `exemplars`, `exemplar_means`, `exemplar_doubt` and `harm`, if the
    study has populations large enough."""
    means = tables["exemplar_means"]
    means = means.assign(signed=means["quantity"] == "excess")
    clean = means[means["shift"] == CLEAN] if len(means) else means
    shifted = means[(means["shift"] != CLEAN) & means["quantity"].isin(SHOWN)]
    harm = tables["harm"]
    made = [
        _rates(tables["exemplars"], pipelines),
        section("Accuracy on exemplars", ACCURACY, clean[clean["quantity"] != "rate"], pipelines,
                _quantity, _mean, ("shift", "quantity")),
        section("Exemplars among shifted images", SHIFTED, shifted, pipelines, _place, _mean),
        _doubt(tables["exemplar_doubt"], pipelines),
        _harm(harm[harm["n"] >= LEAST], pipelines),
    ]  # fmt: skip
    return [one for one in made if one.rows]


def _mean(estimate: pd.Series) -> CellText:
    """An excess is signed, and bold where its interval leaves out 0: it alone can be negative."""
    signed = bool(estimate["signed"])
    value = number(estimate["mean"], signed=signed)
    return CellText(value, margin_text(estimate), signed and apart(estimate, 0))


def _quantity(shift: str, quantity: str) -> str:
    return quantity


def _place(shift: str, severity: float, quantity: str) -> str:
    return f"{shift.replace('_', ' ')} {severity:g}: {quantity}"


def _by_pipeline(table: pd.DataFrame, pipelines: Sequence[PipelineInfo], cells) -> list:
    """(label, cells(rows of a pipeline in a block)) of every pipeline that the table has."""
    rows = []
    for block, part in table.groupby([*BLOCK, "ratio"], sort=False) if len(table) else ():
        for pipeline in pipelines:
            own = part[part["pipeline"] == pipeline.name]
            if len(own):
                rows.append((pipeline.label + told_apart(table, block), cells(own)))
    return rows


def _rates(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> Section:
    heads = ["exemplars", "swapped", "against other seeds", "dense against them", "Taxicab"]

    def cells(rows: pd.DataFrame) -> list[CellText]:
        row = rows.iloc[0]
        known = "independent_rate" in row and pd.notna(row["independent_rate"])
        return [
            CellText(number(100 * row["rate"], 2), note=f"{100 * row['tied']:.1f} % tied"),
            _null(row["null"], row["p"]),
            CellText(
                number(100 * row["independent_rate"], 2), strong=bool(row["independent_p"] <= 0.05)
            )
            if known
            else CellText(NONE),
            _null(row["independent_null"], row["independent_p"]) if known else CellText(NONE),
            CellText(number(row["taxicab"], 3)),
        ]

    images = "" if table.empty else f" n = {table['n'].max()}, {table['images'].max():,} images."
    return Section("Forgotten images", GUIDE + images, heads, _by_pipeline(table, pipelines, cells))


def _null(mean: float, p: float) -> CellText:
    return CellText(number(100 * mean, 2), note=_p(p))


def _doubt(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> Section:
    words = {"replica": "members", "human": "people"}
    kinds = [kind for kind in words if len(table) and kind in set(table["doubt"])]

    def cells(rows: pd.DataFrame) -> list[CellText]:
        own = {
            row.doubt: CellText(number(100 * row.above), note=_p(row.p)) for row in records(rows)
        }
        return [own.get(kind, CellText(NONE)) for kind in kinds]

    heads = [f"doubted by {words[kind]}" for kind in kinds]
    return Section("Doubtful images", DOUBT, heads, _by_pipeline(table, pipelines, cells))


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _harm(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> Section:
    heads = ["impacted", "by chance", "corrected", "corrected, paired", "worst class"]

    def cells(rows: pd.DataFrame) -> list[CellText]:
        row = rows.iloc[0]
        counts = [CellText(f"{row[name]:.0f}") for name in ("impacted_bh", "impacted_paired_bh")]
        worst = CellText(number(row["worst"], signed=True), note=f"class {row['worst_class']}")
        of = CellText(f"{row['impacted']:.0f} of {row['classes']:.0f}")
        return [of, CellText(number(row["by_chance"])), *counts, worst]

    return Section("Harmed classes", HARM, heads, _by_pipeline(table, pipelines, cells))
