"""The index over a workdir: what every folder says, whatever is missing, and where links lead."""

import json
import re
from urllib.parse import unquote

import pandas as pd
import pytest

from rcm import config
from rcm.analysis.statistics import ESTIMATE_COLUMNS
from rcm.overview import read_entry, write_index

# accuracy, and how many times smaller than the dense network; than its own parent, which is another
# network, "wide_int8" is four times smaller
ACCURACIES = {"dense": (60.0, 1.0), "half": (61.0, 2.0), "small": (55.5, 5.0), "tiny": (40.0, 9.0),
              "wide_int8": (65.0, 2.0)}  # fmt: skip
OWN_RATIO = {"wide_int8": 4.0}


def main_table():
    rows = []
    for ratio in (1.0, 10.0):
        for name, (accuracy, times) in ACCURACIES.items():
            values = {"accuracy": accuracy - ratio, "bytes": 9e5 / times,
                      "compression_ratio": OWN_RATIO.get(name, times)}  # fmt: skip
            rows += [
                {"ratio": ratio, "pipeline": name, "quantity": quantity, "mean": value,
                 "lo": value - 0.5, "hi": value + 0.5}
                for quantity, value in values.items()
            ]  # fmt: skip
    frame = pd.DataFrame(rows).assign(dataset="cifar10", model="resnet8-w8", imbalance="exp", n=3)
    return frame.reindex(columns=ESTIMATE_COLUMNS)


def finished_folder(folder, title, when):
    """A study's folder as a run leaves it."""
    for part in ("tables", "figures"):
        (folder / part).mkdir(parents=True)
    study = config.Study(name="s", title=title, seeds=3, pipelines=(config.Pipeline("half"),))
    study.data.ratios = (1, 10)
    (folder / "config.json").write_text(json.dumps(config.plain(study)))
    event = {"time": when, "event": "finished"}
    (folder / "log.jsonl").write_text(f"{json.dumps(event)}\n{json.dumps({'event': 'exported'})}\n")
    main_table().to_csv(folder / "tables" / "main.csv", index=False)
    answers = ["supported", "undecided", "undecided", "not tested"]
    pd.DataFrame({"answer": answers}).to_csv(folder / "tables" / "claims.csv", index=False)
    (folder / "report.html").write_text("<p>")
    (folder / "report.md").write_text("![b](figures/b.png) ![a](figures/a.png)")
    for name in "ab":
        (folder / "figures" / f"{name}.png").write_bytes(b"")


@pytest.fixture
def workdir(tmp_path):
    """Two finished studies, one of an older version, one that is running, one broken; stages."""
    finished_folder(tmp_path / "early-1", "An <early> one", "2026-11-25T10:00:00+0000")
    finished_folder(tmp_path / "late-2", "A late one", "2026-11-26T09:30:00+0000")
    for name in ("old-3", "running-4", "broken-5", "stages"):
        (tmp_path / name).mkdir()
    (tmp_path / "old-3" / "report.html").write_text("<p>")
    (tmp_path / "running-4" / "config.json").write_text(json.dumps({"name": "run", "seeds": 4}))
    broken = tmp_path / "broken-5"
    for name in ("config.json", "log.jsonl"):
        (broken / name).write_text('{"name": [')
    (broken / "tables").mkdir()
    for name in ("main.csv", "claims.csv"):
        (broken / "tables" / name).write_text("")
    return tmp_path


def test_a_finished_study_is_summed_up(workdir):
    entry = read_entry(workdir / "late-2")
    assert (entry.title, entry.data, entry.network) == ("A late one", "digits", "resnet8")
    assert (entry.ratios, entry.seeds, entry.pipelines) == ("1, 10", "3", "5")
    assert entry.finished == "2026-11-26 09:30"
    assert entry.claims == {"supported": 1, "not supported": 0, "undecided": 2, "not tested": 1}
    assert entry.figure == "late-2/figures/b.png"  # which the report shows first
    assert entry.report == "late-2/report.html"
    dense, best, name = entry.headline
    assert (dense.value, dense.margin) == ("59.0", "±0.5")
    assert (best.value, name) == ("54.5", "small")  # half is better, but not small enough


def test_what_is_missing_or_broken_is_left_out(workdir):
    for name, title in (("old-3", "old-3"), ("running-4", "run"), ("broken-5", "broken-5")):
        entry = read_entry(workdir / name)
        assert entry.title == title
        assert (entry.headline, entry.claims, entry.finished, entry.figure) == (None, {}, "", "")
    assert read_entry(workdir / "running-4").seeds == "4"
    assert read_entry(workdir / "running-4").report == ""
    assert read_entry(workdir / "old-3").report == "old-3/report.html"


def test_nothing_small_enough_is_no_number(workdir):
    table = main_table()
    table[~table["pipeline"].isin(("small", "tiny"))].to_csv(
        workdir / "late-2" / "tables" / "main.csv", index=False
    )
    dense, best, name = read_entry(workdir / "late-2").headline
    assert (dense.value, best.value, name) == ("59.0", "\N{EN DASH}", "")


def test_the_index_lists_every_folder_once_and_its_links_lead_somewhere(workdir):
    path = write_index(workdir)
    html = path.read_text()
    folders = re.findall(r"<small>([\w-]+-\d)</small></th>", html)
    assert folders[:2] == ["late-2", "early-1"]
    assert sorted(folders) == ["broken-5", "early-1", "late-2", "old-3", "running-4"]
    links = re.findall(r'(?:href|src)="([^"]+)"', html)
    assert len(links) == 2 * 3 + 1
    assert all((workdir / unquote(link)).exists() for link in links)
    assert "<early>" not in html
    assert "None" not in html
    assert write_index(workdir).read_text() == html


def test_an_empty_workdir_has_an_index(tmp_path):
    assert "0 in this folder" in write_index(tmp_path).read_text()
