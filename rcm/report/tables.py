"""The numbers of a report as long tables, one row per estimate."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rcm.analysis.attacks import transfer
from rcm.analysis.by_class import class_excess, class_recall, recall_change
from rcm.analysis.changes import changes_tested
from rcm.analysis.corruption import corruption_summary, excess_by_severity
from rcm.analysis.elsewhere import robustness
from rcm.analysis.foretold import foretold
from rcm.analysis.forgotten import exemplar_means
from rcm.analysis.forgotten_shifts import MEANS, PAIRS
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
    estimates,
    gap_table,
    stacked,
    usable,
    wide,
)
from rcm.analysis.subgroups import subgroups
from rcm.analysis.tradeoffs import best_under, fronts, objectives, ranked, volumes

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
OF_PREDICTIONS = (PAIRS, MEANS, "image_intervals")
BINNED = ("bin_accuracy", "bin_confidence")

ATTACK = ["shift", "severity"]  # an attack and its eps
WARNINGS = {
    "hidden_gradients": "no gradient in over 10 % of pixels",
    "masked_gradients": "a search without gradients did better",
}


def all_tables(
    frame: pd.DataFrame,
    pipelines: Sequence[PipelineInfo],
    exports: Sequence[Mapping[str, Any]] = (),
    front: Sequence[str] = (),
) -> dict[str, pd.DataFrame]:
    """The report's tables by name: main, changes (with tests), corruptions, severities (of
    corruption), dense_lines (of effective robustness), class_recall, recall_change, class_excess
    (of corruption), calibration, attacks, transfer, robustness (attacks and domains), subgroups,
    fronts, volumes (under them), budgets, ranks, exemplar_means, mislabelled, harm (counts of
    harmed classes), class_harm, foretold (what harm correlates with), exports; empty ones of
    `FORGOTTEN` and `OF_PREDICTIONS`, which need predictions.

    main holds every estimate of the main table, long: block, ratio, pipeline, quantity, baseline,
    unit, mean, lo, hi, n, note. Fractions become percent, bytes KiB; baselines are named per row.
    front: objectives of a front that the study asks for.
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
    traded = objectives(frame, pipelines)
    tables = {
        "main": stacked(parts)[ESTIMATE_COLUMNS],
        "changes": changes,
        "corruptions": by_corruption,
        "severities": excess_by_severity(frame, pipelines),
        "dense_lines": lines,
        "class_recall": class_recall(frame),
        "recall_change": recall_change(frame, pipelines),
        "class_excess": class_excess(frame, pipelines),
        "attacks": attacks_table(frame),
        "transfer": transfer(frame),
        "calibration": calibration_table(frame),
        "robustness": robustness(frame, pipelines),
        "subgroups": subgroups(frame, pipelines),
        "fronts": fronts(traded, pipelines, front),
        "volumes": volumes(traded, front),
        "budgets": best_under(traded, pipelines),
        "ranks": rank_table(ranked(traded, pipelines)),
        "exemplar_means": exemplar_means(frame, [p.name for p in pipelines if p.kind == "replica"]),
        "mislabelled": mislabelled(frame),
        "harm": harm_counts(harm),
        "class_harm": harm,
        "foretold": foretold(frame, pipelines),
        **{name: pd.DataFrame() for name in (*FORGOTTEN, *OF_PREDICTIONS, "training")},
        "exports": exports_table(frame, exports),
    }
    return tables


def clean_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of the clean metrics of every pipeline, scaled for people."""
    parts, metrics = {}, (*SIMPLE, *MORE)
    rows = _clean(frame[frame["metric"].isin(metrics)])  # the fewer rows, the quicker every metric
    for metric in metrics:
        raw = metric in ("nll", "brier")
        factor, unit = (1.0, "nats" if metric == "nll" else "score") if raw else (100.0, "percent")
        factor, unit = SCALES.get(metric, (factor, unit))
        values = factor * wide(rows, metric)
        parts |= {(name, metric, "", unit): values[name] for name in values.columns}
    return estimates(parts)


def _clean(frame: pd.DataFrame) -> pd.DataFrame:
    rows = usable(frame)
    return rows[rows["shift"] == CLEAN]


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
