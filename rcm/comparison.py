"""Two run folders side by side: `launch.py --compare RUN_A RUN_B`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rcm import config
from rcm.analysis.compare import compare
from rcm.analysis.runs import Run
from rcm.analysis.statistics import PipelineInfo, usable
from rcm.config import DENSE
from rcm.progress import Display
from rcm.report.compare import Side, compare_pages, terminal_tables
from rcm.store import Store, write_bytes

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
    paths = [Path(folder).expanduser().resolve() for folder in folders]
    config.require(paths[0] != paths[1], f"Both runs are {folders[0]}: name two folders.")
    a, b = (read_side(path, folder) for path, folder in zip(paths, folders, strict=True))
    table = compare(a.run, b.run)
    html, markdown = compare_pages(a, b, table, command)
    base = Store(workdir).root / f"compare-{paths[0].name}-{paths[1].name}"
    for ending, text in (("csv", table.to_csv(index=False)), ("md", markdown), ("html", html)):
        write_bytes(Path(f"{base}.{ending}"), text.encode())
    display.console.print(terminal_tables(a, b, table))
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
        frame = pd.read_parquet(path / "results.parquet")
        plain = json.loads((path / "config.json").read_text())
        about = json.loads((path / "run.json").read_text()) if (path / "run.json").exists() else {}
        if not isinstance(plain, dict) or not isinstance(about, dict):
            raise ValueError("config.json or run.json holds no object")
    except Exception as error:  # pyarrow, json and files raise many kinds
        raise ValueError(f"{given} cannot be read ({error}): make its report again.") from error
    try:
        usable(frame)
    except ValueError as error:
        raise ValueError(
            f"{given} holds results of another version: {error}, with --report_only."
        ) from error
    run = Run(frame, plain, _pipelines(frame, about), about.get("data", ""))
    return Side(given, run, about.get("hardware", ""), about.get("versions", {}))


def _pipelines(frame: pd.DataFrame, about: dict[str, Any]) -> list[PipelineInfo]:
    """The run's pipelines; where an older version did not describe them, all came from `dense`."""
    if "pipelines" in about:
        return [
            PipelineInfo(**{**one, "techniques": tuple(one["techniques"])})
            for one in about["pipelines"]
        ]
    names = [str(name) for name in frame["pipeline"].unique()]
    return [
        PipelineInfo(name, name, "dense")
        if name == DENSE
        else PipelineInfo(name, name, "trained", DENSE, DENSE)
        for name in names
    ]
