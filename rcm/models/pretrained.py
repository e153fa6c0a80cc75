"""Weights to begin from: `.safetensors` and `.npz` files, under torchvision's names or our own.

Our own names are the paths of the leaves, `params/stem/conv/kernel`, `batch_stats/stem/norm/mean`
(`own_names` gives them); torchvision's are in `torchvision.py`. Its networks subtract ImageNet's
mean colour before they pad with zeros, so that the difference to our own range of inputs cannot be
folded into the first convolution: the network takes `inputs="imagenet"` instead.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

from rcm import foreign
from rcm.config import require
from rcm.models.torchvision import from_torchvision, torchvision_modules, torchvision_names

OWN = ("params/", "batch_stats/")
HEAD = ("params/head/kernel", "params/head/bias")
STEM = "params/stem/conv/kernel"
COUNTER = "num_batches_tracked"  # steps, beside the statistics of PyTorch's norms
# What a safetensors file may hold for us; integers are PyTorch's counters.
NUMBERS = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
}
Shapes = dict[str, tuple[int, ...]]


class Pretrained(NamedTuple):
    """arrays: float32 by our names, the head's absent where it begins anew; inputs: the range of
    pixels they were trained with; identity: of the file's content; note: a sentence for people."""

    arrays: dict[str, np.ndarray]
    inputs: str
    identity: str
    note: str


def load(path: str, network: Any, image: tuple[int, ...]) -> Pretrained:
    """The weights in a file for a network of `rcm.models` on images [H, W, 3].

    Every tensor of the file must be used and every leaf of the network filled, but for a head of
    another number of classes, which is left out. Raises ValueError, naming the file, otherwise.
    """
    content = _content(Path(path).expanduser())
    arrays, leaves = _read(path, content), _shapes(network, image)
    own = any(name.startswith(OWN) for name in arrays)
    if not own:
        arrays = _by_our_names(path, arrays, network, leaves)
    anew = _require_fit(path, arrays, leaves)
    note = f"Every seed begins from {path}"
    if anew:
        theirs, ours = arrays[HEAD[0]].shape[-1], leaves[HEAD[0]][-1]
        note += f", but with a head of its own: the file's has {theirs} classes, the data {ours}"
    with np.errstate(over="ignore"):  # what float32 cannot hold is named below
        arrays = {
            n: np.ascontiguousarray(a, np.float32) for n, a in arrays.items() if n not in anew
        }
    wild = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    require(not wild, f"{path}: {', '.join(wild[:3])} holds numbers that are not finite.")
    identity = f"sha256:{hashlib.sha256(content).hexdigest()[:16]}"
    return Pretrained(arrays, "symmetric" if own else "imagenet", identity, f"{note}.")


def filled(variables: Any, arrays: Mapping[str, Any]) -> Any:
    """`variables`, its leaves replaced by those of `arrays` (by our names)."""
    return jax.tree.map_with_path(lambda path, leaf: arrays.get(_name(path), leaf), variables)


def own_names(variables: Any) -> dict[str, np.ndarray]:
    """A model's params and batch_stats by our names: `np.savez(FILE, **own_names(variables))`
    makes a file that `load` takes. It does not tell the network's `inputs`."""
    kept = {name: variables[name] for name in ("params", "batch_stats") if name in variables}
    leaves = jax.tree_util.tree_leaves_with_path(kept)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def _by_our_names(path: str, found: dict, network: Any, leaves: Shapes) -> dict[str, np.ndarray]:
    """Arrays under torchvision's names by ours. ValueError for another network's names."""
    modules = torchvision_modules(network)
    require(
        bool(modules),
        f"{path} has none of our names, such as params/head/kernel, and torchvision has no "
        f"{type(network).__name__} whose names it could have.",
    )
    if "classifier.0.weight" in found and "hidden1" in modules:
        require(
            "params/hidden1/kernel" in leaves,
            f"{path} has the three dense layers of ImageNet's VGG: use "
            "--config.model.stem=imagenet.",
        )
    theirs = torchvision_names(modules, leaves)
    found = {name: array for name, array in found.items() if not name.endswith(COUNTER)}
    _require_names(path, found, theirs)
    return {ours: from_torchvision(ours, found[name]) for name, ours in theirs.items()}


def _require_fit(path: str, arrays: dict, leaves: Shapes) -> tuple[str, ...]:
    """ValueError unless arrays and leaves agree in names and shapes; returns the names of the head
    where it differs in its number of classes alone."""
    _require_names(path, arrays, leaves)
    if STEM in leaves and arrays[STEM].ndim == 4:
        theirs, ours = arrays[STEM].shape[0], leaves[STEM][0]
        require(
            theirs == ours,
            f"{path} has a stem of {theirs} x {theirs} and the network one of {ours} x {ours}: use "
            f"--config.model.stem={'imagenet' if theirs > ours else 'cifar'}.",
        )
    wrong = [name for name, shape in leaves.items() if arrays[name].shape != shape]
    if wrong and set(wrong) <= set(HEAD) and _differs_in_classes(arrays, leaves):
        return HEAD
    shapes = [f"{name} {arrays[name].shape}, not {leaves[name]}" for name in wrong[:3]]
    require(
        not wrong,
        f"{path} is not of this network: it has {', '.join(shapes)}; choose the "
        "--config.model.name and --config.model.width that it was made with.",
    )
    return ()


def _differs_in_classes(arrays: dict, leaves: Shapes) -> bool:
    """Whether the parts of a head that does not fit agree on another number of classes."""
    parts = [name for name in HEAD if name in leaves]
    counts = {arrays[name].shape[-1:] for name in parts}
    return len(counts) == 1 and all(arrays[n].shape[:-1] == leaves[n][:-1] for n in parts)


def _require_names(path: str, found: Mapping, wanted: Mapping) -> None:
    """ValueError, with the first few names, unless both have the same."""
    strange, missing = sorted(found.keys() - wanted.keys()), sorted(wanted.keys() - found.keys())
    faults = [
        f"{what} {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for what, names in (("has", strange), ("lacks", missing))
        if names
    ]
    require(
        not faults,
        f"{path} is not of this network: it {' and '.join(faults)}; choose the --config.model.name "
        "and --config.model.stem that it was made with.",
    )


def _shapes(network: Any, image: tuple[int, ...]) -> Shapes:
    """Every leaf's shape by our names; nothing is computed."""
    images = jax.ShapeDtypeStruct((1, *image), np.float32)
    made = jax.eval_shape(network.init, jax.random.key(0), images)
    return {_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(made)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _content(path: Path) -> bytes:
    require(
        path.suffix in (".safetensors", ".npz"),
        f"model.pretrained is {str(path)!r}: expected a .safetensors or .npz file (in PyTorch, "
        "safetensors.torch.save_file(network.state_dict(), FILE) makes one).",
    )
    try:
        return foreign.read_bytes(path)
    except ValueError as error:
        raise ValueError(f"model.pretrained: {path} cannot be read: {error}.") from error


def _read(path: str, content: bytes) -> dict[str, np.ndarray]:
    """{name: array} of a file's content. ValueError if it is not what its name says."""
    try:
        arrays = read_safetensors(content) if path.endswith(".safetensors") else read_npz(content)
    except Exception as error:  # json, zip, zlib and numpy raise many kinds for a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is damaged or not what its name says: {reason}") from error
    require(len(arrays) > 0, f"{path} holds no arrays.")
    return arrays


def read_npz(content: bytes) -> dict[str, np.ndarray]:
    """{name: array} of an npz file of numbers. Raises ValueError."""
    arrays = foreign.read_arrays(content)
    for name, array in arrays.items():
        require(array.dtype.kind in "fiu", f"{name} holds {array.dtype}, expected numbers.")
    return arrays


def read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """{name: array} of a file in the safetensors format: eight bytes of header length (little
    endian), a JSON header with every tensor's dtype, shape and place, then the numbers.

    The format is these few lines, which is less than a dependency for everyone; every place is
    checked before it is read. Raises ValueError, KeyError or TypeError for a malformed file.
    """
    length = int.from_bytes(content[:8], "little")
    require(8 + length <= len(content), "it is cut off inside its header.")
    header, body = foreign.parse_json(content[8 : 8 + length]), memoryview(content)[8 + length :]
    require(isinstance(header, dict), "its header is no JSON object.")
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        require(entry["dtype"] in NUMBERS, f"{name} holds {entry['dtype']}, expected floats.")
        dtype, shape = NUMBERS[entry["dtype"]], tuple(entry["shape"])
        start, stop = entry["data_offsets"]
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        require(
            start >= 0 and stop - start == size and stop <= len(body),
            f"{name} does not lie where the header says.",
        )
        arrays[name] = np.frombuffer(body[start:stop], dtype).reshape(shape)
    return arrays
