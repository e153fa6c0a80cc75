"""name -> constructor of a Linen module `(classes, width, dtype) -> module`.

Every module lists its groups of channels (`channels()`), takes their `sizes`, and names its
`edges`, the first and the last layer; it exposes what its stages put out and ends in a `head`, both
of `rcm.models.layers`. A module whose field is called `shortcut`, `stem` or `classifier` takes that
from the config as well; `width` has the published value as its default.
"""

from functools import partial

from rcm.models.deep_resnet import DeepResNet
from rcm.models.mobilenet import MobileNetV2
from rcm.models.resnet import ResNet
from rcm.models.tiny import Tiny
from rcm.models.vgg import VGG
from rcm.models.wideresnet import WideResNet

MODELS = {
    "tiny": partial(Tiny),
    "resnet8": partial(ResNet, depth=8),
    "resnet20": partial(ResNet, depth=20),
    "resnet32": partial(ResNet, depth=32),
    "resnet44": partial(ResNet, depth=44),
    "resnet56": partial(ResNet, depth=56),
    "resnet110": partial(ResNet, depth=110),
    "resnet18": partial(DeepResNet, blocks=(2, 2, 2, 2)),
    "resnet34": partial(DeepResNet, blocks=(3, 4, 6, 3)),
    "resnet50": partial(DeepResNet, blocks=(3, 4, 6, 3), bottleneck=True),
    "vgg11": partial(VGG, depth=11),
    "vgg16": partial(VGG, depth=16),
    "vgg19": partial(VGG, depth=19),
    "vgg11_bn": partial(VGG, depth=11, norm=True),
    "vgg16_bn": partial(VGG, depth=16, norm=True),
    "vgg19_bn": partial(VGG, depth=19, norm=True),
    "mobilenet_v2": partial(MobileNetV2),
    "wrn16_8": partial(WideResNet, depth=16, widening=8),
    "wrn22_8": partial(WideResNet, depth=22, widening=8),
    "wrn28_10": partial(WideResNet, depth=28, widening=10),
}
