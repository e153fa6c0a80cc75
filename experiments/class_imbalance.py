"""Protocol S1: does compression cost more when classes are imbalanced?

Source     "On the Robustness of Compressed Models with Class Imbalance", Computers 2024,
           13(11):297; ratios, seeds, recipe and all rates and widths are our choices
Claims     C1 to C7 of S1
Command    python launch.py --config=experiments/class_imbalance.py:laptop
Scales     smoke: seconds, digits, a tiny net
           laptop: 2 CPU cores, 100 minutes planned, ResNet-8 on long-tailed CIFAR-10
           networks: 2 CPU cores, an hour; the filters of ResNet-8 and ResNet-20 alone, 4 seeds
           gpu: minutes of one GPU, ResNet-20 by laptop's recipe, 5 seeds
           paper: an accelerator; ResNet-20, 200 epochs, 5 seeds; paper56: the same of ResNet-56
Expected   the gap grows with the ratio for every model; what compression adds to it is the question
"""

from functools import partial

from rcm.compress import QAT, Cluster, Prune, PruneFilters, Quantize
from rcm.config import Data, Distill, Model, Pipeline, Scratch, Shift, Study, Train, choose
from rcm.scales import fine_tuning, in_seconds, short_recipes

# stage and block, both from 1, of what S1 calls 2.0 2.5 2.8 3.0 3.4
SENSITIVE = ((2, 1), (2, 6), (2, 9), (3, 1), (3, 5))
CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "brightness", "contrast", "pixelate",
)  # fmt: skip


def get_config(scale: str = "laptop") -> Study:
    """The study at one of the scales of this file's head."""
    choose("scale of class_imbalance", scale, SCALES)
    return SCALES[scale]()


def filters(network: str, rates: tuple[float, ...], third: float) -> PruneFilters:
    """A filter-rank scheme of S1: `rates` by stage, `third` in the second block of the third stage,
    nothing in ResNet-56's most sensitive blocks."""
    exceptions = [] if network in ("resnet8", "tiny") else [("stage3_block2", third)]
    if network == "resnet56":
        exceptions += [(f"stage{stage}_block{block}", 0.0) for stage, block in SENSITIVE]
    return PruneFilters(rates, tuple(exceptions))


def filters_and_qat(network: str) -> tuple[Pipeline, ...]:
    """The paper's filter pruning and quantization-aware training."""
    return (
        Pipeline("filters_v1", (filters(network, (0.6, 0.5, 0.3), 0.1),)),
        Pipeline("filters_v2", (filters(network, (0.7, 0.6, 0.4), 0.2),)),
        Pipeline("qat_w8a8", (QAT(8, 8),)),
        Pipeline("qat_w8a4", (QAT(8, 4),)),
        Pipeline("qat_w4a4", (QAT(4, 4),)),
    )


def pipelines(student_width: int) -> tuple[Pipeline, ...]:
    """The paper's distillation, and ours: post-training quantization, unstructured pruning,
    clustering, and one combination.

    Unstructured pruning is gradual, as in protocol S4: cut at once to 90 %, a network does not come
    back within a short fine-tuning, and on a floor of accuracy no harm to the tail can be seen.
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


def another(network: str, width: int) -> tuple[Pipeline, ...]:
    """A second network and its filters pruned: C3 is said of two."""
    return tuple(
        Pipeline(f"{network}_{pipeline.name}", (Scratch(width, network), *pipeline.steps))
        for pipeline in filters_and_qat(network)[:2]
    )


def paper(network: str = "resnet20") -> Study:
    """Everything of S1, at the field's recipe, and the filters of the paper's other network."""
    other = "resnet56" if network == "resnet20" else "resnet20"
    return Study(
        name="class_imbalance",
        title="What compression costs under class imbalance",
        summary="Long-tailed CIFAR-10 after protocol S1.",
        seeds=5,
        data=Data(name="cifar10", ratios=(1, 10, 20, 50, 100, 200)),
        model=Model(name=network, width=16),
        train=Train(),
        fine_tune=fine_tuning(epochs=70),
        shift=Shift(corruptions=CORRUPTIONS),
        pipelines=(
            *filters_and_qat(network),
            *pipelines(student_width=8),
            *another(other, width=16),
        ),
        claims="S1",
    )


def laptop() -> Study:
    """The same questions of ResNet-8, cut to what 2 cores do in at most 120 minutes."""
    study = paper()
    study.title += " (a preview)"
    study.summary = (
        "ResNet-8 of width 8 on long-tailed CIFAR-10: filter pruning, quantization-aware training "
        "and distillation, and besides post-training quantization and unstructured pruning; a "
        "preview of protocol S1 at laptop scale."
    )
    study.preview = (
        "A laptop-scale preview: a small network, a short recipe and few seeds. ResNet-8 has "
        "three blocks, so the filter schemes are their rates by stage, without exceptions."
    )
    study.seeds = 3
    study.data.ratios = (1, 10, 100)
    study.model = Model(name="resnet8", width=8)
    study.train, study.fine_tune = short_recipes(2500, 500)
    study.shift = Shift(corruptions=CORRUPTIONS, severities=(1, 3, 5), images=2000)
    everything = (*filters_and_qat("resnet8"), *pipelines(student_width=4))
    cut = ("prune50", "cluster16", "prune50_cluster16_int8")  # none is the paper's
    study.pipelines = tuple(p for p in everything if p.name not in cut)
    return study


def gpu() -> Study:
    """ResNet-20 by laptop's recipe: a network that still knows its tail at ratio 100."""
    study = laptop()
    study.summary = study.summary.replace("ResNet-8 of width 8", "ResNet-20 of width 16")
    study.summary = study.summary.replace("laptop scale", "the scale of minutes of one GPU")
    study.preview = "A preview: a short recipe and few seeds."
    study.seeds = 5
    study.model = Model(name="resnet20", width=16, precision="tf32")
    names = {p.name for p in study.pipelines}
    everything = (*filters_and_qat("resnet20"), *pipelines(student_width=8))
    study.pipelines = tuple(p for p in everything if p.name in names)
    return study


def networks() -> Study:
    """C3 alone: the filters of ResNet-8 and of ResNet-20, by a recipe still shorter."""
    study = laptop()
    study.name = "class_imbalance_networks"
    study.summary = (
        "ResNet-8 and ResNet-20 of width 8 on long-tailed CIFAR-10: filter pruning, of which the "
        "paper's claim is made for two networks; a preview of protocol S1."
    )
    study.preview = "A preview: small networks, a short recipe and few seeds."
    study.seeds, study.data.ratios = 4, (1, 100)
    study.train, study.fine_tune = short_recipes(1000, 200)
    study.shift = Shift()
    study.pipelines = (*filters_and_qat("resnet8")[:2], *another("resnet20", width=8))
    return study


def smoke() -> Study:
    """Every kind of stage in seconds, on digits."""
    study = in_seconds(laptop(), ratios=(1, 10))
    everything = (*filters_and_qat("tiny"), *pipelines(student_width=4))
    study.pipelines = (*everything, *another("tiny", width=6))
    study.shift = Shift(corruptions=CORRUPTIONS[:2], severities=(3,), images=200)
    return study


SCALES = {
    "smoke": smoke,
    "laptop": laptop,
    "networks": networks,
    "gpu": gpu,
    "paper": paper,
    "paper56": partial(paper, "resnet56"),
}
