"""Protocol S1: does compression cost more when classes are imbalanced?

Source     "On the Robustness of Compressed Models with Class Imbalance", Computers 2024,
           13(11):297; ratios, seeds, recipe and compressions besides distillation are our choices
Claims     C1, C2, C5, C6, C7 of S1 (C3 and C4 wait for filter pruning and QAT)
Command    python launch.py --config=experiments/class_imbalance.py:laptop --config.seeds=3
Scales     smoke: seconds, digits, a tiny net
           laptop: 2 CPU cores, about 75 minutes, ResNet-8 on long-tailed CIFAR-10
           paper: an accelerator; ResNet-20 (ResNet-56 by --config.model.name), 200 epochs, 5 seeds
Expected   the gap grows with the ratio for every model; what compression adds to it is the question
"""

from rcm.compress import Cluster, Prune, Quantize
from rcm.config import Data, Distill, Model, Pipeline, Shift, Study, Train, choose

CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "brightness", "contrast", "pixelate",
)  # fmt: skip


def get_config(scale: str = "laptop") -> Study:
    """The study at `smoke`, `laptop` or `paper` scale."""
    choose("scale of class_imbalance", scale, SCALES)
    return SCALES[scale]()


def pipelines(student_width: int) -> tuple[Pipeline, ...]:
    """Post-training and trained compression, distillation, and one combination.

    Pruning is gradual, as in protocol S4: cut at once to 90 %, a network does not come back within
    a short fine-tuning, and on a floor of accuracy no harm to the tail can be seen.
    """
    prune50, prune90 = Prune(0.5, schedule="cubic"), Prune(0.9, schedule="cubic")
    return (
        Pipeline("prune50", (prune50,)),
        Pipeline("prune90", (prune90,)),
        Pipeline("cluster16", (Cluster(16),)),
        Pipeline("int8", (Quantize(8),)),
        Pipeline("int4", (Quantize(4),)),
        Pipeline("distilled", (Distill(width=student_width),)),
        Pipeline("prune50_cluster16_int8", (prune50, Cluster(16), Quantize(8))),
    )


def paper() -> Study:
    """Everything of S1 that this version can do, at the field's recipe."""
    return Study(
        name="class_imbalance",
        title="What compression costs under class imbalance",
        summary="Long-tailed CIFAR-10 after protocol S1.",
        preview="Filter pruning and quantization-aware training are not part of this version, so "
        "claims C3 and C4 are not tested.",
        seeds=5,
        data=Data(name="cifar10", ratios=(1, 10, 20, 50, 100, 200)),
        model=Model(name="resnet20", width=16),
        train=Train(),
        fine_tune=Train(epochs=70, learning_rate=0.01, schedule="cosine", warmup_epochs=0),
        shift=Shift(corruptions=CORRUPTIONS),
        pipelines=pipelines(student_width=8),
        claims="S1",
    )


def laptop() -> Study:
    """The same questions of ResNet-8, cut to what 2 cores do in at most 120 minutes."""
    study = paper()
    study.title += " (a preview)"
    study.summary = (
        "ResNet-8 of width 8 on long-tailed CIFAR-10: post-training quantization, unstructured "
        "pruning, clustering and distillation, a preview of protocol S1 at laptop scale."
    )
    study.preview = (
        "A laptop-scale preview: a small network, a short recipe and three seeds. Filter pruning "
        "and quantization-aware training follow, so claims C3 and C4 are not tested."
    )
    study.seeds = 3
    study.data.ratios = (1, 10, 100)
    study.model = Model(name="resnet8", width=8)
    study.train = Train(steps=2500, schedule="cosine", warmup_epochs=0.5)
    study.fine_tune = Train(steps=500, learning_rate=0.02, schedule="cosine", warmup_epochs=0)
    study.shift = Shift(corruptions=CORRUPTIONS, severities=(1, 3, 5), images=2000)
    study.pipelines = pipelines(student_width=4)
    return study


def smoke() -> Study:
    """Every kind of stage in seconds, on digits."""
    study = laptop()
    study.seeds = 2
    study.data = Data(name="digits", ratios=(1, 10))
    study.model = Model(name="tiny", width=8)
    study.train.steps, study.fine_tune.steps = 8, 4
    for recipe in (study.train, study.fine_tune):
        recipe.batch, recipe.augment, recipe.warmup_epochs = 32, "crop", 0
    study.pipelines = pipelines(student_width=4)
    study.shift = Shift(corruptions=CORRUPTIONS[:2], severities=(3,), images=200)
    return study


SCALES = {"smoke": smoke, "laptop": laptop, "paper": paper}
