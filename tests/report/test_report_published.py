"""What a source reports, beside a study's own answers and apart from its numbers."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.claims import Claim, Verdict, decide
from rcm.analysis.claims_corruption import CORRUPTION_CLAIMS
from rcm.analysis.statistics import PipelineInfo, summarise
from rcm.report import page
from rcm.report.page import write_report
from rcm.report.published import published_sections
from rcm.report.sections import Section
from rcm.report.shown import places
from rcm.report.style import Figure
from rcm.report.tables import all_tables

TECHNIQUES = {"prune_90": ("prune",), "int8": ("quantize",), "prune_cluster_int8": ("prune",)}


@pytest.fixture
def described(pipelines):
    numbers = {"prune_90": (0, 0.5), "int8": (8, 0), "prune_cluster_int8": (0, 0.5)}
    return [
        replace(info, techniques=TECHNIQUES.get(info.name, ()), bits=bits, sparsity=sparsity)
        for info in pipelines
        for bits, sparsity in [numbers.get(info.name, (0, 0))]
    ]


def verdict(name, figure, published=""):
    claim = Claim(name, "It is so.", "A. Source", "", None, published=published, figure=figure)
    return Verdict(claim, "not tested", "", summarise([]), np.nan, np.nan)


@pytest.fixture
def main(frame, pipelines):
    return all_tables(frame, pipelines)["main"]


def test_another_data_set_has_numbers_of_its_own(main, frame, described):
    answers = decide(CORRUPTION_CLAIMS, frame.iloc[:0], described)
    [section] = published_sections(answers, main.assign(dataset="cifar100"), described)
    rows = {label: [cell.value for cell in cells] for label, cells in section.rows}
    assert rows["dense"][5:] == ["76.06", "100.0", "100.0", "1.00"]
    assert rows["int8"][5:] == ["75.67", "100.4", "99.9", "4.25"]
    assert not published_sections(answers, main.assign(dataset="digits"), described)


def test_published_numbers_stand_by_techniques_behind_the_studys_own(main, frame, described):
    answers = decide(CORRUPTION_CLAIMS, frame.iloc[:0], described)
    [section] = published_sections(answers, main, described)
    model = frame["model"].iloc[0]
    assert section.heads[:2] == ["configuration", f"{model} here: top-1, %"]
    assert section.heads[5:7] == ["ResNet-50: top-1, %", "ResNet-50: mCE, %"]
    rows = {label: [cell.value for cell in cells] for label, cells in section.rows}
    assert {label: [cells[0], *cells[5:]] for label, cells in rows.items()} == {
        "dense": ["Original", "88.42", "100.0", "100.0", "1.00"],
        "prune 90 %": ["Pruning", "93.26", "76.7", "87.5", "1.64"],
        "int8": ["Quantization Int8 (PTQ)", "88.38", "99.6", "98.8", "4.14"],
        "prune 50 % → cluster 16 → int8": ["Pruning", "93.26", "76.7", "87.5", "1.64"],
    }
    clean = frame[(frame["shift"] == "clean") & (frame["metric"] == "accuracy")]
    clean = clean[clean["ratio"] == frame["ratio"].min()]
    for label, name in (("dense", "dense"), ("prune 90 %", "prune_90")):
        mean = 100 * clean.loc[clean["pipeline"] == name, "value"].mean()
        assert rows[label][1] == f"{mean:.2f}"
    assert float(rows["prune 90 %"][2]) > 100  # its error grows
    own = dict(section.rows)["prune 90 %"][1]
    assert own.margin.startswith("±")
    names = main["quantity"].replace({"mce": "mce_15", "relative_mce": "relative_mce_15"})
    [again] = published_sections(answers, main.assign(quantity=names), described)
    assert again == section  # of a study with the extra corruptions beside the fifteen


def test_other_networks_are_not_shown_as_the_studys(main, frame, described):
    """Their rows bear the name of the study's network, and no number of theirs was published."""
    answers = decide(CORRUPTION_CLAIMS, frame.iloc[:0], described)
    alone = published_sections(answers, main, described)
    wide = [PipelineInfo("wide", "wide", "control", "dense", "dense"),
            PipelineInfo("wide_int8", "wide_int8", "post_training", "wide", "wide",
                         ("quantize",), 8.0)]  # fmt: skip
    rows = main[main["pipeline"] == "int8"]
    both = pd.concat([main, *(rows.assign(pipeline=one.name) for one in wide)])
    assert published_sections(answers, both, [*described, *wide]) == alone != []


def test_only_studies_of_these_claims_data_and_networks_show_them(main, frame, described):
    answers = decide(CORRUPTION_CLAIMS, frame.iloc[:0], described)
    assert published_sections([verdict("C1", "")], main, described) == []
    assert published_sections(answers, main.assign(dataset="digits"), described) == []
    assert published_sections(answers, main.assign(model="tiny-w8"), described) == []
    both = pd.concat([main.assign(model="vgg11-w16"), main.assign(model="mobilenet_v2-w16")])
    [section] = published_sections(answers, both, described)
    assert [head.split(":")[0] for head in section.heads[1::4]] == [
        "vgg11-w16 here", "mobilenet_v2-w16 here", "VGG-19", "MobileNetV2",
    ]  # fmt: skip
    unlike = [PipelineInfo("int8", "int8", "trained", "", "", ("prune_filters",))]
    assert published_sections(answers, main, unlike) == []


def test_claims_lead_to_what_shows_them():
    drawn = [
        Figure(name, name.title(), "", b"", b"", b"")
        for name in ("corruptions_ratio_1", "corruptions_ratio_10", "gap", "gaps_d-m-exp")
    ]
    sections = [Section("Other domains", "", [], [])]
    wanted = {
        "A": "corruptions", "B": "gap", "C": "other-domains", "D": "results", "E": "attacks",
        "F": "", "G": "corruptions_ratio_10", "H": "gaps",
    }  # fmt: skip
    found = places([verdict(name, figure) for name, figure in wanted.items()], drawn, sections)
    assert {name: [place.link for place in shown] for name, shown in found.items()} == {
        "A": ["#figure-corruptions_ratio_1", "#figure-corruptions_ratio_10"],
        "B": ["#figure-gap"], "C": ["#other-domains"], "D": ["#results"],
        "G": ["#figure-corruptions_ratio_10"], "H": ["#figure-gaps_d-m-exp"],
    }  # fmt: skip
    assert [place.markdown for place in found["A"]] == [
        "figures/corruptions_ratio_1.png", "figures/corruptions_ratio_10.png",
    ]  # fmt: skip
    assert found["C"][0].markdown == "#other-domains"


def test_page_and_markdown_lead_there_and_say_what_is_published(
    frame, described, run, report, monkeypatch
):
    for name in ("did", "gap", "recall_change"):
        assert f'href="#figure-{name}"' in report.html
        assert f'id="figure-{name}"' in report.html
    assert "[Accuracy lost to class imbalance](figures/gap.png)" in report.markdown
    assert "published" not in report.markdown.partition("## Results")[0]  # S1 has no numbers
    monkeypatch.setattr(page, "all_figures", lambda *_: [])
    part = frame[frame["pipeline"].isin(("dense", "int8")) & (frame["severity"] == 0)]
    answers = [verdict("C1", "results", "1 < 2 | 3"), verdict("C2", "gap")]
    small = write_report(part, described, run, answers)
    assert '<p class="published">published: 1 &lt; 2 | 3</p>' in small.html
    assert small.html.count('<p class="published">') == 1
    told = re.findall('<td class="published">(.*?)</td>', small.html)
    assert told == ["1 &lt; 2 | 3", ""]
    assert '<td class="published">' not in report.html
    assert '<a href="#results">Results</a></p>' in small.html
    assert "#figure-gap" not in small.html  # which this page does not have
    lines = [line for line in small.markdown.splitlines() if line.startswith("| C")]
    assert lines[0].endswith(" 1 < 2 \\| 3 | [Results](#results) |")
    assert lines[1].endswith(" |  | |")
    table = small.tables["claims"]
    assert list(table["published"]) == ["1 < 2 | 3", ""]
    assert list(table["figure"]) == ["results", "gap"]
