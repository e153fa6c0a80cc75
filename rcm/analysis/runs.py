"""Two runs: what differs in their configs, what both have, and whether their members are paired."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from rcm.analysis.attacks import WORST
from rcm.analysis.metrics import CLEAN, VALIDATION
from rcm.analysis.statistics import BLOCK, PipelineInfo

ABSENT = "absent"
CUTS = (  # which images train, under which labels
    "class_order", "data_seed", "imbalance", "label_noise", "minority", "val_per_class"
)  # fmt: skip
SEEN = ("attack_images", "frost_dir", "images", "official", "seed")  # which shifted images test
NOTHING = (
    "the two runs have nothing in common: expected a shared pipeline at a shared imbalance ratio, "
    "measured in both, and a shared data set and network where a run has several"
)


class Run(NamedTuple):
    """A finished run: its tidy results, its config as plain data, its pipelines, and what
    identifies its images ("" in runs of versions that did not say)."""

    frame: pd.DataFrame
    config: dict[str, Any]
    pipelines: Sequence[PipelineInfo]
    data: str = ""


class Pairing(NamedTuple):
    """A block (dataset, model, imbalance) of each run that are compared, and why their members are
    not paired, "" if they are."""

    a: tuple
    b: tuple
    reason: str


def config_differences(a: Any, b: Any, prefix: str = "") -> list[tuple[str, str, str]]:
    """(dotted field, value in A, value in B) where two configs, as plain data, differ; what one
    lacks is `ABSENT` there. Lists of named things, such as pipelines, are compared by name."""
    a, b = _by_name(a), _by_name(b)
    a, b = ({} if one == [] and isinstance(two, dict) else one for one, two in ((a, b), (b, a)))
    if isinstance(a, dict) and isinstance(b, dict):
        rows = []
        for key in dict.fromkeys([*a, *b]):
            name = f"{prefix}.{key}" if prefix else str(key)
            if key in a and key in b:
                rows += config_differences(a[key], b[key], name)
            else:
                rows.append((name, *(_text(one[key]) if key in one else ABSENT for one in (a, b))))
        return rows
    return [] if a == b else [(prefix, _text(a), _text(b))]


def _by_name(value: Any) -> Any:
    """A list of dicts as a dict, by their names, or by their places where they have none."""
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        return value
    keys = [one.get("name") or str(place) for place, one in enumerate(value)]
    return dict(zip(keys, value, strict=True)) if len(set(keys)) == len(keys) else value


def _text(value: Any) -> str:
    if isinstance(value, dict) and "type" in value:
        return value["type"]  # what it is: the rest is on the page of the run that has it
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def pairings(a: Run, b: Run) -> list[Pairing]:
    """The blocks that both runs have, or the only ones of runs that share none.

    Members are paired by seed where both runs have the same images of them, cut for training alike,
    and the same network: then members of one seed begin and see batches alike. Raises ValueError
    where nothing can be compared.
    """
    found = [list(_blocks(run.frame)) for run in (a, b)]
    shared = [(block, block) for block in found[0] if block in found[1]]
    if not shared and len(found[0]) == len(found[1]) == 1:
        shared = [(found[0][0], found[1][0])]
    names, ratios = (set(a.frame[c]) & set(b.frame[c]) for c in ("pipeline", "ratio"))
    if not shared or not names or not ratios:
        raise ValueError(NOTHING)
    return [Pairing(*pair, _unpaired(a, b, *pair)) for pair in shared]


def _blocks(frame: pd.DataFrame) -> Iterator[tuple]:
    return frame[BLOCK].drop_duplicates().itertuples(index=False, name=None)


def _unpaired(a: Run, b: Run, block_a: tuple, block_b: tuple) -> str:
    """Why members of these blocks are not paired by seed, "" if they are."""
    names = [run.config.get("data", {}).get("name", "") for run in (a, b)]
    # a 0 counts as absent: older runs lack fields that play no part in them
    cuts = [{k: v for k, v in r.config.get("data", {}).items() if k in CUTS and v} for r in (a, b)]
    same_images = a.data == b.data if a.data and b.data else names[0] == names[1]
    if block_a[0] != block_b[0] or not same_images:
        return "their data sets differ"
    if block_a[1] != block_b[1]:
        return "their networks differ"
    if cuts[0] != cuts[1] or block_a[2] != block_b[2]:
        return "their training images are chosen otherwise"
    counts = [_train_counts(run.frame, block_a) for run in (a, b)]
    shared = counts[0].index.intersection(counts[1].index)
    if not counts[0].reindex(shared).equals(counts[1].reindex(shared)):
        return "their classes have other numbers of training images"
    return ""


def _train_counts(frame: pd.DataFrame, block: tuple) -> pd.Series:
    rows = of_block(frame, block)
    rows = rows[rows["metric"] == "train_count"]
    return rows.groupby(["ratio", "cls"])["value"].mean()


def of_block(frame: pd.DataFrame, block: tuple) -> pd.DataFrame:
    return frame[(frame[BLOCK] == list(block)).all(axis=1)]


def corruption_cells(frame: pd.DataFrame) -> set[tuple[str, float]]:
    """(shift, severity) of corrupted test images."""
    rows = frame[(frame["metric"] == "accuracy") & ~frame["shift"].isin((CLEAN, VALIDATION))]
    return set(rows[["shift", "severity"]].itertuples(index=False, name=None))


def attack_sets(frame: pd.DataFrame) -> dict[tuple[str, float], set[str]]:
    """The attacks behind each worst case, by its (shift, severity)."""
    rows = frame[frame["metric"] == "robust_accuracy"][["shift", "severity"]].drop_duplicates()
    worst = rows[rows["shift"].str.startswith(WORST)]
    found = {}
    for name, eps in worst.itertuples(index=False, name=None):
        others = rows.loc[(rows["severity"] == eps) & ~rows["shift"].isin(worst["shift"]), "shift"]
        in_l2 = others.str.endswith("_l2")
        found[name, eps] = set(others[in_l2 if name != WORST else ~in_l2])
    return found


def place_of(pairing: Pairing) -> str:
    parts = zip(pairing.a, pairing.b, strict=True)
    return " · ".join(" against ".join(dict.fromkeys(map(str, pair))) for pair in parts)


def shared(a: Run, b: Run) -> dict[str, tuple[list[str], list[str], list[str]]]:
    """What the runs have by kind (pipelines, ratios, shifts, metrics): (both, only A, only B)."""
    found = {}
    for kind in ("pipeline", "ratio", "shift", "metric"):
        ours, theirs = (list(dict.fromkeys(map(_word, run.frame[kind]))) for run in (a, b))
        both = [one for one in ours if one in theirs]
        only = [one for one in ours if one not in theirs], [o for o in theirs if o not in ours]
        found[f"{kind}s"] = (both, *only)
    return found


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def cautions(a: Run, b: Run) -> list[str]:
    """What a reader should know about how far the two runs are alike."""
    notes = [
        f"Welch's intervals, not paired, because {pairing.reason}: {place_of(pairing)}."
        for pairing in pairings(a, b)
        if pairing.reason
    ]
    fields = {field for field, *_ in config_differences(a.config, b.config)}
    other = [f"shift.{name}" for name in SEEN if f"shift.{name}" in fields]
    sets = [attack_sets(run.frame) for run in (a, b)]
    shifted = corruption_cells(a.frame) & corruption_cells(b.frame) or set(sets[0]) & set(sets[1])
    if other and shifted:
        notes.append(
            f"The shifted images are not the same ({', '.join(other)} differ), so that changes "
            "under corruption and attack are also those of the images."
        )
    if any(sets[0][key] != sets[1][key] for key in set(sets[0]) & set(sets[1])):
        notes.append("Worst cases over other attacks are not compared.")
    return notes
