"""What a study is, as typed data: every default is here, validated before anything runs.

A study file under `experiments/` returns a `Study`; flags override its scalar fields. The config of
a member-stage, defaults included, is hashed into its identity (`fingerprint`).
"""

import dataclasses
import difflib
import hashlib
import json
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 2  # of stored stages; raising it makes every older stage foreign
CLAIM_SETS: tuple[str, ...] = ("", "S1", "S2", "S3", "S4", "S5")  # of reproduced studies
OBJECTIVES = (
    "bytes", "macs", "accuracy", "recall_tail", "corrupted_accuracy", "mce", "relative_mce",
    "robust_accuracy",
)  # of fronts, `analysis.tradeoffs` says what they are  # fmt: skip
DENSE = "dense"  # the pipeline without steps: the parent of all others
DISTILLATIONS = ("hinton", "decoupled", "class_balanced", "attention", "features")
LOOK_INSIDE = ("attention", "features")  # kinds that compare what stages put out


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
    label_noise: float = 0.0  # share of the training images of each class that get a wrong label
    size: int = 32  # sides in pixels of photographs from a folder
    skip_unreadable: bool = False  # of those in a folder


@dataclass
class Model:
    """A network; `precision` is what its convolutions compute in."""

    name: str = "resnet8"
    width: int = 0  # channels of the first stage (or stem); 0 is the published network's
    shortcut: str = "A"  # A pads, B projects (CIFAR ResNets only)
    stem: str = "cifar"  # cifar or imagenet (resnet18 to 50, VGG, MobileNetV2)
    precision: str = "float32"  # float32, tf32 or bfloat16
    classifier: str = "linear"  # linear or cosine (normalised, without bias; LDAM needs it)
    pretrained: str = ""  # weights to begin from: a .safetensors or .npz file
    inputs: str = ""  # range of pixels: symmetric or imagenet; "" suits the weights to begin from


@dataclass
class Train:
    """A training recipe; the defaults are protocol S1's. Epochs are those of the balanced set.

    With a teacher the loss is that of `Distill` with its constants; a mixing of 0 is no teacher at
    all.
    """

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
    loss: str = "cross_entropy"  # cross_entropy, logit_adjusted or ldam
    tau: float = 1.0  # strength of the logit adjustment
    weights: str = "none"  # of the classes in the loss: none or class_balanced
    sampling: str = "instance"  # instance or class_balanced: what is drawn equally often
    defer: float = 0.0  # share of the steps before class-balanced weights and sampling hold
    label_smoothing: float = 0.0
    clip_norm: float = 0.0  # 0 is no clipping
    augment: str = "crop_flip"  # none, crop or crop_flip
    teacher: str = ""  # of fine-tuning: none, dense (of the same seed) or ensemble (of seeds)
    teachers: int = 3  # dense members in the ensemble
    distillation: str = "hinton"  # or decoupled, class_balanced, attention, features
    temperature: float = 2.0
    mixing: float = 0.7


@dataclass(frozen=True)
class Attack:
    """What an attacker may do to every test image; the names are those of `rcm.shift.attacks`."""

    name: str = "pgd"
    eps: tuple[float, ...] = (1, 2, 4, 8)  # radii of the ball, in 255ths
    norm: str = "linf"  # or l2
    steps: int = 10  # gradients, or queries of square
    step_size: float = 0.25  # over eps; apgd finds its own
    restarts: int = 1  # of pgd
    transfer: bool = False  # also show a member's images to its parent, and the parent's to it


@dataclass
class Shift:
    """What the test images undergo, besides nothing."""

    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    images: int = 0  # a fixed class-stratified subset of the test images; 0 is all
    seed: int = 0
    frost_dir: str = ""  # photographs of frost; "" draws textures
    official: str = ""  # a released set's folder or tfds instead of images made here; "" is none
    cache: bool = False  # keep corrupted images on disk; changes no result
    attacks: tuple[Attack, ...] = ()
    attack_images: int = 0  # a fixed class-stratified subset of the test images; 0 is all
    domains: tuple[str, ...] = ()  # names of `rcm.data.domains` or paths
    train_images: int = 0  # training images tested as well, those with a wrong label first


@dataclass(frozen=True)
class Finetune:
    """Pipeline step: train on with the fine-tuning recipe, compress nothing (the control)."""


@dataclass(frozen=True)
class Scratch:
    """Pipeline step: another network trained from scratch with the main recipe."""

    width: int = 8
    name: str = ""  # "" is the study's model
    steps: int = 0  # 0 are the main recipe's


@dataclass(frozen=True)
class Replica:
    """Pipeline step: the dense member of a seed that the study does not use (its own plus their
    number). Two populations of dense members differ by chance alone: the null for what compression
    is said to do to single images or classes (protocol S4)."""


@dataclass(frozen=True)
class Distill:
    """Pipeline step: a student trained with the main recipe under the member so far as teacher.

    loss = mixing * distillation + (1 - mixing) * cross entropy. The kinds are those of
    `rcm.compress.distill`: hinton is temperature^2 KL(teacher || student). The constants are the
    published ones beside a cross entropy of weight 1, which a mixing of 0.5 gives up to a factor.
    With teachers > 1 the teacher is the mean prediction of so many members of consecutive seeds,
    the student's own among them; a mixing of 0 is no teacher at all (`Scratch`).
    """

    width: int = 8
    name: str = ""
    temperature: float = 2.0
    mixing: float = 0.7
    teachers: int = 1
    kind: str = "hinton"  # or decoupled, class_balanced, attention, features
    alpha: float = 1.0  # decoupled: weight of the label's part
    beta: float = 8.0  # decoupled: weight of the other classes' part
    attention: float = 1000.0  # attention: its weight
    hint: float = 100.0  # features: their weight; narrow networks need less at large rates


@dataclass(frozen=True)
class Pipeline:
    """A name and an ordered list of steps: `Finetune`, `Scratch`, `Replica`, `Distill` or a
    technique."""

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
    imported: str = ""  # a folder of predictions made elsewhere (rcm.imported)
    predictor_images: int = 0  # training images of a class to foretell its harm from; 0 is none
    front: tuple[str, ...] = ()  # some of `OBJECTIVES`, for a Pareto front of one's own
    claims: str = ""  # which protocol's claims are decided, such as S1; "" for none
    checkpoint_seconds: float = 60.0  # how much work a power cut may cost; changes no result


def choose(what: str, value: str, valid: Iterable[str]) -> None:
    """Raise ValueError, naming the nearest valid name, unless `value` is one of `valid`."""
    names = list(valid)
    if value in names:
        return
    near = difflib.get_close_matches(value, names, cutoff=0.5)
    # resnet21 is resnet20 rather than resnet32, which is as near by what it has of its letters
    best = max(near, key=lambda name: sum(map(operator.eq, name, value)), default="")
    hint = f"did you mean {best!r}?" if best else f"choose one of {', '.join(names)}."
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


def taught(recipe: Train) -> Distill:
    """How a recipe's teacher teaches, as the step that holds all numbers of a distillation."""
    return Distill(
        temperature=recipe.temperature,
        mixing=recipe.mixing,
        teachers=recipe.teachers if recipe.teacher == "ensemble" else 1,
        kind=recipe.distillation,
    )


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
