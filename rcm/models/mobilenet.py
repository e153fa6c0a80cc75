"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2)."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from rcm.models.channels import Channels, Sizes, block_name
from rcm.models.layers import ConvNorm, expose, head, standardise

# expansion, channels, blocks, stride of the first block (ImageNet)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, LAST = 32, 1280  # channels at multiplier 1
CIFAR_FULL_STAGES = 2  # stages that keep the image's size with the stem `cifar`


def divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, or the next one where that is more than 10 % smaller."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class InvertedResidual(nn.Module):
    """1 x 1 up (unless expansion is 1), 3 x 3 depthwise, linear 1 x 1 down; identity if told to.

    The depthwise convolution is the module `depthwise`, by which compressors know it. inner: its
    channels.
    """

    features: int
    inner: int
    stride: int
    expand: bool
    identity: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        y = x
        if self.expand:
            y = nn.relu6(ConvNorm(self.inner, 1, 1, self.dtype, name="expand")(y, train))
        depthwise = ConvNorm(
            self.inner, 3, self.stride, self.dtype, groups=self.inner, name="depthwise"
        )
        y = nn.relu6(depthwise(y, train))
        y = ConvNorm(self.features, 1, 1, self.dtype, name="project")(y, train)
        return y + x if self.identity else y


class MobileNetV2(nn.Module):
    """Images [B, H, W, 3] in [0, 1] -> logits [B, classes], float32; without dropout.

    width: channels of the stem, 32 times the published width multiplier. stem `cifar`: the stem and
    the first two stages keep the image's size, so that 32 x 32 ends at 4 x 4; `imagenet`: 1/32.
    inputs: of `standardise`.
    """

    classes: int
    width: int = STEM
    stem: str = "cifar"
    inputs: str = "symmetric"
    dtype: jnp.dtype = jnp.float32
    sizes: Sizes = ()
    classifier: str = "linear"
    edges: ClassVar[tuple[str, ...]] = ("stem", "head")  # the first and the last layer

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        sizes, cifar = dict(self.sizes), self.stem == "cifar"
        x = standardise(images, self.dtype, self.inputs)
        features = sizes.get("stem", divisible(self.width))
        stem = ConvNorm(features, 3, 1 if cifar else 2, self.dtype, name="stem")
        x = nn.relu6(stem(x, train))
        strides = [1] * CIFAR_FULL_STAGES if cifar else []
        strides += [stride for *_, stride in STAGES[len(strides) :]]
        for stage, (_, _, blocks, _) in enumerate(STAGES):
            for block in range(blocks):
                x = self._block(stage, block, strides[stage] if block == 0 else 1)(x, train)
            if 2 in strides[stage + 1 : stage + 2] or stage + 1 == len(STAGES):
                expose(self, x)  # what stages of one resolution end with
        last = sizes.get("last", divisible(LAST * max(1.0, self.width / STEM)))
        x = nn.relu6(ConvNorm(last, 1, 1, self.dtype, name="last")(x, train))
        x = x.astype(jnp.float32).mean((1, 2))
        return head(self.classifier, self.classes)(x)

    def _block(self, stage: int, block: int, stride: int) -> nn.Module:
        sizes, name = dict(self.sizes), block_name(stage, block)
        expansion = STAGES[stage][0]
        outputs = self._published(stage)
        inputs = self._published(stage if block else stage - 1)
        inner = sizes.get(f"{name}/depthwise", expansion * inputs)
        if expansion == 1:  # it works on the stream itself
            inner = sizes.get("stem", inputs)
        return InvertedResidual(
            sizes.get(f"stage{stage + 1}", outputs),
            inner,
            stride,
            expand=expansion > 1,
            identity=block > 0,
            dtype=self.dtype,
            name=name,
        )

    def _published(self, stage: int) -> int:
        """Channels of a stage's stream; stage -1 is the stem."""
        channels = STEM if stage < 0 else STAGES[stage][1]
        return divisible(channels * self.width / STEM)

    def channels(self) -> tuple[Channels, ...]:
        """Groups of channels: inside the blocks, the streams, and the last convolution."""
        names = [
            [block_name(stage, block) for block in range(blocks)]
            for stage, (_, _, blocks, _) in enumerate(STAGES)
        ]
        groups = [
            Channels(
                f"{name}/depthwise",
                stage + 1,
                (f"{name}/expand", f"{name}/depthwise"),
                (f"{name}/project",),
            )
            for stage, blocks in enumerate(names)
            for name in blocks
            if STAGES[stage][0] > 1
        ]
        first = names[0][0]
        groups.append(
            Channels("stem", 0, ("stem", f"{first}/depthwise"), (f"{first}/project",), True)
        )
        for stage, blocks in enumerate(names):
            following = f"{names[stage + 1][0]}/expand" if stage + 1 < len(names) else "last"
            inputs = (*(f"{name}/expand" for name in blocks[1:]), following)
            outputs = tuple(f"{name}/project" for name in blocks)
            groups.append(Channels(f"stage{stage + 1}", stage + 1, outputs, inputs, True))
        return (*groups, Channels("last", 0, ("last",), ("head",)))
