"""Conv, Dense, Cosine, Norm: the one place that chooses a convolution's lowering and quantizes
activations.

Three conventions carry the compressors:
- every weight that is compressed is a leaf named `kernel`; `ConvNorm` holds a `conv` and the `norm`
  that follows it side by side, which is what batch-norm folding looks for;
- each Conv and Dense has one activation quantization point, its input. Its state lives in the
  collection `quant`: running the model with `mutable=["quant"]` observes the range (`lo`, `hi`,
  float32 scalars); a `bits` entry beside them (int32 scalar, 0 = off), put there by the quantizer's
  `apply`, quantizes. A `decay` entry (float32 scalar) makes the observed range a moving average,
  which a training step follows and quantizes with at once. `bits` without a range quantizes each
  image by its own. A `learned` entry says that the range is trained: it is not observed, and its
  gradient is scaled. Beside a norm, `frozen` (bool scalar) makes it normalise by its running
  statistics, and keep them, while it trains. Without the collection the layers contain no
  quantization at all;
- a network hands the output of each of its stages to `expose`. Running it with
  `mutable=["features"]` gives them back (`exposed`); otherwise they are nowhere in the program.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from rcm import numerics
from rcm.models.convolution import convolve

BN_EPSILON = 1e-5
BN_MOMENTUM = 0.9
COSINE_SCALE = 30.0  # s of the normalised classifier, as published with LDAM (arXiv 1906.07413)
COSINE_EPSILON = 1e-12  # added to squared lengths, so that a vector of zeros stays one
FEATURES = "features"  # the collection of what stages put out


# mean and standard deviation of red, green and blue over ImageNet, as torchvision's weights expect
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def standardise(images: Array, dtype: jnp.dtype, inputs: str = "symmetric") -> Array:
    """Images [B, H, W, 3] in [0, 1] in the range that a network reads.

    inputs: `symmetric` is [-2, 2] for every colour; `imagenet` subtracts ImageNet's mean colour and
    divides by its deviation. Raises ValueError for another word.
    """
    if inputs == "symmetric":
        return ((images - 0.5) / 0.25).astype(dtype)
    if inputs != "imagenet":
        raise ValueError(f"unknown inputs {inputs!r}; use 'symmetric' or 'imagenet'.")
    mean, deviation = (
        jnp.array(colour, jnp.float32).reshape(1, 1, 1, 3)
        for colour in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return ((images - mean) / deviation).astype(dtype)


class _QuantizedInput(nn.Module):
    """Base of the layers with an activation quantization point at their input."""

    def quantize_input(self, x: Array) -> Array:
        learned = self.has_variable("quant", "learned")
        if self.is_mutable_collection("quant") and not (learned or self.is_initializing()):
            self._observe(lax.stop_gradient(x))
        if not self.has_variable("quant", "bits"):
            return x
        bits = self.get_variable("quant", "bits")
        if not self.has_variable("quant", "lo"):
            return numerics.fake_quant_dynamic(x, bits)
        lo, hi = (self.get_variable("quant", name) for name in ("lo", "hi"))
        if learned:  # by 1 / sqrt(N q), N values an image (Esser et al. 2020, section 2.2)
            factor = lax.rsqrt(x[0].size * numerics.unsigned_limit(bits))
            lo, hi = (numerics.scale_gradient(end, factor) for end in (lo, hi))
        return numerics.fake_quant_affine(x, lo, hi, bits)

    def _observe(self, x: Array) -> None:
        lo = self.variable("quant", "lo", lambda: jnp.float32(jnp.inf))
        hi = self.variable("quant", "hi", lambda: jnp.float32(-jnp.inf))
        smallest, largest = x.min().astype(jnp.float32), x.max().astype(jnp.float32)
        if self.has_variable("quant", "decay"):
            decay = self.get_variable("quant", "decay")
            lo.value = decay * lo.value + (1 - decay) * smallest
            hi.value = decay * hi.value + (1 - decay) * largest
        else:
            lo.value = jnp.minimum(lo.value, smallest)
            hi.value = jnp.maximum(hi.value, largest)


class Conv(_QuantizedInput):
    """Square 2-D convolution, NHWC, padding `(size - 1) // 2` on both sides.

    float32 kernel [size, size, in / groups, features], He-normal over the fan-in (He et al. 2015),
    computed in `dtype`; with `use_bias` a float32 bias [features].
    """

    features: int
    size: int = 3
    stride: int = 1
    dtype: jnp.dtype = jnp.float32
    groups: int = 1
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.size, self.size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        x = self.quantize_input(x).astype(self.dtype)
        y = convolve(x, kernel.astype(self.dtype), self.stride, self.groups)
        if not self.use_bias:
            return y
        return y + _along(y, self.param("bias", nn.initializers.zeros, (self.features,)))


class Dense(_QuantizedInput):
    """Affine map [B, I] -> [B, features]; float32 `kernel` [I, features] and `bias` [features]."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = self.quantize_input(x)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return y + _along(y, bias)


class Cosine(Dense):
    """The normalised classifier of Cao et al. 2019 (arXiv 1906.07413): [B, I] -> [B, features].

    COSINE_SCALE times the cosine of the angle between the input and each column of the float32
    `kernel` [I, features], without a trained bias. The scale belongs to the layer, so that training
    with any loss and prediction see the same logits. A `bias` [features] that a compressor's
    `apply` puts beside the kernel is added to them.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.features))
        x = unit(self.quantize_input(x), axis=-1).astype(self.dtype)
        y = COSINE_SCALE * (x @ unit(kernel, axis=0).astype(self.dtype))
        if not self.has_variable("params", "bias"):
            return y
        return y + _along(y, self.get_variable("params", "bias"))


def unit(x: Array, axis: int) -> Array:
    """x with vectors of length 1 along an axis; those of zeros stay zeros."""
    squared = jnp.square(x).sum(axis, keepdims=True)
    return x * lax.rsqrt(squared + COSINE_EPSILON)


def head(kind: str, classes: int) -> nn.Module:
    """A network's last layer, the module `head`: `linear` is Dense, `cosine` Cosine.

    Called in the network's `__call__`. Raises ValueError for another kind.
    """
    if kind not in ("linear", "cosine"):
        raise ValueError(f"unknown classifier {kind!r}; use 'linear' or 'cosine'.")
    return (Cosine if kind == "cosine" else Dense)(classes, name="head")


def expose(network: nn.Module, x: Array) -> None:
    """Give the output of a stage [B, H, W, C] to whoever runs `network` with mutable features."""
    if not network.is_initializing():
        network.sow(FEATURES, "stages", x)


def exposed(updated: Mapping[str, Any]) -> tuple[Array, ...]:
    """The outputs of the stages, first to last, from the collections that `apply` returned."""
    return updated[FEATURES]["stages"]


class Norm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015).

    float32 `scale` and `bias`, running `mean` and (biased) `var` in `batch_stats`; statistics are
    computed in float32 whatever the dtype of x, and the result has the dtype of x.
    """

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        features = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (features,))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (features,))
        var = self.variable("batch_stats", "var", jnp.ones, (features,))
        if not train:
            multiplier = scale * lax.rsqrt(var.value + BN_EPSILON)
            offset = bias - mean.value * multiplier
            return x * _along(x, multiplier) + _along(x, offset)
        if self.has_variable("quant", "frozen"):
            frozen = self.get_variable("quant", "frozen")
            y, *batch = normalise(x, scale, bias, (frozen, mean.value, var.value))
        else:
            frozen = None
            y, *batch = normalise(x, scale, bias)
        if not self.is_initializing():
            for running, of_batch in zip((mean, var), batch, strict=True):
                moved = BN_MOMENTUM * running.value + (1 - BN_MOMENTUM) * of_batch
                running.value = moved if frozen is None else jnp.where(frozen, running.value, moved)
        return y


def _along(x: Array, per_channel: Array) -> Array:
    """per_channel [C] in the dtype of x [..., C] and with its number of axes."""
    return per_channel.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


def normalise(
    x: Array, scale: Array, bias: Array, running: tuple[Array, Array, Array] | None = None
) -> tuple[Array, Array, Array]:
    """(normalised x, batch mean [C], biased batch variance [C]) of x [..., C].

    running: (bool scalar, mean [C], variance [C]) that take the batch's place where it is True.

    The variance is E[x^2] - E[x]^2, as in Flax: on CPU a step is a few per cent faster than with
    E[(x - E[x])^2], which keeps a centred copy of x. Its rounding error is 1e-7 of E[x]^2.
    """
    axes = tuple(range(x.ndim - 1))
    x32 = x.astype(jnp.float32)
    mean = x32.mean(axes)
    var = jnp.maximum(jnp.square(x32).mean(axes) - jnp.square(mean), 0)
    if running is not None:
        frozen, *kept = running
        mean, var = jnp.where(frozen, kept[0], mean), jnp.where(frozen, kept[1], var)
    multiplier = scale * lax.rsqrt(var + BN_EPSILON)
    y = x32 * _along(x32, multiplier) + _along(x32, bias - mean * multiplier)
    return y.astype(x.dtype), mean, var


class ConvNorm(nn.Module):
    """A convolution and the batch norm behind it, the unit that folding works on."""

    features: int
    size: int = 3
    stride: int = 1
    dtype: jnp.dtype = jnp.float32
    groups: int = 1
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        conv = Conv(
            self.features,
            self.size,
            self.stride,
            self.dtype,
            self.groups,
            self.use_bias,
            name="conv",
        )
        return Norm(name="norm")(conv(x), train)
