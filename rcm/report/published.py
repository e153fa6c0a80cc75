"""The numbers of a paper whose claims a study tests, as a section of the page."""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.claims import Verdict
from rcm.analysis.claims_corruption import SOURCE
from rcm.analysis.measured import of_dense
from rcm.analysis.published import NETWORKS, TABLES, configuration, like
from rcm.analysis.statistics import PipelineInfo
from rcm.report.layout import NONE, CellText, number
from rcm.report.sections import Section, margin_text

GUIDE = (
    f"Numbers of the paper ({SOURCE}) behind this study's own, of the same data set: networks "
    "pretrained on ImageNet, images enlarged to 224 pixels, one seed, early stopping on the test "
    "set. A row is the paper's configuration of the same techniques as a pipeline here, the "
    "network the one of the nearest family; own ones ± half of the 95 % interval. Other networks, "
    "budgets and images: for orientation, not for comparison."
)
DIGITS = (2, 1, 1, 2)  # as published, but for the ratio
HEADS = ("top-1, %", "mCE, %", "relative mCE, %", "ratio, \N{MULTIPLICATION SIGN}")
OWN = ("accuracy", "mce", "relative_mce", "compression_ratio")  # of the main table


def published_sections(
    claims: Sequence[Verdict], main: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> list[Section]:
    """One section for studies of its data sets that test that paper's claims, with any of its
    networks' families and any of its configurations; main: the table of that name, of which the
    smallest ratio is shown."""
    known = [name for name in TABLES if (main["dataset"] == name).any()]
    dataset = known[0] if known else ""  # a study has one
    here = main[(main["dataset"] == dataset) & (main["ratio"] == main["ratio"].min())]
    models = [str(model) for model in here["model"].unique()]
    families = [like(model) for model in models]
    networks = list(dict.fromkeys(n for n in families if n is not None))
    if not networks or SOURCE not in {verdict.claim.source for verdict in claims}:
        return []
    present, rows = set(here["pipeline"]), []
    for pipeline in of_dense(pipelines):
        found = configuration(pipeline, dataset)
        if found and pipeline.name in present:
            name, numbers = found
            values = [pair for n in networks for pair in zip(numbers[n], DIGITS, strict=True)]
            cells = [CellText(number(value, digits)) for value, digits in values]
            own = [cell for model in models for cell in _own(here, model, pipeline)]
            rows.append((pipeline.label, [CellText(name), *own, *cells]))
    heads = [f"{model} here: {head}" for model in models for head in HEADS]
    heads += [f"{NETWORKS[network]}: {head}" for network in networks for head in HEADS]
    return [Section("Published numbers", GUIDE, ["configuration", *heads], rows)] if rows else []


def _own(main: pd.DataFrame, model: str, pipeline: PipelineInfo) -> list[CellText]:
    """What this study measured of what the paper did; of a dense parent no error against itself."""
    rows = main[(main["model"] == model) & (main["pipeline"] == pipeline.name)]
    plain = ~rows["unit"].str.startswith("percent of the baseline")
    names = rows["quantity"].str.removesuffix("_15")  # of a study with the extra corruptions, too
    chosen = rows.assign(quantity=names)[plain].drop_duplicates("quantity")
    found = {row["quantity"]: row for _, row in chosen.iterrows()}
    return [
        CellText(number(found[name]["mean"], digits), margin_text(found[name]))
        if name in found
        else CellText(NONE)
        for name, digits in zip(OWN, DIGITS, strict=True)
    ]
