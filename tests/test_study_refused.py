"""Studies that are refused: one sentence, before anything runs."""

import contextlib
import math
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from rcm import config
from rcm.compress import Cluster, Prune, Quantize
from rcm.config import Finetune, Scratch
from rcm.preparation import prepare
from rcm.shift import colour
from tests.commands import run_study


def attack(**numbers):
    return config.Attack("pgd", **{"eps": (2.0,), **numbers})


def pipeline(*steps):
    return (config.Pipeline("p", steps),)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: setattr(s.model, "name", "resnet21"), "did you mean 'resnet20'?"),
        (lambda s: setattr(s.data, "name", "cifar11"), "did you mean cifar10"),
        (lambda s: setattr(s.data, "ratios", (1, 1000)), "largest possible ratio"),
        (lambda s: setattr(s.data, "size", 0), "data.size is 0: photographs need sides of 8"),
        (lambda s: setattr(s.shift, "domains", ("stl-10",)), "did you mean 'stl10'"),
        (lambda s: setattr(s.train, "optimizer", "sdg"), "did you mean 'sgd'"),
        (lambda s: setattr(s.shift, "corruptions", ("gausian_noise",)), "gaussian_noise"),
        (lambda s: setattr(s.shift, "severities", (0,)), "severity"),
        (lambda s: setattr(s, "pipelines", pipeline(Prune(1.0))), "sparsity"),
        (lambda s: setattr(s, "pipelines", pipeline(Quantize(0))), "bits"),
        (lambda s: setattr(s, "pipelines", pipeline(Cluster(9999))), "clusters"),
        (lambda s: setattr(s, "pipelines", pipeline("prune")), "expected Finetune"),
        (lambda s: setattr(s, "pipelines", pipeline(Quantize(8), Finetune())), "put it last"),
        (lambda s: setattr(s, "pipelines", pipeline(Prune(0.5), Scratch(2))), "comes first"),
        (lambda s: setattr(s, "pipelines", pipeline(config.Distill(-1))), "width must be"),
        (lambda s: setattr(s, "pipelines", pipeline(config.Distill(mixing=7))), "mixing in [0, 1]"),
        (
            lambda s: setattr(s, "pipelines", pipeline(config.Distill(name="resnet21"))),
            "Unknown model 'resnet21'",
        ),
        (
            lambda s: setattr(s, "pipelines", (config.Pipeline("finetune", (Prune(0.5),)),)),
            "belongs to the control",
        ),
        (lambda s: setattr(s, "pipelines", ("prune",)), "cannot be given as a flag"),
        (lambda s: setattr(s.shift, "corruptions", ("clean",)), "always tested"),
        (lambda s: setattr(s.shift, "severities", (1, 1)), "repeats itself"),
        (lambda s: setattr(s.shift, "severities", ()), "shift.severities is empty"),
        (lambda s: setattr(s.shift, "attack_images", -5), "shift.attack_images must be 0 (all)"),
        (lambda s: setattr(s, "predictor_images", -1), "predictor_images must be 0 (none)"),
        (lambda s: setattr(s.data, "label_noise", 1.0), "give a share of the labels in [0, 1)"),
        (lambda s: setattr(s.data, "label_noise", 0.001), "is not half an image of any class"),
        (lambda s: setattr(s.shift, "seed", 2**31), "give a whole number from 0 to 2,147,483,647"),
        (lambda s: setattr(s.shift, "attacks", (attack(eps=(math.inf,)),)), "positive 255ths"),
        (lambda s: setattr(s.shift, "attacks", (attack(eps=(True,)),)), "positive 255ths"),
        (lambda s: setattr(s.shift, "attacks", (attack(steps=2**31),)), "fewer than 2^31"),
        (lambda s: setattr(s.shift, "attacks", (attack(step_size=math.inf),)), "fewer than 2^31"),
        (lambda s: setattr(s.shift, "train_images", -1), "shift.train_images must be 0 (none)"),
        (lambda s: setattr(s.shift, "train_images", 9), "no training image has a wrong label"),
        (lambda s: setattr(s.shift, "frost_dir", "x"), "but frost is not among shift.corruptions"),
        (lambda s: setattr(s, "name", "a/../b"), "names a folder"),
        (lambda s: setattr(s.data, "ratios", (1, 2.5)), "whole numbers"),
        (lambda s: setattr(s.data, "ratios", (True,)), "whole numbers"),
        (lambda s: setattr(s, "seeds", "3"), "study: seeds must be of type int"),
        (lambda s: setattr(s, "checkpoint_seconds", "a"), "must be of type float"),
        (lambda s: setattr(s, "seeds", 0), "seeds must be at least 1"),
        (lambda s: setattr(s, "claims", "S9"), "Unknown claims"),
        (lambda s: setattr(s, "front", ("bytes", "mceh")), "did you mean 'mce'?"),
        (lambda s: setattr(s, "front", ("bytes",)), "give two objectives or more"),
        (lambda s: setattr(s, "front", ("mce", "mce")), "each once, or none"),
        (lambda s: setattr(s.train, "steps", "5"), "train: steps must be of type int"),
        (lambda s: setattr(s.train, "decay_norms", 1), "decay_norms must be of type bool"),
        (lambda s: setattr(s, "pipelines", pipeline(Prune("a"))), "sparsity must be of type float"),
        (lambda s: setattr(s, "pipelines", pipeline(Prune(True))), "not True"),
        (lambda s: setattr(s, "pipelines", pipeline(Cluster(8.5))), "clusters must be of type int"),
        (lambda s: setattr(s, "pipelines", pipeline(config.Distill(width="w"))), "must be of type"),
        (lambda s: setattr(s, "shift", config.Shift(official="tfds")), "corruptions is empty"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence_before_anything_runs(toy_study, tmp_path, change, sentence):
    change(toy_study)
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        run_study(toy_study, tmp_path / "runs")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("names", "pixels", "sentence"),
    [
        (("brightness",), 63, ""),
        (("brightness", "contrast"), 64, ""),
        (("brightness", "contrast"), 63, "up to 63 pixels, not 8 x 8: crop or shrink them"),
    ],
)
def test_images_too_large_for_contrast_are_told_before_anything_runs(
    toy_study, monkeypatch, names, pixels, sentence
):
    monkeypatch.setattr(colour, "CONTRAST_PIXELS", pixels)
    toy_study.shift.corruptions = names
    expected = pytest.raises(ValueError, match=sentence) if sentence else contextlib.nullcontext()
    with expected:
        prepare(toy_study)


def test_domains_of_one_name_are_told_before_anything_runs(toy_study, toy_file, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(toy_file, tmp_path / folder / "toy.npz")
    toy_study.shift.domains = tuple(str(tmp_path / f / "toy.npz") for f in ("a", "b"))
    with pytest.raises(ValueError, match="Two of the shifts are called 'toy'"):
        prepare(toy_study)


def test_photographs_of_a_domain_keep_what_the_sources_size_shows(toy_study, tmp_path):
    """Stripes of single pixels survive in a source of 64 pixels, whatever `data.size` is."""
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))[..., None].repeat(3, -1)
    for word in ("a", "b"):
        (tmp_path / "striped" / word).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(stripes).save(tmp_path / "striped" / word / f"{i}.png")
    labels = np.repeat([0, 1], 50)
    images = np.random.default_rng(0).integers(0, 256, (100, 64, 64, 3), np.uint8)
    arrays = {"train_images": images, "train_labels": labels, "classes": np.array(["a", "b"])}
    np.savez(tmp_path / "source.npz", **arrays, test_images=images[::9], test_labels=labels[::9])
    toy_study.data.name = str(tmp_path / "source.npz")
    toy_study.shift.domains = (str(tmp_path / "striped"),)
    toy_study.shift.corruptions = ()
    [domain] = [cell for cell in prepare(toy_study)[1] if cell.shift == "striped"]
    np.testing.assert_array_equal(domain.images, np.stack([stripes] * 10))


def test_a_size_is_for_photographs_alone(toy_study):
    """A set that has its own size would keep it in silence; the default is left as it is."""
    prepare(toy_study)
    toy_study.data.size = 64
    with pytest.raises(ValueError, match=r"data.size is 64, but .*toy.npz is no folder of photogr"):
        prepare(toy_study)
    toy_study.data.name = "mnist_5k"
    with pytest.raises(ValueError, match=r"data.size is 64, but mnist_5k is no folder"):
        prepare(toy_study)
