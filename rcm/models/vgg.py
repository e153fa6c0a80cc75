"""VGG (Simonyan & Zisserman 2015, arXiv 1409.1556), with and without batch norm."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from rcm.models.channels import Channels, Sizes
from rcm.models.layers import Conv, ConvNorm, Dense, expose, head, standardise

# convolutions in each of the five stages, configurations A, D and E of the paper's table 1
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
MULTIPLES = (1, 2, 4, 8, 8)  # of `width`, by stage
HIDDEN = 4096  # of both hidden layers of the ImageNet head
GRID = 7  # pixels a side that the ImageNet head reads


class VGG(nn.Module):
    """Images [B, H, W, 3] in [0, 1] -> logits [B, classes], float32; without dropout.

    Convolutions have biases also before a norm, as in torchvision. stem `cifar`: the head is one
    dense layer on the channels' means; `imagenet`: three dense layers on a grid of 7 x 7 (in the
    order height, width, channel). The first call raises ValueError for another depth than 11, 16
    and 19, for images that five halvings leave nothing of, and, with the ImageNet head, for images
    whose sides are no multiples of 224. inputs: of `standardise`.
    """

    classes: int
    depth: int = 16
    norm: bool = False
    width: int = 64
    stem: str = "cifar"
    inputs: str = "symmetric"
    dtype: jnp.dtype = jnp.float32
    sizes: Sizes = ()
    classifier: str = "linear"
    edges: ClassVar[tuple[str, ...]] = ("stage1_conv1", "head")  # the first and the last layer

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        if self.depth not in CONVOLUTIONS:
            raise ValueError(f"no VGG of depth {self.depth}; use 11, 16 or 19.")
        if min(images.shape[1:3]) < 32:
            raise ValueError(f"VGG needs images of 32 x 32 or larger, not {images.shape[1:3]}.")
        x = standardise(images, self.dtype, self.inputs)
        for stage, (count, multiple) in enumerate(
            zip(CONVOLUTIONS[self.depth], MULTIPLES, strict=True)
        ):
            for i in range(count):
                name = f"stage{stage + 1}_conv{i + 1}"
                features = dict(self.sizes).get(name, multiple * self.width)
                x = nn.relu(self._convolution(features, name, x, train))
            expose(self, x)
            x = halved(x)
        x = x.astype(jnp.float32)
        x = self._hidden(x) if self.stem == "imagenet" else x.mean((1, 2))
        return head(self.classifier, self.classes)(x)

    def _convolution(self, features: int, name: str, x: Array, train: bool) -> Array:
        if self.norm:
            return ConvNorm(features, dtype=self.dtype, use_bias=True, name=name)(x, train)
        return Conv(features, dtype=self.dtype, use_bias=True, name=name)(x)

    def _hidden(self, x: Array) -> Array:
        _, height, width, _ = x.shape
        if height % GRID or width % GRID:
            raise ValueError(
                f"VGG's ImageNet head needs images whose sides are multiples of {32 * GRID}: "
                "resize them or use the stem 'cifar'."
            )
        window = (height // GRID, width // GRID)
        x = nn.avg_pool(x, window, window)
        x = x.reshape(x.shape[0], -1)
        for i in (1, 2):
            x = nn.relu(Dense(HIDDEN, name=f"hidden{i}")(x))
        return x

    def channels(self) -> tuple[Channels, ...]:
        """Every convolution is a group of its own, read by the next."""
        names = [
            (stage, f"stage{stage + 1}_conv{i + 1}")
            for stage, count in enumerate(CONVOLUTIONS[self.depth])
            for i in range(count)
        ]
        first = "hidden1" if self.stem == "imagenet" else "head"
        readers = [name for _, name in names[1:]] + [first]
        return tuple(
            Channels(name, stage + 1, (name,), (reader,))
            for (stage, name), reader in zip(names, readers, strict=True)
        )


def halved(x: Array) -> Array:
    """The largest of each 2 x 2 pixels: [B, H, W, C] -> [B, H // 2, W // 2, C].

    Six times as fast as `nn.max_pool` on a CPU, with gradients; of equal largest pixels each gets
    its share of the gradient there, the first all of it in `nn.max_pool`.
    """
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
