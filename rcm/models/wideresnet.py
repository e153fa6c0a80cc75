"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv 1605.07146): depth 6n + 4."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from rcm.models.channels import Channels, Sizes, block_name, inner_channels, residual_streams
from rcm.models.layers import Conv, ConvNorm, Norm, expose, head, standardise


class PreactivationBlock(nn.Module):
    """Norm and relu before each of two 3 x 3 convolutions; a 1 x 1 shortcut where told to.

    `conv1` and the norm behind it are one ConvNorm, so that folding finds the pair; the other norm
    works on a sum and cannot be folded. inner: channels between the convolutions.
    """

    features: int
    inner: int
    stride: int
    project: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        active = nn.relu(Norm(name="norm")(x, train))
        y = ConvNorm(self.inner, 3, self.stride, self.dtype, name="conv1")(active, train)
        y = Conv(self.features, 3, 1, self.dtype, name="conv2")(nn.relu(y))
        if self.project:
            x = Conv(self.features, 1, self.stride, self.dtype, name="project")(active)
        return y + x


class WideResNet(nn.Module):
    """Images [B, H, W, 3] in [0, 1] -> logits [B, classes], float32; without dropout.

    The stem has `width` channels, the three stages width * widening * (1, 2, 4). The first call
    raises ValueError for a depth that is not 6n + 4.
    """

    classes: int
    depth: int = 16
    widening: int = 8
    width: int = 16
    dtype: jnp.dtype = jnp.float32
    sizes: Sizes = ()
    classifier: str = "linear"
    edges: ClassVar[tuple[str, ...]] = ("stem", "head")  # the first and the last layer

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(f"depth {self.depth} is not 6n + 4 with n >= 1; use 10, 16, 22, ...")
        x = standardise(images, self.dtype)
        sizes = dict(self.sizes)
        x = Conv(sizes.get("stem", self.width), dtype=self.dtype, name="stem")(x)
        for stage in range(3):
            wide = self.width * self.widening << stage
            features = sizes.get(f"stage{stage + 1}", wide)
            for block in range(self.blocks):
                name, stride = block_name(stage, block), 2 if stage > 0 and block == 0 else 1
                inner = sizes.get(f"{name}/conv1", wide)
                x = PreactivationBlock(features, inner, stride, block == 0, self.dtype, name=name)(
                    x, train
                )
            expose(self, x)
        x = nn.relu(Norm(name="norm")(x, train))
        x = x.astype(jnp.float32).mean((1, 2))
        return head(self.classifier, self.classes)(x)

    @property
    def blocks(self) -> int:
        """Residual blocks of each of the three stages."""
        return (self.depth - 4) // 6

    def channels(self) -> tuple[Channels, ...]:
        """Groups of channels; the norms that read a stream belong to it."""
        names = [[block_name(stage, i) for i in range(self.blocks)] for stage in range(3)]
        inner = inner_channels((self.blocks,) * 3, 2)
        norms = {"stem": [f"{names[0][0]}/norm"]}
        for stage, blocks in enumerate(names):
            following = f"{names[stage + 1][0]}/norm" if stage < 2 else "norm"
            norms[f"stage{stage + 1}"] = [*(f"{name}/norm" for name in blocks[1:]), following]
        streams = residual_streams((self.blocks,) * 3, "conv2", ("conv1",), joined=False)
        return (
            *inner,
            *(s._replace(outputs=(*s.outputs, *norms[s.name])) for s in streams),
        )
