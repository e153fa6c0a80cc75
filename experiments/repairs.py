"""Which repair gives a compressed network its tail back, and is it needed before, while or after?

Source     S1's "beyond" and S5; each repair's own paper (docs/techniques.md); constants published
Claims     none: read the tail recall of a row beside that of its step without a repair, at the same
           ratio and seeds; the baseline of a row is the dense member under the same repair
Command    python launch.py --config=experiments/repairs.py:laptop
Scales     smoke: seconds, digits, a tiny net
           laptop: 2 CPU cores, at most 120 minutes, ResNet-8 on CIFAR-10 at ratio 100, 3 seeds
           before: laptop with the dense member trained by the adjusted loss; any other repair of it
           is an override, as --config.train.weights=class_balanced --config.train.defer=0.8
           cosine: laptop on normalised classifiers, which LDAM needs; with LDAM-DRW, also of the
           dense member by --config.train.loss=ldam and the two overrides above
           paper: an accelerator; ResNet-56, 200 epochs, 5 seeds, with a cosine classifier
Expected   adjusted losses and adjustments raise tail recall and cost head recall, most at the
           largest tau; what is deferred within a fine-tuning does little: the last fifth of a
           cosine holds 1.3 % of its learning rates' sum, and the weights' mean over examples is
           0.17

Ratio 100 alone: on balanced classes all weights are 1 and all offsets cancel.
"""

from functools import partial

from rcm.compress import QAT, Adjust, Prune, PruneFilters, Quantize
from rcm.config import Data, Model, Pipeline, Study, Train, choose
from rcm.scales import fine_tuning, in_seconds, short_recipes
from rcm.steps import tuned

TAUS = (0.5, 1.0, 1.5)
STEPS = {
    "prune80": Prune(0.8, schedule="cubic"),
    "filters": PruneFilters((0.6, 0.5, 0.3)),
    "qat_w4a4": QAT(4, 4),
}
# Fine-tuning is the end of a member's training: weights of all of it are deferred already, those
# with `defer` hold for its own last fifth.
IN_TRAINING = {
    "weights": {"weights": "class_balanced"},
    "drw": {"weights": "class_balanced", "defer": 0.8},
    "sampling": {"sampling": "class_balanced"},
    **{f"loss{tau:g}": {"loss": "logit_adjusted", "tau": tau} for tau in TAUS},
}
LDAM_DRW = {"ldam_drw": {"loss": "ldam", "weights": "class_balanced", "defer": 0.8}}


def get_config(scale: str = "laptop") -> Study:
    """The study at one of the scales `smoke`, `laptop`, `before`, `cosine` and `paper`."""
    choose("scale of repairs", scale, SCALES)
    return SCALES[scale]()


def pipelines(recipes: dict, taus: tuple[float, ...] = TAUS) -> tuple[Pipeline, ...]:
    """Every step without a repair, fine-tuned by each recipe, and adjusted afterwards."""
    made = []
    for name, step in STEPS.items():
        made.append(Pipeline(name, (step,)))
        made += [Pipeline(f"{name}_{r}", (tuned(step, **how),)) for r, how in recipes.items()]
        made += [Pipeline(f"{name}_after{tau:g}", (step, Adjust(tau))) for tau in taus]
    after_int4 = (Pipeline(f"int4_after{tau:g}", (Quantize(4, 8), Adjust(tau))) for tau in taus)
    return (*made, Pipeline("int4", (Quantize(4, 8),)), *after_int4)


def paper() -> Study:
    """Every repair of every step, at the field's recipe."""
    return Study(
        name="repairs",
        title="Which repair gives a compressed network its tail back?",
        summary="Long-tailed CIFAR-10: repairs in the fine-tuning of a compression or after it.",
        seeds=5,
        data=Data(name="cifar10", ratios=(100,)),
        model=Model(name="resnet56", width=16, classifier="cosine"),
        train=Train(),
        fine_tune=fine_tuning(epochs=70),
        pipelines=pipelines(IN_TRAINING | LDAM_DRW),
    )


def laptop(classifier: str = "linear", loss: str = "cross_entropy") -> Study:
    """The same of ResNet-8. `loss` is the dense member's; one that is adjusted in training is not
    adjusted again afterwards."""
    study = paper()
    study.title += " (a preview)"
    study.preview = "A laptop-scale preview: a small network, a short recipe and few seeds."
    study.seeds = 3
    study.model = Model(name="resnet8", width=8, classifier=classifier)
    study.train, study.fine_tune = short_recipes(2500, 500)
    study.train.loss = loss
    recipes = IN_TRAINING | (LDAM_DRW if classifier == "cosine" else {})
    repaired = loss != "cross_entropy"
    study.summary += " The dense member is repaired, too." if repaired else ""
    study.pipelines = pipelines(recipes, () if repaired else TAUS)
    return study


def smoke() -> Study:
    """One step under a repair of each kind, on digits."""
    study = in_seconds(laptop("cosine"), ratios=(10,))
    kept = ("prune80", "prune80_sampling", "prune80_loss1", "prune80_ldam_drw", "prune80_after1")
    study.pipelines = tuple(p for p in study.pipelines if p.name in kept)
    return study


SCALES = {
    "smoke": smoke,
    "laptop": laptop,
    "before": partial(laptop, loss="logit_adjusted"),
    "cosine": partial(laptop, classifier="cosine"),
    "paper": paper,
}
