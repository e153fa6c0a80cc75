"""The numbers of a paper whose claims a study tests, as a section of the page."""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.claims import Verdict
from rcm.analysis.claims_corruption import SOURCE
from rcm.analysis.published import NETWORKS, configuration, like
from rcm.analysis.statistics import PipelineInfo
from rcm.report.layout import CellText, number
from rcm.report.sections import Section

GUIDE = (
    f"Numbers of the paper ({SOURCE}), none of this study: CIFAR-10, networks pretrained on "
    "ImageNet, images enlarged to 224 pixels, one seed, early stopping on the test set. A row is "
    "the paper's configuration of the same techniques as a pipeline here, the network the one of "
    "the nearest family. Other networks, budgets and images: for orientation, not for comparison."
)
DIGITS = (2, 1, 1, 2)  # as published, but for the ratio
HEADS = ("top-1, %", "mCE, %", "relative mCE, %", "ratio, \N{MULTIPLICATION SIGN}")


def published_sections(
    claims: Sequence[Verdict], frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> list[Section]:
    """One section for studies of CIFAR-10 that test that paper's claims, with any of its networks'
    families and any of its configurations."""
    here = frame[frame["dataset"] == "cifar10"]
    families = [like(str(model)) for model in here["model"].unique()]
    networks = list(dict.fromkeys(n for n in families if n is not None))
    if not networks or SOURCE not in {verdict.claim.source for verdict in claims}:
        return []
    present, rows = set(here["pipeline"]), []
    for pipeline in pipelines:
        found = configuration(pipeline)
        if found and pipeline.name in present:
            name, numbers = found
            values = [pair for n in networks for pair in zip(numbers[n], DIGITS, strict=True)]
            cells = [CellText(number(value, digits)) for value, digits in values]
            rows.append((pipeline.label, [CellText(name), *cells]))
    heads = [f"{NETWORKS[network]}: {head}" for network in networks for head in HEADS]
    return [Section("Published numbers", GUIDE, ["configuration", *heads], rows)] if rows else []
