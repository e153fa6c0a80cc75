"""What compression costs on handwritten digits: the first thing to run.

Claim      none of a paper: a balanced set and a long tail, four kinds of compression, six shifts
Command    python launch.py
Hardware   2 CPU cores, under 2 minutes; nothing is downloaded
Expected   int8 and 16 clusters nearly free; heavy pruning and a small student pay, most in the tail
"""

from rcm.compress import Cluster, Prune, Quantize
from rcm.config import Data, Distill, Model, Pipeline, Shift, Study, Train, choose

CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "brightness", "contrast", "pixelate",
)  # fmt: skip


def get_config(scale: str = "") -> Study:
    """The quickstart; `smoke` shrinks it to seconds for tests."""
    choose("scale of quickstart", scale, ("", "smoke"))
    recipe = {"batch": 64, "schedule": "cosine", "augment": "crop"}
    study = Study(
        name="quickstart",
        title="What compression costs on handwritten digits",
        summary="ResNet-8 of width 8 on scikit-learn's digits, balanced and long-tailed.",
        seeds=3,
        data=Data(name="digits", ratios=(1, 20)),
        model=Model(name="resnet8", width=8),
        train=Train(steps=150, learning_rate=0.1, warmup_epochs=1, **recipe),
        fine_tune=Train(steps=60, learning_rate=0.05, warmup_epochs=0, **recipe),
        shift=Shift(corruptions=CORRUPTIONS, severities=(2, 4)),
        pipelines=(
            Pipeline("prune80", (Prune(0.8),)),
            Pipeline("int8", (Quantize(8),)),
            Pipeline("int4", (Quantize(4),)),
            Pipeline("cluster16", (Cluster(16),)),
            Pipeline("distilled", (Distill(width=4),)),
            Pipeline("prune80_int8", (Prune(0.8), Quantize(8))),
        ),
    )
    if scale == "smoke":
        study.model = Model(name="tiny", width=8)
        study.train.steps = study.fine_tune.steps = 3
        study.seeds, study.shift = 2, Shift(CORRUPTIONS[:2], severities=(3,), images=200)
    return study
