"""The index over a workdir: what each study's folder says of it, whichever version wrote it."""

import io
from pathlib import Path
from typing import Any

import pandas as pd

from rcm import foreign
from rcm.records import Damaged, read_json
from rcm.report.index import ANSWERS, Entry, Headline, headline, index_page
from rcm.store import write_bytes

NUMBERS = ("ratio", "mean", "lo", "hi")
NEEDED = {"dataset", "pipeline", "quantity", *NUMBERS}  # of the table main


def write_index(workdir: Path) -> Path:
    """Write `index.html` of the workdir anew; returns its path."""
    folders = [path.parent for path in workdir.glob("*/config.json")]
    folders += [path.parent for path in workdir.glob("*/report.html")]
    entries = [read_entry(folder) for folder in sorted(set(folders))]
    path = workdir / "index.html"
    write_bytes(path, index_page(entries).encode())
    return path


def read_entry(folder: Path) -> Entry:
    """What a study's folder says; what is not there or cannot be read is left out."""
    try:
        study = read_json(folder / "config.json")
    except Damaged:
        study = None
    report, main = folder / "report.html", _table(folder / "tables" / "main.csv")
    return Entry(
        folder=folder.name,
        title=_words(_at(study, "title") or _at(study, "name") or folder.name),
        data=Path(_words(_at(study, "data", "name"))).name,
        network=_network(study),
        ratios=", ".join(map(str, _list(_at(study, "data", "ratios")))),
        seeds=_words(_at(study, "seeds")),
        pipelines=_pipelines(main, study),
        finished=_finished(folder / "log.jsonl"),
        claims=_claims(folder / "tables" / "claims.csv"),
        headline=_headline(main),
        report=f"{folder.name}/{report.name}" if report.exists() else "",
        figure=_first_figure(folder),
    )


def _at(value: Any, *path: str) -> Any:
    """The value at a path of a JSON object, None where it ends."""
    for name in path:
        value = value[name] if isinstance(value, dict) and name in value else None
    return value


def _words(value: Any) -> str:
    return "" if value is None else str(value)


def _list(value: Any) -> list:
    return value if isinstance(value, list) else []


def _network(study: Any) -> str:
    name, width = _words(_at(study, "model", "name")), _at(study, "model", "width")
    return f"{name}-w{width}" if name and width else name


def _finished(path: Path) -> str:
    """When the study was last finished, such as "2026-11-26 21:33"."""
    times = [_finish_of(line) for line in _text(path).splitlines()]
    return max(times, default="")[:16].replace("T", " ")


def _finish_of(line: str) -> str:
    try:
        event = foreign.parse_json(line)
    except ValueError:  # of a process that was killed while it wrote
        return ""
    return _words(_at(event, "time")) if _at(event, "event") == "finished" else ""


def _table(path: Path) -> pd.DataFrame | None:
    try:
        content = io.BytesIO(foreign.read_bytes(path, foreign.LARGEST_TEXT))
        return pd.read_csv(content, keep_default_na=False, na_values=["nan", ""])
    except (ValueError, OverflowError):  # of pandas: nothing in it, or no table
        return None


def _text(path: Path) -> str:
    """What a file says, "" if it cannot be read."""
    try:
        return foreign.read_bytes(path, foreign.LARGEST_TEXT).decode(errors="replace")
    except ValueError:
        return ""


def _claims(path: Path) -> dict[str, int]:
    table = _table(path)
    if table is None or "answer" not in table:
        return {}
    return {answer: int((table["answer"] == answer).sum()) for answer in ANSWERS}


def _pipelines(main: pd.DataFrame | None, study: Any) -> str:
    """How many there are in the results, controls and dense members among them, or are asked for as
    long as there are none."""
    if main is not None and "pipeline" in main:
        return str(main["pipeline"].nunique())
    asked = _at(study, "pipelines")
    return str(len(asked)) if isinstance(asked, list) else ""


def _headline(table: pd.DataFrame | None) -> Headline | None:
    if table is None or not set(table) >= NEEDED or not set(NUMBERS) <= _numeric(table):
        return None
    return headline(table)


def _numeric(table: pd.DataFrame) -> set[str]:
    return set(table.select_dtypes("number").columns)


def _first_figure(folder: Path) -> str:
    """The first figure that the report shows, or else by name."""
    report = folder / "report.md"
    text = _text(report)
    figures = sorted(folder.glob("figures/*.png"))
    shown = sorted(figures, key=lambda path: text.find(f"(figures/{path.name})") % (len(text) + 1))
    return f"{folder.name}/figures/{shown[0].name}" if shown else ""
