"""Every study file: it runs at smoke scale, and every scale of it can be planned."""

import importlib.util
import pathlib

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.effective import ENOUGH, UNCOMPRESSED
from rcm.analysis.exemplars import LEAST
from rcm.cells import attack_label
from rcm.compress.configurations import CONFIGURATIONS
from rcm.config import Data, Model
from rcm.outcome import describe_pipelines
from rcm.preparation import prepare, study_fingerprint
from rcm.progress import Display
from rcm.study import Options, execute
from rcm.validation import validate_study

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "experiments"
STUDIES = (
    "compression", "quickstart", "class_imbalance", "natural_corruptions", "distribution_shift",
    "repairs", "forgotten_exemplars", "joint",
)  # fmt: skip


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def private_cache(cache_home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("natural_corruptions", 2),
        ("distribution_shift", 2),
        ("forgotten_exemplars", 2),
        *(pytest.param(name, 1, marks=pytest.mark.long) for name in STUDIES),
    ],
)
def test_a_study_runs_at_smoke_scale(name, every, tmp_path):
    """Half of the pipelines of some studies by default, all of all studies in the long run."""
    study = load(name).get_config("smoke")
    study.pipelines = study.pipelines[::every]
    with Display() as display:
        path = execute(study, Options(workdir=str(tmp_path), lanes=2), display)
    frame = pd.read_parquet(path.parent / "results.parquet")
    assert set(frame["pipeline"]) >= {"dense", *(p.name for p in study.pipelines)}
    shown = {
        *study.shift.corruptions,
        *study.shift.domains,
        *map(attack_label, study.shift.attacks),
    }
    assert set(frame["shift"]) - {"worst"} == {"clean", "clean_val", *shown}
    assert set(frame["ratio"]) == set(study.data.ratios)
    page = path.read_text()
    assert study.title in page
    if study.claims:
        assert {"S1": "C4b", "S2": "C6c", "S3": "C8c", "S4": "C6c", "S5": "J4"}[
            study.claims
        ] in page
    pictures = {figure.stem for figure in (path.parent / "figures").glob("*.png")}
    assert ("forgotten" in pictures) == (study.seeds >= LEAST)


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "quickstart"])
def test_what_runs_in_seconds_says_so_and_words_change_no_folder(name):
    study = load(name).get_config("smoke")
    told = f"{study.summary} {study.preview}"
    assert "rehearsal" in told
    assert not [word for word in ("CIFAR", "laptop", "Populations") if word in told]
    folder = study_fingerprint(study)
    study.title = study.summary = study.preview = "other words"
    assert study_fingerprint(study) == folder
    study.seeds += 1
    assert study_fingerprint(study) != folder


def test_the_quickstart_is_the_default_scale():
    study = load("quickstart").get_config()
    validate_study(study)
    assert study.data.name == "digits"
    assert study.data.data_dir == ""


@pytest.mark.parametrize(
    ("scale", "members"),
    [
        *(pytest.param(s, 30, marks=pytest.mark.long) for s in ("paper", "paper56")),
        pytest.param("laptop", 9, marks=pytest.mark.long),
    ],
)
def test_class_imbalance_can_be_planned(scale, members, shared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared / "tfds"))
    study = load("class_imbalance").get_config(scale)
    plan, cells = prepare(study)
    dense = [job for job in plan.jobs.values() if job.label == "dense"]
    assert len(dense) == members
    assert plan.tails[100].counts.sum() == 11_909  # n_max 4,800, as PROTOCOLS says
    assert {"clean", "clean_val"} < {cell.shift for cell in cells}
    steps = {job.steps for job in dense}
    assert steps == ({2500} if scale == "laptop" else {200 * 375})


def test_all_wrong_labels_of_the_scale_for_them_are_tested():
    plan, cells = prepare(load("forgotten_exemplars").get_config("noise"))
    table, wrong = plan.tails[1].table, plan.labels != plan.dataset.train.labels
    assert wrong[table].sum() == pytest.approx(0.05 * len(table), abs=5)  # half an image of each
    (tested,) = (cell.ids for cell in cells if cell.shift == "clean_train")
    assert np.isin(np.flatnonzero(wrong), tested).all()
    assert len(tested) == 1000


@pytest.mark.parametrize(
    "scale", ["laptop", *(pytest.param(s, marks=pytest.mark.long) for s in ("paper", "orders"))]
)
def test_compression_can_be_planned(scale, shared, monkeypatch):
    """Every technique is part of it but filters of another score and the repairs of losses."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared / "tfds"))
    plan, _ = prepare(load("compression").get_config(scale))
    names = {pipeline.name for pipeline in plan.pipelines}
    assert {"finetune2", "prune_then_qat" if scale == "orders" else "P_pcqat_int8"} <= names
    assert len({job.seed for job in plan.jobs.values() if job.label == "dense"}) >= 3


@pytest.mark.parametrize("scale", ["laptop", pytest.param("gpu_mobilenet", marks=pytest.mark.long)])
def test_natural_corruptions_have_all_configurations_and_a_line(scale, shared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(shared / "tfds"))
    plan, cells = prepare(load("natural_corruptions").get_config(scale))
    infos = {info.name: info for info in describe_pipelines(plan)}
    assert {c.name for c in CONFIGURATIONS.values() if c.steps} < set(infos)
    assert infos["P_pcqat_int8"].baseline == "finetune3"
    dense = [info for info in infos.values() if info.kind in UNCOMPRESSED]
    steps = sorted(plan.jobs[plan.ends[info.name, 1, 0]].steps for info in dense)
    assert steps == [200, 400, 400, 400, 500, 1000, 2000]
    assert len(dense) >= ENOUGH
    assert len(cells) == 2 + 15 * 5


@pytest.mark.parametrize("scale", ["laptop", "before", "cosine", "paper"])
def test_repairs_are_compared_with_repaired_controls(scale):
    """What a pipeline and its control train by, and are adjusted by, is the same at every scale."""
    study = load("repairs").get_config(scale)
    assert study.data.ratios == (100,)
    study.data = Data(name="digits", ratios=(10,))  # which needs no file
    study.model = Model(name="tiny", width=8, classifier=study.model.classifier)
    plan, _ = prepare(study)
    infos = {info.name: info for info in describe_pipelines(plan)}
    after = {name for name in infos if "_after" in name}
    assert len(after) == (0 if scale == "before" else 12)
    assert ("prune80_ldam_drw" in infos) == (study.model.classifier == "cosine")
    assert plan.jobs[plan.ends["dense", 10, 0]].recipe.loss == study.train.loss
    for pipeline in study.pipelines:
        found = [plan.jobs[plan.ends[name, 10, 0]]
                 for name in (pipeline.name, infos[pipeline.name].baseline)]  # fmt: skip
        if pipeline.name in after:
            adjusted, control = ([t for t in job.added if t in pipeline.steps] for job in found)
            assert adjusted == control != []
            found = [plan.jobs[job.parent] for job in found]
        recipes = {repr(job.recipe) for job in found}
        assert len(recipes) == 1 or not any(job.added and job.recipe for job in found)


def test_an_unknown_scale_is_named():
    with pytest.raises(ValueError, match="did you mean 'laptop'"):
        load("class_imbalance").get_config("labtop")
