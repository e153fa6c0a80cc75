"""The page: self-contained, safe with hostile text, complete, and honest about what is missing."""

import base64
import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from rcm import config
from rcm.analysis.statistics import PipelineInfo
from rcm.compress import Prune
from rcm.report import page, rendering
from rcm.report.page import RunInfo, write_report

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Outline(HTMLParser):
    """Collects tags and attributes, and fails on tags that are closed in the wrong order."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_page_is_well_formed_and_refers_to_nothing_outside(report):
    outline = Outline(report.html)
    assert outline.open == []
    assert not {"link", "iframe", "object"} & set(outline.tags)
    assert outline.tags.count("script") == 1  # which sorts
    assert not [name for name, _ in outline.attributes if name.startswith("on")]
    links = [value for name, value in outline.attributes if name in ("src", "href", "srcset")]
    assert len(links) >= len(report.figures)
    assert all(value.startswith(("#", "data:image/svg+xml;base64,")) for value in links)
    assert "@import" not in report.html
    assert "url(" not in report.html
    anchors = {value[1:] for value in links if value.startswith("#")}
    assert anchors <= {value for name, value in outline.attributes if name == "id"}


def test_page_says_what_was_run(report, run):
    text = " ".join("".join(Outline(report.html).text).split())
    for words in (run.title, run.summary, run.command, run.hardware, run.preview, "1 h 47 min",
                  "data.ratios", "(1, 10, 100)", "0.10.2", *run.notes, *run.diverged):  # fmt: skip
        assert words in text


def test_every_table_row_has_as_many_cells_as_the_head(report):
    assert "symmetric grids of 8 bits" in report.html
    for table in re.findall(r"<table>.*?</table>", report.html, re.S):
        heads = re.findall(r"<tr>.*?</tr>", table.split("</thead>")[0], re.S)
        width = heads[1].count("<th") + heads[0].count("rowspan")
        for row in re.findall(r"<tr>.*?</tr>", table.split("</thead>")[1], re.S):
            assert row.count("<td") + row.count("<th") == width


def test_claims_are_printed_with_effect_and_reason(report):
    text = " ".join("".join(Outline(report.html).text).split())
    for row in report.tables["claims"].itertuples():
        assert row.text in text
        assert not row.reason or row.reason in text
    assert "not tested" in text
    table = report.html.split('<section id="claims">')[1].split("</table>")[0]  # the first of all
    claims = report.tables["claims"]
    for row, shown in zip(claims.itertuples(), table.split("<tr>")[2:], strict=True):
        said = re.sub(r"<[^>]*>", " ", html.unescape(shown))
        told = (row.id, row.text, row.baseline, row.answer)
        assert [words for words in told if words not in said] == []
        reasons = re.findall(r"</span><small>(.*?)</small>", html.unescape(shown))
        assert len(reasons) == (row.answer in ("undecided", "not tested"))
        assert all(row.reason.startswith(reason) and reason for reason in reasons)
    for name in claims["id"]:
        assert report.html.count(f'id="claim-{name}"') == 1


def test_markdown_says_the_same_in_tables_of_equal_width(report, run):
    text = report.markdown
    assert "| jax | 0.10.2 |" in text
    assert "| flax | 0.12.8 |" in text
    for words in (run.title, run.command, run.preview, *run.diverged):
        assert words in text
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.M)
    # facts, claims, their tests, three ratios, changes, fronts, budgets, invariants
    assert len(blocks) == 10
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    main = report.tables["main"]
    assert sum(line.startswith("| ") for line in blocks[3].splitlines()) == 1 + len(
        main[main["ratio"] == 100]["pipeline"].unique()
    )
    assert set(re.findall(r"\(figures/(\w+)\.png\)", text)) == set(report.figures)


def test_bars_in_names_do_not_break_markdown_tables():
    assert rendering.markdown_cell("a | b\nc") == "a \\| b c"


def test_hostile_text_is_escaped_everywhere(frame, run):
    evil = '<script>alert("x")</script>$\\frac{'
    names = {"dense": "dense", "prune_90": evil}
    part = frame[frame["pipeline"].isin(names)].copy()
    part["pipeline"] = part["pipeline"].map(names)
    part["dataset"] = evil
    pipelines = [
        PipelineInfo("dense", "dense", "dense"),
        PipelineInfo(evil, evil, "trained", "dense", "dense"),
    ]
    hostile = RunInfo(evil, evil, evil, {evil: evil}, {evil: evil}, evil, 1.0, [evil], [evil], evil)
    report = write_report(part, pipelines, hostile)
    outline = Outline(report.html)
    assert outline.tags.count("script") == report.html.count("<script") == 1  # the page's own
    assert evil in "".join(outline.text)
    raw = [line for line in report.markdown.splitlines() if re.search(r"(?<!\\)<script", line)]
    assert raw == [evil]  # the command, which Markdown shows as it is
    beside = [text.decode() for name, text in report.files.items() if name.endswith(".md")]
    assert beside
    assert not [text for text in beside if re.search(r"(?<!\\)<script", text)]
    figures = re.findall(r'data:image/svg\+xml;base64,([^"]*)"', report.html)
    assert len(figures) >= len(report.figures)
    assert not [svg for svg in figures if b"<script" in base64.b64decode(svg)]


def test_equal_inputs_give_equal_bytes(frame, pipelines, run):
    small = frame[frame["pipeline"].isin(("dense", "int8")) & (frame["ratio"] > 1)]
    small = small[(small["ratio"] > 10) | (small["severity"] == 0)]  # one figure of corruptions
    small = small.assign(fingerprint=small["pipeline"] + small["seed"].astype(str))
    small.loc[small["ratio"] == 10, "fingerprint"] += "r10"
    note = {"pipeline": "int8", "member": "int80", "format": "int8", "file": "a.int8.tflite"}
    note |= {"bytes": 2048, "sha256": "", "accuracy": 0.7, "simulated": 0.7, "disagreement": 0.012}
    first, second = (write_report(small, pipelines, run, exports=[note]) for _ in range(2))
    assert first.html == second.html
    assert Outline(first.html).open == []
    (row,) = first.tables["exports"].itertuples()
    assert (row.ratio, row.seed, row.bytes_exported) == (100, 0, 2048)
    exported = first.markdown.partition("## Exported files")[2].splitlines()
    (line,) = (line for line in exported if line.startswith("| int8, ratio 100"))
    assert line.endswith("| 2.0 (1.20% of labels differ) |")
    assert line.count("\N{EN DASH}") == 4  # of the ledger these results hold deflated bytes alone
    assert first.figures == second.figures
    assert first.files == second.files


def test_a_study_tells_its_methods(frame, pipelines, run, monkeypatch):
    monkeypatch.setattr(page, "all_figures", lambda *_: [])
    data, pruned = config.Data(ratios=(1, 10)), config.Pipeline("a<b", (Prune(0.7),))
    study = config.Study(data=data, pipelines=(pruned,))
    part = frame[frame["pipeline"].isin(("dense", "int8")) & (frame["severity"] == 0)]
    report = write_report(part, pipelines, replace(run, config=config.plain(study)))
    html = " ".join("".join(Outline(report.html).text).split())
    for words in ("of 10 classes", "has 4,800 training images", "pruning of 70 %", run.hardware):
        assert words in html
        assert words in report.markdown
    assert "a<b" not in report.html


def test_partial_results_make_a_smaller_page(frame, pipelines, run):
    one = frame[(frame["seed"] == 0) & (frame["ratio"] == 100) & (frame["severity"] == 0)]
    one = one[one["pipeline"] != "finetune"]
    report = write_report(one, pipelines, run)
    assert set(report.figures) == {"recall_change", "accuracy_vs_size"}
    assert "n = 1, no intervals" in "".join(Outline(report.html).text)
    assert "±" not in re.sub(r"± half", "", report.html)


def test_an_empty_study_is_refused(frame, pipelines, run):
    with pytest.raises(ValueError, match="no measured member"):
        write_report(frame.iloc[:0], pipelines, run)


def test_unlisted_pipelines_are_refused(frame, pipelines, run):
    with pytest.raises(ValueError, match="not described: kd_t5"):
        write_report(frame, pipelines[:-1], run)


def test_diverged_members_of_the_table_are_named(frame, pipelines, run):
    small = frame[frame["pipeline"].isin(("dense", "int8")) & (frame["severity"] == 0)].copy()
    lost = (small["pipeline"] == "int8") & (small["seed"] == 1) & (small["ratio"] == 10)
    small.loc[lost, "status"] = "diverged"
    report = write_report(small, pipelines, replace(run, diverged=[]))
    assert "cifar10, resnet8, exp 10, int8, seed 1" in "".join(Outline(report.html).text)
    main = report.tables["main"]
    at = (main["pipeline"] == "int8") & (main["ratio"] == 10) & (main["quantity"] == "accuracy")
    assert main[at]["n"].item() == 2


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(47.6, "48 s"), (59.7, "1 min 0 s"), (725, "12 min 5 s"), (12000, "3 h 20 min")],
)
def test_durations(seconds, words):
    assert rendering.duration(seconds) == words


def test_p_values_and_flat_configuration():
    assert [rendering.p_value(p) for p in (0.04962, 0.0001, 1.0)] == ["0.0496", "<0.001", "1"]
    assert rendering.p_value(float("nan")) == "\N{EN DASH}"
    assert page.flat({"a": {"b": 1, "c": {"d": (2,)}}, "e": {}}) == [
        ("a.b", "1"), ("a.c.d", "(2,)"), ("e", "{}"),
    ]  # fmt: skip


OWN_NUMBER = {  # of tables that hold no estimates
    "exports": "bytes_exported", "dense_lines": "slope", "fronts": "membership", "budgets": "share",
    "harm": "worst", "class_harm": "effect", "ranks": "rank",
}  # fmt: skip


def test_tables_survive_a_round_trip_through_csv(report, tmp_path):
    for name, table in report.tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        again = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, na_values=["nan", ""])
        assert list(again.columns) == list(table.columns)
        number = OWN_NUMBER.get(name, "mean")
        assert again[number].to_numpy() == pytest.approx(table[number].to_numpy(), nan_ok=True)
