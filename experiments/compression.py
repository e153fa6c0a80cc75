"""Every technique beside every other: accuracy against stored bytes, the control included.

Source     each technique's own paper; levels, recipes and the network are our choices
Claims     none: a comparison; docs/results/compression.md has it beside what the literature reports
Command    python launch.py --config=experiments/compression.py:laptop
Scales     smoke: a minute, digits, a tiny net
           laptop: 2 CPU cores, 92 minutes planned (6 of a GPU), ResNet-8 on CIFAR-10, 4 seeds
           paper: an accelerator; ResNet-56, 200 epochs, 5 seeds, balanced and long-tailed
           tail: one GPU, 32 pipelines in 400 s on an H100; ResNet-20 at ratio 100, 5 seeds
           orders: laptop's recipe, the same techniques in different orders
Expected   int8, 16 clusters and half of the weights cost next to nothing; what is left differs
"""

from rcm.compress import QAT, Cast, Cluster, DynamicSparse, Prune, PruneFilters, Quantize
from rcm.compress.configurations import configurations
from rcm.config import Data, Distill, Model, Pipeline, Study, Train, choose
from rcm.scales import fine_tuning, in_seconds, short_recipes
from rcm.steps import FromStart, Rewound, tuned


def get_config(scale: str = "laptop") -> Study:
    """The study at one of the scales `smoke`, `laptop`, `tail`, `paper` and `orders`."""
    choose("scale of compression", scale, SCALES)
    return SCALES[scale]()


def cubic(sparsity: float, **words) -> Prune:
    """Gradual pruning over the first three quarters of the fine-tuning."""
    return Prune(sparsity, schedule="cubic", **words)


def pruning() -> tuple[Pipeline, ...]:
    """Scores, scopes, structures and schedules at 80 %, and what the level does."""
    snip = Prune(0.8, schedule="cubic", begin=0.0, end=0.0, every=1, score="taylor")
    return (
        Pipeline("prune50", (cubic(0.5),)),
        Pipeline("prune80", (cubic(0.8),)),
        Pipeline("prune90", (cubic(0.9),)),
        Pipeline("prune80_oneshot", (Prune(0.8),)),
        Pipeline("prune80_global", (cubic(0.8, scope="global"),)),
        Pipeline("prune80_erk", (cubic(0.8, scope="erk"),)),
        Pipeline("prune80_random", (Prune(0.8, score="random"),)),
        Pipeline("prune80_taylor", (cubic(0.8, score="taylor"),)),
        Pipeline("prune80_movement", (cubic(0.8, score="movement"),)),
        Pipeline("prune_2_of_4", (Prune(0.5, structure="n_of_m", group=4),)),
        Pipeline("prune80_iterated", (Prune(0.5), Prune(0.8))),
        Pipeline("rigl80", (FromStart(DynamicSparse(0.8, every=50)),)),
        Pipeline("snip80", (FromStart(snip),)),
        Pipeline("ticket80", (Rewound(Prune(0.8), to=0.1),)),
        Pipeline("filters", (PruneFilters((0.6, 0.5, 0.3)),)),
    )


def quantization() -> tuple[Pipeline, ...]:
    """After training and while it lasts, from 16 to 4 bits."""
    return (
        Pipeline("bfloat16", (Cast("bfloat16"),)),
        Pipeline("int8", (Quantize(8, 8),)),
        Pipeline("int8_dynamic", (Quantize(8, 8, activations="dynamic"),)),
        Pipeline("int4", (Quantize(4, 8),)),
        Pipeline("int4_mse", (Quantize(4, 8, weight_range="mse", edge_bits=8),)),
        Pipeline("w4a4_percentile", (Quantize(4, 4, calibration="percentile", edge_bits=8),)),
        Pipeline("qat_w8a8", (QAT(8, 8),)),
        Pipeline("qat_w4a4", (QAT(4, 4),)),
        Pipeline("qat_w2a4", (QAT(2, 4),)),
        Pipeline("lsq_w4a4", (QAT(4, 4, step="learned"),)),
        Pipeline("lsq_w2a4", (QAT(2, 4, step="learned"),)),
    )


def clustering() -> tuple[Pipeline, ...]:
    """Shared values for a kernel and for a channel."""
    return (
        Pipeline("cluster16", (Cluster(16),)),
        Pipeline("cluster4", (Cluster(4),)),
        Pipeline("cluster4_linear", (Cluster(4, start="linear"),)),
        Pipeline("cluster4_channel", (Cluster(4, per_channel=True),)),
    )


def distillation(width: int) -> tuple[Pipeline, ...]:
    """Students half as wide, and distillation as the fine-tuning of pruning."""
    return (
        Pipeline("hinton", (Distill(width, temperature=4.0),)),
        Pipeline("decoupled", (Distill(width, temperature=4.0, mixing=0.5, kind="decoupled"),)),
        Pipeline("attention", (Distill(width, mixing=0.5, kind="attention"),)),
        Pipeline("ensemble", (Distill(width, temperature=4.0, teachers=3),)),
        Pipeline(
            "prune80_taught", (tuned(cubic(0.8), teacher="dense", temperature=4.0, mixing=0.9),)
        ),
    )


def orders() -> Study:
    """The order study: two techniques, both ways round, at one budget."""
    study = laptop()
    study.name, study.title = "orders", "Does the order of compression matter? (a preview)"
    study.summary = "The same two techniques in both orders, each fine-tuned from the other."
    prune, qat, filters = cubic(0.8), QAT(4, 4), PruneFilters((0.6, 0.5, 0.3))
    study.pipelines = (
        Pipeline("prune_then_qat", (prune, qat)),
        Pipeline("qat_then_prune", (qat, prune)),
        Pipeline("filters_then_qat", (filters, qat)),
        Pipeline("qat_then_filters", (qat, filters)),
        Pipeline("filters_then_prune", (filters, prune)),
        Pipeline("prune_then_filters", (prune, filters)),
        Pipeline("prune_then_cluster", (prune, Cluster(16))),
    )
    return study


def paper() -> Study:
    """Everything, and the sixteen configurations of S3, at the field's recipe."""
    return Study(
        name="compression",
        title="Every compression technique beside every other",
        summary="Accuracy and recall against stored bytes, each against its control.",
        seeds=5,
        data=Data(name="cifar10", ratios=(1, 100)),
        model=Model(name="resnet56", width=16),
        train=Train(),
        fine_tune=fine_tuning(epochs=70),
        pipelines=(
            *pruning(),
            *quantization(),
            *clustering(),
            *distillation(8),
            *configurations(),
        ),
    )


def laptop() -> Study:
    """The same techniques on ResNet-8, cut to what 2 cores do in at most 120 minutes."""
    study = paper()
    study.title += " (a preview)"
    study.preview = "A laptop-scale preview: a small network, a short recipe and few seeds."
    study.seeds = 4  # two lanes take as long for three
    study.data.ratios = (1,)
    study.model = Model(name="resnet8", width=8)
    study.train, study.fine_tune = short_recipes(2000, 400)
    study.pipelines = (
        *pruning(),
        *quantization(),
        *clustering(),
        *distillation(4),
        *configurations("GHKLMNOP"),
    )
    cut = ("snip80", "ticket80", "attention", "ensemble")  # trained from the start: 10 minutes each
    study.pipelines = tuple(p for p in study.pipelines if p.name not in cut)
    return study


def tail() -> Study:
    """Everything on a long tail, by laptop's recipe: minutes of one GPU."""
    study, short = paper(), laptop()
    study.title += " on a long tail (a preview)"
    study.preview = "A preview: ResNet-20, laptop's short recipe and few seeds."
    study.data.ratios = (100,)
    study.model = Model(name="resnet20", width=16, precision="tf32")
    study.train, study.fine_tune = short.train, short.fine_tune
    return study


def smoke() -> Study:
    """Sparse training, a ticket, learned steps, codebooks and the longest pipeline, on digits."""
    study = in_seconds(laptop(), ratios=(1, 10))
    shown = ("rigl80", "ticket80", "lsq_w4a4", "cluster4_channel", "P_pcqat_int8")
    study.pipelines = tuple(p for p in paper().pipelines if p.name in shown)
    return study


SCALES = {"smoke": smoke, "laptop": laptop, "tail": tail, "paper": paper, "orders": orders}
