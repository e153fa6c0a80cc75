"""Protocol S5: imbalance, compression and shifts at once; who is hurt, and what repairs it?

Source     ours: S1 to S4 in one population, with the repairs of docs/techniques.md
Claims     those of S1 to S4 that one study can decide, read in docs/results/joint.md
Command    python launch.py --config=experiments/joint.py:laptop
Scales     smoke: seconds, digits, a tiny net
           laptop: 2 CPU cores, 112 minutes, ResNet-8 on CIFAR-10 at ratios 1 and 100, 5 seeds
           gpu: one GPU, ResNet-20, 10 seeds
           paper: an accelerator; ResNet-56, 200 epochs, 30 seeds, everything
Expected   what is rare, what is corrupted and what is compressed away add up, or more than that
"""

from rcm.compress import QAT, Adjust, Cluster, Prune, PruneFilters, Quantize
from rcm.config import (
    Attack,
    Data,
    Distill,
    Model,
    Pipeline,
    Replica,
    Shift,
    Study,
    Train,
    choose,
)
from rcm.scales import fine_tuning, in_seconds, short_recipes
from rcm.shift.corruptions import CORRUPTIONS
from rcm.steps import tuned

PRUNE, FILTERS = Prune(0.8, schedule="cubic"), PruneFilters((0.6, 0.5, 0.3))


def get_config(scale: str = "laptop") -> Study:
    """The study at one of the scales of this file's head."""
    choose("scale of joint", scale, SCALES)
    return SCALES[scale]()


def techniques(student_width: int) -> tuple[Pipeline, ...]:
    """One of every kind, a combination, and dense members of other seeds."""
    return (
        Pipeline("dense_again", (Replica(),)),
        Pipeline("prune80", (PRUNE,)),
        Pipeline("filters", (FILTERS,)),
        Pipeline("qat_w4a4", (QAT(4, 4),)),
        Pipeline("cluster16", (Cluster(16),)),
        Pipeline("distilled", (Distill(student_width, temperature=4.0),)),
        Pipeline("int8", (Quantize(8, 8),)),
        Pipeline("int4", (Quantize(4, 8),)),
        Pipeline("prune_cluster_int8", (Prune(0.5, schedule="cubic"), Cluster(16), Quantize(8, 8))),
    )


def repairs() -> tuple[Pipeline, ...]:
    """The tail's repair in the fine-tuning (logit-adjusted loss) and after it, with their dense
    controls."""
    adjusted = {"loss": "logit_adjusted"}
    return (
        Pipeline("dense_after", (Adjust(1.0),)),
        Pipeline("prune80_loss", (tuned(PRUNE, **adjusted),)),
        Pipeline("prune80_after", (PRUNE, Adjust(1.0))),
        Pipeline("int4_after", (Quantize(4, 8), Adjust(1.0))),
    )


def attacks(steps: int, queries: int) -> tuple[Attack, ...]:
    """With gradients and without."""
    return (Attack("pgd", eps=(2,), steps=steps), Attack("square", eps=(2,), steps=queries))


def paper() -> Study:
    """Everything, at the field's recipe."""
    return Study(
        name="joint",
        title="Imbalance, compression and shifts at once",
        summary="ResNet-56 on long-tailed CIFAR-10, compressed, corrupted and attacked.",
        seeds=30,
        data=Data(name="cifar10", ratios=(1, 100)),
        model=Model(name="resnet56", width=16),
        train=Train(),
        fine_tune=fine_tuning(epochs=70),
        shift=Shift(corruptions=tuple(CORRUPTIONS), attacks=attacks(20, 1000), attack_images=1000),
        pipelines=(*techniques(8), *repairs()),
        claims="S5",
        predictor_images=50,
    )


def preview(network: str, width: int, seeds: int, steps: int) -> Study:
    """The same of a small network with a short recipe, corruptions at their middle severity."""
    study = paper()
    study.title += " (a preview)"
    study.summary = f"{network} of width {width} on long-tailed CIFAR-10, compressed and shifted."
    study.preview = "A preview: a small network, a short recipe and one severity."
    study.seeds = seeds
    study.model = Model(name=network, width=width)
    study.train, study.fine_tune = short_recipes(steps, steps // 5)
    study.shift = Shift(
        corruptions=tuple(CORRUPTIONS),
        severities=(3,),
        images=2000,
        attacks=attacks(10, 200),
        attack_images=500,
    )
    study.pipelines = (*techniques(width // 2), *repairs())
    return study


def laptop() -> Study:
    """Five seeds of ResNet-8, cut to what 2 cores do in at most 120 minutes."""
    study = preview("resnet8", 8, seeds=5, steps=1200)
    study.shift.images, study.shift.attack_images = 1000, 250
    return study


def gpu() -> Study:
    """Ten seeds of ResNet-20."""
    study = preview("resnet20", 16, seeds=10, steps=2000)
    study.model.precision = "tf32"
    return study


def smoke() -> Study:
    """A technique, a repair, two corruptions and an attack, on digits."""
    study = in_seconds(laptop(), ratios=(1, 10))
    kept = ("dense_again", "int4", "int4_after", "prune80_loss")
    study.pipelines = tuple(p for p in study.pipelines if p.name in kept)
    study.predictor_images = 8
    study.shift = Shift(
        corruptions=("fog", "spatter"), severities=(3,), images=100,
        attacks=(Attack("fgsm", eps=(4,)),), attack_images=60,
    )  # fmt: skip
    return study


SCALES = {"smoke": smoke, "laptop": laptop, "gpu": gpu, "paper": paper}
