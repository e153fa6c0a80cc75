"""Do techniques differ over networks, and do larger networks gain more? Several runs of S3 at once.

Source     arXiv 2512.24971, claims C2 and C8 of protocol S3: its Friedman test has networks and
           data sets as blocks; ranks after Demšar 2006
Command    python experiments/over_networks.py RUN_FOLDER RUN_FOLDER ...
Output     tables on the terminal, as Markdown: a run is a block, its seeds are averaged

Seeds of one network answer for that network alone; only several networks answer for others.
"""

import sys

# jax asks for a package of this name, which newer Pythons have: not the study beside this file
sys.modules.setdefault("compression", None)  # pyright: ignore[reportArgumentType]

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from absl import app
from bench_tables import Table, markdown
from scipy import stats

from rcm import comparison, config
from rcm.analysis.measured import Measured
from rcm.analysis.ranks import critical_difference, friedman
from rcm.analysis.statistics import COMPRESSED, per_seed, wide

MEASURES = {  # what is ranked, and whether more of it is better
    "mCE": False,
    "relative mCE": False,
    "effective robustness": True,
}
ALPHA = 0.05


class Block(NamedTuple):
    """A run: its name, the stored bytes of its dense network, and by compressed pipeline the mean
    over seeds of `MEASURES` and of clean error in percent of the parent's (`clean error`)."""

    name: str
    size: float
    means: pd.DataFrame


def block_of(side: comparison.Side) -> Block:
    """What a run says of each of its compressed pipelines. ValueError without corruptions."""
    measured = Measured(side.run.frame, side.run.pipelines)
    config.require(
        not measured.corrupted.empty,
        f"{side.folder} has no results under corruptions: name runs of natural_corruptions.",
    )
    parents = {p.name: p.parent for p in side.run.pipelines if p.kind in COMPRESSED}
    errors = 1 - per_seed(wide(measured.rows, "accuracy"))
    clean = {name: 100 * errors[name] / errors[parent] for name, parent in parents.items()}
    columns = {
        "mCE": per_seed(measured.corrupted["mce"]).mean(),
        "relative mCE": per_seed(measured.corrupted["relative_mce"]).mean(),
        "effective robustness": per_seed(measured.above_line).mean(),
        "clean error": pd.DataFrame(clean).mean(),
    }
    means = pd.DataFrame({name: pd.Series(c, dtype=float) for name, c in columns.items()})
    dense = next(p.name for p in side.run.pipelines if p.kind == "dense")
    return Block(side.folder, float(measured.sizes[dense]), means.reindex(list(parents)))


def ranked(blocks: list[Block]) -> Table:
    """Friedman's test of every measure over the runs, and how many pipelines Nemenyi's critical
    difference does not tell from the best; below it C9 and C2."""
    rows: list[tuple[str, ...]] = []
    for measure, more_is_better in MEASURES.items():
        columns = {block.name: block.means[measure] for block in blocks}
        table = pd.DataFrame(columns).T.dropna(axis="columns", how="any")
        if table.shape[1] < 3:
            rows.append((measure, "0", str(table.shape[1]), "", "", "not in all runs", ""))
            continue
        found = friedman(table, more_is_better)
        difference = critical_difference(table.shape[1], found.n)
        alike = int((found.mean_ranks <= found.mean_ranks.iloc[0] + difference).sum())
        numbers = (str(found.n), str(table.shape[1]), f"{found.chi2:.2f}", f"{found.p:.3f}")
        rows.append((measure, *numbers, str(found.mean_ranks.index[0]), str(alike - 1)))
    header = ("measure", "networks", "pipelines", "chi2", "p", "best mean rank", "as good")
    notes = [f"C9, mCE restates clean error: r = {restated(blocks):.2f}.", trend(blocks)]
    return Table("Over networks (C8)", header, rows, notes)


def restated(blocks: list[Block]) -> float:
    """Pearson's r of mCE and clean error, over all pipelines of all runs."""
    cells = pd.concat([block.means[["mCE", "clean error"]] for block in blocks]).dropna()
    return float(np.corrcoef(cells.to_numpy().T)[0, 1])


def trend(blocks: list[Block]) -> str:
    """C2 in words: Kendall's tau of the network's size and its mean gain, exact p."""
    gains = [100 - block.means["mCE"].mean() for block in blocks]
    n, sizes = len(blocks), [block.size for block in blocks]
    least = 2 / math.factorial(n)
    found = stats.kendalltau(sizes, gains, method="exact" if len(set(sizes)) == n else "auto")
    answer = "supported" if found.pvalue <= ALPHA and found.statistic > 0 else "not supported"
    if least > ALPHA:
        answer = f"undecided (n = {n}: no order of so few networks has p below {least:.3f})"
    each = ", ".join(
        f"{block.name} ({block.size / 1024:,.0f} KiB) {gain:+.2f}"
        for block, gain in zip(blocks, gains, strict=True)
    )
    return (
        f"C2, more complex networks gain more: {answer}. Kendall's tau {found.statistic:.2f}, "
        f"p = {found.pvalue:.3f}. 100 - mCE, mean over the pipelines: {each}."
    )


def main(arguments: list[str]) -> None:
    folders = arguments[1:]
    try:
        config.require(
            len(folders) >= 2,
            f"{len(folders)} run folders were given: name two or more, each of another network.",
        )
        blocks = [block_of(comparison.read_side(Path(folder), folder)) for folder in folders]
        blocks = [block._replace(name=Path(block.name).name) for block in blocks]
    except (ValueError, OSError) as error:
        sys.exit(f"over_networks: {' '.join(str(error).split())}")
    print(markdown(ranked(blocks)))


if __name__ == "__main__":
    app.run(main)
