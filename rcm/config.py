"""What a study is, as typed data: every default is here, validated before anything runs.

A study file under `experiments/` returns a `Study`; flags override its scalar fields. The config of
a member-stage, defaults included, is hashed into its identity (`fingerprint`).
"""

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1  # of stored stages; raising it makes every older stage foreign


@dataclass
class Data:
    """Which images, and how their training part is thinned out."""

    name: str = "digits"  # a registered data set, an .npz file or a folder of .npy arrays
    data_dir: str = ""  # prepared TFDS copies; "" is $TFDS_DATA_DIR or TFDS's own default
    feed: str = "device"  # device: gathered on the device; stream: a tf.data pipeline
    imbalance: str = "exp"  # exp or step
    ratios: tuple[int, ...] = (1,)  # n_max / n_min
    minority: float = 0.5  # share of minority classes, `step` only
    val_per_class: int = -1  # validation images of each class; -1 is 4 %, 0 is none
    data_seed: int = 0  # keys the validation split and the tails
    class_order: str = "id"  # id or permuted: which class is rare


@dataclass
class Model:
    """A network; `precision` is what its convolutions compute in."""

    name: str = "resnet8"
    width: int = 0  # channels of the first stage (or stem); 0 is the published network's
    shortcut: str = "A"  # A pads, B projects (CIFAR ResNets only)
    stem: str = "cifar"  # cifar or imagenet (resnet18 to 50, VGG, MobileNetV2)
    precision: str = "float32"  # float32, tf32 or bfloat16
    pretrained: str = ""  # weights to begin from: a .safetensors or .npz file
    inputs: str = ""  # range of pixels: symmetric or imagenet; "" suits the weights to begin from


@dataclass
class Train:
    """A training recipe; the defaults are protocol S1's. Epochs are those of the balanced set."""

    epochs: float = 200.0
    steps: int = 0  # overrides epochs when positive
    budget: str = "steps"  # steps: equal for every ratio; epochs: in proportion to the images
    batch: int = 128
    optimizer: str = "sgd"  # sgd (Nesterov, L2 in the gradient) or adamw (decoupled decay)
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 2e-4
    decay_norms: bool = True  # False: norms and biases are not decayed
    schedule: str = "step"  # constant, step, cosine or onecycle
    warmup_epochs: float = 5.0
    loss: str = "cross_entropy"  # cross_entropy, class_balanced or logit_adjusted
    tau: float = 1.0  # strength of the logit adjustment
    label_smoothing: float = 0.0
    clip_norm: float = 0.0  # 0 is no clipping
    augment: str = "crop_flip"  # none, crop or crop_flip


@dataclass
class Shift:
    """What the test images undergo, besides nothing."""

    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    images: int = 0  # a fixed class-stratified subset of the test images; 0 is all
    seed: int = 0


@dataclass(frozen=True)
class Finetune:
    """Pipeline step: train on with the fine-tuning recipe, compress nothing (the control)."""


@dataclass(frozen=True)
class Scratch:
    """Pipeline step: another network trained from scratch with the main recipe."""

    width: int = 8
    name: str = ""  # "" is the study's model


@dataclass(frozen=True)
class Distill:
    """Pipeline step: a student trained with the main recipe under the member so far as teacher.

    loss = mixing * temperature^2 KL(teacher || student) + (1 - mixing) * cross entropy.
    """

    width: int = 8
    name: str = ""
    temperature: float = 2.0
    mixing: float = 0.7


@dataclass(frozen=True)
class Pipeline:
    """A name and an ordered list of steps: `Finetune`, `Scratch`, `Distill` or a technique."""

    name: str
    steps: tuple[Any, ...] = ()


@dataclass
class Study:
    """data x model x ratios x seeds x pipelines x shifts, plus the claims it tests."""

    name: str = "study"
    title: str = ""
    summary: str = ""
    preview: str = ""  # why this is not the full study; "" when it is
    seeds: int = 1
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    fine_tune: Train = field(default_factory=Train)
    shift: Shift = field(default_factory=Shift)
    pipelines: tuple[Pipeline, ...] = ()
    claims: str = ""  # which protocol's claims are decided, such as S1; "" for none
    checkpoint_seconds: float = 60.0  # how much work a power cut may cost; changes no result


def choose(what: str, value: str, valid: Iterable[str]) -> None:
    """Raise ValueError, naming the nearest valid name, unless `value` is one of `valid`."""
    names = list(valid)
    if value in names:
        return
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names)}."
    raise ValueError(f"Unknown {what} {value!r}: {hint}")


def require(condition: bool, sentence: str) -> None:
    """Raise ValueError(sentence) unless the condition holds."""
    if not condition:
        raise ValueError(sentence)


def require_types(what: str, value: Any) -> None:
    """Raise ValueError unless a dataclass holds numbers, words and flags as it declares them."""
    accepted = {bool: bool, int: int, float: int | float, str: str}
    for entry in dataclasses.fields(value):
        found = getattr(value, entry.name)
        declared: Any = entry.type
        if declared in accepted:
            flags_agree = isinstance(found, bool) == (declared is bool)  # True is an int, too
            require(
                isinstance(found, accepted[declared]) and flags_agree,
                f"{what}: {entry.name} must be of type {declared.__name__}, not {found!r}.",
            )


def validate_recipe(name: str, recipe: Train) -> None:
    """Raise ValueError if a number or a word of the recipe cannot be trained with."""
    choose(f"{name}.budget", recipe.budget, ("steps", "epochs"))
    choose(f"{name}.optimizer", recipe.optimizer, ("sgd", "adamw"))
    choose(f"{name}.schedule", recipe.schedule, ("constant", "step", "cosine", "onecycle"))
    choose(f"{name}.loss", recipe.loss, ("cross_entropy", "class_balanced", "logit_adjusted"))
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
    require(
        0 <= recipe.label_smoothing < 1,
        f"{name}.label_smoothing must lie in [0, 1), not {recipe.label_smoothing}.",
    )
    require(0 <= recipe.momentum < 1, f"{name}.momentum must lie in [0, 1), not {recipe.momentum}.")
    for number in ("weight_decay", "clip_norm", "warmup_epochs"):
        value = getattr(recipe, number)
        require(value >= 0, f"{name}.{number} must not be negative, but is {value}.")


def validate(study: Study) -> None:
    """Raise ValueError if the study's own fields contradict each other or name unknown words.

    What needs the data set, the model zoo or the techniques is checked where those live, when the
    plan is made, which is also before anything runs.
    """
    require_types("study", study)
    for name in ("data", "model", "train", "fine_tune", "shift"):
        require_types(name, getattr(study, name))
    choose("data.feed", study.data.feed, ("device", "stream"))
    choose("data.imbalance", study.data.imbalance, ("exp", "step"))
    choose("data.class_order", study.data.class_order, ("id", "permuted"))
    choose("model.shortcut", study.model.shortcut, ("A", "B"))
    choose("model.stem", study.model.stem, ("cifar", "imagenet"))
    choose("model.inputs", study.model.inputs, ("", "symmetric", "imagenet"))
    choose("model.precision", study.model.precision, ("float32", "tf32", "bfloat16"))
    require(1 <= study.seeds < 2**20, f"seeds must be at least 1, not {study.seeds}.")
    require(
        study.model.width >= 0,
        f"model.width must be at least 1, or 0 for the published one, not {study.model.width}.",
    )
    require(len(study.data.ratios) > 0, "data.ratios is empty: give at least one, such as 1.")
    repeated = len(set(study.data.ratios)) < len(study.data.ratios)
    require(not repeated, f"data.ratios names a ratio twice: {study.data.ratios}.")
    require(
        study.data.val_per_class >= -1,
        f"data.val_per_class is {study.data.val_per_class}: give -1 (4 %), 0 (none) or a count.",
    )
    require(study.shift.images >= 0, "shift.images must be 0 (all) or a count.")
    validate_recipe("train", study.train)
    validate_recipe("fine_tune", study.fine_tune)
    require(
        re.fullmatch(r"[\w.-]+", study.name) is not None,
        f"The study's name {study.name!r} names a folder: use letters, digits, '_', '-' and '.'.",
    )
    require(
        all(type(ratio) is int for ratio in study.data.ratios),
        f"data.ratios must be whole numbers, not {study.data.ratios}.",
    )
    for pipeline in study.pipelines:
        require(
            isinstance(pipeline, Pipeline) and isinstance(pipeline.steps, tuple),
            f"pipelines holds {pipeline!r}: expected Pipeline(name, (step, ...)), written in the "
            "study's file; they cannot be given as a flag.",
        )
    names = [pipeline.name for pipeline in study.pipelines]
    for name in names:
        require(names.count(name) == 1, f"Two pipelines are called {name!r}; rename one.")
        require(name != "dense", "The name 'dense' is taken by the uncompressed parent.")
    for pipeline in study.pipelines:
        require(len(pipeline.steps) > 0, f"Pipeline {pipeline.name!r} has no steps.")


def unknown_field(arguments: list[str], reason: str) -> str:
    """One sentence about the first `--config.FIELD=...` that names no field of a study."""
    for argument in arguments:
        if not argument.startswith("--config."):
            continue
        holder: Any = Study
        for name in argument.split("=")[0].split(".")[1:]:
            fields = {f.name: f for f in dataclasses.fields(holder)}
            try:
                choose("config field", name, fields)
            except ValueError as error:
                return str(error)
            holder = getattr(Study(), name, None).__class__
            if not dataclasses.is_dataclass(holder):
                break
    return reason


def plain(value: Any) -> Any:
    """`value` as JSON-ready data; dataclasses carry their class name, so none can be confused."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {f.name: (f.type, getattr(value, f.name)) for f in dataclasses.fields(value)}
        fields = {k: float(v) if kind is float else plain(v) for k, (kind, v) in found.items()}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def fingerprint(value: Any, length: int = 16) -> str:
    """Hash of a config or any nest of dataclasses, dicts, sequences, numbers and strings."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
