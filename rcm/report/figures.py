"""The report's figures, drawn from the long tables of `rcm.report.tables`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rcm.analysis.statistics import BLOCK, PipelineInfo
from rcm.report.attack_maps import attack_figures
from rcm.report.calibration import calibration_figures
from rcm.report.class_maps import excess_figure, recall_figure
from rcm.report.corruption_maps import corruption_figures, severity_figures
from rcm.report.curves import curve_figures
from rcm.report.effective import effective_figure
from rcm.report.foretold import foretold_figure
from rcm.report.gaps import gap_figures
from rcm.report.mislabelled import mislabelled_figure
from rcm.report.ranks import rank_figures
from rcm.report.sizes import robustness_figure, size_figure
from rcm.report.style import Figure, figure_style
from rcm.report.training import training_figures

Pipelines = Sequence[PipelineInfo]


def all_figures(
    tables: dict[str, pd.DataFrame], pipelines: Pipelines, class_names: Sequence[str] = ()
) -> list[Figure]:
    """Every figure that the tables of `all_tables` have numbers for, block by block; class_names:
    what classes are called, by id."""
    blocks = list(dict.fromkeys(tables["main"][BLOCK].itertuples(index=False, name=None)))
    figures = []
    with figure_style():
        for block in blocks:
            parts = {name: _of_block(tables[name], block) for name in _DRAWN}
            drawn = [
                *gap_figures(parts["main"], pipelines),
                recall_figure(
                    parts["recall_change"], parts["class_recall"], pipelines, class_names
                ),
                foretold_figure(parts["foretold"], pipelines),
                excess_figure(parts["class_excess"], pipelines, class_names),
                *corruption_figures(parts["corruptions"], pipelines),
                *severity_figures(parts["severities"], pipelines),
                *calibration_figures(parts["calibration"], parts["main"], pipelines),
                effective_figure(parts["main"], parts["dense_lines"], pipelines),
                size_figure(parts["main"], parts["fronts"], pipelines),
                robustness_figure(parts["main"], parts["robustness"], parts["fronts"], pipelines),
                *attack_figures(parts["robustness"], pipelines),
                *curve_figures(parts["robustness"], pipelines),
                *rank_figures(parts["ranks"], pipelines),
                mislabelled_figure(parts["mislabelled"], pipelines),
            ]
            figures += [_named(figure, block, len(blocks)) for figure in drawn if figure]
        measured = _dense_seeds(tables["main"])
        return figures + training_figures(tables["training"], pipelines, measured)


_DRAWN = (
    "main",
    "calibration",
    "corruptions",
    "dense_lines",
    "severities",
    "class_recall",
    "recall_change",
    "class_excess",
    "foretold",
    "fronts",
    "mislabelled",
    "ranks",
    "robustness",
)


def _dense_seeds(main: pd.DataFrame) -> int:
    """From how many seeds dense networks were measured, where that is most."""
    own = main[(main["pipeline"] == "dense") & (main["quantity"] == "accuracy")]
    return int(own["n"].max()) if len(own) else 0


def _of_block(table: pd.DataFrame, block: tuple) -> pd.DataFrame:
    keep = np.ones(len(table), bool)
    for name, value in zip(BLOCK, block, strict=True):
        keep &= (table[name] == value).to_numpy()
    return table[keep]


def _named(figure: Figure, block: tuple, blocks: int) -> Figure:
    if blocks == 1:
        return figure
    words = "-".join(str(word) for word in block)
    slug = "".join(letter if letter.isalnum() else "-" for letter in words)
    return figure._replace(
        name=f"{figure.name}_{slug}", title=f"{figure.title}: {', '.join(map(str, block))}"
    )
