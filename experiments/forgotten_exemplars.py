"""Protocol S4: which images and classes does compression forget, beyond what chance forgets?

Source     "What Do Compressed Deep Neural Networks Forget?", arXiv 1911.05248, and "Characterising
           Bias in Compressed Models", arXiv 2010.03058; networks, recipes and nulls are our choices
Claims     C1 to C10 of S4, read in docs/results/forgotten_exemplars.md; C7, which needs a long
           tail, is asked by joint.py
Command    python launch.py --config=experiments/forgotten_exemplars.py:laptop
Scales     smoke: seconds, digits, a tiny net
           laptop: 2 CPU cores, 57 minutes (70 planned), ResNet-8 on CIFAR-10, populations of 10
           subgroups: 2 CPU cores, coloured digits with a rare subgroup, populations of 10
           noise: 2 CPU cores, digits of whose training labels 5 % are wrong, populations of 10
           gpu: one GPU, ResNet-20, populations of 30
           paper: an accelerator; wide ResNet, populations of 30
           celeba: an accelerator; ResNet-18 on CelebA, blond men as the rare subgroup
Expected   images are forgotten by dense populations, too: only what exceeds that is compression's;
           at laptop 10 % of the images at 90 % sparsity
"""

from rcm.compress import Cast, Prune, Quantize
from rcm.config import Data, Finetune, Model, Pipeline, Replica, Shift, Study, Train, choose
from rcm.scales import fine_tuning, in_seconds, short_recipes
from rcm.steps import FromStart

SPARSITIES = (0.3, 0.5, 0.7, 0.9)
WEATHER = ("gaussian_noise", "defocus_blur", "fog", "jpeg_compression")  # one of each family


def get_config(scale: str = "laptop") -> Study:
    """The study at one of the scales of this file's head."""
    choose("scale of forgotten_exemplars", scale, SCALES)
    return SCALES[scale]()


def pipelines(sparsities: tuple[float, ...] = SPARSITIES) -> tuple[Pipeline, ...]:
    """Pruned while they are trained, integers after training, more training alone, and a second
    dense population, which is the null of all."""
    return (
        Pipeline("dense_again", (Replica(),)),
        Pipeline("finetune", (Finetune(),)),
        *(Pipeline(f"prune{100 * s:.0f}", (FromStart(gradual(s)),)) for s in sparsities),
        Pipeline("float16", (Cast("float16"),)),
        Pipeline("int8_dynamic", (Quantize(8, 8, activations="dynamic"),)),
        Pipeline("int8", (Quantize(8, 8),)),
    )


def gradual(sparsity: float) -> Prune:
    """Zhu and Gupta's schedule over the middle of the training."""
    return Prune(sparsity, schedule="cubic", begin=0.1, end=0.75)


def paper() -> Study:
    """The published populations of 30; their wide ResNet is of depth 16 and width 8."""
    return Study(
        name="forgotten_exemplars",
        title="What compressed networks forget",
        summary="Images and classes that populations of compressed networks answer differently.",
        seeds=30,
        data=Data(name="cifar10"),
        model=Model(name="wrn16_8"),
        train=Train(),
        fine_tune=fine_tuning(epochs=20),
        shift=Shift(corruptions=WEATHER, severities=(3,), images=2000),
        pipelines=pipelines(),
        claims="S4",
        predictor_images=50,
    )


def celeba() -> Study:
    """The rare subgroup of the paper: CelebA's blond men, heads of 64 pixels."""
    study = paper()
    study.name, study.seeds = "forgotten_exemplars_celeba", 10
    study.summary = "ResNet-18 on CelebA: who is wronged by compression, by hair and sex?"
    study.data, study.model = Data(name="celeba"), Model(name="resnet18", width=64)
    study.train = Train(epochs=20, warmup_epochs=1, augment="none", learning_rate=0.05)
    study.fine_tune = fine_tuning(epochs=4)
    study.shift = Shift()
    study.pipelines = pipelines((*SPARSITIES, 0.95))
    return study


def preview(network: str, width: int, seeds: int, steps: int) -> Study:
    """The same populations of a small network with a short recipe."""
    study = paper()
    study.title += " (a preview)"
    study.summary = f"Populations of {network} of width {width} on CIFAR-10, after S4."
    study.preview = "A preview: a small network and a short recipe."
    study.seeds = seeds
    study.model = Model(name=network, width=width)
    study.train, study.fine_tune = short_recipes(steps, steps // 4)
    return study


def laptop() -> Study:
    """Populations of ten, cut to what 2 cores do in at most 120 minutes."""
    study = preview("resnet8", 8, seeds=10, steps=1200)
    study.pipelines = pipelines((0.5, 0.7, 0.9))
    return study


def gpu() -> Study:
    """The published size of populations on a network that a GPU trains in minutes."""
    study = preview("resnet20", 16, seeds=30, steps=2000)
    study.model.precision = "tf32"
    return study


def subgroups() -> Study:
    """Digits in two colours, of which one is rare among high digits: who pays for compression?"""
    study = laptop()
    study.name = "forgotten_exemplars_subgroups"
    study.summary = "Populations of ResNet-8 of width 8 on coloured digits: 1 % is high and blue."
    study.data = Data(name="digits_coloured")
    study.train.steps, study.fine_tune.steps = 400, 100
    for recipe in (study.train, study.fine_tune):
        recipe.augment, recipe.batch = "crop", 64
    study.shift = Shift()
    return study


def noise() -> Study:
    """Digits with wrong labels among those trained on: are they what compression forgets?

    Labels are learned by heart only in many epochs of images that stay as they are.
    """
    study = laptop()
    study.name = "forgotten_exemplars_noise"
    study.summary = "Populations of ResNet-8 of width 8 on digits, 5 % of them wrongly labelled."
    study.data = Data(name="digits", label_noise=0.05)
    study.train.steps = 300
    study.train.augment, study.train.batch = "none", 64
    study.shift = Shift(train_images=1000)
    kept = ("dense_again", "prune50", "prune70", "prune90", "int8")
    study.pipelines = tuple(p for p in study.pipelines if p.name in kept)
    return study


def smoke() -> Study:
    """Every kind of population in seconds, on digits."""
    study = in_seconds(laptop())
    study.seeds = 5  # the least that makes a population
    study.predictor_images = 8
    study.shift = Shift(corruptions=("fog",), severities=(3,), images=100)
    study.pipelines = tuple(p for p in study.pipelines if p.name not in ("prune70", "float16"))
    return study


SCALES = {
    "smoke": smoke,
    "laptop": laptop,
    "subgroups": subgroups,
    "noise": noise,
    "gpu": gpu,
    "paper": paper,
    "celeba": celeba,
}
