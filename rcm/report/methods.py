"""The methods of a study in paragraphs that a paper could hold, from its plain configuration."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from rcm.report.methods_steps import Plain, counted, joined, percent, pipelines_in_words, plural
from rcm.report.rendering import duration

CONTROLS = (
    "A compressed network comes from the dense network of its seed and ratio, unless the list says "
    "otherwise. What it is compared with depends on how it was made. Where it is trained further, "
    "that is the dense network after the same extra steps (finetune; finetune2 after two such "
    "trainings). Of a student it is the same network trained alone, called by its name and width. "
    "Of a network compressed after training it is the parent."
)
STATISTICS = (
    "Intervals are 95 % paired t intervals over seeds, and a comparison pairs networks of one seed "
    "and one training set."
)
CLAIMS = (
    "A claim of protocol {} is supported if its interval lies wholly on the claimed side, beyond "
    "its margin, and the p-value after Holm's correction over all of the study's claims is at most "
    "0.05; not supported if the interval lies wholly on the other side; and undecided otherwise, "
    "also if the effect has another sign in percent than in points."
)
SCHEDULES = {
    "constant": "stays constant",
    "step": "falls to 1 % after 80 % and to 0.01 % after 90 % of the steps",
    "cosine": "falls to zero along half a cosine",
    "onecycle": "rises and falls again (one cycle)",
}
AUGMENTATIONS = {
    "none": "Images are not augmented",
    "crop": "Images are shifted at random by up to an eighth of their height, zeros coming in",
    "crop_flip": "Images are shifted at random by up to an eighth of their height, zeros coming "
    "in, and half of them are mirrored",
}
LOSSES = {
    "cross_entropy": "cross entropy",
    "logit_adjusted": "cross entropy with logits adjusted by the classes' frequencies",
    "ldam": "the label-distribution-aware margin loss",
}
ATTACKS = {
    "fgsm": "one step along the gradient's sign",
    "pgd": "projected gradients from a random start",
    "apgd_ce": "APGD on cross entropy",
    "apgd_dlr": "APGD on the difference of logits ratio",
    "apgd_targeted": "targeted APGD",
    "square": "the Square attack, which asks for no gradient",
}


NOT_TUNED = {  # steps that are not trained, or not by the recipe of fine-tuning
    "Adjust", "Cast", "Distill", "FromStart", "Quantize", "Replica", "Rewound", "Scratch"
}  # fmt: skip


class Paragraph(NamedTuple):
    """A headed paragraph and, for pipelines, (name, words) of a list below it."""

    head: str
    text: str
    items: tuple[tuple[str, str], ...] = ()


class Measured(NamedTuple):
    """What the configuration does not hold: the data sets' names, images of their largest class,
    classes, machine, versions by name, and seconds of training."""

    data: Sequence[str]
    largest: Sequence[int]
    classes: int
    hardware: str
    versions: Mapping[str, str]
    seconds: float


def methods(study: Plain, measured: Measured) -> list[Paragraph]:
    """Paragraphs about a whole study, `config.plain` of it; none for another configuration."""
    if not study or study.get("type") != "Study":
        return []
    made = [
        Paragraph("Data", _data(study["data"], measured)),
        Paragraph("Network and training", _training(study)),
        Paragraph("Compression", CONTROLS, pipelines_in_words(study["pipelines"])),
        Paragraph("Shifted images", _shifts(study["shift"])),
        Paragraph("Statistics", _statistics(study)),
        Paragraph("Machine", _machine(measured)),
    ]
    return [paragraph for paragraph in made if paragraph.text]


def _data(data: Plain, measured: Measured) -> str:
    ratios, largest = data["ratios"], joined([f"{count:,}" for count in measured.largest])
    sentences = [
        f"The data are {joined(measured.data)}, of {measured.classes} classes",
        _validation(data),
    ]
    if list(ratios) == [1]:
        sentences.append(f"Each class has {largest} training images")
    else:
        sentences += [f"The largest class has {largest} training images", _tail(data)]
    if data["label_noise"]:
        sentences.append(
            f"{percent(data['label_noise'])} of each class's training images get the label of "
            "another class, the same for all members; validation and test images keep theirs"
        )
    return _prose(sentences)


def _validation(data: Plain) -> str:
    if data["val_per_class"] == 0:
        return "No images are set aside for validation, so nothing is selected"
    how_many = "4 % of the training images" if data["val_per_class"] < 0 else (
        counted(data["val_per_class"], "training image")
    )  # fmt: skip
    return f"{how_many} of each class are set aside for validation, the same at every ratio"


def _tail(data: Plain) -> str:
    order = "class id" if data["class_order"] == "id" else "a random order of the classes"
    ratios = f"rho is {joined([f'{ratio:g}' for ratio in data['ratios']])}"
    if 1 in data["ratios"]:
        ratios += ", of which 1 is balanced"
    if data["imbalance"] == "step":
        rare = f"the last {percent(data['minority'])} of the classes, by {order},"
        return f"At imbalance ratio rho {rare} have 1/rho of it; {ratios}"
    fall = f"the others' numbers fall exponentially, by {order}, down to 1/rho of it"
    return f"At imbalance ratio rho {fall}; {ratios}"


def _training(study: Plain) -> str:
    model, several = study["model"], len(study["data"]["ratios"]) > 1
    width = f" of width {model['width']}" if model["width"] else " at its published width"
    start = f", beginning from the weights in {model['pretrained']}" if model["pretrained"] else ""
    cosine = " with a cosine classifier" if model["classifier"] == "cosine" else ""
    network = f"The network is {model['name']}{width}{cosine}, computed in {model['precision']}"
    others = other_networks(study)
    main = _recipe("Each is trained" if others else "It is trained", study["train"], several)
    if others:
        main = [f"Some pipelines begin with another: {joined(others)}", *main]
    tunes = any(s["type"] not in NOT_TUNED for p in study["pipelines"] for s in p["steps"])
    tuning = _recipe("Fine-tuning takes place", study["fine_tune"], several) if tunes else []
    return _prose([network + start, *main, *(one for one in tuning if one not in main)])


def other_networks(study: Plain) -> list[str]:
    """Networks that pipelines begin with beside the study's, such as "resnet20 of width 8"."""
    own = study["model"]["name"]
    steps = [step for p in study["pipelines"] for step in p["steps"] if step["type"] == "Scratch"]
    named = [s for s in steps if s["name"] not in ("", own)]
    return list(dict.fromkeys(f"{s['name']} of width {s['width']}" for s in named))


def _recipe(begin: str, recipe: Plain, several: bool) -> list[str]:
    """Sentences about a training recipe for several imbalance ratios or for one."""
    sgd = f"SGD with Nesterov momentum {recipe['momentum']:g} and L2 decay"
    adam = f"AdamW with a first moment of {recipe['momentum']:g} and decoupled decay"
    optimizer = sgd if recipe["optimizer"] == "sgd" else adam
    decay = f"{recipe['weight_decay']:g}{'' if recipe['decay_norms'] else ' of kernels alone'}"
    sentences = [
        f"{begin} for {_budget(recipe)} of {recipe['batch']:,} images by {optimizer} {decay}",
        f"The learning rate of {recipe['learning_rate']:g} {SCHEDULES[recipe['schedule']]}"
        + _warmup(recipe),
        f"The loss is {_loss(recipe)}",
        AUGMENTATIONS[recipe["augment"]],
    ]
    if several:
        own = recipe["budget"] == "epochs" and not recipe["steps"]
        how = "goes with the number of images" if own else "is the same"
        sentences.append(f"The number of steps {how} at every imbalance ratio")
    if recipe["clip_norm"]:
        sentences.append(f"Gradients are clipped to a norm of {recipe['clip_norm']:g}")
    return sentences


def _budget(recipe: Plain) -> str:
    if recipe["steps"]:
        return counted(recipe["steps"], "step")
    whose = "the training set" if recipe["budget"] == "epochs" else "the balanced set"
    return f"{recipe['epochs']:g} epochs of {whose}, in batches"


def _warmup(recipe: Plain) -> str:
    epochs = recipe["warmup_epochs"]
    if not epochs or recipe["schedule"] == "constant":
        return ""
    return f", after a linear warm-up of {epochs:g} {'epoch' if epochs == 1 else 'epochs'}"


def _loss(recipe: Plain) -> str:
    words = [LOSSES[recipe["loss"]]]
    words += [f"tau {recipe['tau']:g}"] * (recipe["loss"] == "logit_adjusted")
    words += ["class-balanced weights"] * (recipe["weights"] == "class_balanced")
    words += ["class-balanced sampling"] * (recipe["sampling"] == "class_balanced")
    words += [f"both from {percent(recipe['defer'])} of the steps on"] * (recipe["defer"] > 0)
    words += [f"label smoothing {recipe['label_smoothing']:g}"] * (recipe["label_smoothing"] > 0)
    if recipe["teacher"] and recipe["mixing"]:
        many = recipe["teacher"] == "ensemble"
        who = f"{recipe['teachers']} dense networks" if many else "the dense network of the seed"
        words.append(
            f"with a share of {recipe['mixing']:g} distillation ({recipe['distillation']}) from "
            f"{who} at temperature {recipe['temperature']:g}"
        )
    return ", ".join(words)


def _shifts(shift: Plain) -> str:
    sentences = []
    if shift["corruptions"]:
        images = _images(shift["images"])
        where = "a set in files (see the notes)" if shift["official"] else images
        names = joined([name.replace("_", " ") for name in shift["corruptions"]])
        sentences.append(f"Corruptions are {names}, at {_severities(shift)}, of {where}")
        if "frost" in shift["corruptions"] and not shift["official"]:
            textures = "photographs in files" if shift["frost_dir"] else "drawn, not photographed"
            sentences.append(f"The textures of frost are {textures}")
    if shift["attacks"]:
        told = joined([_attack(attack) for attack in shift["attacks"]])
        sentences += [
            f"Attacks on {_images(shift['attack_images'])} are {told}",
            "They follow straight-through gradients where a network is quantized, and an image "
            "counts as robust in the worst case if every attack of a norm and radius fails",
        ]
    if shift["domains"]:
        names = joined([PurePath(name).name for name in shift["domains"]])
        sentences.append(
            f"Images from elsewhere are those of {names}, in the classes that they share"
        )
    return _prose(sentences)


def _images(count: int) -> str:
    """Which test images, such as `corruptions.images` says."""
    return f"{counted(count, 'test image')} (class-stratified)" if count else "all test images"


def _severities(shift: Plain) -> str:
    levels = shift["severities"]
    return f"{'severity' if len(levels) == 1 else plural('severity')} {joined(levels)}"


def _attack(attack: Plain) -> str:
    scale = "" if attack["norm"] == "linf" else ", L2"
    radii = joined([f"{radius:g}" for radius in attack["eps"]])
    words = [ATTACKS[attack["name"]]]
    if attack["name"] != "fgsm":
        words.append(counted(attack["steps"], "query" if attack["name"] == "square" else "step"))
    words += [f"step size {attack['step_size']:g} of the radius"] * (attack["name"] == "pgd")
    words += [counted(attack["restarts"], "restart")] * (attack["restarts"] > 1)
    words += ["also transferred to and from the parent"] * attack["transfer"]
    return f"{words[0]} ({'; '.join([*words[1:], f'radii {radii} of 255{scale}'])})"


def _statistics(study: Plain) -> str:
    seeds = study["seeds"]
    sentences = [f"Every network is trained from {counted(seeds, 'seed')}", STATISTICS.rstrip(".")]
    sentences += ["One seed allows no interval and no test"] * (seeds == 1)
    sentences += [CLAIMS.format(study["claims"]).rstrip(".")] * bool(study["claims"])
    return _prose(sentences)


def _machine(measured: Measured) -> str:
    hardware = f" on {measured.hardware}" if measured.hardware else ""
    named = measured.versions.items()
    versions = [f"{n} {v}" for n, v in named if n == "rcm source" or re.match(r"\d+\.\d", v)]
    return _prose(
        [
            f"Training took {duration(measured.seconds)}{hardware}",
            *([f"Software: {joined(versions)}"] if versions else []),
        ]
    )


def _prose(sentences: Sequence[str]) -> str:
    return " ".join(f"{sentence}." for sentence in sentences)
