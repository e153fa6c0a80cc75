"""Whether a study, as far as its own fields tell, can be run; one sentence for what cannot."""

import re
from collections.abc import Sequence

from rcm.config import (
    DISTILLATIONS,
    LOOK_INSIDE,
    OBJECTIVES,
    Data,
    Distill,
    Pipeline,
    Study,
    Train,
    choose,
    require,
    require_types,
    taught,
)

WORDS = {
    "data.feed": ("device", "stream"),
    "data.imbalance": ("exp", "step"),
    "data.class_order": ("id", "permuted"),
    "model.shortcut": ("A", "B"),
    "model.stem": ("cifar", "imagenet"),
    "model.inputs": ("", "symmetric", "imagenet"),
    "model.precision": ("float32", "tf32", "bfloat16"),
    "model.classifier": ("linear", "cosine"),
}


def validate_recipe(name: str, recipe: Train) -> None:
    """Raise ValueError if a number or a word of the recipe cannot be trained with."""
    choose(f"{name}.budget", recipe.budget, ("steps", "epochs"))
    choose(f"{name}.optimizer", recipe.optimizer, ("sgd", "adamw"))
    choose(f"{name}.schedule", recipe.schedule, ("constant", "step", "cosine", "onecycle"))
    choose(f"{name}.loss", recipe.loss, ("cross_entropy", "logit_adjusted", "ldam"))
    choose(f"{name}.weights", recipe.weights, ("none", "class_balanced"))
    choose(f"{name}.sampling", recipe.sampling, ("instance", "class_balanced"))
    choose(f"{name}.augment", recipe.augment, ("none", "crop", "crop_flip"))
    require(recipe.batch >= 1, f"{name}.batch must be at least 1, not {recipe.batch}.")
    require(
        recipe.steps > 0 or recipe.epochs > 0,
        f"{name} trains for nothing: give steps or epochs above 0.",
    )
    require(
        recipe.learning_rate > 0,
        f"{name}.learning_rate must be above 0, not {recipe.learning_rate}.",
    )
    require(0 <= recipe.defer < 1, f"{name}.defer must lie in [0, 1), not {recipe.defer}.")
    require(
        recipe.defer == 0 or (recipe.weights, recipe.sampling) != ("none", "instance"),
        f"{name}.defer delays class-balanced weights or sampling, but neither is asked for: set "
        f"{name}.weights or {name}.sampling to class_balanced.",
    )
    require(
        0 <= recipe.label_smoothing < 1,
        f"{name}.label_smoothing must lie in [0, 1), not {recipe.label_smoothing}.",
    )
    require(0 <= recipe.momentum < 1, f"{name}.momentum must lie in [0, 1), not {recipe.momentum}.")
    for number in ("weight_decay", "clip_norm", "warmup_epochs", "tau"):
        value = getattr(recipe, number)
        require(value >= 0, f"{name}.{number} must not be negative, but is {value}.")
    if recipe.teacher:
        choose(f"{name}.teacher", recipe.teacher, ("dense", "ensemble"))
    validate_distillation(name, taught(recipe))


def validate_distillation(name: str, by: Distill) -> None:
    """Raise ValueError, starting with `name`, for what cannot be distilled with."""
    choose(f"{name}: kind of distillation", by.kind, DISTILLATIONS)
    require(
        0 <= by.mixing <= 1 and by.temperature > 0,
        f"{name}: distillation needs mixing in [0, 1] and a temperature above 0, not "
        f"{by.mixing} and {by.temperature}.",
    )
    for constant in ("alpha", "beta", "attention", "hint"):
        value = getattr(by, constant)
        require(value >= 0, f"{name}: {constant} must not be negative, but is {value}.")
    require(by.teachers >= 1, f"{name}: teachers must be at least 1, not {by.teachers}.")
    require(
        by.teachers == 1 or by.kind not in LOOK_INSIDE,
        f"{name}: {by.kind!r} looks inside one teacher and cannot learn from {by.teachers}: leave "
        "teachers at 1 or choose another kind.",
    )


def validate_study(study: Study) -> None:
    """Raise ValueError if the study's own fields contradict each other or name unknown words.

    What needs the data set, the model zoo or the techniques is checked where those live, when the
    plan is made, which is also before anything runs.
    """
    require_types("study", study)
    for name in ("data", "model", "train", "fine_tune", "shift"):
        require_types(name, getattr(study, name))
    for name, words in WORDS.items():
        group, field = name.split(".")
        choose(name, getattr(getattr(study, group), field), words)
    require(1 <= study.seeds < 2**20, f"seeds must be at least 1, not {study.seeds}.")
    _validate_data(study.data)
    _validate_counts(study)
    validate_recipe("train", study.train)
    validate_recipe("fine_tune", study.fine_tune)
    require(
        not study.train.teacher,
        f"train.teacher is {study.train.teacher!r}, but the dense member is trained before there "
        "is any teacher: give fine_tune.teacher, or a step such as Distill.",
    )
    require(
        re.fullmatch(r"[\w.-]+", study.name) is not None,
        f"The study's name {study.name!r} names a folder: use letters, digits, '_', '-' and '.'.",
    )
    _validate_pipelines(study.pipelines)
    for name in study.front:
        choose("objective of front", name, OBJECTIVES)
    require(
        len(set(study.front)) == len(study.front) != 1,
        f"front is {study.front}: give two objectives or more, each once, or none.",
    )


def _validate_data(data: Data) -> None:
    """Raise ValueError for ratios, shares and sizes that no data set can have."""
    require(len(data.ratios) > 0, "data.ratios is empty: give at least one, such as 1.")
    repeated = len(set(data.ratios)) < len(data.ratios)
    require(not repeated, f"data.ratios names a ratio twice: {data.ratios}.")
    require(
        all(type(ratio) is int for ratio in data.ratios),
        f"data.ratios must be whole numbers, not {data.ratios}.",
    )
    require(
        data.val_per_class >= -1,
        f"data.val_per_class is {data.val_per_class}: give -1 (4 %), 0 (none) or a count.",
    )
    require(
        0 <= data.label_noise < 1,
        f"data.label_noise is {data.label_noise:g}: give a share of the labels in [0, 1).",
    )
    require(
        8 <= data.size <= 1024,
        f"data.size is {data.size}: photographs need sides of 8 to 1024 pixels.",
    )


def _validate_counts(study: Study) -> None:
    """Raise ValueError for negative counts, and say what 0 means."""
    for name, value, zero in (
        ("model.width", study.model.width, "the published one"),
        ("shift.images", study.shift.images, "all"),
        ("shift.attack_images", study.shift.attack_images, "all"),
        ("shift.train_images", study.shift.train_images, "none"),
        ("predictor_images", study.predictor_images, "none"),
    ):
        require(value >= 0, f"{name} must be 0 ({zero}) or a count, not {value}.")


def _validate_pipelines(pipelines: Sequence[Pipeline]) -> None:
    """Raise ValueError for what is no pipeline, has no steps or shares its name."""
    for pipeline in pipelines:
        require(
            isinstance(pipeline, Pipeline) and isinstance(pipeline.steps, tuple),
            f"pipelines holds {pipeline!r}: expected Pipeline(name, (step, ...)), written in the "
            "study's file; they cannot be given as a flag.",
        )
    names = [pipeline.name for pipeline in pipelines]
    for name in names:
        require(names.count(name) == 1, f"Two pipelines are called {name!r}; rename one.")
        require(name != "dense", "The name 'dense' is taken by the uncompressed parent.")
    for pipeline in pipelines:
        require(len(pipeline.steps) > 0, f"Pipeline {pipeline.name!r} has no steps.")
