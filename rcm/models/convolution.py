"""A square 2-D convolution and its gradients, lowered for the backend that runs it.

TPUs get `lax.conv_general_dilated` and its automatic derivatives, GPUs the same but for members
side by side (`packed`). XLA's CPU backend is two to three times slower on those than it need be, so
`convolve` writes the CPU's forward pass and both gradients out by hand. Each rule below was
measured on x86 with jax 0.10.2:
- 16 channels and fewer miss the vectorised kernel: neighbouring columns are packed into channels;
- images of 2 x 2 pixels and fewer take up to eighty times as long as a product of the pixels'
  neighbourhoods, laid out in memory, with the kernel: wide networks end in them;
- the input gradient of stride 2 convolves zeros: narrow nets compute it as four dense phases;
- XLA copies the producers of x (a whole norm, relu and addition) into the padding and into the
  transposition that the weight gradient needs, with a cache miss for each element: these run in
  calls that are not inlined;
- convolutions are written in the one order of axes that the CPU's kernels know, because XLA
  brings them into it only outside loops (inside, the weight gradient was 100 times slower);
- under vmap over kernels the members are unrolled, because grouped convolutions are slow;
- depthwise ones are sums of shifted images (`depthwise`).
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap
from jax.experimental.xla_metadata import set_xla_metadata

from rcm.models.depthwise import convolve_depthwise
from rcm.models.packed import LAYOUT, convolve_packed, plain

TINY = 2  # pixels a side, up to which a convolution is a product
FAST_CHANNELS = 32  # the fewest channels with which the CPU's vectorised kernel is used
LARGEST_PACK = 4
NO_TAP = 3  # index of the zero that a padded 3 x 3 kernel has behind its three taps

_plain_only = contextvars.ContextVar("plain_only", default=False)


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """Functions traced inside use `lax.conv_general_dilated` on every backend.

    For export, where the program is read by something other than XLA's CPU backend. A function
    that is already compiled is not traced again.
    """
    token = _plain_only.set(True)
    try:
        yield
    finally:
        _plain_only.reset(token)


def convolve(x: Array, kernel: Array, stride: int, groups: int = 1) -> Array:
    """x [B, H, W, I] * kernel [S, S, I / groups, O] -> [B, ceil(H/stride), ceil(W/stride), O].

    Zero padding of (S - 1) // 2 on every side. On CPU 3 x 3 convolutions of one group and depthwise
    ones, and on GPU all of one group, have only reverse-mode derivatives, of first order. Raises
    ValueError for a size, a stride or groups without a lowering: groups are 1 or, for a depthwise
    convolution, I = O.
    """
    size, channels = kernel.shape[0], x.shape[-1]
    if kernel.shape[1] != size or size not in (1, 3, 7) or stride not in (1, 2):
        raise ValueError(
            f"no convolution of size {kernel.shape[0]} x {kernel.shape[1]} with stride {stride}; "
            "use a size of 1, 3 or 7 and a stride of 1 or 2."
        )
    if groups not in (1, channels) or (groups > 1 and kernel.shape[-1] != channels):
        raise ValueError(
            f"no convolution of {channels} channels to {kernel.shape[-1]} in {groups} groups; use "
            "1 group, or as many groups as there are channels on both sides."
        )
    backend = "any" if _plain_only.get() else jax.default_backend()
    if backend == "gpu" and groups == 1:
        return convolve_packed(*_vary_alike(x, kernel), stride)
    if backend != "cpu":
        return plain(x, kernel, stride, groups)
    if groups > 1:
        return convolve_depthwise(*_vary_alike(x, kernel), stride)
    if size == 1:
        return lax.dot_general(x[:, ::stride, ::stride], kernel[0, 0], (((3,), (0,)), ((), ())))
    if size == 3:
        return _cpu_convolve(*_vary_alike(x, kernel), stride)
    return plain(x, kernel, stride)


def _vary_alike(*arrays: Array) -> list[Array]:
    """The arrays, each varying over all the `shard_map` axes that one of them varies over.

    Sums gradients over the devices where operators would, which `custom_vjp` leaves to its user.
    """
    axes = [jax.typeof(array).mat.varying for array in arrays]
    every = frozenset().union(*axes)
    return [
        lax.pcast(array, tuple(every - own), to="varying") if own != every else array
        for array, own in zip(arrays, axes, strict=True)
    ]


def _conv(x: Array, kernel: Array, stride: int, padding, **options) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=LAYOUT, **options
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cpu_convolve(x: Array, kernel: Array, stride: int) -> Array:
    return _over_members(partial(_forward, stride=stride), x, kernel)


def _cpu_convolve_fwd(x: Array, kernel: Array, stride: int):
    return _cpu_convolve(x, kernel, stride), (x, kernel)


def _cpu_convolve_bwd(stride: int, residuals, dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    input_gradient = partial(_input_gradient, stride=stride, shape=x.shape[1:3])
    dx = _over_members(input_gradient, dy, kernel)
    weight_gradient = partial(_apart, _weight_gradient, stride=stride)
    return dx, _over_members(weight_gradient, x, dy, shared_kernel=False)


_cpu_convolve.defvjp(_cpu_convolve_fwd, _cpu_convolve_bwd)


def _over_members(function: Callable, a: Array, b: Array, shared_kernel: bool = True) -> Array:
    """function(a, b), of which vmap makes one copy per member.

    With `shared_kernel`, b is a kernel; where vmap leaves it alone the members are more images.
    """
    mapped = custom_vmap(function)

    @mapped.def_vmap
    def _(members: int, batched, a: Array, b: Array):
        if shared_kernel and not batched[1]:
            images = mapped(a.reshape(-1, *a.shape[2:]), b)
            return images.reshape(members, -1, *images.shape[1:]), True
        each = [
            mapped(a[i] if batched[0] else a, b[i] if batched[1] else b) for i in range(members)
        ]
        return jnp.stack(each), True

    return mapped(a, b)


def _apart(jitted: Callable, *arrays: Array, **static: int) -> Array:
    """A call that XLA does not inline, so that nothing outside is fused into it.

    `lax.optimization_barrier` does not help: the CPU backend removes it before it fuses.
    """
    with set_xla_metadata(inlineable="false"):
        return jitted(*arrays, **static)


def product(x: Array, kernel: Array, stride: int) -> Array:
    """`convolve` of one group as a product of all neighbourhoods, side by side, with the kernel."""
    size, (height, width) = kernel.shape[0], x.shape[1:3]
    pad = (size - 1) // 2
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    taps = [
        x[:, row : row + height : stride, column : column + width : stride]
        for row in range(size)
        for column in range(size)
    ]
    columns = jnp.concatenate(taps, axis=-1)
    return lax.dot_general(columns, kernel.reshape(-1, kernel.shape[-1]), (((3,), (0,)), ((), ())))


def _forward(x: Array, kernel: Array, stride: int) -> Array:
    if max(x.shape[1:3]) <= TINY:
        return product(x, kernel, stride)
    channels = max(kernel.shape[2:])
    if stride == 2 or channels > FAST_CHANNELS // 2:
        return _conv(x, kernel, stride, ((1, 1), (1, 1)))
    group = min(LARGEST_PACK, FAST_CHANNELS // channels)
    return _apart(_packed, x, kernel, group=group)


@partial(jax.jit, static_argnames="group")
def _packed(x: Array, kernel: Array, group: int) -> Array:
    """Stride 1: `group` >= 2 columns become channels, and a 3 x 2 kernel works on whole groups.

    A group of outputs reads group + 2 columns, which lie in two groups of inputs.
    """
    _, height, width, inputs = x.shape
    outputs = kernel.shape[-1]
    groups = -(-width // group)
    x = jnp.pad(x, ((0, 0), (0, 0), (1, group * (groups + 1) - width - 1), (0, 0)))
    x = x.reshape(-1, height, groups + 1, group * inputs)
    column = np.arange(2 * group).reshape(2, group, 1)
    tap = column - np.arange(group).reshape(1, 1, group)  # [groups read, column in, column out]
    tap = np.where((tap < 0) | (tap >= NO_TAP), NO_TAP, tap)
    kernel = jnp.pad(kernel, ((0, 0), (0, 1), (0, 0), (0, 0)))[:, tap]
    kernel = kernel.transpose(0, 1, 2, 4, 3, 5).reshape(3, 2, group * inputs, group * outputs)
    y = _conv(x, kernel, 1, ((1, 1), (0, 0)))
    return y.reshape(-1, height, groups * group, outputs)[:, :, :width]


def _input_gradient(dy: Array, kernel: Array, stride: int, shape: tuple[int, int]) -> Array:
    """The gradient for an input of height and width `shape`: a convolution by the mirrored kernel.

    With stride 2 its input is dy with zeros between; wide nets let XLA skip them.
    """
    if max(dy.shape[1:3]) <= TINY:
        like = jax.ShapeDtypeStruct((dy.shape[0], *shape, kernel.shape[2]), dy.dtype)
        return jax.linear_transpose(partial(product, kernel=kernel, stride=stride), like)(dy)[0]
    mirrored = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    if stride == 1:
        return _forward(dy, mirrored, 1)
    if kernel.shape[2] <= FAST_CHANNELS // 2:
        return _input_gradient_by_phase(dy, kernel, shape)
    padding = tuple((1, 1 + (size + 1) % 2) for size in shape)
    return _conv(dy, mirrored, 1, padding, lhs_dilation=(2, 2))


def _input_gradient_by_phase(dy: Array, kernel: Array, shape: tuple[int, int]) -> Array:
    """Stride 2: rows 2m come from dy[m], rows 2m + 1 from dy[m] and dy[m + 1]; columns alike.

    So a 2 x 2 convolution gives the four phases of the input as channels.
    """
    _, height, width, outputs = dy.shape
    inputs = kernel.shape[2]
    tap = np.array([[1, 2], [NO_TAP, 0]])  # [offset in dy, phase]
    kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    blocks = kernel[tap.reshape(2, 1, 2, 1), tap.reshape(1, 2, 1, 2)]
    blocks = blocks.transpose(0, 1, 5, 2, 3, 4).reshape(2, 2, outputs, 4 * inputs)
    phases = _conv(dy, blocks, 1, ((0, 1), (0, 1))).reshape(-1, height, width, 2, 2 * inputs)
    dx = phases.transpose(0, 1, 3, 2, 4).reshape(-1, 2 * height, 2 * width, inputs)
    return dx[:, : shape[0], : shape[1]]


@partial(jax.jit, static_argnames="stride")
def _weight_gradient(x: Array, dy: Array, stride: int) -> Array:
    """dkernel [3, 3, I, O]: x, with I as its batch, convolved by dy, with B as its inputs."""
    sizes = zip(x.shape[1:3], dy.shape[1:3], strict=True)
    padding = tuple((1, 2 + stride * (out - 1) - into) for into, out in sizes)
    taps = _conv(
        x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), 1, padding, rhs_dilation=(stride, stride)
    )
    return taps.transpose(1, 2, 0, 3)
