"""Parameters and multiply-accumulates of a network, counted without running it."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rcm.models.layers import Conv, Dense


class Count(NamedTuple):
    """parameters: trained numbers; macs: multiply-accumulates of one image in convolutions and
    dense layers, which is what papers count (often under the name of FLOPs); outputs: numbers that
    these layers put out for one image."""

    parameters: int
    macs: int
    outputs: int


@cache
def count(model: nn.Module, image: tuple[int, int, int]) -> Count:
    """The count of a network on one image [H, W, 3]; from shapes alone, once."""
    macs = outputs = 0

    def listen(call: Callable, arguments: tuple, options: dict, context: Any) -> Any:
        nonlocal macs, outputs
        made = call(*arguments, **options)
        if isinstance(context.module, (Conv, Dense)) and context.method_name == "__call__":
            kernel: Any = context.module.get_variable("params", "kernel")
            macs += int(np.prod(made.shape[1:-1])) * kernel.size
            outputs += int(np.prod(made.shape[1:]))
        return made

    with nn.intercept_methods(listen):
        shapes: Any = jax.eval_shape(
            model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *image), np.float32)
        )
    return Count(sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])), macs, outputs)
