"""Predictions analysed without a study: the documented example by hand, and what does not fit."""

import textwrap

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax
from sklearn.metrics import balanced_accuracy_score

from rcm import answers, answers_alone, imported, predictions
from rcm.analysis.estimands_exemplars import rare_subgroup
from rcm.analysis.measured import Measured
from rcm.analysis.statistics import gap_table
from rcm.analysis.tradeoffs import fronts, objectives
from rcm.progress import Display
from rcm.report import page

MARK = "This writes such a folder::"
TRUE = np.repeat([0, 1, 2], 4)


def write_example(folder, monkeypatch):
    """The code in the documentation, run as it stands."""
    assert imported.__doc__
    monkeypatch.chdir(folder)
    exec(textwrap.dedent(imported.__doc__.partition(MARK)[2]), {})
    return folder / "predictions"


def analyse(folder, workdir):
    with Display() as display:
        return predictions.execute(str(folder), str(workdir), "command", display).parent


@pytest.fixture
def analysed(monkeypatch, tmp_path):
    """folder -> what would go into its report: (run folder, results, pipelines, run, claims)."""
    written = []
    monkeypatch.setattr(predictions, "write_run", lambda *parts, **_: written.append(parts))
    monkeypatch.setattr(predictions, "terminal_table", lambda *_: "")

    def run(folder):
        analyse(folder, tmp_path / "runs")
        return written[-1][:5]

    return run


@pytest.fixture
def write(tmp_path):
    """(labels.npz, models by file name) -> the folder of such predictions."""

    def write_files(labels, models):
        for name, arrays in {"labels": labels, **models}.items():
            np.savez(tmp_path / f"{name}.npz", **arrays)
        return tmp_path

    return write_files


def model(seed=0, **more):
    return {"pipeline": "dense", "kind": "dense", "seed": seed, "label/clean": TRUE} | more


def test_the_documented_example_gives_the_numbers_of_paper_and_pencil(tmp_path, monkeypatch):
    """Missed are 1, 2, 1 of twelve answers (dense) and 2, 3, 4 (qat); under fog three times that
    many, as each class moves by so many places."""
    monkeypatch.setattr(page, "all_figures", lambda *_: [])
    folder = analyse(write_example(tmp_path, monkeypatch), tmp_path / "runs")
    main = pd.read_csv(folder / "tables" / "main.csv", keep_default_na=False, na_values=["NA"])
    found = {(row.pipeline, row.quantity, row.baseline): row for row in main.itertuples()}
    assert set(main["ratio"]) == {20}
    assert float(found["dense", "accuracy", ""].mean) == pytest.approx(100 * (1 - 4 / 36))
    change = found["qat", "accuracy_change", "dense"]
    assert float(change.mean) == pytest.approx(-100 * (1 + 1 + 3) / 36)
    half = 4.302653 * np.std([1, 1, 3], ddof=1) / np.sqrt(3) / 12 * 100  # t of two degrees
    assert float(change.hi) - float(change.mean) == pytest.approx(half, rel=1e-6)
    assert float(found["qat", "recall_tail", ""].mean) == pytest.approx(100 * (1 - 9 / 12))
    mce = 100 * np.mean([6 / 3, 9 / 6, 12 / 3])
    assert float(found["qat", "mce", "dense"].mean) == pytest.approx(mce)
    ratio = np.mean([900 / 450, 450 / 300, 900 / 225])
    assert float(found["qat", "compression_ratio", ""].mean) == pytest.approx(ratio)
    names = {"results.parquet", "results.csv", "report.md", "config.json", "run.json", "log.jsonl"}
    assert names <= {path.name for path in folder.iterdir()}
    assert "Predictions made elsewhere: predictions" in (folder.parent / "index.html").read_text()
    text = (folder / "report.html").read_text()
    assert "The predictions were made elsewhere" in text
    assert "training time</dt>" not in text
    assert "same extra steps" not in text
    assert 'id="claims"' not in text


def test_equal_predictions_share_a_run_folder(write, analysed):
    first = analysed(write({"labels": TRUE}, {"a": model()}))[0]
    assert analysed(write({"labels": TRUE}, {"a": model()}))[0] == first
    assert analysed(write({"labels": TRUE}, {"a": model(), "b": model(seed=1)}))[0] != first


def test_without_counts_and_sizes_a_report_is_made_all_the_same(write, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "all_figures", lambda *_: [])
    folder = analyse(write({"labels": TRUE}, {"a": model()}), tmp_path / "runs")
    frame = pd.read_parquet(folder / "results.parquet")
    assert not {"recall_head", "recall_tail", "train_count", "bytes"} & set(frame["metric"])
    assert not {"n_max", "realised_ratio"} & set(frame.columns)
    text = (folder / "report.md").read_text()
    assert "nothing is said about frequent and rare classes" in text
    assert "Not every file gives a stored size" in text


@pytest.mark.parametrize("given", [True, False])
def test_multiply_accumulates_are_traded_for_accuracy_where_files_hold_them(write, analysed, given):
    thin = {"pipeline": "thin", "kind": "trained", "label/clean": np.where(TRUE == 2, 2, 0)}
    vain = {"pipeline": "vain", "kind": "trained"}
    models = {
        f"{macs}-{seed}": model(seed, bytes=100, **more, **({"macs": macs} if given else {}))
        for macs, more in ((4000, {}), (1000, thin), (5000, vain))
        for seed in (0, 1)
    }
    _, frame, pipelines, *_ = analysed(write({"labels": TRUE}, models))
    found = fronts(objectives(frame, pipelines), pipelines)
    own = found[found["objectives"] == "macs"].set_index("pipeline")["on_front"]
    assert own.to_dict() == ({"dense": True, "thin": True, "vain": False} if given else {})


def test_ratios_groups_and_claims(write, analysed):
    """Rare classes are those of the largest ratio, also where the other ratio is balanced."""
    wrong = TRUE.copy()
    wrong[-2:] = 0
    labels = {"labels": TRUE, "train_counts/1": [90, 90, 90], "train_counts/9": [10, 90, 30],
              "group": np.tile([0, 1], 6), "groups": ["even", "odd"], "claims": "S1"}  # fmt: skip
    models = {f"{ratio}{seed}": model(seed, ratio=ratio, **{"label/clean": found})
              for ratio, found in ((1, TRUE), (9, wrong)) for seed in (0, 1)}  # fmt: skip
    *_, frame, pipelines, run, claims = analysed(write(labels, models))
    value = frame.groupby(["metric", "ratio", "cls"])["value"].mean()
    assert value["recall_head", 9, ""] == 1  # of class 1
    assert value["recall_medium", 9, ""] == 0.5  # of class 2
    assert value["recall_medium", 1, ""] == 1
    assert value["subgroup_error", 9, "even"] == value["subgroup_error", 9, "odd"] == 1 / 6
    gaps = gap_table(frame, pipelines)
    assert gaps["mean"].tolist() == pytest.approx([100 / 6, 100 / 6])  # points, and percent of 1
    assert claims == "S1"
    assert len(run.notes) == 1  # of sizes


def test_the_rarest_subgroup_in_training_is_known_where_files_count_it(write, analysed):
    """S4's C10 is about it: of two classes and subgroups here the second's images of class 1."""
    truth, group = np.tile([0, 1], 20), np.repeat([0, 1], 20)
    labels = {"labels": truth, "group": group, "groups": ["many", "few"], "classes": ["no", "yes"]}
    models = {}
    for seed in range(3):
        dense, own = truth.copy(), truth.copy()
        dense[[0, 1, 20, 21]] ^= 1  # an error of each kind in each subgroup
        own[[0, 1, 20, 21, 23, 25 + 2 * seed]] ^= 1
        models[f"d{seed}"] = model(seed, **{"label/clean": dense})
        thin = {"pipeline": "thin", "kind": "trained", "techniques": ["prune"], "sparsity": 0.9}
        models[f"t{seed}"] = model(seed, **thin, **{"label/clean": own})
    for given, note in (
        ({}, None),
        ({"group_counts": [[90, 80], [70, 3]]}, "rarest: few, 3 images"),
    ):
        _, frame, pipelines, *_ = analysed(write({**labels, **given}, models))
        found = rare_subgroup(Measured(frame, pipelines))
        assert (found and found.note) == note
    assert found.points == pytest.approx([200, 200, 200])  # three times the parent's; others alike


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("fogg/3", "answers to 'fogg/3': did you mean 'fog'"),
        ("gausian_noise/1", "did you mean 'gaussian_noise'"),
        ("fog/9", "fog has the severities 1 to 5"),
        ("fog/2.5", "fog has the severities 1 to 5"),
    ],
)
def test_a_corruption_that_the_benchmark_lacks_is_refused_if_it_is_nearly_one(
    write, analysed, cell, sentence
):
    with pytest.raises(ValueError, match=sentence):
        analysed(write({"labels": TRUE}, {"a": model(**{f"label/{cell}": TRUE})}))


def test_corruptions_of_somebody_else_may_have_any_strength(write, analysed):
    _, frame, *_ = analysed(write({"labels": TRUE}, {"a": model(**{"label/plasma/7.5": TRUE})}))
    assert set(frame["shift"]) == {"clean", "plasma"}


def test_a_cell_of_some_images_takes_the_answers_to_those(write, tmp_path):
    """Whatever the order in which a model answered."""
    order = np.random.default_rng(0).permutation(12)
    fog = TRUE.copy()
    fog[[3, 7]] = 0, 2
    labels = {"labels": TRUE, "ids/fog/2": [3, 4, 7, 8]}
    given = {"ids": order, "label/clean": TRUE[order], "label/fog/2": fog[order]}
    folder = write(labels, {"a": model(**given)})
    found = predictions.read_labels(folder / "labels.npz")
    models = imported.find(str(folder), 1)
    setting = predictions.setting_of(found, predictions.WORDS, {}, models)
    answers.check(models, setting)
    cells = list(answers.labels_by_cell(models, setting))
    assert [(asked.shift, asked.severity) for asked, _ in cells] == [("clean", 0), ("fog", 2)]
    asked, by_model = cells[1]
    np.testing.assert_array_equal(asked.labels, [0, 1, 1, 2])
    np.testing.assert_array_equal(by_model["dense", 1, 0], [0, 1, 2, 2])
    frame = answers_alone.results(models, setting).set_index(["shift", "metric"])
    assert frame["value"]["fog", "accuracy"].item() == 0.75


def attacked(missed: int) -> np.ndarray:
    """Answers to the last eight of twelve images, of which the first `missed` are wrong."""
    return np.r_[[0] * 4, (TRUE[4:] + (np.arange(8) < missed)) % 3]


def test_attacks_and_domains_are_scored_by_hand(write, analysed):
    """PGD leaves 5 of 8 images and a search 4, one of whose failures is PGD's, too, so that both
    together leave 2; 7 of 8 were right without an attack. The domain has classes 1 and 2 only."""
    pgd, square = attacked(3), attacked(1)
    square[9:] = 0
    clean = TRUE.copy()
    clean[[0, 8]] = 1
    given = {"label/clean": clean, "label/attack:pgd20/4": pgd, "label/attack:square300/4": square,
             "label/domain:sketch": np.array([1, 1, 2, 0, 0])}  # fmt: skip
    labels = {"labels": TRUE, "labels/domain:sketch": np.array([1, 1, 2, 2, 2])}
    labels |= {f"ids/attack:{name}/4": np.arange(4, 12) for name in ("pgd20", "square300")}
    _, frame, *_, claims = analysed(write(labels, {"a": model(**given)}))
    assert not claims
    found = frame.set_index(["shift", "severity", "metric", "cls"])["value"]
    assert found["pgd20", 4.0, "robust_accuracy", ""] == 5 / 8
    assert found["square300", 4.0, "robust_accuracy", ""] == 4 / 8
    assert found["worst", 4.0, "robust_accuracy", ""] == 2 / 8
    assert found["worst", 4.0, "masked_gradients", ""] == 1
    assert found["pgd20", 4.0, "source_accuracy", ""] == 7 / 8
    assert found["pgd20", 4.0, "robust_recall", "1"] == 1 / 4
    assert found["sketch", 0.0, "domain_accuracy", ""] == 3 / 5
    assert found["sketch", 0.0, "source_accuracy", ""] == 7 / 8  # of classes 1 and 2
    assert not frame["metric"].isin(["zero_gradients", "hidden_gradients"]).any()
    assert not ((frame["metric"] == "accuracy") & (frame["shift"] != "clean")).any()


def test_a_page_is_made_of_attacks_and_domains(write, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "all_figures", lambda *_: [])
    draw, models = np.random.default_rng(0), {}
    for seed in range(3):
        for name, kind in (("dense", "dense"), ("qat", "trained")):
            answers = {f"label/attack:pgd/{eps}": draw.integers(0, 3, 12) for eps in (1, 2)}
            answers |= {"label/domain:sketch": draw.integers(0, 3, 5)}
            models[f"{name}{seed}"] = model(seed, pipeline=name, kind=kind) | answers
    write({"labels": TRUE, "labels/domain:sketch": np.array([0, 1, 2, 2, 2])}, models)
    folder = analyse(tmp_path, tmp_path / "runs")
    text = (folder / "report.md").read_text()
    assert "; 1 attack, 1 domain." in text
    table = pd.read_csv(folder / "tables" / "robustness.csv")
    assert set(table["shift"]) == {"pgd", "worst", "sketch"}
    assert set(table["quantity"]) >= {"shifted_accuracy", "relative_robustness", "drop"}


def test_answers_that_some_models_lack_are_counted(write, analysed):
    models = {"a": model(**{"label/fog/3": TRUE}), "b": model(seed=1)}
    run = analysed(write({"labels": TRUE}, models))[3]
    assert "Not all 2 models answered every cell, but: fog/3 1." in run.notes


def test_what_populations_forget_is_found_by_hand(write, tmp_path, monkeypatch):
    """Six of six dense models know every image; of the pruned, four mistake image 0 and two image
    5: only the first is an exemplar, of class 0. In snow it is one of two, in fog the only one."""
    monkeypatch.setattr(page, "all_figures", lambda *_: [])
    pruned = np.tile(TRUE, (6, 1))
    pruned[:4, 0] = 2
    pruned[4:, 5] = 2
    snow = pruned.copy()
    snow[:, 1] = (TRUE[1] + 1) % 3
    shifted = {"label/fog/3": TRUE, "label/snow/3": TRUE}
    models = {f"d{seed}": model(seed, **shifted) for seed in range(6)}
    for seed, answers_of_it in enumerate(pruned):
        own = {"pipeline": "pruned", "kind": "trained", "label/clean": answers_of_it}
        own |= {"label/fog/3": answers_of_it, "label/snow/3": snow[seed]}
        models[f"p{seed}"] = model(seed, **own)
    folder = analyse(write({"labels": TRUE}, models), tmp_path / "runs")
    row = pd.read_csv(folder / "tables" / "exemplars.csv").iloc[0]
    assert (row["pipeline"], row["n"], row["exemplars"], row["rate"]) == ("pruned", 6, 1, 1 / 12)
    classes = pd.read_csv(folder / "tables" / "exemplar_classes.csv").set_index("cls")
    assert classes["exemplars"].to_dict() == {0: 1, 1: 0, 2: 0}
    frame = pd.read_parquet(folder / "results.parquet")
    assert not (folder / "tables" / "exemplar_groups.csv").exists()  # no counts, no frequencies
    between = pd.read_csv(folder / "tables" / "exemplar_shifts.csv").iloc[0]
    assert (between["shift"], between["other"], between["jaccard"]) == ("fog", "snow", 1 / 2)
    over_images = pd.read_csv(folder / "tables" / "image_intervals.csv").set_index("pipeline")
    assert over_images.loc["pruned", "change"] == pytest.approx(-100 / 12)
    assert over_images.loc["pruned", "change_lo"] < -100 / 12 < over_images.loc["pruned", "lo"]
    clean = (frame["metric"] == "exemplar_rate") & (frame["shift"] == "clean")
    rate = frame[clean]["value"].mean()
    assert rate == pytest.approx(1 / 12)
    assert frame["fingerprint"].str.startswith("imported-").all()
    assert "n_max" not in frame
    churn = frame[(frame["metric"] == "churn") & (frame["shift"] == "clean")]
    assert churn.set_index("seed")["value"].to_dict() == dict.fromkeys(range(6), 1 / 12)


def test_logits_say_all_that_their_fields_say_and_more(write, analysed):
    """Of nine classes of any logits the same rows, and what needs all classes beside them."""
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 9, 200)
    clean, fog = draw.normal(0, 3, (2, 200, 9)).astype(np.float32)
    labels = {"labels": truth, "train_counts": np.arange(1, 10)}
    rows = []
    for given in ("logits", "fields"):
        arrays = {"pipeline": "dense", "kind": "dense", "seed": 0}
        for cell, logits in (("clean", clean), ("fog/3", fog)):
            if given == "logits":
                arrays[f"logits/{cell}"] = logits
                continue
            log_p = log_softmax(logits.astype(float), 1)
            arrays[f"label/{cell}"] = logits.argmax(1)
            arrays[f"logp_pred/{cell}"] = log_p.max(1)
            arrays[f"logp_true/{cell}"] = log_p[np.arange(200), truth]
            arrays[f"sum_p2/{cell}"] = (np.exp(log_p) ** 2).sum(1)
        frame = analysed(write(labels, {"a": arrays}))[1]
        rows.append(frame.set_index(["shift", "metric", "cls"])["value"])
    whole, fields = rows
    more = set(whole.index) - set(fields.index)
    assert {name[:2] for name in more} == {
        ("clean", "ece_classwise"), ("clean", "posthoc_balanced_accuracy"),
    }  # fmt: skip
    np.testing.assert_allclose(whole[fields.index], fields, rtol=2e-3)  # of float16
    adjusted = (clean - np.log(np.arange(1, 10) / 45)).argmax(1)
    right = balanced_accuracy_score(truth, adjusted)
    assert whole["clean", "posthoc_balanced_accuracy", ""] == pytest.approx(right)


def test_without_training_counts_no_accuracy_is_adjusted_by_them(write, analysed):
    arrays = model(**{"logits/clean": np.eye(3)[TRUE]})
    del arrays["label/clean"]
    found = set(analysed(write({"labels": TRUE}, {"a": arrays}))[1]["metric"])
    assert "ece_classwise" in found
    assert "posthoc_balanced_accuracy" not in found


def forgetful(write, human=None):
    """Two populations of six: all dense models know every image, four of the pruned mistake the
    first. The dense are certain by 0.9, half of them by logits and in another order of the images;
    the pruned have said nothing of it."""
    sure = {"logp_pred/clean": np.full(12, np.log(0.9))}
    models = {f"d{seed}": model(seed, **sure) for seed in range(6)}
    order = np.random.default_rng(0).permutation(12)
    for seed in range(3):
        logits = np.log(np.where(np.eye(3)[TRUE[order]] == 1, 0.9, 0.05))
        models[f"d{seed}"] = {"pipeline": "dense", "kind": "dense", "seed": seed, "ids": order}
        models[f"d{seed}"]["logits/clean"] = logits
    for seed in range(6):
        own = TRUE.copy()
        own[0] = 2 if seed < 4 else 0
        models[f"p{seed}"] = model(seed, pipeline="pruned", kind="trained", **{"label/clean": own})
    images = np.arange(12, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    labels = {"labels": TRUE, "images": images, "classes": ["cat", "dog", "bird"]}
    return write(labels | ({} if human is None else {"human": human}), models)


def test_forgotten_images_are_shown_where_they_are_given(write, tmp_path, monkeypatch):
    written = {}
    monkeypatch.setattr(predictions, "write_run", lambda *_, **parts: written.update(parts))
    monkeypatch.setattr(predictions, "terminal_table", lambda *_: "")
    analyse(forgetful(write), tmp_path / "runs")
    [(label, [picture])] = written["pictures"].items()
    assert label == "pruned"
    np.testing.assert_array_equal(picture.image, np.zeros((8, 8)))
    assert picture.truth == "cat"
    assert picture.dense == ("cat", 1.0, pytest.approx(0.9, rel=1e-3))
    assert picture.own[:2] == ("bird", 4 / 6)
    assert np.isnan(picture.own[2])


def test_what_another_network_forgets_is_not_held_against_the_first(write, tmp_path):
    """Populations of six of a second dense model, and of what was made of a control."""
    folder = forgetful(write)
    for seed in range(6):
        for name, kind, parent in (("other", "dense", ""), ("small", "control", "dense"),
                                   ("small_int8", "post_training", "small")):  # fmt: skip
            own = model(seed, pipeline=name, kind=kind) | ({"parent": parent} if parent else {})
            own["label/clean"] = np.roll(TRUE, 1)
            np.savez(folder / f"{name}{seed}.npz", **own)
    run = analyse(folder, tmp_path / "runs")
    assert set(pd.read_csv(run / "tables" / "exemplars.csv")["pipeline"]) == {"pruned", "small"}
    frame = pd.read_parquet(run / "results.parquet")
    rated = frame[frame["metric"] == "exemplar_rate"]["pipeline"]
    assert set(rated) == {"pruned", "small"}


def test_a_page_shows_pictures_of_predictions_made_elsewhere(write, tmp_path):
    """With all figures that can be drawn of files without sizes, shifts or training counts."""
    folder = analyse(forgetful(write), tmp_path / "runs")
    assert (folder / "figures" / "forgotten.png").exists()
    assert "67%" in (folder / "figures" / "forgotten.svg").read_text()
    assert "nan" not in (folder / "figures" / "forgotten.svg").read_text()


def test_peoples_doubt_stands_beside_that_of_models(write, tmp_path, monkeypatch):
    """Numbers of answers: people agree about every image but the forgotten one, where two classes
    have half of them each, log 2 / log 3 of the largest entropy."""
    monkeypatch.setattr(page, "all_figures", lambda *_: [])
    human = 50 * np.eye(3, dtype=int)[TRUE]
    human[0] = 25, 0, 25
    folder = analyse(forgetful(write, human), tmp_path / "runs")
    doubt = pd.read_csv(folder / "tables" / "exemplar_doubt.csv").set_index("doubt")
    assert doubt.loc["human", "exemplars"] == pytest.approx(np.log(2) / np.log(3))
    assert doubt.loc["human", "rest"] == 0


@pytest.mark.parametrize(
    ("labels", "change", "sentence"),
    [
        ({"labels": TRUE / 2}, {}, "labels must hold the class of each test image, whole numbers"),
        ({"lables": TRUE}, {}, "did you mean 'labels'"),
        ({"classes": ["a", "b", "c"]}, {}, "has no labels: give the true classes"),
        ({"labels": TRUE, "classes": ["a", "b"]}, {}, "labels reach class 2, but there are only 2"),
        ({"labels": TRUE, "train_counts": [1, 2]}, {}, "reach class 2, but there are only 2"),
        ({"labels": TRUE, "train_counts/x": [1, 2, 3]}, {}, "must be called after a whole ratio"),
        ({"labels": TRUE, "train_counts/5": [5, 1, 1]}, {"ratio": 9}, "no train_counts/9"),
        ({"labels": TRUE, "train_counts": [5, 1, 1], "train_counts/5": [5, 1, 1]}, {},
         "has train_counts beside train_counts/5"),
        ({"labels": TRUE, "group": TRUE}, {}, "has one of group and groups"),
        ({"labels": TRUE, "group": TRUE, "groups": ["a"]}, {}, "must hold one of 1 subgroups"),
        ({"labels": TRUE, "ids/fog/3": [0, 12]}, {}, "different numbers from 0 to 11"),
        ({"labels": TRUE, "ids/fog/3": [0, 1]}, {}, "Unknown cell of ids in labels.npz"),
        ({"labels": TRUE, "imbalance": "tail"}, {}, "Unknown imbalance in labels.npz"),
        ({"labels": TRUE, "claims": "S9"}, {}, "Unknown claims in labels.npz"),
        ({"labels": TRUE}, {"label/fog": TRUE}, "answers to 'fog': expected clean, <corruption>"),
        ({"labels": TRUE}, {"label/fog/03": TRUE}, "answers to 'fog/03': expected clean, "),
        ({"labels": TRUE}, {"label/attack:pgd": TRUE}, "attack:<name>/<eps> or domain:<name>"),
        ({"labels": TRUE}, {"label/domain:a": TRUE}, "labels/domain:a are not in labels.npz"),
        ({"labels": TRUE, "labels/domain:a": [0, 3]}, {"label/domain:a": TRUE}, "reach class 3"),
        ({"labels": TRUE, "classes": ["a", "b", "c"], "labels/domain:a": [0, 2]},
         {"label/domain:a": TRUE}, "expected one number for each of 2 images"),
        ({"labels": TRUE, "labels/domain:a": [0, 2]}, {}, "Unknown cell of labels in labels.npz"),
        ({"labels": TRUE, "ids/attack:pgd/1": [0, 1]},
         {"label/attack:pgd/1": TRUE, "label/attack:fgsm/1": TRUE}, "of one ball must be about"),
        ({"labels": TRUE}, {"label/clean": TRUE + 1}, "must hold classes from 0 to 2"),
        ({"labels": TRUE}, {"label/clean": TRUE[:5]}, "expected one number for each of 12"),
        ({"labels": TRUE}, {"logits/clean": np.eye(3)[TRUE]}, "has logits/clean and label/clean"),
        ({"labels": TRUE}, {"logits/fog/3": np.eye(4)[TRUE]}, "expected 3 numbers, one for each"),
        ({"labels": TRUE}, {"logits/fog/3": np.full((12, 3), np.inf)}, "from -60,000 to 60,000"),
        ({"labels": TRUE}, {"logits/fog/3": np.eye(3)[TRUE] * np.nan}, "must hold floats that"),
        ({"labels": TRUE}, {"logits/fog/3": TRUE}, "one for each class, for each of 12 images"),
        ({"labels": TRUE}, {"logp_pred/fog/3": -1.0 * TRUE}, "give predicted classes, or logits/f"),
        ({"labels": TRUE, "images": np.ones((12, 8, 8))}, {}, r"must be uint8 \[12, H, W, 3\] or"),
        ({"labels": TRUE, "images": np.ones((9, 8, 8), np.uint8)}, {}, "one for each label, not u"),
        ({"labels": TRUE, "images": np.ones((12, 8, 8, 4), np.uint8)}, {}, "not uint8 .12, 8, 8,"),
        ({"labels": 0 * TRUE}, {}, "there would be 1 classes, expected 2 to 65,536"),
        ({"labels": TRUE, "train_counts": [4, 2, 1], "classes": ["a", "b"]}, {}, "names 2 classes"),
        ({"labels": TRUE, "classes": ["a", "b", "c"], "train_counts": [4, 2]}, {}, "not of 2"),
        ({"labels": TRUE, "human/fog/3": np.ones((12, 3))}, {}, "Unknown array in .*'human/fog/3'"),
        ({"labels": TRUE, "human": np.zeros((12, 3))}, {}, "at least 0 and not all 0 for any im"),
        ({"labels": TRUE, "human": np.ones((12, 4))}, {}, r"shares of people's answers \[12, 3\]"),
        ({"labels": TRUE}, {"kind": "trained"}, "Unknown pipeline, which a.npz is compared with"),
        ({"labels": TRUE}, {"parent": "other"}, "a dense model is compared with no other"),
        ({"labels": TRUE}, {"paren": "dense"}, "did you mean 'parent'"),
        ({"labels": TRUE}, {"seed": 0.5}, "are single numbers, whole and at least 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(write, tmp_path, labels, change, sentence):
    change = {"pipeline": "other"} | change if "kind" in change else change
    folder = write(labels, {"a": model(**change)})
    with pytest.raises(ValueError, match=sentence) as error:
        analyse(folder, tmp_path / "runs")
    assert str(error.value).count("\n") == 0
    assert not (tmp_path / "runs").exists()


def test_two_files_must_agree_about_a_pipeline_and_not_be_one_model(write, tmp_path):
    folder = write({"labels": TRUE}, {"a": model(), "b": model()})
    with pytest.raises(ValueError, match=r"another file, a.npz, has the same model"):
        analyse(folder, tmp_path)
    write({"labels": TRUE}, {"b": model(seed=1, kind="control", baseline="", parent="")})
    with pytest.raises(ValueError, match=r"'dense' otherwise than a.npz"):
        analyse(folder, tmp_path)


def test_folders_without_labels_or_models_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no labels.npz in"):
        analyse(tmp_path, tmp_path)
    np.savez(tmp_path / "labels.npz", labels=TRUE)
    with pytest.raises(ValueError, match=r"no \.npz file of a model in"):
        analyse(tmp_path, tmp_path)
    (tmp_path / "labels.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"labels.npz cannot be read .*: save plain arrays"):
        analyse(tmp_path, tmp_path)
