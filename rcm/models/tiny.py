"""A two-convolution net for tests: every layer type, milliseconds to compile."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from rcm.models.channels import Channels, Sizes
from rcm.models.layers import ConvNorm, expose, head, standardise


class Tiny(nn.Module):
    """Images [B, H, W, 3] in [0, 1] -> logits [B, classes], float32."""

    classes: int
    width: int = 4
    dtype: jnp.dtype = jnp.float32
    sizes: Sizes = ()
    classifier: str = "linear"
    edges: ClassVar[tuple[str, ...]] = ("stem", "head")  # the first and the last layer

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        x = standardise(images, self.dtype)
        inner = dict(self.sizes).get("stem", self.width)
        x = nn.relu(ConvNorm(inner, stride=2, dtype=self.dtype, name="stem")(x, train))
        expose(self, x)
        x = nn.relu(ConvNorm(self.width * 2, dtype=self.dtype, name="conv")(x, train))
        expose(self, x)
        x = x.astype(jnp.float32).mean((1, 2))
        return head(self.classifier, self.classes)(x)

    def channels(self) -> tuple[Channels, ...]:
        """One group: the stem's channels."""
        return (Channels("stem", 1, ("stem",), ("conv",)),)
