"""From a config to its plan and cells: everything that is checked before anything runs."""

import dataclasses

import numpy as np

from rcm import backend, config
from rcm.baselines import parent_names
from rcm.cells import Source, Spec, attack_label, cells_of
from rcm.config import Study
from rcm.data import datasets, domains, human, wrong_labels
from rcm.data.official import Release
from rcm.plan import Plan, make_plan
from rcm.shift import attacks, corruptions, frost
from rcm.validation import validate_study


def prepare(study: Study) -> tuple[Plan, list[Spec]]:
    """The plan and the evaluation cells. Raises ValueError for anything that could not run."""
    validate_study(study)
    config.choose("claims", study.claims, config.CLAIM_SETS)
    validate_shift(study.shift)
    where = (study.data.data_dir, backend.cache_folder() / "arrays")
    photographs = {"size": study.data.size, "skip_unreadable": study.data.skip_unreadable}
    _validate_size(study.data)
    dataset = datasets.load(study.data.name, *where, **photographs)
    attacks.validate(study.shift.attacks, len(dataset.classes))
    height, width = dataset.test.images.shape[1:3]
    if study.shift.corruptions:
        corruptions.check_size((height, width), study.shift.corruptions)
    if "frost" in study.shift.corruptions:
        frost.tables(height, width, study.shift.frost_dir)  # complains now, not after training
    photographs["size"] = max(height, width)  # of a domain: as large as the source's images
    elsewhere = [domains.load(n, dataset, *where, **photographs) for n in study.shift.domains]
    names = [domain.name for domain in elsewhere]
    taken = ("clean", "clean_val", "clean_train", *study.shift.corruptions)
    for name in names:
        config.require(
            names.count(name) == 1 and name not in taken,
            f"Two of the shifts are called {name!r}, as a domain is after its folder or file: "
            "rename one.",
        )
    release = None
    if study.shift.official and study.shift.corruptions:
        release = Release(study.shift.official, study.data.name, dataset.test, *where)
        release.check(study.shift.corruptions, study.shift.severities)
    plan = make_plan(study, dataset)
    given = (study.shift, dataset, plan.validation, elsewhere, release, transfer_sources(plan))
    return plan, cells_of(*given, training=training_images(plan))


def _validate_size(data: config.Data) -> None:
    """Raise ValueError for a size given to a source that has its own; domains take the source's."""
    config.require(
        data.size == config.Data().size or datasets.is_photographs(data.name),
        f"data.size is {data.size}, but {data.name} is no folder of photographs and keeps the size "
        "that its images have: leave data.size out, or give such a folder as data.name.",
    )


def training_images(plan: Plan) -> np.ndarray:
    """Indices of the training images that are tested, which members of all ratios have; none unless
    asked for. Raises ValueError where none of them could be told to have a wrong label."""
    study, train = plan.study, plan.dataset.train
    count, table = study.shift.train_images, plan.tails[max(study.data.ratios)].table
    config.require(
        not count
        or bool(study.data.label_noise)
        or human.answered("cifar10_n", plan.dataset.name, study.data.data_dir),
        f"shift.train_images is {count}, but no training image has a wrong label to forget: give "
        "data.label_noise above 0, or CIFAR-10 with CIFAR-10N beside it, or leave them out.",
    )
    if not count:
        return table[:0]
    return wrong_labels.tested(table, train.labels, plan.labels, count, study.shift.seed)


def transfer_sources(plan: Plan) -> list[Source]:
    """Every pipeline, what identifies all of its members together, and the pipelines that are shown
    images made against these: its own parent, and all that it is the parent of."""
    members: dict[str, list[str]] = {}
    for (pipeline, _, _), fingerprint in plan.ends.items():
        members.setdefault(pipeline, []).append(fingerprint)
    parents = parent_names(plan.pipelines, plan.study)
    related = {
        name: tuple(p for p in members if p != name and (parents[p] == name or parents[name] == p))
        for name in members
    }
    marks = {name: config.fingerprint(sorted(found), 8) for name, found in members.items()}
    return [Source(name, marks[name], related[name]) for name in members]


def validate_shift(shift: config.Shift) -> None:
    """Raise ValueError for corruptions and severities that are unknown or named twice, and for
    attacks that are none."""
    config.require(
        all(isinstance(attack, config.Attack) for attack in shift.attacks),
        f"shift.attacks holds {shift.attacks!r}: expected Attack(name, ...), written in the "
        "study's file; they cannot be given as a flag.",
    )
    config.require(
        len(shift.severities) > 0 or not shift.corruptions,
        "shift.severities is empty, so that corruptions would not be tested: name some, or leave "
        "shift.corruptions empty.",
    )
    corruptions.validate(shift.corruptions, shift.severities)
    config.require(
        "clean" not in shift.corruptions,
        "shift.corruptions holds 'clean', which is always tested: leave it out.",
    )
    config.require(
        not shift.frost_dir or "frost" in shift.corruptions,
        f"shift.frost_dir is {shift.frost_dir!r}, but frost is not among shift.corruptions: add it "
        "or leave the folder out.",
    )
    config.require(
        not shift.official or bool(shift.corruptions),
        f"shift.official is {shift.official!r}, but shift.corruptions is empty: name some of the "
        "release's, or leave it out.",
    )
    config.require(
        0 <= shift.seed < 2**31,
        f"shift.seed is {shift.seed}: give a whole number from 0 to {2**31 - 1:,}.",
    )
    named = [("attacks", tuple(map(attack_label, shift.attacks)))]
    for name, values in [
        *((n, getattr(shift, n)) for n in ("corruptions", "severities", "domains")),
        *named,
    ]:
        config.require(len(set(values)) == len(values), f"shift.{name} repeats itself: {values}.")


def study_fingerprint(study: Study) -> str:
    """Names the study's folder: everything but what changes no result."""
    data = dataclasses.replace(study.data, data_dir="")
    shift = dataclasses.replace(study.shift, cache=False)
    words = dict.fromkeys(("title", "summary", "preview"), "")
    same = dataclasses.replace(study, checkpoint_seconds=0.0, data=data, shift=shift, **words)
    return config.fingerprint(same, 10)
