"""How often intervals cover, and how often claims are supported: by simulation.

Claim      paired t intervals cover 93 to 97 %; at most 8 % of studies of equals support a claim
Command    python experiments/simulations.py [--draws=4000 --studies=200]
Hardware   2 CPU cores, half an hour; classes and intervals six minutes
Output     the tables of docs/statistics.md, printed
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import simulated_answers
import simulated_classes
import simulated_intervals
import simulated_planted
import simulated_shifts
import simulated_tables
from absl import app, flags
from simulated_tables import Planted

from rcm.analysis.claims import SUPPORTED, Claim, Verdict, decide
from rcm.analysis.claims_corruption import CORRUPTION_CLAIMS
from rcm.analysis.claims_exemplars import EXEMPLAR_CLAIMS
from rcm.analysis.claims_imbalance import IMBALANCE_CLAIMS
from rcm.analysis.claims_joint import JOINT_CLAIMS
from rcm.analysis.claims_shift import SHIFT_CLAIMS
from rcm.analysis.exemplars import LEAST, excess_by_member, votes
from rcm.analysis.power import detectable_effect
from rcm.analysis.resampling import DRAWS, interquartile_mean
from rcm.analysis.statistics import PipelineInfo, over_seeds, summarise

DISTRIBUTIONS: dict[str, tuple[Callable[..., np.ndarray], float, float]] = {  # mean, middle mean
    "normal": (np.random.Generator.normal, 0.0, 0.0),
    "exponential": (np.random.Generator.exponential, 1.0, 0.7384),
}


class Rates(NamedTuple):
    """Shares of simulated studies that support any claim which is false there, and each claim."""

    any_false: float
    each: dict[str, float]


class Equals(NamedTuple):
    """Claims, those of them that are true of equals, and studies in which compression is only
    noise around the dense members: `study` makes a results table of `infos` of a generator and a
    number of seeds."""

    claims: Sequence[Claim]
    true: Sequence[str]
    study: Callable[[np.random.Generator, int], pd.DataFrame]
    infos: Sequence[PipelineInfo]


def support(equals: Equals, seeds: int, studies: int, key: int = 0) -> Rates:
    """Claims that are true of equals, such as that they are the same, are counted on their own."""
    frames = (equals.study(np.random.default_rng([key, seeds, i]), seeds) for i in range(studies))
    supported = pd.DataFrame(
        [
            {v.claim.id: v.answer == SUPPORTED for v in decide(equals.claims, frame, equals.infos)}
            for frame in frames
        ]
    )
    wrong = supported.drop(columns=[name for name in equals.true if name in supported])
    return Rates(
        float(wrong.any(axis=1).mean()),
        {str(name): float(share) for name, share in supported.mean().items()},
    )


class Recovered(NamedTuple):
    """Of a claim about a planted effect: mean estimate minus the truth, the share of intervals that
    cover it, and of studies that support the claim."""

    bias: float
    coverage: float
    supported: float


def recovered(
    claims: Iterable[Claim], truths: Mapping[str, float], planted: Planted, seeds: int, studies: int
) -> dict[str, Recovered]:
    """What `studies` studies with a planted effect find of it, by claim; truths: the effect that a
    claim is about, by claim."""
    found: dict[str, list[Verdict]] = {name: [] for name in truths}
    for i in range(studies):
        frame = simulated_tables.study(np.random.default_rng([1, seeds, i]), seeds, planted)
        for verdict in decide(tuple(claims), frame, simulated_tables.INFOS):
            if verdict.claim.id in truths:
                found[verdict.claim.id].append(verdict)
    return {name: _recovered(verdicts, truths[name]) for name, verdicts in found.items()}


def _recovered(verdicts: list[Verdict], truth: float) -> Recovered:
    effects = [verdict.effect for verdict in verdicts]
    return Recovered(
        float(np.mean([effect.mean for effect in effects]) - truth),
        float(np.mean([effect.lo <= truth <= effect.hi for effect in effects])),
        float(np.mean([verdict.answer == SUPPORTED for verdict in verdicts])),
    )


def _of_answers(kinship: simulated_answers.Kinship, *more: str) -> Equals:
    # Dense networks err and disagree on the images on which populations differ by chance, too
    true = ("C1a", "C4b", "C5", "C6a", "C6b", *more)
    study = partial(simulated_answers.study, kinship=kinship)
    return Equals(EXEMPLAR_CLAIMS, true, study, simulated_answers.INFOS)


def _joint(rng: np.random.Generator, seeds: int) -> pd.DataFrame:
    frame = simulated_tables.study(rng, seeds)
    return simulated_shifts.with_attacks(rng, frame, simulated_tables.INFOS)


TABLES = (simulated_tables.study, simulated_tables.INFOS)
SETS = {
    "S1": Equals(IMBALANCE_CLAIMS, (), *TABLES),
    # what is equal changes nothing, at any size
    "S2": Equals(
        SHIFT_CLAIMS, ("C5a", "C5b", "C6a"), simulated_shifts.study, simulated_shifts.INFOS
    ),
    # a line from clean to corrupted accuracy makes mCE restate clean error
    "S3": Equals(CORRUPTION_CLAIMS, ("C3", "C5", "C7", "C9"), *TABLES),
    "S4, trained anew": _of_answers(simulated_answers.INDEPENDENT),
    "S4, children": _of_answers(simulated_answers.PAIRED),
    # those of S1 to S3 that its tables can answer, and S5's own of corruption
    "S5": Equals(
        JOINT_CLAIMS,
        ("S2.C5a", "S3.C3", "S3.C5", "S3.C7", "S3.C9", "S4.C1a"),
        _joint,
        simulated_tables.INFOS,
    ),
}
EFFECTS = {  # what is planted, and what the claims should find
    "S1": (IMBALANCE_CLAIMS, Planted(harm=1.0), {"C1": 1.5, "C2": 1.0}),
    "S3": (CORRUPTION_CLAIMS, Planted(robustness=1.0), {"C1b": 1.0, "C1c": 1.0}),
}


def t_coverage(kind: str, n: int, draws: int, key: int = 0) -> float:
    """Share of paired t intervals of n values that cover their mean."""
    draw, mean, _ = DISTRIBUTIONS[kind]
    samples = draw(np.random.default_rng([key, n]), size=(draws, n))
    index = pd.MultiIndex.from_product([range(draws), range(n)], names=["study", "seed"])
    table = over_seeds(pd.Series(samples.ravel(), index))
    return float(((table["lo"] <= mean) & (mean <= table["hi"])).mean())


def bootstrap_coverage(kind: str, n: int, draws: int, key: int = 0) -> tuple[float, float]:
    """Shares of percentile bootstrap intervals that cover the mean, and of `interquartile_mean`
    that cover the mean of the middle half."""
    draw, mean, middle = DISTRIBUTIONS[kind]
    rng = np.random.default_rng([key, n])
    covered = np.zeros((draws, 2), bool)
    for i in range(draws):
        sample = draw(rng, size=n)
        means = sample[rng.integers(0, n, (DRAWS, n))].mean(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        inner = interquartile_mean(sample)
        covered[i] = low <= mean <= high, inner.lo <= middle <= inner.hi
    shares = covered.mean(axis=0)
    return float(shares[0]), float(shares[1])


def excess_coverage(
    members: int, shared: float, studies: int, planted: float = 0.0, key: int = 0
) -> tuple[float, float]:
    """Of 95 % intervals over members of the excess rate of exemplars: the share that covers the
    truth, and the share above 0. Populations draw their answers to 2,000 images from the same ten
    probabilities.

    shared: the share of answers in which a pipeline's member repeats its parent's. planted: the
    share of images whose answers are then made those of the next class; of none the truth is 0,
    else the mean of all these studies.
    """
    rng, found = np.random.default_rng([key, members]), []
    moved = np.arange(2000) < 2000 * planted
    for _ in range(studies):
        shares = rng.dirichlet(np.full(10, 0.15), 2000).cumsum(1)
        draws = rng.random((3, members, 2000, 1))  # independent, parents, children
        draws[2] = np.where(rng.random((members, 2000, 1)) < shared, draws[1], draws[2])
        labels = (draws > shares).sum(3).clip(0, 9).astype(np.uint8)
        labels[2] = (labels[2] + moved) % 10
        found.append(summarise(excess_by_member(*(votes(one, 10) for one in labels))))
    truth = np.mean([one.mean for one in found]) if planted else 0.0
    covered = [one.lo <= truth <= one.hi for one in found]
    return float(np.mean(covered)), float(np.mean([one.lo > 0 for one in found]))


def print_exemplars(seeds: list[int], studies: int) -> None:
    sizes = [n for n in seeds if n >= LEAST]
    print(_row("excess of exemplars: covered, above 0", (f"n = {n}" for n in sizes)))
    for shared, planted in ((0.0, 0.0), (0.9, 0.0), (0.9, 0.03)):
        shares = [excess_coverage(n, shared, studies, planted) for n in sizes]
        words = f"{shared:.0%} of the answers repeated, {planted:.0%} planted"
        print(_row(words, (f"{_percent(a)}, {_percent(b)}" for a, b in shares)))


def print_classes(seeds: list[int], studies: int) -> None:
    """Effects that one paired t test would find in 80 %."""
    print(_row("changed classes found, false discoveries", (f"n = {n}" for n in seeds)))
    made = [simulated_classes.discoveries(n, studies, detectable_effect(1.0, n)) for n in seeds]
    for name, title in simulated_classes.TESTS.items():
        pairs = [[100 * shares.mean() for shares in one[name]] for one in made]
        print(_row(title, (f"{found:.0f} %, {false:.1f} %" for found, false in pairs)))


def print_coverage(seeds: list[int], draws: int) -> None:
    print(_row("interval", (f"n = {n}" for n in seeds)))
    for kind in DISTRIBUTIONS:
        shares = [t_coverage(kind, n, 10 * draws) for n in seeds]
        print(_row(f"paired t, {kind}", map(_percent, shares)))
        both = [bootstrap_coverage(kind, n, draws) for n in seeds]
        for place, what in enumerate(("mean", "interquartile mean")):
            shares = [pair[place] for pair in both]
            print(_row(f"bootstrap, {what}, {kind}", map(_percent, shares)))


def print_intervals(seeds: list[int], studies: int) -> None:
    print(_row("interval", (f"n = {n}" for n in seeds)))
    for title, (covered, times) in simulated_intervals.ROWS.items():
        print(_row(title, (_percent(covered(n, times * studies)) for n in seeds)))
    by_share = [simulated_intervals.on_fronts(n, studies) for n in seeds]
    for low, *shares in zip(simulated_intervals.BINS[:-1], *by_share, strict=True):
        print(_row(f"really on the front, of those from {low:.0%} on", map(_percent, shares)))
    for images in (200, 2000):
        made = simulated_intervals.over_images(images, studies)
        print(_row(f"{images} images: accuracy, its change", map(_percent, made)))


def print_support(seeds: list[int], studies: int) -> None:
    print(_row("claims of equals", (f"n = {n}" for n in seeds)))
    for title in flags.FLAGS.sets:
        rates = [support(SETS[title], n, studies) for n in seeds]
        print(_row(f"{title}, any false one", (_percent(rate.any_false) for rate in rates)))
        for name in rates[0].each:
            print(_row(f"{title} {name}", (_percent(rate.each[name]) for rate in rates)))


def print_recovered(seeds: list[int], studies: int) -> None:
    print(_row("planted", (f"n = {n}: bias, coverage, supported" for n in seeds)))
    for title, (claims, planted, truths) in EFFECTS.items():
        found = [recovered(claims, truths, planted, n, studies) for n in seeds]
        for name, truth in truths.items():
            cells = (
                f"{f.bias:+.2f}, {_percent(f.coverage)}, {_percent(f.supported)}"
                for f in (of_seeds[name] for of_seeds in found)
            )
            print(_row(f"{title} {name}: {truth:g}", cells))


def print_planted(seeds: list[int], studies: int) -> None:
    """Three effects in one population."""
    sizes = [n for n in seeds if n >= LEAST]
    print(_row("planted together", (f"n = {n}" for n in sizes)))
    found = [simulated_planted.rates(n, studies) for n in sizes]
    for name in simulated_planted.Rates._fields:
        words = _points if name == "gap_bias" else _percent
        print(_row(name, (words(getattr(one, name)) for one in found)))


def _points(value: float) -> str:
    return f"{value:+.2f} points"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _row(title: str, cells: Iterable[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


PARTS = {
    "coverage": print_coverage,
    "support": print_support,
    "recovered": print_recovered,
    "exemplars": print_exemplars,
    "classes": print_classes,
    "intervals": print_intervals,
    "planted": print_planted,
}


def main(_) -> None:
    started, values = time.process_time(), flags.FLAGS
    for part in values.parts:
        seeds = [int(n) for n in values.seeds]
        PARTS[part](seeds, values.draws if part == "coverage" else values.studies)
    print(f"\n{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    flags.DEFINE_integer("draws", 4000, "Simulated samples; ten times as many for t.", 1)
    flags.DEFINE_integer("studies", 200, "Simulated studies.", 1)
    flags.DEFINE_list("seeds", ["3", "5", "10"], "Numbers of seeds.")
    flags.DEFINE_multi_enum("sets", list(SETS), list(SETS), "Whose claims equals are asked.")
    flags.DEFINE_multi_enum("parts", list(PARTS), list(PARTS), "What to simulate.")
    app.run(main)
