"""Depthwise convolutions on a CPU: sums of shifted images, one image after the other.

XLA's CPU backend has no fast kernel for them, and a sum over the taps of a whole batch reads it
from memory once a tap, backwards twice. A single image stays in the cache, and the loop keeps XLA
from computing the producers of x anew for every tap (docs/benchmarks.md).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_depthwise(x: Array, kernel: Array, stride: int) -> Array:
    """x [B, H, W, C] * kernel [S, S, 1, C] -> [B, ceil(H/stride), ceil(W/stride), C], odd S.

    Zero padding of (S - 1) // 2 on every side; reverse-mode derivatives of first order.
    """
    return lax.map(partial(_of_image, kernel=kernel, stride=stride), x)


def _fwd(x: Array, kernel: Array, stride: int):
    return convolve_depthwise(x, kernel, stride), (x, kernel)


def _bwd(stride: int, residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals

    def of_image(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        image, given = pair
        products = [(tap * given).sum((0, 1)) for tap in _taps(image, kernel.shape[0], stride)]
        spread = _between_zeros(given, stride, image.shape[:2])
        return _of_image(spread, kernel[::-1, ::-1], 1), jnp.stack(products)

    dx, of_images = lax.map(of_image, (x, dy))
    return dx, of_images.sum(0).reshape(kernel.shape)


convolve_depthwise.defvjp(_fwd, _bwd)


def _of_image(image: Array, kernel: Array, stride: int) -> Array:
    weights = kernel.reshape(-1, 1, 1, kernel.shape[-1])
    taps, nothing = _taps(image, kernel.shape[0], stride), jnp.zeros((), image.dtype)
    return sum((tap * weight for tap, weight in zip(taps, weights, strict=True)), nothing)


def _taps(image: Array, size: int, stride: int) -> list[Array]:
    """The image [H, W, C] as every tap of the kernel sees it, row by row."""
    height, width = image.shape[:2]
    pad = (size - 1) // 2
    image = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    return [
        image[row : row + height : stride, column : column + width : stride]
        for row in range(size)
        for column in range(size)
    ]


def _between_zeros(dy: Array, stride: int, shape: tuple[int, ...]) -> Array:
    """dy [h, w, C] in the places of the image [H, W, C] that its pixels were centred on."""
    gaps = [
        (0, into - 1 - stride * (out - 1), stride - 1)
        for into, out in zip(shape, dy.shape[:2], strict=True)
    ]
    return lax.pad(dy, jnp.zeros((), dy.dtype), (*gaps, (0, 0, 0)))
