"""Torchvision's names of our networks' weights: ResNet-18/34/50, VGG-11/16/19, MobileNetV2.

`torchvision_modules` maps our modules to theirs; their parts correspond so:

| ours | torchvision | |
|---|---|---|
| `kernel` [H, W, I, O] | `weight` [O, I, H, W] | axes turned |
| `kernel` [I, O] | `weight` [O, I] | transposed; VGG's first one reads H, W, C, not C, H, W |
| `scale`, `bias`, `mean`, `var` | `weight`, `bias`, `running_mean`, `running_var` | |
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from rcm.models.channels import block_name
from rcm.models.deep_resnet import DeepResNet
from rcm.models.mobilenet import STAGES, MobileNetV2
from rcm.models.vgg import CONVOLUTIONS, GRID, VGG

PARTS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def torchvision_modules(network: Any) -> dict[str, str]:
    """Our modules and torchvision's names of them, `stem/conv` and `conv1`; {} if it has none."""
    if isinstance(network, DeepResNet):
        return _resnet_modules(network)
    if isinstance(network, VGG):
        return _vgg_modules(network)
    return _mobilenet_modules() if isinstance(network, MobileNetV2) else {}


def torchvision_names(modules: dict[str, str], leaves: Iterable[str]) -> dict[str, str]:
    """{torchvision's name: ours} of leaves such as `params/stem/conv/kernel`."""
    names = {}
    for ours in leaves:
        module, part = ours.split("/", 1)[1].rsplit("/", 1)
        names[f"{modules[module]}.{PARTS.get(part, part)}"] = ours
    return names


def from_torchvision(ours: str, array: np.ndarray) -> np.ndarray:
    """Torchvision's array of the leaf `ours` with our order of axes."""
    if ours == "params/hidden1/kernel" and array.ndim == 2 and array.shape[1] % GRID**2 == 0:
        grid = array.reshape(len(array), -1, GRID, GRID)
        return grid.transpose(2, 3, 1, 0).reshape(array.shape[1], len(array))
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _resnet_modules(network: DeepResNet) -> dict[str, str]:
    modules = {"stem/conv": "conv1", "stem/norm": "bn1", "head": "fc"}
    for stage, blocks in enumerate(network.blocks):
        for block in range(blocks):
            ours, theirs = block_name(stage, block), f"layer{stage + 1}.{block}"
            for i in range(1, 4 if network.bottleneck else 3):
                modules[f"{ours}/conv{i}/conv"] = f"{theirs}.conv{i}"
                modules[f"{ours}/conv{i}/norm"] = f"{theirs}.bn{i}"
            if block == 0 and (stage > 0 or network.bottleneck):
                modules[f"{ours}/project/conv"] = f"{theirs}.downsample.0"
                modules[f"{ours}/project/norm"] = f"{theirs}.downsample.1"
    return modules


def _vgg_modules(network: VGG) -> dict[str, str]:
    """`features` counts convolutions, norms, activations and pools."""
    modules, place = {"head": "classifier.6"}, 0
    for stage, count in enumerate(CONVOLUTIONS[network.depth]):
        for i in range(count):
            name = f"stage{stage + 1}_conv{i + 1}"
            if network.norm:
                modules[f"{name}/conv"] = f"features.{place}"
                modules[f"{name}/norm"] = f"features.{place + 1}"
            else:
                modules[name] = f"features.{place}"
            place += 3 if network.norm else 2
        place += 1
    return {**modules, "hidden1": "classifier.0", "hidden2": "classifier.3"}


def _mobilenet_modules() -> dict[str, str]:
    """Torchvision counts the inverted residuals through, between the stem and the last norm."""
    pairs, place = {"stem": ("0.0", "0.1")}, 1
    for stage, (expansion, _, blocks, _) in enumerate(STAGES):
        for block in range(blocks):
            name, inside = block_name(stage, block), f"{place}.conv"
            parts = ("expand", "depthwise") if expansion > 1 else ("depthwise",)
            for i, part in enumerate(parts):
                pairs[f"{name}/{part}"] = (f"{inside}.{i}.0", f"{inside}.{i}.1")
            pairs[f"{name}/project"] = (f"{inside}.{len(parts)}", f"{inside}.{len(parts) + 1}")
            place += 1
    pairs["last"] = (f"{place}.0", f"{place}.1")
    modules = {"head": "classifier.1"}
    for ours, (conv, norm) in pairs.items():
        modules |= {f"{ours}/conv": f"features.{conv}", f"{ours}/norm": f"features.{norm}"}
    return modules
