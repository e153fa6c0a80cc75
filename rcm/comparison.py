"""Two run folders side by side: `launch.py --compare RUN_A RUN_B`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rcm import config
from rcm.analysis.compare import compare
from rcm.analysis.runs import Run
from rcm.analysis.statistics import PipelineInfo, check_pipelines, usable
from rcm.config import DENSE
from rcm.foreign import read_json
from rcm.progress import Display
from rcm.report.compare import Side, compare_pages, terminal_tables
from rcm.results_table import read_table
from rcm.store import Store, write_bytes
from rcm.words import require_name

FILES = ("config.json", "results.parquet")


def execute(folders: Sequence[str], workdir: str, command: str, display: Display) -> Path:
    """Compare two run folders; returns the path of the page, which lies in the workdir with the
    same in Markdown and all numbers in CSV beside it.

    Raises ValueError, with one sentence for the user, for folders that cannot be compared.
    """
    config.require(
        len(folders) == 2,
        f"--compare takes two run folders, A and B, but {len(folders)} were given.",
    )
    paths = [Path(os.path.realpath(Path(folder).expanduser())) for folder in folders]
    config.require(paths[0] != paths[1], f"Both runs are {folders[0]}: name two folders.")
    a, b = (read_side(path, folder) for path, folder in zip(paths, folders, strict=True))
    table = compare(a.run, b.run)
    html, markdown = compare_pages(a, b, table, command)
    base = Store(workdir).root / f"compare-{paths[0].name}-{paths[1].name}"
    for ending, text in (("csv", table.to_csv(index=False)), ("md", markdown), ("html", html)):
        write_bytes(Path(f"{base}.{ending}"), text.encode())
    display.show(terminal_tables(a, b, table))
    display.say(f"Comparison: {base}.html")
    return Path(f"{base}.html")


def read_side(path: Path, given: str) -> Side:
    """A finished run, called what the user calls it. Raises ValueError for another folder."""
    inside = next((found.parent.name for found in sorted(path.glob("*/results.parquet"))), "")
    hint = f"; name a run folder in it, such as {inside}" if inside else ""
    config.require(
        all((path / name).is_file() for name in FILES),
        f"{given} is no run folder: expected {' and '.join(FILES)} in it, as in "
        f"<workdir>/<study>-<hash>{hint}.",
    )
    try:
        frame = read_table(path / "results.parquet")
        plain = read_json(path / "config.json")
        about = read_json(path / "run.json") if (path / "run.json").exists() else {}
        _check_about(plain, about)
        described = _described(about.get("pipelines", []))
    except ValueError as error:
        raise ValueError(f"{given} cannot be read ({error}): make its report again.") from error
    try:
        usable(frame)
    except ValueError as error:
        raise ValueError(
            f"{given} holds results of another version: {error}, with --report_only."
        ) from error
    run = Run(frame, plain, described or _guessed(frame), about.get("data", ""))
    return Side(given, run, about.get("hardware", ""), about.get("versions", {}))


def _check_about(plain: Any, about: Any) -> None:
    """Raise ValueError for a `config.json` or `run.json` that no version writes."""
    if not isinstance(plain, dict) or not isinstance(about, dict):
        raise ValueError("config.json or run.json holds no object")
    if not isinstance(plain.get("data", {}), dict):
        raise ValueError("config.json does not describe its data")
    words = [about.get("data", ""), about.get("hardware", "")]
    versions = about.get("versions", {})
    words += [*versions, *versions.values()] if isinstance(versions, dict) else [versions]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("run.json does not tell its data, hardware and versions")


def _described(pipelines: Any) -> list[PipelineInfo]:
    """Pipelines as `run.json` lists them. Raises ValueError."""
    try:
        made = [
            PipelineInfo(**{**one, "techniques": tuple(one["techniques"])}) for one in pipelines
        ]
    except (TypeError, KeyError) as error:
        raise ValueError("run.json does not describe its pipelines") from error
    for info in made:
        config.require_types("a pipeline in run.json", info)
        for word in (info.name, info.label, info.baseline, info.parent, *info.techniques):
            require_name(str(word), "in run.json the name")
    check_pipelines(made)
    return made


def _guessed(frame: pd.DataFrame) -> list[PipelineInfo]:
    """Those of an older version, which did not describe them: all came from `dense`."""
    names = [str(name) for name in frame["pipeline"].unique()]
    return [
        PipelineInfo(name, name, "dense")
        if name == DENSE
        else PipelineInfo(name, name, "trained", DENSE, DENSE)
        for name in names
    ]
