"""name -> constructor of a Linen module `(classes, width, dtype) -> module`."""

from functools import partial

from rcm.models.resnet import ResNet
from rcm.models.tiny import Tiny

MODELS = {
    "tiny": Tiny,
    "resnet8": partial(ResNet, depth=8),
    "resnet20": partial(ResNet, depth=20),
    "resnet32": partial(ResNet, depth=32),
    "resnet44": partial(ResNet, depth=44),
    "resnet56": partial(ResNet, depth=56),
    "resnet110": partial(ResNet, depth=110),
}
