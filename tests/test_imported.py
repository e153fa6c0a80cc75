"""Predictions made elsewhere: the metrics of native ones, and one sentence for what is wrong."""

import dataclasses
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rcm import answers, answers_alone, config
from rcm.cells import AttackSpec, DomainSpec, OfficialSpec
from rcm.data.identity import positions
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.report import page
from rcm.store import Store
from rcm.study import Options, execute
from tests.commands import flipped

AGREEMENT = ("agreement", "churn", "negative_flips", "positive_flips")


@pytest.fixture(scope="module")
def finished(toy_file, tmp_path_factory):
    """(study, workdir, results) of two dense members of one step, clean and under a noise."""
    study = config.Study(
        name="own",
        seeds=2,
        data=config.Data(name=str(toy_file)),
        model=config.Model(name="tiny", width=4),
        train=config.Train(steps=1, batch=8, schedule="constant", warmup_epochs=0, augment="none"),
        shift=config.Shift(
            corruptions=("gaussian_noise",), severities=(3,), images=12, domains=("inverted",),
            attacks=(config.Attack("fgsm", eps=(4,)),), attack_images=12,
        ),
    )  # fmt: skip
    workdir = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch, Display() as display:
        patch.setattr(page, "all_figures", lambda *_: [])
        path = execute(study, Options(workdir=str(workdir), lanes=2), display)
    return study, workdir, pd.read_parquet(path.parent / "results.parquet")


def files_of(finished, folder, order=None):
    """The dense members' predictions as another framework would hand them over."""
    study, workdir, _ = finished
    plan, cells = prepare(study)
    store, tests = Store(workdir), len(plan.dataset.test.labels)
    order = np.arange(tests) if order is None else order
    folder.mkdir(exist_ok=True)
    for seed in range(study.seeds):
        place = store.index()[plan.ends["dense", 1, seed]]
        arrays = {"pipeline": "elsewhere", "seed": seed, "ids": order, "bytes": 1000}
        for cell in cells:
            if name := answers.cell_name(cell):
                stored = store.load_predictions(place.chunk, cell.key)
                for field in ("label", "logp_pred", "logp_true", "sum_p2"):
                    found = stored[field][place.row]
                    if not isinstance(cell, DomainSpec):
                        whole = np.zeros(tests, found.dtype)
                        whole[cell.ids] = found
                        found = whole[order]
                    arrays[f"{field}/{name}"] = found
        np.savez(folder / f"model{seed}.npz", **arrays)
    return folder


def run(finished, folder):
    study, workdir, _ = finished
    study = dataclasses.replace(study, imported=str(folder))
    with Display() as display:
        return execute(study, Options(workdir=str(workdir), lanes=2), display)


def test_imported_predictions_give_the_metrics_of_native_ones(finished, tmp_path):
    """In any order of the images; sizes and logits, which the file lacks, are left out."""
    plan, _ = prepare(finished[0])
    order = np.random.default_rng(0).permutation(len(plan.dataset.test.labels))
    path = run(finished, files_of(finished, tmp_path / "in", order))
    frame = pd.read_parquet(path.parent / "results.parquet")
    keys = ["seed", "shift", "severity", "metric", "cls"]
    own, theirs = (
        frame[(frame["pipeline"] == name) & (frame["shift"] != "clean_val")].set_index(keys)[
            "value"
        ]
        for name in ("dense", "elsewhere")
    )
    same = theirs[theirs.index.get_level_values("metric").isin(AGREEMENT)]
    theirs = theirs.drop(same.index)
    assert set(theirs.index) <= set(own.index)
    sizes = own.xs("bytes", level="metric")
    ratios = theirs.xs("compression_ratio", level="metric")  # against the study's dense members
    np.testing.assert_allclose(ratios, sizes.reindex(ratios.index) / 1000)
    shared = theirs.drop(["bytes", "compression_ratio"], level="metric")
    pd.testing.assert_series_equal(shared, own.reindex(shared.index))
    found = set(shared.index.get_level_values("metric"))
    assert {"accuracy", "recall", "ece", "nll", "domain_accuracy", "robust_accuracy"} <= found
    assert (theirs.xs("bytes", level="metric") == 1000).all()
    for metric in AGREEMENT:  # with the members that these answers are of
        assert (same.xs(metric, level="metric") == (metric == "agreement")).all()
    places = same.reset_index()[["shift", "severity"]].drop_duplicates()
    assert set(places["shift"]) == {"clean", "gaussian_noise", "inverted"}
    assert "elsewhere" in path.read_text()


def test_answers_from_elsewhere_are_held_against_the_parents(finished, tmp_path):
    """A model that is always right agrees with a dense member as often as that is right; it wins
    all other images and loses none."""
    labels = prepare(finished[0])[0].dataset.test.labels
    (tmp_path / "in").mkdir()
    perfect = {"pipeline": "perfect", "seed": 1, "label/clean": labels}
    np.savez(tmp_path / "in" / "a.npz", **perfect)
    path = run(finished, tmp_path / "in")
    frame = pd.read_parquet(path.parent / "results.parquet")
    clean = frame[(frame["shift"] == "clean") & (frame["seed"] == 1) & (frame["cls"] == "")]
    values = clean.set_index(["pipeline", "metric"])["value"]
    right = values["dense", "accuracy"]
    assert 0 < right < 1
    assert values["perfect", "agreement"] == pytest.approx(right)
    assert values["perfect", "churn"] == pytest.approx(1 - right)


def test_labels_alone_are_enough(finished, tmp_path):
    plan, cells = prepare(finished[0])
    labels = plan.dataset.test.labels
    np.savez(tmp_path / "a.npz", **{"pipeline": "perfect", "seed": 1, "label/clean": labels})
    asked = answers.of_study(plan, cells)
    frame = answers_alone.results(answers.load(str(tmp_path), asked), asked)
    values = frame[frame["cls"] == ""].set_index("metric")["value"]
    assert values["accuracy"] == values["macro_f1"] == 1
    assert not {"ece", "nll", "brier", "bytes"} & set(values.index)


def test_images_are_found_by_their_pixels(finished):
    split = prepare(finished[0])[0].dataset.test
    order = np.random.default_rng(0).permutation(len(split.labels))
    found = positions(np.asarray(split.images)[order], split)
    np.testing.assert_array_equal(split.images[found], split.images[order])
    assert len(set(found)) == len(order)
    strange = np.asarray(split.images[:3]).copy()
    strange[1] ^= 1
    with pytest.raises(ValueError, match=r"1 of 3 images are not among .* first the one at 1"):
        positions(strange, split)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pipeline": None}, "has no pipeline: expected"),
        ({"pipeline": "dense"}, "a pipeline 'dense' of its own"),
        ({"seed": 9}, "no ratio 1 with seed 9"),
        ({"kind": "traind"}, "did you mean 'trained'"),
        ({"baseline": "finetuned"}, "Unknown pipeline, which a.npz is compared with"),
        ({"label/clean": None}, "no label/clean"),
        ({"label/clean": np.zeros(3, int)}, "expected one number for each of"),
        ({"label/clean": 0.5}, "must hold classes from 0 to"),
        ({"label/clean": -1}, "must hold classes from 0 to"),
        ({"label/fogg/3": 0}, "Unknown cell of the study"),
        ({"lable/clean": 0}, "did you mean 'label'"),
        ({"ids": 0}, "ids must be different numbers"),
        ({"ids": np.zeros(0, int)}, "ids must be different numbers"),
        ({"seed": np.arange(2)}, "seed, ratio, bytes and macs are single numbers"),
    ],
)
def test_what_does_not_fit_is_one_sentence(finished, tmp_path, change, sentence):
    plan, cells = prepare(finished[0])
    images = len(plan.dataset.test.labels)
    arrays = {"pipeline": "other", "seed": 0, "label/clean": np.zeros(images, int)}
    for name, value in change.items():
        spread = "/" in name or name == "ids"
        full = np.full(images, value) if spread and np.isscalar(value) else value
        arrays = {k: v for k, v in {**arrays, name: full}.items() if v is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=sentence):
        answers.load(str(tmp_path), answers.of_study(plan, cells))


def test_an_unaligned_release_takes_no_imports(finished):
    """Its images have no ids by which another framework could have answered them."""
    _, cells = prepare(finished[0])
    fog = OfficialSpec("fog", 3, np.zeros(2, np.int32), np.arange(2), SimpleNamespace(order=None))
    assert answers.cell_name(fog) == ""
    aligned = dataclasses.replace(fog, release=SimpleNamespace(order=np.arange(2)))
    assert answers.cell_name(aligned) == "fog/3"
    names = [answers.cell_name(cell) for cell in cells]  # none of validation images
    assert names == ["clean", "", "gaussian_noise/3", "attack:fgsm/4", "domain:inverted"]
    passed_on = next(cell for cell in cells if isinstance(cell, AttackSpec))._replace(source="int8")
    assert answers.cell_name(passed_on) == ""


def test_folders_and_files_that_cannot_be_read_are_named(finished, tmp_path):
    plan, cells = prepare(finished[0])
    with pytest.raises(ValueError, match=r"there is no \.npz file"):
        answers.load(str(tmp_path), answers.of_study(plan, cells))
    (tmp_path / "a.npz").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"a.npz cannot be read .*: save plain arrays"):
        answers.load(str(tmp_path), answers.of_study(plan, cells))


def test_damaged_predictions_are_named_or_change_nothing(finished, tmp_path):
    """Bits flipped in a file of another framework's, and the file cut off."""
    plan, cells = prepare(finished[0])
    asked, path = answers.of_study(plan, cells), tmp_path / "a.npz"
    labels = np.arange(len(plan.dataset.test.labels)) % 3
    np.savez(path, **{"pipeline": "other", "seed": 0, "label/clean": labels})

    def results():
        found = answers_alone.results(answers.load(str(tmp_path), asked), asked)
        return found.drop(columns="fingerprint")  # which is that of the file

    whole, told = results(), []
    for _ in flipped(path, step=5):
        try:
            pd.testing.assert_frame_equal(results(), whole, check_exact=True)
        except ValueError as error:
            told.append(str(error))
    assert told
    assert all("a.npz" in sentence and "\n" not in sentence for sentence in told)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"a.npz cannot be read"):
        answers.load(str(tmp_path), asked)


def test_a_model_that_leaves_out_tested_images_is_named(finished, tmp_path):
    plan, cells = prepare(finished[0])
    ids = np.arange(len(plan.dataset.test.labels) - 2)
    arrays = {"pipeline": "o", "seed": 0, "ids": ids, "label/clean": np.zeros(len(ids), int)}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match="leaves out 2 of the images"):
        answers.load(str(tmp_path), answers.of_study(plan, cells))
