"""Do techniques differ over networks, and do larger networks gain more? Several runs of S3 at once.

Source     arXiv 2512.24971, claims C2 and C8 of protocol S3: its Friedman test has networks and
           data sets as blocks; ranks after Demšar 2006
Command    python experiments/over_networks.py RUN_FOLDER RUN_FOLDER ...
Output     tables on the terminal, as Markdown

C2 is decided over seeds, of which each trains every network: it answers for these networks. In C8 a
run is a block, whose seeds are averaged: it answers for networks like these.
"""

import sys

# jax asks for a package of this name, which newer Pythons have: not the study beside this file
sys.modules.setdefault("compression", None)  # pyright: ignore[reportArgumentType]

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from absl import app
from bench_tables import Table, markdown

from rcm import comparison, config
from rcm.analysis.claims import FRIEDMAN, Claim, Evidence, decided
from rcm.analysis.claims_corruption import SOURCE
from rcm.analysis.contrasts import size_slope
from rcm.analysis.measured import Measured
from rcm.analysis.ranks import Ranking, critical_difference, friedman
from rcm.analysis.statistics import COMPRESSED, per_seed, wide

MEASURES = {  # what is ranked, and whether more of it is better
    "mCE": False,
    "relative mCE": False,
    "effective robustness": True,
}
GROWS = Claim(
    "C2",
    "More complex networks gain more.",
    SOURCE,
    "Least-squares slope of 100 - mCE, mean over compressed pipelines, on doublings of the dense "
    "network's stored bytes; one for each seed that every network has.",
    None,
    unit="percent of the parent's error per doubling",
    untested="the networks are of one size, or have no seed in common",
)
DIFFER = {
    measure: Claim(
        f"C8{letter}",
        f"Techniques differ over networks, by {measure}.",
        SOURCE,
        "Spread between the means over networks, of which each is a block.",
        None,
        direction="any",
        unit="",
        test=FRIEDMAN.replace("seeds", "networks"),
        untested="fewer than three pipelines are in all runs",
    )
    for letter, measure in zip("abc", MEASURES, strict=True)
}


class Block(NamedTuple):
    """A run: its name, the stored bytes of its dense network, by compressed pipeline the mean over
    seeds of `MEASURES` and of clean error in percent of the parent's (`clean error`), and by seed
    100 - mCE, mean over the compressed pipelines."""

    name: str
    size: float
    means: pd.DataFrame
    gains: pd.Series


def block_of(side: comparison.Side) -> Block:
    """What a run says of each of its compressed pipelines. ValueError without corruptions."""
    measured = Measured(side.run.frame, side.run.pipelines).unrepaired
    config.require(
        not measured.corrupted.empty,
        f"{side.folder} has no results under corruptions: name runs of natural_corruptions.",
    )
    parents = {p.name: p.parent for p in measured.pipelines if p.kind in COMPRESSED}
    errors = 1 - per_seed(wide(measured.rows, "accuracy"))
    clean = {name: 100 * errors[name] / errors[parent] for name, parent in parents.items()}
    mce = per_seed(measured.corrupted["mce"])
    columns = {
        "mCE": mce.mean(),
        "relative mCE": per_seed(measured.corrupted["relative_mce"]).mean(),
        "effective robustness": per_seed(measured.above_line).mean(),
        "clean error": pd.DataFrame(clean).mean(),
    }
    means = pd.DataFrame({name: pd.Series(c, dtype=float) for name, c in columns.items()})
    dense = next(p.name for p in side.run.pipelines if p.kind == "dense")
    gains = 100 - mce[[name for name in parents if name in mce]].mean(axis="columns")
    return Block(side.folder, float(measured.sizes[dense]), means.reindex(list(parents)), gains)


def tested(blocks: list[Block]) -> dict[str, tuple[pd.DataFrame, Ranking | None]]:
    """By measure the table [networks, pipelines] of those in all runs, and its Friedman test."""
    found = {}
    for measure, more_is_better in MEASURES.items():
        columns = {block.name: block.means[measure] for block in blocks}
        table = pd.DataFrame(columns).T.dropna(axis="columns", how="any")
        enough = table.shape[1] >= 3
        found[measure] = (table, friedman(table, more_is_better) if enough else None)
    return found


def ranked(blocks: list[Block]) -> Table:
    """Friedman's test of every measure over the runs, and how many pipelines Nemenyi's critical
    difference does not tell from the best; below it C9."""
    rows: list[tuple[str, ...]] = []
    for measure, (table, found) in tested(blocks).items():
        if found is None:
            rows.append((measure, "0", str(table.shape[1]), "", "", "not in all runs", ""))
            continue
        difference = critical_difference(table.shape[1], found.n)
        alike = int((found.mean_ranks <= found.mean_ranks.iloc[0] + difference).sum())
        numbers = (str(found.n), str(table.shape[1]), f"{found.chi2:.2f}", f"{found.p:.3f}")
        rows.append((measure, *numbers, str(found.mean_ranks.index[0]), str(alike - 1)))
    header = ("measure", "networks", "pipelines", "chi2", "p", "best mean rank", "as good")
    notes = [f"C9, mCE restates clean error: r = {restated(blocks):.2f}."]
    return Table("Ranks over networks", header, rows, notes)


def restated(blocks: list[Block]) -> float:
    """Pearson's r of mCE and clean error, over all pipelines of all runs."""
    cells = pd.concat([block.means[["mCE", "clean error"]] for block in blocks]).dropna()
    return float(np.corrcoef(cells.to_numpy().T)[0, 1])


def growing(blocks: list[Block]) -> Evidence | None:
    """C2: a slope for every seed that all networks have; None without one, or with one size."""
    gains = pd.DataFrame({block.name: block.gains for block in blocks}).dropna()
    weights = size_slope(pd.Series([block.size for block in blocks]))
    if gains.empty or weights is None:
        return None
    each = ", ".join(
        f"{block.name} ({block.size / 1024:,.0f} KiB) {gains[block.name].mean():+.2f}"
        for block in blocks
    )
    return Evidence(gains.to_numpy() @ weights, note=f"mean gains: {each}")


def differing(table: pd.DataFrame, found: Ranking | None) -> Evidence | None:
    """C8: the spread between pipelines' means over networks, and Friedman's p."""
    if found is None:
        return None
    spread = float(np.ptp(table.mean().to_numpy()))
    return Evidence(np.full(len(table), spread), p=found.p, smallest_p=found.smallest_p)


def decided_over(blocks: list[Block]) -> Table:
    """The claims over networks, by the rule of every report."""
    found = {DIFFER[measure]: differing(*one) for measure, one in tested(blocks).items()}
    evidence = {GROWS: growing(blocks), **found}
    rows = []
    for verdict in decided(list(evidence), list(evidence.values())):
        effect = verdict.effect
        interval = "" if np.isnan(effect.lo) else f" [{effect.lo:.2f}, {effect.hi:.2f}]"
        numbers = ["", "", ""]
        if effect.n:
            p = "" if np.isnan(verdict.p_holm) else f"{verdict.p_holm:.3f}"
            numbers = [f"{effect.mean:+.2f}{interval}", p, str(effect.n)]
        claim = f"{verdict.claim.id} {verdict.claim.text}"
        rows.append((claim, verdict.answer, *numbers, verdict.why))
    header = ("claim", "answer", "effect", "Holm's p", "n", "remarks")
    return Table("Claims over networks", header, rows, [])


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
    for table in (decided_over(blocks), ranked(blocks)):
        print(markdown(table))


if __name__ == "__main__":
    app.run(main)
