"""Forgotten images and harmed classes, as sections of the page."""

from collections.abc import Mapping, Sequence

import pandas as pd

from rcm.analysis.by_class import rare_classes
from rcm.analysis.classification import GROUPS as FREQUENCIES
from rcm.analysis.exemplars import LEAST
from rcm.analysis.forgotten_shifts import MEANS
from rcm.analysis.harm import ALPHA
from rcm.analysis.metrics import CLEAN
from rcm.analysis.statistics import BLOCK, PipelineInfo, records
from rcm.report.layout import NONE, CellText, class_word, number
from rcm.report.sections import Section, apart, margin_text, section, told_apart

GUIDE = (
    "Exemplars: clean test images whose modal label in a population differs from that of its dense "
    "parents; ties go to the largest label id, as published. Beside each rate, percent of the "
    "images, stands what chance alone makes: members and parents swapped at random, and, beside "
    "the rate against dense members of other seeds, the two dense populations split anew. p: "
    "the share of all such ways, or of 200 drawn ones where there are over 300, with a rate at "
    "least as large; undecided where members are too few for a p of .05. Swapping is a weak null: "
    "images that really move enter it as doubtful ones. Beyond dense: the rate against other seeds "
    "minus that of the dense parents, bold if the interval leaves out 0. ±: half of a 95 % "
    "interval over draws of members. Taxicab: mean distance of the label histograms, of at most 2, "
    "and how much the farthest 1 % of the images, with all that are as far, overlap with the "
    "exemplars (Jaccard index)."
)
ACCURACY = (
    "Accuracy on exemplars and on the other images, percent: the mean over members, each measured "
    "on the exemplars that all other members define, ± half of a jackknife's 95 % interval, which "
    "covers 98 % and more where 95 are meant."
)
SHIFTED = (
    "Rate of exemplars on shifted images, percent, and beyond that between dense members (excess, "
    "bold: the interval leaves out 0). Tied: images with two modal labels in a population, of "
    "which the larger counts. Overlap: the Jaccard index, percent, of these exemplars with those "
    "among the same images as they were, 100 if they are the same ones; beside it that of dense "
    "members of other seeds."
)
OVERLAP = (
    "Exemplars that two pipelines have in common, percent of those of either (the Jaccard index); "
    "± half of a 95 % interval over draws of members; beside each what sets of these sizes drawn "
    "independently would share."
)
BETWEEN = (
    "Exemplars that a pipeline has in common under two corruptions at one severity, percent of "
    "those under either, mean over pairs of corruptions, ± half of a 95 % interval over draws of "
    "members; what sets of these sizes drawn independently would share, and what those of dense "
    "members of other seeds do, as nulls. Every pair is in tables/exemplar_shifts.csv."
)
GROUPS = (
    "Where exemplars are: the share, percent, whose true class is frequent (head), of medium "
    "frequency or rare (tail) in training; beside each that of all test images in these classes, "
    "the expected share if a class's frequency does not count."
)
RATES = ("rate", "excess")  # of clean images, in a section of their own
SHOWN = ("rate", "tied", "excess", "overlap")  # of shifted images
DOUBT = (
    "The chance that an exemplar is more doubtful than another image, percent (50: no relation), "
    "and p of Mann and Whitney's test. Members: the share of a dense population of other seeds "
    "that does not give its modal label; people: the entropy of their answers (as in CIFAR-10H)."
)
HARM = (
    "Classes whose recall changes beyond the change of accuracy: how many at p of at most 0.05 by "
    "Welch's test (as published), how many chance gives, and how many after Benjamini and "
    "Hochberg's correction over the classes, by Welch's and by the paired test; the class that "
    "loses most and how much, points."
)
UNTESTED = (
    " Not all classes are counted: of up to {most} of a pipeline's Welch's test says nothing, as "
    "all members have one recall and all their parents one (often of none or all of the images), "
    "which leaves no spread to test by. The class that loses most may be among these."
)


def exemplar_sections(
    tables: Mapping[str, pd.DataFrame],
    pipelines: Sequence[PipelineInfo],
    class_names: Sequence[str] = (),
) -> list[Section]:
    """Sections of the tables of exemplars and `harm`, if the study has populations large enough;
    class_names: what classes are called, by id."""
    means = tables["exemplar_means"]
    means = means.assign(signed=means["quantity"] == "excess")
    clean = means[means["shift"] == CLEAN] if len(means) else means
    shifted = means[(means["shift"] != CLEAN) & means["quantity"].isin(SHOWN)]
    harm, groups = tables["harm"], tables["exemplar_groups"]
    made = [
        _rates(tables["exemplars"], clean, pipelines),
        section("Accuracy on exemplars", ACCURACY, clean[~clean["quantity"].isin(RATES)],
                pipelines, _quantity, _mean, ("shift", "quantity")),
        _overlaps(tables["exemplar_overlap"], pipelines),
        _groups(groups if rare_classes(tables["class_recall"]) else groups[:0], pipelines),
        section("Exemplars among shifted images", SHIFTED, shifted, pipelines, _place, _shifted),
        _between(tables[MEANS], pipelines),
        _doubt(tables["exemplar_doubt"], pipelines),
        _harm(harm[harm["n"] >= LEAST], pipelines, class_names),
    ]  # fmt: skip
    return [one for one in made if one.rows]


def _mean(estimate: pd.Series) -> CellText:
    """An excess is signed, and bold where its interval leaves out 0: it alone can be negative."""
    signed = bool(estimate["signed"])
    value = number(estimate["mean"], signed=signed)
    return CellText(value, margin_text(estimate), signed and apart(estimate, 0))


def _shifted(estimate: pd.Series) -> CellText:
    null = estimate["null"]
    return _mean(estimate)._replace(note="" if pd.isna(null) else f"{number(null)} dense again")


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


def _rates(table: pd.DataFrame, means: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> Section:
    heads = ["exemplars", "swapped", "against other seeds", "split anew", "beyond dense", "Taxicab"]
    place = [*BLOCK, "ratio", "pipeline"]
    grouped = means.groupby([*place, "quantity"]) if len(means) else ()
    spread = {key: rows.iloc[0] for key, rows in grouped}

    def cells(rows: pd.DataFrame) -> list[CellText]:
        row = rows.iloc[0]
        key = tuple(row[name] for name in place)
        rate, beyond = (spread.get((*key, quantity)) for quantity in RATES)
        known = "independent_rate" in row and pd.notna(row["independent_rate"])
        return [
            CellText(
                number(100 * row["rate"], 2),
                "" if rate is None else margin_text(rate),
                note=f"{100 * row['tied']:.1f} % tied",
            ),
            _null(row, ""),
            CellText(
                number(100 * row["independent_rate"], 2), strong=bool(row["independent_p"] <= 0.05)
            )
            if known
            else CellText(NONE),
            _null(row, "independent_") if known else CellText(NONE),
            CellText(NONE) if beyond is None else _mean(beyond),
            CellText(number(row["taxicab"], 3), note=_overlap(row["taxicab_overlap"])),
        ]

    images = "" if table.empty else f" n = {table['n'].max()}, {table['images'].max():,} images."
    return Section("Forgotten images", GUIDE + images, heads, _by_pipeline(table, pipelines, cells))


def _overlap(share: float) -> str:
    return "" if pd.isna(share) else f"{number(100 * share)} % overlap"


def _null(row: pd.Series, prefix: str) -> CellText:
    """A null's mean and p; of too few members to reject it that is said instead."""
    mean, p, least = (row[f"{prefix}{name}"] for name in ("null", "p", "least_p"))
    told = _p(p) if least <= ALPHA else f"undecided, n = {row['n']}"
    return CellText(number(100 * mean, 2), note=told)


def _overlaps(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> Section:
    """Every pair once, in the row of the later one."""
    known = set(table["other"]) if len(table) else set()
    names = [p.name for p in pipelines if p.name in known]

    def cells(rows: pd.DataFrame) -> list[CellText]:
        found = {pair.other: pair for pair in records(rows)}
        own = names.index(rows["pipeline"].iloc[0])
        shown = [_shared(found[n]) if n in found else CellText(NONE) for n in names[:own]]
        return shown + [CellText("")] * (len(names) - 1 - own)

    labels = {p.name: p.label for p in pipelines}
    later = table[table["pipeline"] != names[0]] if names else table
    heads = [f"with {labels[name]}" for name in names[:-1]]
    return Section("Overlap of exemplars", OVERLAP, heads, _by_pipeline(later, pipelines, cells))


def _shared(pair) -> CellText:
    if pd.isna(pair.jaccard):
        return CellText(NONE)
    margin = "" if pd.isna(pair.lo) else f"±{number(50 * (pair.hi - pair.lo))}"
    chance = f"{100 * pair.by_chance:.1f} by chance"
    return CellText(number(100 * pair.jaccard), margin, note=chance)


def _groups(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> Section:
    present = set(table["group"]) if len(table) else set()
    names = [name for name in FREQUENCIES if name in present]

    def cells(rows: pd.DataFrame) -> list[CellText]:
        own = {
            row.group: CellText(number(100 * row.share), note=f"of {number(100 * row.images)}")
            for row in records(rows)
        }
        return [own.get(name, CellText(NONE)) for name in names]

    rows = _by_pipeline(table, pipelines, cells)
    return Section("Exemplars by frequency of their class", GROUPS, names, rows)


def _between(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> Section:
    def cells(rows: pd.DataFrame) -> list[CellText]:
        row = rows.iloc[0]
        shared, chance, null = (row[name] for name in ("jaccard", "by_chance", "null"))
        half = 50 * (row["hi"] - row["lo"])
        margin = "" if pd.isna(half) else f"±{number(half)}"
        alone = [NONE if pd.isna(share) else number(100 * share) for share in (chance, null)]
        whole = NONE if pd.isna(shared) else number(100 * shared)
        return [CellText(whole, margin), *map(CellText, alone)]

    heads = ["shared", "by chance", "dense again"]
    rows = _by_pipeline(table, pipelines, cells)
    return Section("Overlap between corruptions", BETWEEN, heads, rows)


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


def _harm(
    table: pd.DataFrame, pipelines: Sequence[PipelineInfo], class_names: Sequence[str]
) -> Section:
    heads = ["impacted", "by chance", "corrected", "corrected, paired", "worst class"]

    def cells(rows: pd.DataFrame) -> list[CellText]:
        row = rows.iloc[0]
        counts = [CellText(f"{row[name]:.0f}") for name in ("impacted_bh", "impacted_paired_bh")]
        named = class_word(str(row["worst_class"]), class_names)
        worst = CellText(number(row["worst"], signed=True), note=f"class {named}")
        of = CellText(f"{row['impacted']:.0f} of {row['classes']:.0f}")
        return [of, CellText(number(row["by_chance"])), *counts, worst]

    most = table["untested"].max() if len(table) else 0
    guide = HARM + (UNTESTED.format(most=most) if most else "")
    return Section("Harmed classes", guide, heads, _by_pipeline(table, pipelines, cells))
