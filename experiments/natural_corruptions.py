"""Protocol S3: what do sixteen ways of compressing do to robustness under natural corruptions?

Source     "Evaluating the Impact of Compression Techniques on the Robustness of CNNs under Natural
           Corruptions", arXiv 2512.24971; the recipe from random weights, seeds, validation split
           and the controls are our choices
Claims     C1 to C8 of S3, read in docs/results/natural_corruptions.md
Command    python launch.py --config=experiments/natural_corruptions.py:laptop
Scales     smoke: seconds, digits, a tiny net
           laptop: 2 CPU cores, 63 minutes (74 planned), ResNet-8 on CIFAR-10, 4 seeds
           gpu, gpu_vgg11, gpu_mobilenet: minutes of one GPU; ResNet-20, VGG-11, MobileNetV2
           paper, paper_vgg19, paper_mobilenet: an accelerator; the paper's networks, 5 seeds
Expected   corrupted accuracy follows clean accuracy; what is left beyond that is the question
"""

from functools import partial

from rcm.compress.configurations import configurations
from rcm.config import Data, Model, Pipeline, Scratch, Shift, Study, Train, choose
from rcm.scales import fine_tuning, in_seconds, short_recipes
from rcm.shift.corruptions import BENCHMARK

SHARES = (0.1, 0.25, 0.5)  # of the main budget, for dense networks that know less


def get_config(scale: str = "laptop") -> Study:
    """The study at one of the scales of this file's head."""
    choose("scale of natural_corruptions", scale, SCALES)
    return SCALES[scale]()


def budgets(width: int, steps: int) -> tuple[Pipeline, ...]:
    """Dense networks trained for less: with the dense parent and the controls, which are trained
    for longer, the line from clean to corrupted accuracy that effective robustness is read off."""
    shorter = (round(share * steps) for share in SHARES)
    return tuple(Pipeline(f"dense_{s}_steps", (Scratch(width, steps=s),)) for s in shorter)


def paper(network: str = "resnet50", rate: float = 0.1) -> Study:
    """All sixteen configurations on all 75 cells of the benchmark.

    The published networks began from ImageNet, saw images enlarged to 224 pixels and were trained
    by Adam at 1e-5; ours begin at random on 32 pixels. Weights can be given
    (`--config.model.pretrained`).
    """
    return Study(
        name=f"natural_corruptions_{network}",
        title="What compression does to robustness under natural corruptions",
        summary=f"{network} on CIFAR-10 after protocol S3: configurations A to P.",
        seeds=5,
        data=Data(name="cifar10"),
        model=Model(name=network),
        train=Train(learning_rate=rate),
        fine_tune=fine_tuning(epochs=30, learning_rate=rate / 10),
        shift=Shift(corruptions=BENCHMARK),
        pipelines=(*configurations(), *budgets(0, 200 * 375)),
        claims="S3",
    )


def preview(network: str, width: int, steps: int, fine_tune_steps: int, rate: float) -> Study:
    """The same questions of a small network with a short recipe."""
    study = paper(network)
    study.title += " (a preview)"
    study.preview = "A preview: a small network, a short recipe and few seeds."
    study.summary = (
        f"{network} of width {width} on CIFAR-10 after protocol S3: configurations A to P against "
        "dense networks of the same budget and of smaller ones."
    )
    study.model = Model(name=network, width=width)
    study.train, study.fine_tune = short_recipes(steps, fine_tune_steps, rate)
    study.pipelines = (*configurations(), *budgets(width, steps))
    return study


def laptop() -> Study:
    """ResNet-8 on a fifth of the test images: 2 cores in 120 minutes."""
    study = preview("resnet8", width=8, steps=2000, fine_tune_steps=400, rate=0.1)
    study.seeds = 4  # two lanes take as long for three
    study.shift.images = 2000
    return study


def gpu(network: str, width: int, rate: float) -> Study:
    """A network of the paper's kinds in minutes of one GPU."""
    study = preview(network, width, steps=2000, fine_tune_steps=400, rate=rate)
    study.seeds = 3
    study.model.precision = "tf32"
    study.shift.images = 2000
    return study


def smoke() -> Study:
    """Two corruptions and the longest configurations, on digits."""
    study = in_seconds(laptop())
    study.pipelines = (*configurations("BOP"), *budgets(8, 8)[1:])
    study.shift = Shift(corruptions=("fog", "elastic_transform"), severities=(3,), images=200)
    return study


SCALES = {
    "smoke": smoke,
    "laptop": laptop,
    "gpu": partial(gpu, "resnet20", 16, 0.1),
    "gpu_vgg11": partial(gpu, "vgg11", 16, 0.05),
    "gpu_mobilenet": partial(gpu, "mobilenet_v2", 16, 0.1),
    "paper": paper,
    "paper_vgg19": partial(paper, "vgg19", 0.05),
    "paper_mobilenet": partial(paper, "mobilenet_v2"),
}
