"""Protocol S2: how do compressed networks stand attacks and other domains, at matched size?

Source     "Robustness to distribution shifts of compressed networks for edge devices", arXiv
           2401.12014; rates, widths, attacks' strengths, domains and recipes are our choices
Claims     C1 to C6 of S2, read in docs/results/distribution_shift.md
Command    python launch.py --config=experiments/distribution_shift.py:laptop
Scales     smoke: a minute, digits, a tiny net
           laptop: 2 CPU cores, 99 minutes (110 planned), ResNet-8, CIFAR-10 under attack, of 10
           steps and 200 queries where 20 and 300 would not fit
           digits: 2 CPU cores, 42 minutes, digits and five domains without a download, shorter
           attacks, 4 seeds, ResNet-20 and ResNet-32 beside
           paper: an accelerator; ResNet-20, CIFAR-10.1 and STL-10, 5 seeds; paper56: ResNet-56
           office: an accelerator; ResNet-18 from Office-31's amazon to dslr and webcam
Expected   what compression costs in accuracy it costs elsewhere; gradients alone may mislead
"""

from functools import partial

from rcm.compress import Prune, PruneFilters, Quantize
from rcm.config import Attack, Data, Distill, Model, Pipeline, Scratch, Shift, Study, Train, choose
from rcm.scales import fine_tuning, in_seconds, short_recipes

EPS = (1, 2, 4, 8)


def get_config(scale: str = "laptop") -> Study:
    """The study at one of the scales of this file's head."""
    choose("scale of distribution_shift", scale, SCALES)
    return SCALES[scale]()


def pipelines(students: tuple[int, int]) -> tuple[Pipeline, ...]:
    """The paper's techniques: filters pruned at two rates, students of two widths, integers of 8, 6
    and 4 bits; and unstructured pruning to matched bytes."""
    return (
        Pipeline("filters_light", (PruneFilters((0.3,)),)),
        Pipeline("filters_heavy", (PruneFilters((0.6,)),)),
        *(Pipeline(f"distilled_w{w}", (Distill(w, temperature=4.0),)) for w in students),
        Pipeline("int8", (Quantize(8, 8),)),
        Pipeline("int6", (Quantize(6, 8),)),
        Pipeline("int4", (Quantize(4, 8),)),
        Pipeline("prune80", (Prune(0.8, schedule="cubic"),)),
    )


def other_depths(*names: str, width: int) -> tuple[Pipeline, ...]:
    """Networks of the study's family, trained alone, and compressed towards the size of smaller
    ones: what size does with and without compression (C2)."""
    techniques: dict[str, tuple] = {
        "": (),
        "_filters_heavy": (PruneFilters((0.6,)),),
        "_prune80": (Prune(0.8, schedule="cubic"),),
        "_int8": (Quantize(8, 8),),
        "_int4": (Quantize(4, 8),),
    }
    return tuple(
        Pipeline(f"{name}_w{width}{ending}", (Scratch(width, name), *steps))
        for name in names
        for ending, steps in techniques.items()
    )


def attacks(steps: int, queries: int) -> tuple[Attack, ...]:
    """One step, many steps, the adaptive one and the one without gradients, at four radii."""
    return (
        Attack("fgsm", eps=EPS),
        Attack("pgd", eps=EPS, steps=steps, transfer=True),
        Attack("apgd_ce", eps=EPS, steps=steps),
        Attack("square", eps=EPS, steps=queries),
    )


def paper(network: str = "resnet20") -> Study:
    """CIFAR-10 to CIFAR-10.1 and STL-10, and every attack on 1,000 images."""
    others = [name for name in ("resnet8", "resnet20", "resnet56") if name != network]
    return Study(
        name=f"distribution_shift_{network}",
        title="Compressed networks under attack and in other domains",
        summary=f"{network} after protocol S2.",
        seeds=5,
        data=Data(name="cifar10"),
        model=Model(name=network, width=16),
        train=Train(),
        fine_tune=fine_tuning(epochs=70),
        shift=Shift(
            attacks=attacks(20, 1000),
            attack_images=1000,
            domains=("cifar10_1_v4", "cifar10_1_v6", "stl10"),
        ),
        pipelines=(*pipelines((12, 8)), *other_depths(*others, width=16)),
        claims="S2",
    )


def office() -> Study:
    """Office-31 from folders: `--config.data.name` and `--config.shift.domains` name them."""
    study = paper("resnet18")
    study.name, study.model.width = "distribution_shift_office", 64
    study.data = Data(name="office31/amazon", size=64)
    study.shift.domains = ("office31/dslr", "office31/webcam")
    study.pipelines = (*pipelines((48, 32)), *other_depths("resnet34", "resnet50", width=64))
    return study


def laptop() -> Study:
    """ResNet-8 under attack on 500 images, cut to what 2 cores do in at most 120 minutes."""
    study = paper("resnet8")
    study.title += " (a preview)"
    study.summary = "ResNet-8 of width 8 on CIFAR-10 under attack, after protocol S2."
    study.preview = "A laptop-scale preview: a small network, a short recipe and few seeds."
    study.seeds = 3
    study.model.width = 8
    study.train, study.fine_tune = short_recipes(2000, 400)
    study.shift = Shift(attacks=attacks(10, 200), attack_images=500)
    study.pipelines = pipelines((6, 4))  # of one depth: others would not fit
    return study


def digits() -> Study:
    """Domains that need no download: other writers, other hands, pens and paper."""
    study = laptop()
    study.name = "distribution_shift_digits"
    study.summary = (
        "ResNet-8 of width 8 on digits: by other writers, rotated, slanted, thick, inverted."
    )
    study.data = Data(name="digits")
    study.pipelines += other_depths("resnet20", "resnet32", width=8)
    study.seeds = 4
    study.train.steps, study.fine_tune.steps = 600, 150
    for recipe in (study.train, study.fine_tune):
        recipe.augment, recipe.batch = "crop", 64
    study.shift = Shift(
        attacks=attacks(10, 100),
        attack_images=250,  # one batch
        domains=("mnist_5k", "rotated", "slanted", "thickened", "inverted"),
    )
    return study


def smoke() -> Study:
    """Two attacks and two embedded domains in a minute."""
    study = in_seconds(digits())
    study.shift.attacks = (Attack("fgsm", eps=(4,)), Attack("square", eps=(4,), steps=5))
    study.shift.attack_images = 60
    study.shift.domains = ("mnist_5k", "inverted")
    study.pipelines = tuple(p for p in study.pipelines if p.name in ("int4", "distilled_w4"))
    return study


SCALES = {
    "smoke": smoke,
    "laptop": laptop,
    "digits": digits,
    "paper": paper,
    "paper56": partial(paper, "resnet56"),
    "office": office,
}
