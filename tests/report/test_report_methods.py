"""The methods text: what a study's configuration says, in sentences."""

import dataclasses
import importlib.util
import pathlib
import re

import pytest

from rcm import config
from rcm.compress import TECHNIQUES, Prune, Quantize
from rcm.config import Attack, Data, Distill, Finetune, Pipeline, Replica, Scratch, Study, Train
from rcm.report.methods import Measured, methods
from rcm.report.methods_steps import WORDS, WRAPPED, pipelines_in_words
from rcm.steps import WRAPPERS, tuned

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"
VERSIONS = {"rcm source": "ab12", "backend": "gpu", "jax": "0.11.2", "threads": "2", "flags": ""}
MEASURED = Measured(["cifar10"], [4800], 10, "1 x GPU", VERSIONS, 725.0)


def scales():
    """(name, study) of every scale of every experiment that is a study."""
    for path in sorted(EXPERIMENTS.glob("*.py")):
        if "def get_config" not in path.read_text():
            continue
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for scale in getattr(module, "SCALES", ("", "smoke")):
            yield f"{path.stem}:{scale}", module.get_config(scale)


def told(study):
    made = methods(config.plain(study), MEASURED)
    return {p.head: " ".join([p.text, *(f"{n}: {w}." for n, w in p.items)]) for p in made}


@pytest.mark.parametrize("study", [pytest.param(s, id=name) for name, s in scales()])
def test_every_study_is_told_in_whole_sentences(study):
    text = told(study)
    whole = " ".join(text.values())
    for paragraph in text.values():
        assert re.fullmatch(r"[A-Z4\d].*\.", paragraph, re.S)
    assert not re.search(
        r"None|\bnan\b|True|False|[{}\[\]]|\(\)| {2}|\.\.|,,|;;| [,.;)]|\( ", whole
    )
    assert not re.search(r"\b1 (steps|images|seeds|restarts|epochs|queries)\b", whole)
    numbers = [*study.data.ratios, study.train.learning_rate, study.train.batch, study.model.width]
    numbers += [study.train.steps or study.train.epochs, *map(float, shares(study.pipelines))]
    for number in filter(None, numbers):
        assert re.search(rf"(?<![\d.]){number:g}(?![\d.]\d)", whole.replace(",", "")), number
    for pipeline in study.pipelines:
        assert f"{pipeline.name}: " in text["Compression"]
    for corruption in study.shift.corruptions:
        assert corruption.replace("_", " ") in text["Shifted images"]
    drawn = "frost" in study.shift.corruptions and not study.shift.frost_dir
    assert ("drawn, not photographed" in whole) == drawn
    for domain in study.shift.domains:
        assert domain.split("/")[-1] in text["Shifted images"]
    assert ("Shifted images" in text) == bool(
        study.shift.corruptions or study.shift.attacks or study.shift.domains
    )
    for attack in study.shift.attacks:
        radii = [f"{radius:g}" for radius in attack.eps]
        assert all(re.search(rf"radii [^)]*\b{r}\b", text["Shifted images"]) for r in radii)


def shares(pipelines):
    """Percentages that the words of a study must hold: those that plain pruning takes."""
    steps = [step for pipeline in pipelines for step in pipeline.steps]
    return [f"{100 * s.sparsity:g}" for s in steps if isinstance(s, Prune) and s.sparsity != 0.5]


def test_every_step_has_words_of_its_own():
    examples = [example for kind in TECHNIQUES.values() for example in kind.examples()]
    examples += [Finetune(), Scratch(), Replica(), Distill(), Distill(width=2, teachers=3)]
    pipelines = [Pipeline(str(i), (example,)) for i, example in enumerate(examples)]
    words = [text for _, text in pipelines_in_words(config.plain(pipelines))]
    assert len(set(words)) == len(words)
    assert set(WRAPPED) == {kind.__name__ for kind in WRAPPERS}
    steps = (*TECHNIQUES.values(), Finetune, Scratch, Replica, Distill)
    assert set(WORDS) == {kind.__name__ for kind in steps}


def test_steps_of_other_pipelines_are_called_by_their_names():
    prune, int8 = Prune(0.5), Quantize(8)
    pipelines = [Pipeline("both", (prune, int8)), Pipeline("int8", (int8,)),
                 Pipeline("repaired", (tuned(prune, loss="logit_adjusted", tau=2),)),
                 Pipeline("prune", (prune,))]  # fmt: skip
    words = dict(pipelines_in_words(config.plain(pipelines)))
    assert words["both"] == "as prune; then as int8"
    assert words["repaired"] == "as prune, but with loss logit adjusted and tau 2"
    assert words["prune"].startswith("pruning of 50 % of each kernel's weights by magnitude")


def test_words_of_a_recipe_change_what_is_told():
    """Each word that a recipe may hold is told apart from the others."""
    base = Study(data=Data(ratios=(1, 10)), train=Train(steps=10), fine_tune=Train(steps=10))
    told_apart = {" ".join(told(base).values())}
    changes = [
        {"optimizer": "adamw"}, {"schedule": "cosine"}, {"schedule": "onecycle"},
        {"schedule": "constant"}, {"augment": "none"}, {"augment": "crop"}, {"loss": "ldam"},
        {"loss": "logit_adjusted"}, {"weights": "class_balanced"}, {"clip_norm": 2.0},
        {"sampling": "class_balanced"}, {"label_smoothing": 0.1}, {"decay_norms": False},
        {"steps": 0, "epochs": 3.0}, {"steps": 0, "budget": "epochs", "epochs": 3.0},
        {"weights": "class_balanced", "defer": 0.8}, {"warmup_epochs": 1.0},
    ]  # fmt: skip
    for change in changes:
        study = dataclasses.replace(base, train=dataclasses.replace(base.train, **change))
        told_apart.add(" ".join(told(study).values()))
    assert len(told_apart) == len(changes) + 1


def test_all_networks_are_told_and_no_recipe_that_trains_nothing():
    study = Study("s", data=Data(name="digits"), pipelines=(Pipeline("int8", (Quantize(8),)),))
    alone = told(study)["Network and training"]
    assert "Fine-tuning" not in alone
    assert "another" not in alone
    steps = (Scratch(8, "resnet20"), Prune(0.5))
    study.pipelines += (Pipeline("other", steps), Pipeline("small", (Scratch(4),)))
    both = told(study)["Network and training"]
    assert "Some pipelines begin with another: resnet20 of width 8. Each is trained for " in both
    assert "Fine-tuning" in both


def test_words_of_data_and_attacks_change_what_is_told():
    base = Study(data=Data(ratios=(1, 10)))
    changes = [{"imbalance": "step", "minority": 0.2}, {"class_order": "permuted"},
               {"val_per_class": 0}, {"val_per_class": 7}, {"ratios": (1,)}]  # fmt: skip
    seen = {told(base)["Data"]}
    for change in changes:
        study = dataclasses.replace(base, data=dataclasses.replace(base.data, **change))
        seen.add(told(study)["Data"])
    assert len(seen) == len(changes) + 1
    attack = Attack("pgd", eps=(4,), norm="l2", steps=7, restarts=3, transfer=True)
    base.shift.attacks, base.shift.attack_images = (attack,), 500
    text = told(base)["Shifted images"]
    for words in ("7 steps", "3 restarts", "radii 4 of 255, L2", "500 test images", "transferred"):
        assert words in text


def test_machine_time_and_versions_are_told():
    """Of the environment packages alone."""
    assert told(Study())["Machine"] == (
        "Training took 12 min 5 s on 1 x GPU. Software: rcm source ab12 and jax 0.11.2."
    )


def test_another_configuration_has_no_methods():
    assert methods({}, MEASURED) == []
    assert methods({"seeds": 3}, MEASURED) == []
