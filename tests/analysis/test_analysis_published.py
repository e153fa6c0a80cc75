"""Published numbers: those typed in are those of the table, and so are the phrases made of it."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rcm.analysis.published import (
    CIFAR10,
    NETWORKS,
    REPORTED,
    TABLES,
    Published,
    configuration,
    like,
)
from rcm.analysis.statistics import PipelineInfo
from rcm.analysis.tradeoffs import on_front
from rcm.compress import TECHNIQUES
from rcm.compress.configurations import CONFIGURATIONS

TABLE = pathlib.Path(__file__).parents[3] / "shared/published/natural_corruptions_2512.24971.csv"
BLOCK = ["dataset", "model"]


def test_configurations_are_found_by_their_techniques():
    names = {technique: name for name, technique in TECHNIQUES.items()}
    theirs = {
        tuple(names[type(step)] for step in each.steps): each.published
        for each in CONFIGURATIONS.values()
    }
    assert theirs == {techniques: row[0] for techniques, row in CIFAR10.items()}
    pqat = PipelineInfo("x", "x", "trained", techniques=("prune", "qat"), bits=8, sparsity=0.5)
    name, numbers = configuration(pqat)
    assert name == "PQAT"
    for unlike in ({"bits": 4}, {"sparsity": 0.8}, {"repair": "loss ldam"}):
        assert configuration(dataclasses.replace(pqat, **unlike)) is None
    assert numbers[0] == Published(93.46, 76.7, 88.2, 3.12)
    assert configuration(PipelineInfo("x", "x", "dense"))[0] == "Original"
    for kind, techniques in (
        ("control", ()),
        ("student", ()),
        ("trained", ()),
        ("trained", ("prune_filters",)),
    ):
        assert configuration(PipelineInfo("x", "x", kind, techniques=techniques)) is None


@pytest.mark.parametrize(
    ("model", "network"),
    [("resnet20-w16", 0), ("wrn16_8-w16", 0), ("vgg11-w16", 1), ("mobilenet_v2-w16", 2)],
)
def test_networks_have_their_family(model, network):
    assert like(model) == network
    assert like("tiny-w8") is None


@pytest.mark.skipif(not TABLE.exists(), reason="the published table is not beside the project")
def test_numbers_are_those_of_the_table(published_table):
    """All 96 rows, to the digits that the paper prints."""
    found, own = (
        table.set_index(["dataset", "model", "type"]).sort_index()
        for table in (pd.read_csv(TABLE), published_table)
    )
    assert all(list(configurations) == list(CIFAR10) for configurations in TABLES.values())
    assert len(own) == 96
    pd.testing.assert_frame_equal(own, found[own.columns], atol=0.00501, rtol=0, check_dtype=False)


def test_what_the_paper_reports_is_in_its_table(published_table):
    """Each phrase of `REPORTED` by an own computation from all 96 rows."""
    table = published_table
    cifar10 = table[(table["dataset"] == "cifar10") & (table["type"] != "Original")]
    mce = table.pivot(index=BLOCK, columns="type", values="mCE")
    relative = table.pivot(index=BLOCK, columns="type", values="rel_mCE")
    for best in cifar10.groupby("model")["mCE"].min():
        assert f"{best:.1f} (" in REPORTED["C1a"]
    assert REPORTED["C2"] == REPORTED["C1a"]
    for value in mce.loc["cifar10", "Quantization Int8 (PTQ)"]:
        assert f"{value:.1f} (" in REPORTED["C3"]
    others = mce.loc["cifar10"].drop(columns=["Original", "QAT", "QAT + Int8"])
    for below in mce.loc["cifar10", "QAT"] - others.median(axis=1):
        assert f"{below:.1f} (" in REPORTED["C4a"]
    assert f"of {others.shape[1]} others" in REPORTED["C4a"]
    rise = mce["QAT + Int8"] - mce["QAT"]
    assert f"{rise.min():.0f} to {rise.max():.0f}" in REPORTED["C4b"]
    clustered = mce[["Clustering", "Pruning+Clustering"]]
    here = clustered.loc["cifar10"].to_numpy()
    assert f"{here.min()} to {here.max()}" in REPORTED["C5"]
    assert (clustered.to_numpy() < 100).all()  # so the paper says that it never hurts
    kept = max((mce[f"{n} + Int8"] - mce[n]).abs().max() for n in ("CQAT", "PQAT", "PCQAT"))
    assert f"at most {kept:.1f}" in REPORTED["C7"]
    for phrase, values in (("C8a", mce), ("C8b", relative)):
        p = stats.friedmanchisquare(*values.to_numpy().T).pvalue
        assert f"p = {p:.2g}".replace("e-0", "e-") in REPORTED[phrase]
    error = (100 - table.pivot(index=BLOCK, columns="type", values="clean_acc")).drop(
        columns="Original"
    )
    original = 100 - table[table["type"] == "Original"].set_index(BLOCK)["clean_acc"]
    pairs = error.div(original, axis=0).to_numpy().ravel(), mce[error.columns].to_numpy().ravel()
    assert f"r = {np.corrcoef(*pairs)[0, 1]:.2f} over the {len(pairs[0])}" in REPORTED["C9"]


def test_the_published_front_comes_out_of_the_published_table(published_table):
    """Ratio and accuracy at most, mCE at least, over all networks of CIFAR-10."""
    here = published_table[published_table["dataset"] == "cifar10"]
    points = here[["compression_ratio", "mCE", "clean_acc"]].to_numpy()
    front = here[on_front(points, np.array([True, False, True]))]
    assert list(front["model"]) == ["resnet50"] * 3 + ["vgg19"] * 2
    words = [f"{', '.join(part)} of {n}" for n, (_, part) in zip(
        NETWORKS, front.groupby("model")["type"], strict=False
    )]  # fmt: skip
    assert REPORTED["C6"].endswith("; ".join(words))
