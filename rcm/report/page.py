"""One self-contained report.html, the same as report.md, with figures and tables beside them.

Pure: returns text and bytes.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from rcm.analysis.by_class import rare_classes
from rcm.analysis.claims import NOT_TESTED, UNDECIDED, Verdict
from rcm.analysis.statistics import BLOCK, PipelineInfo, diverged_names
from rcm.report.attacks import attack_sections
from rcm.report.beside import figure_files, printed_files, table_files
from rcm.report.changes import change_sections
from rcm.report.claimed import (
    claimed,
    claims_table,
    effect,
    printed_claims,
    printed_reasons,
    printed_tests,
)
from rcm.report.elsewhere import elsewhere_sections
from rcm.report.exemplars import exemplar_sections
from rcm.report.explained import explained
from rcm.report.figures import all_figures
from rcm.report.foretold import foretold_sections
from rcm.report.gallery import Picture, exemplar_figures
from rcm.report.layout import (
    CellText,
    Row,
    balanced_test_set,
    columns_with_data,
    corruption_note,
    exported_rows,
    rows_at,
)
from rcm.report.methods import Measured, methods, other_networks
from rcm.report.mislabelled import mislabelled_sections
from rcm.report.printed import Printed, file_name, plain_table
from rcm.report.published import published_sections
from rcm.report.rendering import duration, template
from rcm.report.sections import Section
from rcm.report.shown import places
from rcm.report.style import KIND_LABELS, Figure, themed
from rcm.report.subgroups import subgroup_sections
from rcm.report.tables import all_tables
from rcm.report.tradeoffs import tradeoff_sections


@dataclass(frozen=True)
class RunInfo:
    """What was run, for the reader.

    `seconds` is training time, `preview` a sentence that limits the report's reach ("" for none),
    `diverged` names members left out besides those in the table, `invariants` holds (pipeline, what
    its techniques promise, members in which that was checked), `class_names` what the classes are
    called, by id (none: by their ids). `made_elsewhere`: all predictions were, so that nothing is
    known of training, compression and sizes but what their files say.
    """

    title: str
    summary: str
    command: str
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    hardware: str = ""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    diverged: list[str] = field(default_factory=list)
    preview: str = ""
    invariants: list[tuple[str, str, int]] = field(default_factory=list)
    class_names: Sequence[str] = ()
    made_elsewhere: bool = False


class Report(NamedTuple):
    """The page, the same in Markdown (which refers to `figures/NAME.png`), PNG bytes by figure
    name, tables by name, and what lies beside the page by path: all of these tables and figures in
    every format, ready to be written by a store."""

    html: str
    markdown: str
    figures: dict[str, bytes]
    tables: dict[str, pd.DataFrame]
    files: dict[str, bytes]


class Panel(NamedTuple):
    """The main table at one ratio of one block, as the template prints it."""

    name: str
    heading: str
    n: str  # of every row, or "" where rows differ and a column says it
    groups: list
    rows: list[Row]
    note: str

    @property
    def printed(self) -> Printed:
        """The table by itself."""
        groups = [(h, [f"{c.head}, {c.unit}" for c in columns]) for h, columns in self.groups]
        groups = groups if self.n else [("", ["n"]), *groups]
        rows = [
            ([row.label, row.baseline], row.cells if self.n else [CellText(row.n), *row.cells])
            for row in self.rows
        ]
        note = f"{_MEANS.format(self.n or 'n')} {self.note}".strip()
        return Printed(self.name, self.heading, note, ["pipeline", "against"], groups, rows)


def write_report(
    frame: pd.DataFrame,
    pipelines: Sequence[PipelineInfo],
    run: RunInfo,
    claims: Sequence[Verdict] = (),
    exports: Sequence[Mapping[str, Any]] = (),
    more: Mapping[str, pd.DataFrame] | None = None,
    pictures: Mapping[str, Sequence[Picture]] | None = None,
) -> Report:
    """Tables, figures and page of a tidy results table; equal inputs give equal bytes.

    exports: notes of exported files, see `tables.exports_table`; more: tables that the results do
    not hold, of forgotten images (`analysis.forgotten`) and of training (`rcm.history`); pictures:
    forgotten images by the label of a pipeline. ValueError if the table lacks columns or holds
    pipelines that are not described, and if it has no rows to show.
    """
    tables = all_tables(frame, pipelines, exports, run.config.get("front", ())) | dict(more or {})
    tables |= {"claims": claims_table(claims)} if claims else {}
    if tables["main"].empty:
        raise ValueError("the results hold no measured member; run at least one stage to its end")
    figures = [
        *all_figures(tables, pipelines, run.class_names),
        *exemplar_figures(tables, pipelines, pictures or {}),
    ]
    panels = _panels(tables["main"], pipelines, rare_classes(tables["class_recall"]))
    sections = _sections(tables, pipelines, claims, run.class_names)
    exported = exported_rows(tables["exports"], pipelines)
    answered, tested = printed_claims(claims), printed_tests(claims)
    printed_exports = plain_table("Exported files", _EXPORTED, "member", *exported)
    contents = {
        "run": run,
        "duration": duration(run.seconds),
        "facts": _facts(frame, tables["main"], pipelines, run.config),
        "claims": [(verdict, effect(verdict), claimed(verdict.claim)) for verdict in claims],
        "printed_claims": answered,
        "explained": (UNDECIDED, NOT_TESTED),
        "printed_tests": tested,
        "places": places(claims, figures, sections),
        "panels": panels,
        "columns": explained(c for panel in panels for _, group in panel.groups for c in group),
        "legend": _legend(pipelines),
        "sections": sections,
        "exported": exported,
        "printed_exports": printed_exports,
        "figures": [(figure, _data_uri(figure)) for figure in figures],
        "diverged": list(dict.fromkeys([*run.diverged, *diverged_names(frame)])),
        "config": flat(run.config),
        "methods": methods(run.config, _measured(frame, run)),
    }
    html, markdown = (template(name).render(contents) for name in ("report.html", "report.md"))
    printed = [made.printed for made in (*panels, *sections)]
    printed += [answered, tested, printed_reasons(claims)] if claims else []
    printed += [printed_exports] if printed_exports.rows else []
    kept = {name: table for name, table in tables.items() if len(table.columns)}
    files = table_files(kept) | printed_files(printed) | figure_files(figures)
    return Report(html, markdown, {figure.name: figure.png for figure in figures}, kept, files)


def _sections(
    tables: Mapping[str, pd.DataFrame],
    pipelines: Sequence[PipelineInfo],
    claims: Sequence[Verdict],
    class_names: Sequence[str],
) -> list[Section]:
    """What the page shows between its main table and its figures, as far as there is any."""
    return [
        *change_sections(tables, pipelines),
        *attack_sections(tables["attacks"], tables["transfer"], pipelines),
        *elsewhere_sections(tables["robustness"], pipelines),
        *subgroup_sections(tables["subgroups"], pipelines),
        *exemplar_sections(tables, pipelines, class_names),
        *foretold_sections(tables["foretold"], pipelines),
        *mislabelled_sections(tables["mislabelled"], pipelines),
        *tradeoff_sections(tables, pipelines),
        *published_sections(claims, tables["main"], pipelines),
    ]


_MEANS = (
    "Means over {} seeds, ± half of the 95 % paired t interval; bold: the interval of a difference "
    "leaves out zero, uncorrected."
)
_EXPORTED = "KiB: the member's own ledger, then its model files."
_BALANCED = "Balanced accuracy equals top-1 here, because the test set is class-balanced."


def _panels(main: pd.DataFrame, pipelines: Sequence[PipelineInfo], rare: bool) -> list[Panel]:
    """One table per block and ratio, the largest ratio of a block first; rare: see
    `columns_with_data`."""
    panels = []
    ordered = main.sort_values("ratio", ascending=False, kind="stable")
    for key, part in ordered.groupby([*BLOCK, "ratio"], sort=False):
        groups = columns_with_data(part, rare)
        columns = [column for _, group in groups for column in group]
        heading = f"{key[0]} · {key[1]} · {key[2]} · ratio {key[3]:g}"
        rows = rows_at(part, pipelines, columns)
        seeds = {row.n for row in rows}
        n = seeds.pop() if len(seeds) == 1 else ""
        notes = [_BALANCED if balanced_test_set(part) else "", corruption_note(part)]
        note = " ".join(filter(None, notes))
        panels.append(Panel(_panel_name(key, main), heading, n, groups, rows, note))
    return panels


def _panel_name(key: tuple, main: pd.DataFrame) -> str:
    several = len(main[BLOCK].drop_duplicates()) > 1
    return file_name("main", *(map(str, key[:-1]) if several else ()), f"ratio_{key[-1]:g}")


def _facts(
    frame: pd.DataFrame,
    main: pd.DataFrame,
    pipelines: Sequence[PipelineInfo],
    config: dict[str, Any],
) -> list[tuple[str, str]]:
    """What the study spans, as (name, value) pairs for the head of the page."""
    others = other_networks(config) if config.get("type") == "Study" else []
    seeds, ratios = frame["seed"].nunique(), sorted(frame["ratio"].unique())
    present = set(main["pipeline"])
    members = frame[[*BLOCK, "ratio", "seed", "pipeline"]].drop_duplicates()
    natural = (frame["severity"] > 0) & (frame["metric"] == "accuracy")
    shifts = frame.loc[natural, "shift"].nunique()
    facts = [
        ("data", ", ".join(sorted(map(str, frame["dataset"].unique())))),
        ("networks", ", ".join([*sorted(map(str, frame["model"].unique())), *others])),
        ("imbalance ratios", ", ".join(f"{ratio:g}" for ratio in ratios)),
        ("seeds", str(seeds)),
        ("pipelines", str(sum(pipeline.name in present for pipeline in pipelines))),
        ("members", f"{len(members):,}"),
        ("corruptions", str(shifts)),
    ]
    if "n_max" in frame.columns:
        largest = sorted(frame["n_max"].dropna().unique())
        facts.append(("images in the largest class", ", ".join(f"{count:,}" for count in largest)))
    return facts


def _measured(frame: pd.DataFrame, run: RunInfo) -> Measured:
    names = sorted(map(str, frame["dataset"].unique()))
    largest = sorted(map(int, frame["n_max"].dropna().unique())) if "n_max" in frame.columns else []
    classes = frame.loc[frame["metric"] == "recall", "cls"].nunique()
    return Measured(names, largest, classes, run.hardware, run.versions, run.seconds)


def _legend(pipelines: Sequence[PipelineInfo]) -> list[tuple[str, str]]:
    kinds = {pipeline.kind for pipeline in pipelines}
    return [(kind, label) for kind, label in KIND_LABELS.items() if kind in kinds]


def flat(config: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested configuration as (dotted name, value) pairs in its own order."""
    pairs = []
    for name, value in config.items():
        if isinstance(value, dict) and value:
            pairs += flat(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", str(value)))
    return pairs


def _data_uri(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(themed(figure.svg)).decode()
