"""Convolutions of several members as few wide ones, for GPUs.

`vmap` over kernels makes one convolution with a group for every member, and cuDNN is slow on groups
of few channels: on an H200 sixteen ResNet-20s took as long side by side as one after the other.
Here neighbouring members share a group: their channels lie side by side and their kernels on the
diagonal of a wider one. It multiplies zeros, which tensor cores have to spare: three times as fast
in bfloat16, twice in tf32 (docs/benchmarks.md).

A zero times infinity is not zero. So what members share is made finite first, lest one that
diverges takes its neighbours along; it is marked by its own running statistics (`train_step`).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap

LAYOUT = ("NHWC", "HWIO", "NHWC")
WIDTH = 64  # channels of a group, at least: as fast as 32 or 128, or faster, but in float32
EXACT_WIDTH = 32  # float32 has no tensor cores, and zeros cost more
BOUND = 1e30  # of what is shared: far above any activation, and sums of it stay finite


def members_of_a_group(members: int, channels: int) -> int:
    """How many members of so many channels share a group: a divisor of their number.

    The smallest that fills the width, unless it overfills it twice; then the largest that fits.
    """
    precision = getattr(jax.config, "jax_default_matmul_precision")  # noqa: B009, as traced
    width = EXACT_WIDTH if precision == "highest" else WIDTH
    divisors = [n for n in range(1, members + 1) if members % n == 0]
    enough = min((n for n in divisors if n * channels >= width), default=members)
    if enough * channels <= 2 * width:
        return enough
    return max((n for n in divisors if n * channels <= width), default=1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_packed(x: Array, kernel: Array, stride: int) -> Array:
    """x [B, H, W, I] * kernel [S, S, I, O] -> [B, ceil(H/stride), ceil(W/stride), O], odd S.

    Zero padding of (S - 1) // 2 on every side; reverse-mode derivatives of first order. Under
    `vmap` over both arguments, members are packed.
    """
    return _over_members(partial(plain, stride=stride), x, kernel)


def _fwd(x: Array, kernel: Array, stride: int):
    return convolve_packed(x, kernel, stride), (x, kernel)


def _bwd(stride: int, residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    dx = _over_members(partial(_input_gradient, stride=stride, image=x.shape[1:3]), dy, kernel)
    into = partial(_weight_gradient, stride=stride, size=kernel.shape[0])
    return dx, _over_members(into, x, dy, gives_kernel=True)


convolve_packed.defvjp(_fwd, _bwd)


def _over_members(function: Callable, a: Array, b: Array, gives_kernel: bool = False) -> Array:
    """function(a, b, groups), which under vmap runs once, on packed members.

    a is images; b a kernel, or images where the result is a kernel.
    """
    mapped = custom_vmap(lambda a, b: function(a, b, groups=1))

    @mapped.def_vmap
    def _(members: int, batched, a: Array, b: Array):
        a, b = (
            x if mine else jnp.broadcast_to(x, (members, *x.shape))
            for x, mine in zip((a, b), batched, strict=True)
        )
        together = members_of_a_group(members, max(a.shape[-1], b.shape[-1]))
        groups = members // together
        if gives_kernel:
            made = function(side_by_side(a), side_by_side(b), groups=groups)
            return from_diagonal(made, members, together), True
        made = function(side_by_side(a), on_diagonal(b, together), groups=groups)
        return apart(made, members), True

    return mapped(a, b)


def side_by_side(images: Array) -> Array:
    """[M, B, H, W, C] -> [B, H, W, M C], finite."""
    shared = jnp.where(jnp.abs(images) < BOUND, images, BOUND)  # false of what is not a number
    members, batch, height, width, channels = images.shape
    return shared.transpose(1, 2, 3, 0, 4).reshape(batch, height, width, members * channels)


def apart(images: Array, members: int) -> Array:
    """[B, H, W, M C] -> [M, B, H, W, C]."""
    return images.reshape(*images.shape[:3], members, -1).transpose(3, 0, 1, 2, 4)


def on_diagonal(kernels: Array, together: int) -> Array:
    """[M, S, S, I, O] -> [S, S, together I, M O]: groups of `together` members, each with zeros
    where one member's outputs would read another's inputs."""
    members, size, _, inputs, outputs = kernels.shape
    grouped = kernels.reshape(-1, together, size, size, inputs, outputs)
    same = jnp.eye(together, dtype=bool).reshape(1, together, 1, 1, 1, together, 1)
    blocks = jnp.where(same, grouped[:, :, :, :, :, None], 0)  # [G, in, S, S, I, out, O]
    blocks = blocks.transpose(2, 3, 1, 4, 0, 5, 6)
    return blocks.reshape(size, size, together * inputs, members * outputs)


def from_diagonal(kernel: Array, members: int, together: int) -> Array:
    """What `on_diagonal` placed: [S, S, together I, M O] -> [M, S, S, I, O]."""
    size, _, inputs, outputs = kernel.shape
    shape = (size, size, together, inputs // together, -1, together, outputs // members)
    blocks = jnp.diagonal(kernel.reshape(shape), axis1=2, axis2=5)  # [S, S, I, G, O, member]
    blocks = blocks.transpose(3, 5, 0, 1, 2, 4)
    return blocks.reshape(members, size, size, *blocks.shape[4:])


def plain(x: Array, kernel: Array, stride: int, groups: int = 1) -> Array:
    """The convolution of `convolve_packed` as XLA lowers it; kernel [S, S, I / groups, O]."""
    pad = (kernel.shape[0] - 1) // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def _input_gradient(
    dy: Array, kernel: Array, stride: int, image: tuple[int, ...], groups: int
) -> Array:
    like = jax.ShapeDtypeStruct((dy.shape[0], *image, kernel.shape[2] * groups), dy.dtype)
    forward = partial(plain, kernel=kernel, stride=stride, groups=groups)
    return jax.linear_transpose(forward, like)(dy)[0]


def _weight_gradient(x: Array, dy: Array, stride: int, size: int, groups: int) -> Array:
    shape = (size, size, x.shape[-1] // groups, dy.shape[-1])
    forward = partial(plain, x, stride=stride, groups=groups)
    return jax.linear_transpose(forward, jax.ShapeDtypeStruct(shape, x.dtype))(dy)[0]
