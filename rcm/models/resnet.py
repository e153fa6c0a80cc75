"""The CIFAR ResNets of He et al. 2016 (arXiv 1512.03385, section 4.2): depth 6n + 2."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from rcm.models.channels import Channels, Sizes, block_name, inner_channels, residual_streams
from rcm.models.layers import ConvNorm, expose, head, standardise


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut: `A` pads channels with zeros, `B` projects.

    inner: channels between the convolutions; 0 is `features`.
    """

    features: int
    stride: int
    shortcut: str
    dtype: jnp.dtype
    inner: int = 0

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        inner = self.inner or self.features
        y = nn.relu(ConvNorm(inner, 3, self.stride, self.dtype, name="conv1")(x, train))
        y = ConvNorm(self.features, 3, 1, self.dtype, name="conv2")(y, train)
        if self.stride == 1 and x.shape[-1] == self.features:
            return nn.relu(y + x)
        if self.shortcut == "B":
            project = ConvNorm(self.features, 1, self.stride, self.dtype, name="project")
            return nn.relu(y + project(x, train))
        extra = self.features - x.shape[-1]
        x = x[:, :: self.stride, :: self.stride]
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))
        return nn.relu(y + x)


class ResNet(nn.Module):
    """Images [B, H, W, 3] in [0, 1] -> logits [B, classes], float32.

    Parameters and batch statistics are float32; `dtype` is what convolutions compute in. The first
    call raises ValueError for a depth that is not 6n + 2 or a shortcut other than `A` and `B`.
    """

    classes: int
    depth: int = 20
    width: int = 16
    shortcut: str = "A"
    dtype: jnp.dtype = jnp.float32
    sizes: Sizes = ()
    classifier: str = "linear"
    edges: ClassVar[tuple[str, ...]] = ("stem", "head")  # the first and the last layer

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        if self.depth < 8 or (self.depth - 2) % 6:
            raise ValueError(f"depth {self.depth} is not 6n + 2 with n >= 1; use 8, 20, 32, ...")
        if self.shortcut not in ("A", "B"):
            raise ValueError(f"unknown shortcut {self.shortcut!r}; use 'A' or 'B'.")
        x = standardise(images, self.dtype)
        sizes = dict(self.sizes)
        x = nn.relu(
            ConvNorm(sizes.get("stage1", self.width), dtype=self.dtype, name="stem")(x, train)
        )
        for stage in range(3):
            features = sizes.get(f"stage{stage + 1}", self.width << stage)
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                name = block_name(stage, block)
                inner = sizes.get(f"{name}/conv1", self.width << stage)
                x = Block(features, stride, self.shortcut, self.dtype, inner, name=name)(x, train)
            expose(self, x)
        x = x.astype(jnp.float32).mean((1, 2))
        return head(self.classifier, self.classes)(x)

    @property
    def blocks(self) -> int:
        """Residual blocks of each of the three stages."""
        return (self.depth - 2) // 6

    def channels(self) -> tuple[Channels, ...]:
        """Groups of channels; the streams are separable only where shortcuts project."""
        blocks = (self.blocks,) * 3
        inner = inner_channels(blocks, 2)
        if self.shortcut == "A":
            return tuple(inner)
        streams = residual_streams(blocks, "conv2", ("conv1",), joined=True)
        return (*inner, *streams)
