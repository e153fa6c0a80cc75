"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv 1605.07146): depth 6n + 4."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from rcm.models.layers import Conv, ConvNorm, Dense, Norm


class PreactivationBlock(nn.Module):
    """Norm and relu before each of two 3 x 3 convolutions; a 1 x 1 shortcut where shapes change.

    `conv1` and the norm behind it are one ConvNorm, so that folding finds the pair; the other norm
    works on a sum and cannot be folded.
    """

    features: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        active = nn.relu(Norm(name="norm")(x, train))
        y = ConvNorm(self.features, 3, self.stride, self.dtype, name="conv1")(active, train)
        y = Conv(self.features, 3, 1, self.dtype, name="conv2")(nn.relu(y))
        if self.stride > 1 or x.shape[-1] != self.features:
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

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(f"depth {self.depth} is not 6n + 4 with n >= 1; use 10, 16, 22, ...")
        x = ((images - 0.5) / 0.25).astype(self.dtype)
        x = Conv(self.width, dtype=self.dtype, name="stem")(x)
        for stage in range(3):
            for block in range((self.depth - 4) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                features = self.width * self.widening * 2**stage
                name = f"stage{stage + 1}_block{block + 1}"
                x = PreactivationBlock(features, stride, self.dtype, name=name)(x, train)
        x = nn.relu(Norm(name="norm")(x, train))
        x = x.astype(jnp.float32).mean((1, 2))
        return Dense(self.classes, name="head")(x)
