"""The sixteen configurations of S3: names of the published table, orders, invariants by stage."""

import csv

import pytest

from rcm.compress import validate_chain
from rcm.compress.configurations import CONFIGURATIONS, configurations


def test_names_and_order_are_those_of_the_published_table(shared):
    with open(shared / "published" / "natural_corruptions_2512.24971.csv") as file:
        published = [row["type"] for row in csv.DictReader(file)][:16]
    assert [configuration.published for configuration in CONFIGURATIONS.values()] == published
    assert "".join(CONFIGURATIONS) == "ABCDEFGHIJKLMNOP"


def test_every_second_one_is_the_int8_conversion_of_the_one_before():
    letters = list(CONFIGURATIONS)
    for trained, converted in zip(letters[::2], letters[1::2], strict=True):
        before, after = CONFIGURATIONS[trained].steps, CONFIGURATIONS[converted].steps
        assert after[:-1] == before
        assert after[-1].describe() == "int W8A8"


def test_each_is_a_legal_chain_and_a_pipeline_of_its_name():
    pipelines = configurations()
    assert len(pipelines) == 15
    for pipeline in pipelines:
        validate_chain(pipeline.name, pipeline.steps, 100)
    assert [p.name for p in configurations("AGP")] == ["G_prune_cluster", "P_pcqat_int8"]


def test_an_unknown_letter_is_named():
    with pytest.raises(ValueError, match="'Q'"):
        configurations("AQ")
