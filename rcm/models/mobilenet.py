"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2)."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from rcm.models.layers import ConvNorm, Dense

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
    """1 x 1 up (unless expansion is 1), 3 x 3 depthwise, linear 1 x 1 down; identity if it fits.

    The depthwise convolution is the module `depthwise`, by which compressors know it.
    """

    expansion: int
    features: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        inputs, inner = x.shape[-1], x.shape[-1] * self.expansion
        y = x
        if self.expansion > 1:
            y = nn.relu6(ConvNorm(inner, 1, 1, self.dtype, name="expand")(y, train))
        depthwise = ConvNorm(inner, 3, self.stride, self.dtype, groups=inner, name="depthwise")
        y = ConvNorm(self.features, 1, 1, self.dtype, name="project")(
            nn.relu6(depthwise(y, train)), train
        )
        return y + x if self.stride == 1 and inputs == self.features else y


class MobileNetV2(nn.Module):
    """Images [B, H, W, 3] in [0, 1] -> logits [B, classes], float32; without dropout.

    width: channels of the stem, 32 times the published width multiplier. stem `cifar`: the stem and
    the first two stages keep the image's size, so that 32 x 32 ends at 4 x 4; `imagenet`: 1/32.
    """

    classes: int
    width: int = STEM
    stem: str = "cifar"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        multiplier, cifar = self.width / STEM, self.stem == "cifar"
        x = ((images - 0.5) / 0.25).astype(self.dtype)
        stem = ConvNorm(divisible(self.width), 3, 1 if cifar else 2, self.dtype, name="stem")
        x = nn.relu6(stem(x, train))
        for stage, (expansion, channels, blocks, stride) in enumerate(STAGES):
            first = 1 if cifar and stage < CIFAR_FULL_STAGES else stride
            for block in range(blocks):
                x = InvertedResidual(
                    expansion,
                    divisible(channels * multiplier),
                    first if block == 0 else 1,
                    self.dtype,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train)
        last = divisible(LAST * max(1.0, multiplier))
        x = nn.relu6(ConvNorm(last, 1, 1, self.dtype, name="last")(x, train))
        x = x.astype(jnp.float32).mean((1, 2))
        return Dense(self.classes, name="head")(x)
