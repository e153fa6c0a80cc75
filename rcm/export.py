"""Trained members as files that run without rcm: StableHLO, TFLite and full-integer TFLite.

A file is written only when it does what the simulated model does: made in memory, run back on test
images, compared (`Bound`), then written. Files take one batch of images and give logits:

| format | input | made by | run back by |
|---|---|---|---|
| StableHLO | uint8 [b, H, W, 3], any b | `jax.export` | `jax.export.deserialize(content).call` |
| TFLite | float32 [batch, H, W, 3] in [0, 1] | `jax2tf` and TFLite's converter | LiteRT |
| full-integer TFLite | the same, as uint8 by the file's own scale | the same, calibrated | LiteRT |

Both TFLite formats need the extra `export`. The first two keep simulated quantization as float
operations. The third holds true integers: TFLite's converter reads the grids of weights and, over
calibration images, those of activations, and the simulated int8 model says what to expect of them.
"""

import importlib.util
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcm.compress import Quantize, build_chain
from rcm.compress.base import Variables
from rcm.config import require
from rcm.data.augment import to_float
from rcm.data.datasets import Split
from rcm.models.convolution import plain_convolutions
from rcm.parity import STANDARD, Agreement, Bound, compare
from rcm.store import write_bytes

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
BATCH = 250
TOOLS = ("tensorflow", "ai_edge_litert")


class Exported(NamedTuple):
    """A written file."""

    path: Path
    bytes: int
    agreement: Agreement


class Disagrees(ValueError):
    """A file does not do what the simulated model does, and was not written."""


def export_stablehlo(
    network: Any,
    variables: Variables,
    path: Path,
    test: Split,
    bound: Bound = STANDARD,
) -> Exported:
    """Write a network as StableHLO for any batch size and platform.

    network: a module of `rcm.models`; variables: its *effective* ones; test: the images that are
    compared. Raises `Disagrees` for a file that is not the simulated model.
    """
    content = stablehlo(network, variables, test.images.shape[1:])
    call = jax.jit(jax.export.deserialize(bytearray(content)).call)
    found = in_batches(call, test.images, BATCH)
    return _checked(
        network, (variables, float_activations(variables)), path, test, (content, found), bound
    )


def export_tflite(
    network: Any,
    variables: Variables,
    path: Path,
    test: Split,
    bound: Bound = STANDARD,
    batch: int = 1,
) -> Exported:
    """Write a network as TFLite in float32 for batches of `batch` images; else like StableHLO.

    Raises ValueError where the tools are missing.
    """
    content = tflite(network, variables, (batch, *test.images.shape[1:]))
    found = in_batches(tflite_runner(content), test.images, batch)
    return _checked(
        network, (variables, float_activations(variables)), path, test, (content, found), bound
    )


def export_int8(
    network: Any,
    variables: Variables,
    path: Path,
    test: Split,
    calibration: np.ndarray,
    simulated: Variables | None = None,
    bound: Bound = STANDARD,
    batch: int = 1,
) -> Exported:
    """Write a network as full-integer TFLite: weights, activations, input and output of 8 bits.

    variables: effective ones without quantization; calibration: uint8 images [n, H, W, 3] for the
    activations' ranges; simulated: the effective variables of the simulated int8 model, by default
    `simulate_int8`'s. Raises like `export_tflite`.
    """
    simulated = simulated or simulate_int8(network, variables, calibration)
    content = tflite(
        network,
        float_activations(simulated) or simulated,
        (batch, *test.images.shape[1:]),
        calibration,
    )
    floats = float_tensors(content)
    if floats:
        raise Disagrees(
            f"{path} was not written, because it is not full-integer: {floats} of its tensors are "
            "floats."
        )
    found = in_batches(tflite_runner(content), test.images, batch)
    return _checked(network, (simulated, variables), path, test, (content, found), bound, True)


def simulate_int8(network: Any, variables: Variables, calibration: np.ndarray) -> Variables:
    """Effective variables of the simulated int8 model: `Quantize(8, 8)`, calibrated."""
    observe = jax.jit(lambda v, images: network.apply(v, to_float(images), mutable=["quant"]))
    ranged = {**variables, "quant": observe(variables, calibration)[1]["quant"]}
    technique = Quantize(8, 8)
    chain = build_chain((technique,), network)
    return chain.apply(ranged, chain.init(jax.random.key(0), ranged, (technique.levels(0),)))


def stablehlo(network: Any, variables: Variables, image: tuple[int, ...]) -> bytes:
    """A serialised `jax.export` of uint8 images [b, H, W, 3] -> float32 logits [b, classes].

    In the ambient default precision of matrix products, or the highest.
    """
    (batch,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *image), jnp.uint8)
    ambient: Any = jax.config
    precision = ambient.jax_default_matmul_precision or "highest"
    with plain_convolutions(), jax.default_matmul_precision(precision):
        logits = jax.jit(lambda images: network.apply(variables, to_float(images)))
        return bytes(jax.export.export(logits, platforms=PLATFORMS)(images).serialize())


def tflite(
    network: Any,
    variables: Variables,
    shape: tuple[int, ...],
    calibration: np.ndarray | None = None,
) -> bytes:
    """A TFLite file for images of `shape` [batch, H, W, 3]; calibrated, it holds integers."""
    tf = _tensorflow()
    from jax.experimental import jax2tf

    network = network.clone(dtype=jnp.float32)  # the format has no other convolutions
    with plain_convolutions(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Statistics for quantized inputs")  # they are measured
        function = tf.function(
            jax2tf.convert(lambda images: network.apply(variables, images), with_gradient=False),
            input_signature=[tf.TensorSpec(shape, tf.float32)],
            autograph=False,
        )
        concrete = function.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], function)
        if calibration is not None:
            images = np.resize(calibration, (-(-len(calibration) // shape[0]), *shape))
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([np.asarray(to_float(x))] for x in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
            converter.inference_output_type = tf.int8
        return bytes(converter.convert())


def tflite_runner(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 images [batch, H, W, 3] -> float32 logits, by LiteRT from a TFLite file's content."""
    interpreter = _interpreter(content)
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images: np.ndarray) -> np.ndarray:
        x = np.asarray(to_float(jnp.asarray(images)))
        scale, zero = source["quantization"]
        if scale:
            limits = np.iinfo(source["dtype"])
            x = np.clip(np.rint(x / scale) + zero, limits.min, limits.max).astype(source["dtype"])
        interpreter.set_tensor(source["index"], x)
        interpreter.invoke()
        logits = interpreter.get_tensor(target["index"]).astype(np.float32)
        scale, zero = target["quantization"]
        return (logits - zero) * np.float32(scale) if scale else logits

    return run


def float_tensors(content: bytes) -> int:
    """How many tensors of a TFLite file hold floats. A converter that gave up quantization is known
    by them: the labels of its file are as near as the parity gate lets those of integers be."""
    details = _interpreter(content).get_tensor_details()
    return sum(np.issubdtype(tensor["dtype"], np.floating) for tensor in details)


def _interpreter(content: bytes) -> Any:
    require_tools()
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return interpreter


def float_activations(variables: Variables) -> Variables | None:
    """The variables without quantization points; None if they have none."""
    if "quant" not in variables:
        return None
    return {name: leaf for name, leaf in variables.items() if name != "quant"}


def in_batches(function: Callable, images: np.ndarray, batch: int) -> np.ndarray:
    """Logits [N, classes] of a function of whole batches; the last one is padded."""
    made = []
    for start in range(0, len(images), batch):
        rows = np.minimum(np.arange(start, start + batch), len(images) - 1)
        made.append(np.asarray(function(np.asarray(images[rows]))))
    return np.concatenate(made)[: len(images)]


def require_tools() -> None:
    """Raise ValueError unless what TFLite files need is installed; nothing is imported."""
    missing = [name for name in TOOLS if importlib.util.find_spec(name) is None]
    require(
        not missing,
        f"TFLite files need {' and '.join(missing)}, which is not installed: "
        "pip install --editable '.[export]', or export to stablehlo.",
    )


def _tensorflow() -> Any:
    """TensorFlow, quiet and kept away from the accelerators that belong to JAX."""
    require_tools()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices([], "GPU")
    return tf


def _checked(
    network: Any,
    models: tuple[Variables, Variables | None],
    path: Path,
    test: Split,
    made: tuple[bytes, np.ndarray],
    bound: Bound,
    integer: bool = False,
) -> Exported:
    """Write a file's content if its logits are those of the simulated model, `models[0]`."""
    content, found = made
    predict = jax.jit(lambda v, images: network.apply(v, to_float(images)))
    logits = [in_batches(partial(predict, v), test.images, BATCH) for v in models if v is not None]
    simulated, without = logits[0], logits[1] if len(logits) > 1 else None
    seen = compare(found, simulated, without, np.asarray(test.labels), bound, integer)
    if not seen.close:
        lost = "" if seen.kept else ", and activations are not quantized"
        raise Disagrees(
            f"{path} was not written, because it is not the simulated model: accuracy "
            f"{seen.accuracy:.2%} against {seen.simulated:.2%} ({bound.accuracy:.2%} may differ), "
            f"{seen.disagreement:.2%} of labels differ ({seen.allowed:.2%} may){lost}."
        )
    write_bytes(Path(path), content)
    return Exported(Path(path), len(content), seen)
