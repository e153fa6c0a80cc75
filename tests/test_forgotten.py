"""What a study's report reads off its stored predictions, image by image."""

import numpy as np
import pytest

from rcm import config, forgotten
from rcm.analysis.metrics import MemberInfo
from rcm.analysis.statistics import PipelineInfo
from rcm.compress import Prune
from rcm.preparation import prepare

PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("prune50", "prune", "trained", "dense", "dense"),
]


@pytest.fixture
def told(toy_study, monkeypatch):
    """`forgotten` of a study whose pruned members mistake the images `wrong[shift, severity]`."""
    toy_study.shift = config.Shift(corruptions=("fog", "snow"), severities=(1, 3, 5))
    toy_study.pipelines = (config.Pipeline("prune50", (Prune(0.5),)),)

    def found(seeds, wrong):
        toy_study.seeds = seeds
        plan, cells = prepare(toy_study)
        infos = {
            end: MemberInfo("d", "m", "exp", end[1], end[2], end[0], "f", (5, 5, 5), 5, 10)
            for end in plan.ends
        }

        def stored(plan, store, cell):
            labels = {end: np.array(cell.labels) for end in plan.ends}
            for end in (end for end in plan.ends if end[0] == "prune50"):
                images = wrong.get((cell.shift, cell.severity), [])
                labels[end][images] = (labels[end][images] + 1) % len(plan.dataset.classes)
            return labels, {end: np.ones(len(cell.labels)) for end in plan.ends}

        monkeypatch.setattr(forgotten, "_stored", stored)
        monkeypatch.setattr(forgotten, "member_infos", lambda *_: infos)
        return forgotten.forgotten(plan, None, cells, PIPELINES).tables

    return found


def test_corruptions_are_compared_at_the_middle_severity(told):
    tables = told(5, {("fog", 3): [0, 1], ("snow", 3): [1, 2], ("snow", 5): [0, 1]})
    table = tables["exemplar_shifts"].set_index("pipeline")
    assert set(table["severity"]) == {3}
    assert set(table["jaccard"]) == {1 / 3}
    assert set(table[["shift", "other"]].itertuples(index=False, name=None)) == {("fog", "snow")}
    groups = tables["exemplar_groups"]
    assert set(groups["group"]) == {"head", "medium", "tail"}
    assert (groups["exemplars"] == 0).all()  # of clean images none


def test_fewer_seeds_than_a_population_have_intervals_over_images_alone(told):
    tables = told(2, {("clean", 0): [0]})
    assert "exemplars" not in tables
    assert tables["exemplar_shifts"].empty
    own = tables["image_intervals"].set_index("pipeline").loc["prune50"]
    assert (own["change"] < 0).all()
    assert (own["n"] == 2).all()
