"""The numbers of a report as long tables, one row per estimate."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rcm.analysis.attacks import transfer
from rcm.analysis.changes import changes_tested
from rcm.analysis.claims import Verdict
from rcm.analysis.corruption import corruption_summary
from rcm.analysis.elsewhere import robustness
from rcm.analysis.foretold import foretold
from rcm.analysis.forgotten import exemplar_means
from rcm.analysis.forgotten_tables import TABLES as FORGOTTEN
from rcm.analysis.harm import class_harm, harm_counts
from rcm.analysis.metrics import CLEAN
from rcm.analysis.mislabelled import mislabelled
from rcm.analysis.ranks import rank_table
from rcm.analysis.resampling import middle_means
from rcm.analysis.statistics import (
    BLOCK,
    ESTIMATE_COLUMNS,
    MEMBER,
    PipelineInfo,
    check_pipelines,
    difference,
    estimates,
    gap_table,
    stacked,
    usable,
    wide,
)
from rcm.analysis.subgroups import subgroups
from rcm.analysis.tradeoffs import COSTS, best_under, fronts, objectives, volumes

SCALES = {
    "bytes": (1 / 1024, "KiB"),
    "compression_ratio": (1.0, "times"),
    "parameters": (1e-3, "thousands"),
    "macs": (1e-6, "millions"),
}
SIMPLE = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "g_mean",
    "recall_head",
    "recall_medium",
    "recall_tail",
    "ece",
    "bytes",
    "compression_ratio",
    "parameters",
    "macs",
)
LEDGER = ("bytes_dense", "bytes_packed", "bytes", "bytes_zstd", "bytes_file")  # of one member
PARITY = ("accuracy", "simulated", "disagreement")  # of an exported file, shares of the test images
MORE = (
    "nll",
    "brier",
    "ece_equal_mass",
    "ece_classwise",
    "posthoc_balanced_accuracy",
    "agreement",
    "churn",
    "negative_flips",
    "positive_flips",
)
OF_PREDICTIONS = ("exemplar_shifts", "image_intervals")
BINNED = ("bin_accuracy", "bin_confidence")

ATTACK = ["shift", "severity"]  # an attack and its eps
WARNINGS = {
    "hidden_gradients": "no gradient in over 10 % of pixels",
    "masked_gradients": "a search without gradients did better",
}


def all_tables(
    frame: pd.DataFrame,
    pipelines: Sequence[PipelineInfo],
    claims: Sequence[Verdict] = (),
    exports: Sequence[Mapping[str, Any]] = (),
) -> dict[str, pd.DataFrame]:
    """The report's tables by name: main, changes (with tests), corruptions, dense_lines (of
    effective robustness), recall_change, class_excess (of corruption), calibration, attacks,
    transfer, robustness (attacks and domains), subgroups, fronts, volumes (under them), budgets,
    ranks, exemplar_means, mislabelled, harm (counts of harmed classes), class_harm, foretold (what
    harm correlates with), exports and, if any, claims; empty ones of `FORGOTTEN` and
    `OF_PREDICTIONS`, which need predictions.

    main holds every estimate of the main table, long: block, ratio, pipeline, quantity, baseline,
    unit, mean, lo, hi, n, note. Fractions become percent, bytes KiB; baselines are named per row.
    Without exported files their table is empty: it replaces one that tells of files since removed.
    """
    check_pipelines(pipelines, frame)
    by_corruption, over_corruptions, lines = corruption_summary(frame, pipelines)
    harm = class_harm(frame, pipelines)
    changes = changes_tested(frame, pipelines)
    parts = [
        clean_means(frame), changes, gap_table(frame, pipelines), over_corruptions,
        middle_means(frame),
    ]  # fmt: skip
    goals = objectives(frame, pipelines)
    tables = {
        "main": stacked(parts)[ESTIMATE_COLUMNS],
        "changes": changes,
        "corruptions": by_corruption,
        "dense_lines": lines,
        "recall_change": recall_change(frame, pipelines),
        "class_excess": class_excess(frame, pipelines),
        "attacks": attacks_table(frame),
        "transfer": transfer(frame),
        "calibration": calibration_table(frame),
        "robustness": robustness(frame, pipelines),
        "subgroups": subgroups(frame, pipelines),
        "fronts": fronts(goals, pipelines),
        "volumes": volumes(goals),
        "budgets": best_under(goals, pipelines),
        "ranks": rank_table(goals.drop(columns=list(COSTS), errors="ignore")),
        "exemplar_means": exemplar_means(frame, [p.name for p in pipelines if p.kind == "replica"]),
        "mislabelled": mislabelled(frame),
        "harm": harm_counts(harm),
        "class_harm": harm,
        "foretold": foretold(frame, pipelines),
        **{name: pd.DataFrame() for name in (*FORGOTTEN, *OF_PREDICTIONS, "training")},
        "exports": exports_table(frame, exports),
    }
    if claims:
        tables["claims"] = claims_table(claims)
    return tables


def clean_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of the clean metrics of every pipeline, scaled for people."""
    parts, rows = {}, _clean(frame)
    for metric in (*SIMPLE, *MORE):
        raw = metric in ("nll", "brier")
        factor, unit = (1.0, "nats" if metric == "nll" else "score") if raw else (100.0, "percent")
        factor, unit = SCALES.get(metric, (factor, unit))
        values = factor * wide(rows, metric)
        parts |= {(name, metric, "", unit): values[name] for name in values.columns}
    return estimates(parts)


def _clean(frame: pd.DataFrame) -> pd.DataFrame:
    rows = usable(frame)
    return rows[rows["shift"] == CLEAN]


def recall_change(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """Recall of each class minus the parent's, points, paired by seed; long, with `cls` and the
    class's `train_count` (mean over members)."""
    rows = usable(frame)
    recall = wide(rows, "recall", by=("cls",))
    return _by_class(recall, "recall_change", pipelines, rows)


def class_excess(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """What corruption takes from the recall of each class beyond what it takes from the parent's,
    points, mean over all corrupted cells, paired by seed; columns as in `recall_change`."""
    rows = usable(frame)
    clean = wide(rows, "recall", by=("cls",))
    corrupted = wide(rows, "recall", None, ("shift", "severity", "cls"))
    over = corrupted.groupby(level=[*MEMBER, "cls"])
    cells = corrupted.reset_index()[["shift", "severity"]].drop_duplicates()
    means = over.mean().where(over.count() == len(cells))  # of members that have them all
    return _by_class(clean - means, "class_excess", pipelines, rows)


def _by_class(
    values: pd.DataFrame, quantity: str, pipelines: Sequence[PipelineInfo], rows: pd.DataFrame
) -> pd.DataFrame:
    """Each pipeline's fractions by class minus the parent's, points, with the training counts."""
    table = estimates(
        {
            (p.name, quantity, p.parent, "points"): 100 * difference(values, p.name, p.parent)
            for p in pipelines
            if p.parent and p.name in values and p.parent in values
        }
    )
    if table.empty:
        return table.assign(cls=[], train_count=[])
    counts = rows[rows["metric"] == "train_count"]
    by_class = counts.groupby([*BLOCK, "ratio", "cls"])["value"].mean().rename("train_count")
    return table.merge(by_class, how="left", on=[*BLOCK, "ratio", "cls"])


def calibration_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Reliability on clean test images: bin_accuracy and bin_confidence in percent and bin_share,
    percent of the images, by bin of the confidence (`cls`, see `calibration.reliability`); no rows
    for results of versions without bins."""
    rows = usable(frame)
    counts = wide(rows, "bin_count", by=("cls",))
    if counts.empty:
        return pd.DataFrame(columns=pd.Index(["cls", *ESTIMATE_COLUMNS]))
    shares = counts / counts.groupby(level=MEMBER).transform("sum")
    values = {"bin_share": shares, **{n: wide(rows, n, by=("cls",)) for n in BINNED}}
    parts = {
        (name, quantity, "", "percent"): 100 * table[name]
        for quantity, table in values.items()
        for name in table.columns
    }
    return estimates(parts)


def attacks_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy in percent, one row per block, ratio, attack, eps (255ths) and pipeline, and
    by name of `WARNINGS` how many members it holds for; no rows without attacks."""
    rows = usable(frame)
    if not (rows["metric"] == "robust_accuracy").any():
        return pd.DataFrame(columns=pd.Index([*ATTACK, *ESTIMATE_COLUMNS, *WARNINGS]))
    values = 100 * wide(rows, "robust_accuracy", None, tuple(ATTACK))
    parts = {(name, "robust_accuracy", "", "percent"): values[name] for name in values.columns}
    table = estimates(parts)
    for metric in WARNINGS:
        found = rows[rows["metric"] == metric]
        counts = found.groupby([*BLOCK, "ratio", *ATTACK, "pipeline"])["value"].sum().rename(metric)
        table = table.merge(counts, how="left", on=[*BLOCK, "ratio", *ATTACK, "pipeline"])
    return table


def exports_table(frame: pd.DataFrame, exports: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per exported file: whose it is, that member's ledger, the file's own bytes and how
    far it is from the simulated model.

    exports: notes of files (see `records.read_exports`). A file of a member that the results do not
    hold, such as of other data under the same name, is left out.
    """
    own = ["pipeline", "fingerprint"]
    columns = [*MEMBER, "pipeline", "format", *LEDGER, "bytes_exported", *PARITY, "file", "sha256"]
    if not exports:
        return pd.DataFrame(columns=pd.Index(columns))
    notes = ["pipeline", "member", "format", "file", "bytes", *PARITY, "sha256"]
    renamed = {"member": "fingerprint", "bytes": "bytes_exported"}
    files = pd.DataFrame(exports, columns=pd.Index(notes)).rename(columns=renamed)
    sizes = frame[(frame["shift"] == CLEAN) & frame["metric"].isin(LEDGER)]
    ledger = sizes.pivot(index=own, columns="metric", values="value").reindex(columns=list(LEDGER))
    members = frame[[*MEMBER, *own]].drop_duplicates()
    return members.merge(ledger.reset_index(), how="left", on=own).merge(files, on=own)[columns]


def claims_table(claims: Sequence[Verdict]) -> pd.DataFrame:
    """One row per claim: id, text, source, estimand, answer, reason, unit, mean, lo, hi, n, p,
    p_holm, the effect that was detectable, published, figure."""
    return pd.DataFrame(
        [
            {
                "id": verdict.claim.id,
                "text": verdict.claim.text,
                "source": verdict.claim.source,
                "estimand": verdict.claim.estimand,
                "answer": verdict.answer,
                "reason": verdict.reason,
                "unit": verdict.claim.unit,
                **verdict.effect._asdict(),
                "p": verdict.p,
                "p_holm": verdict.p_holm,
                "detectable": verdict.detectable,
                "published": verdict.claim.published,
                "figure": verdict.claim.figure,
            }
            for verdict in claims
        ]
    )
