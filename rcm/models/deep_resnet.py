"""The deep residual networks of He et al. 2016 (arXiv 1512.03385, table 1): ResNet-18, -34, -50.

Stride 2 sits in the 3 x 3 convolution of a bottleneck, as in torchvision, not in the 1 x 1 before
it: the published 25.6 M parameters, and 4.1 instead of 3.8 G multiply-accumulates at 224 x 224.
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from rcm.models.channels import Channels, Sizes, block_name, inner_channels, residual_streams
from rcm.models.layers import ConvNorm, expose, head, standardise
from rcm.models.resnet import Block

EXPANSION = 4  # output over inner channels of a bottleneck
# By zeros: behind a relu they are as good as -inf, which no integer kernel can hold.
POOL_PADDING = ((0, 0), (1, 1), (1, 1), (0, 0))


class Bottleneck(nn.Module):
    """1 x 1 down, 3 x 3, 1 x 1 up to `features`, and a shortcut that projects where told to.

    inner: channels behind the first and the second convolution.
    """

    features: int
    inner: tuple[int, int]
    stride: int
    project: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        y = nn.relu(ConvNorm(self.inner[0], 1, 1, self.dtype, name="conv1")(x, train))
        y = nn.relu(ConvNorm(self.inner[1], 3, self.stride, self.dtype, name="conv2")(y, train))
        y = ConvNorm(self.features, 1, 1, self.dtype, name="conv3")(y, train)
        if self.project:
            x = ConvNorm(self.features, 1, self.stride, self.dtype, name="project")(x, train)
        return nn.relu(y + x)


class DeepResNet(nn.Module):
    """Images [B, H, W, 3] in [0, 1] -> logits [B, classes], float32.

    blocks: residual blocks of each stage, of which all but the first halve the image. stem: `cifar`
    is one 3 x 3 convolution, `imagenet` 7 x 7 with stride 2 and a 3 x 3 max pool with stride 2.
    inputs: of `standardise`.
    """

    classes: int
    blocks: tuple[int, ...]
    bottleneck: bool = False
    width: int = 64
    stem: str = "cifar"
    inputs: str = "symmetric"
    dtype: jnp.dtype = jnp.float32
    sizes: Sizes = ()
    classifier: str = "linear"
    edges: ClassVar[tuple[str, ...]] = ("stem", "head")  # the first and the last layer

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        x = standardise(images, self.dtype, self.inputs)
        large = self.stem == "imagenet"
        features = dict(self.sizes).get("stem" if self.bottleneck else "stage1", self.width)
        stem = ConvNorm(features, 7 if large else 3, 2 if large else 1, self.dtype, name="stem")
        x = nn.relu(stem(x, train))
        if large:
            x = nn.max_pool(jnp.pad(x, POOL_PADDING), (3, 3), (2, 2))
        for stage, blocks in enumerate(self.blocks):
            for block in range(blocks):
                x = self._block(stage, block)(x, train)
            expose(self, x)
        x = x.astype(jnp.float32).mean((1, 2))
        return head(self.classifier, self.classes)(x)

    def _block(self, stage: int, block: int) -> nn.Module:
        stride = 2 if stage > 0 and block == 0 else 1
        sizes, name, narrow = dict(self.sizes), block_name(stage, block), self.width << stage
        inner = [sizes.get(f"{name}/conv{i}", narrow) for i in (1, 2)]
        features = sizes.get(f"stage{stage + 1}", narrow * (EXPANSION if self.bottleneck else 1))
        if self.bottleneck:
            pair = (inner[0], inner[1])
            return Bottleneck(features, pair, stride, block == 0, self.dtype, name=name)
        return Block(features, stride, "B", self.dtype, inner[0], name=name)

    def channels(self) -> tuple[Channels, ...]:
        """Groups of channels: inside the blocks, and the residual streams."""
        last = 3 if self.bottleneck else 2
        inner = inner_channels(self.blocks, last)
        streams = residual_streams(
            self.blocks, f"conv{last}", ("conv1",), joined=not self.bottleneck
        )
        return (*inner, *streams)
