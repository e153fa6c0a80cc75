"""What compression costs on handwritten digits: the first thing to run.

Claim      none of a paper; a small long tail (1 and 20), four kinds of compression, six shifts
Command    python launch.py
Hardware   2 CPU cores, under 2 minutes, nothing is downloaded
Expected   dense about 98 % at ratio 1; int8 free, prune 90 % and the tail pay
"""

from rcm.compress import Cluster, Prune, Quantize
from rcm.config import Data, Distill, Model, Pipeline, Shift, Study, Train


def get_config(scale: str = "") -> Study:
    """The quickstart; `smoke` shrinks it to seconds for tests."""
    train = Train(
        steps=150, batch=64, schedule="cosine", learning_rate=0.1, warmup_epochs=1, augment="crop"
    )
    fine_tune = Train(
        steps=50, batch=64, schedule="cosine", learning_rate=0.02, warmup_epochs=0, augment="crop"
    )
    study = Study(
        name="quickstart",
        title="What compression costs on handwritten digits",
        summary="ResNet-8 on scikit-learn's digits, balanced and long-tailed.",
        seeds=2,
        data=Data(name="digits", ratios=(1, 20)),
        model=Model(name="resnet8", width=8),
        train=train,
        fine_tune=fine_tune,
        shift=Shift(
            corruptions=(
                "gaussian_noise", "shot_noise", "impulse_noise",
                "brightness", "contrast", "pixelate",
            ),
            severities=(1, 3, 5),
        ),
        pipelines=(
            Pipeline("prune90", (Prune(0.9),)),
            Pipeline("int8", (Quantize(8),)),
            Pipeline("int4", (Quantize(4),)),
            Pipeline("cluster16", (Cluster(16),)),
            Pipeline("distil_w4", (Distill(width=4),)),
            Pipeline("prune90_int8", (Prune(0.9), Quantize(8))),
        ),
    )  # fmt: skip
    if scale == "smoke":
        study.model = Model(name="tiny", width=4)
        study.train.steps = study.fine_tune.steps = 3
    return study
