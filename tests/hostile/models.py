"""Hostile weights, packed models and predictions made elsewhere."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from rcm import predictions
from rcm.compress import container
from rcm.compress.packed import load_packed
from rcm.models import MODELS, pretrained
from rcm.models.record import network_fields
from rcm.progress import Display
from tests.hostile.making import (
    ESCAPE,
    FORMULA,
    Row,
    claiming,
    deep,
    npy,
    objects,
    pipe,
    put,
    savez,
    zipped,
)

NETWORK = MODELS["tiny"](classes=2, width=4)


def weights(path: Path) -> Any:
    return pretrained.load(str(path), NETWORK, (8, 8, 3))


def safetensors(header: bytes, body: bytes = bytes(8), length: int | None = None) -> Any:
    said = len(header) if length is None else length
    return lambda folder: put(folder, "a.safetensors", struct.pack("<Q", said) + header + body)


def tensor(**fields: Any) -> bytes:
    return json.dumps(
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **fields}}
    ).encode()


WEIGHTS = [
    Row("pickled-weights", lambda f: savez(f, "a.npz", w=objects(f)), weights,
        "a.npz is damaged or not what its name says: at its array 'w': it holds pickled objects"),
    Row("pytorch-called-npz",
        lambda f: put(f, "a.npz", zipped([("archive/data.pkl", objects(f).dumps())])), weights,
        "its part 'archive/data.pkl' is no array"),
    Row("pipe-called-safetensors", lambda f: pipe(f, "a.safetensors"), weights,
        "cannot be read: it is no ordinary file"),
    Row("header-of-exabytes", safetensors(b"{}", length=2**63), weights,
        "it is cut off inside its header"),
    Row("nested-tensors", safetensors(deep()), weights, "its JSON is nested too deeply"),
    Row("tensor-said-twice", safetensors(b'{"a": {}, "a": {}}'), weights, "says 'a' twice"),
    Row("tensor-of-terabytes", safetensors(tensor(shape=[2**40])), weights,
        "a does not lie where the header says"),
    Row("tensor-by-overflow", safetensors(tensor(shape=[2**32, 2**32], data_offsets=[0, 0])),
        weights, "cannot reshape"),
    Row("tensor-before-the-file", safetensors(tensor(data_offsets=[-8, 0])), weights,
        "a does not lie where the header says"),
    Row("tensor-of-words", safetensors(tensor(dtype="__import__('os')")), weights,
        r"a holds __import__\('os'\), expected floats"),
    Row("number-of-5000-digits", safetensors(b'{"a": ' + b"9" * 5000 + b"}"), weights,
        "its JSON has a number of 5000 digits"),
]  # fmt: skip


def sealed(header: bytes) -> bytes:
    """A packed model with such a header, no tensors, and a checksum that fits."""
    total = container.PREFIX.size + len(header) + container.CHECKSUM
    before = container.PREFIX.pack(container.MAGIC, container.VERSION, len(header), total) + header
    return before + hashlib.sha256(before).digest()


def packed(tensors: list[dict], **network: Any) -> Any:
    fields = {**network_fields(NETWORK), **network}
    header = json.dumps({"network": fields, "tensors": tensors}).encode()
    return lambda folder: put(folder, "a.rcm", sealed(header))


GIANT = {"kind": "kernel", "name": "head/kernel", "shape": [2**14, 2**15], "bytes": 0,
         "places": "gaps", "width": [4, 0]}  # fmt: skip

PACKED = [
    Row("model-of-gigabytes", packed([GIANT]), load_packed,
        "a.rcm claims to hold more than 268435456 numbers"),
    Row("model-of-a-million-blocks",
        packed([], **{**network_fields(MODELS["resnet18"](classes=2)), "blocks": [1000] * 1000}),
        load_packed, "The field blocks of a DeepResNet cannot be"),
    Row("model-of-no-class", packed([], **{"class": "os.system"}), load_packed,
        "Unknown class of networks 'os.system'"),
    Row("nested-model", lambda f: put(f, "a.rcm", sealed(deep())), load_packed,
        r"has a header that cannot be read \(its JSON is nested too deeply\)"),
    Row("pipe-called-rcm", lambda f: pipe(f, "a.rcm"), load_packed,
        r"cannot be read \(it is no ordinary file\)"),
]  # fmt: skip


TRUE = np.arange(4) % 2
ANSWERS = {"pipeline": "other", "kind": "dense", "seed": 0, "label/clean": TRUE}


def analyse(folder: Path) -> Any:
    return predictions.execute(str(folder), str(folder.parent / "runs"), "command", Display())


def told(labels: dict[str, Any], name: Any = "told", **model: Any) -> Any:
    """A folder of predictions."""

    def make(folder: Path) -> Path:
        savez(folder, f"{name}/labels.npz", **{"labels": TRUE, **labels})
        return savez(folder, f"{name}/a.npz", **{**ANSWERS, **model}).parent

    return make


def other_file(name: str, content: Any) -> Any:
    def make(folder: Path) -> Path:
        path = told({})(folder) / name
        path.unlink()
        return content(path.parent, name).parent

    return make


PREDICTIONS = [
    Row("pickled-labels-file", lambda f: told({"labels": objects(f)})(f), analyse,
        "labels.npz cannot be read .*it holds pickled objects.*save plain arrays"),
    Row("pickled-answers", lambda f: told({}, **{"label/clean": objects(f)})(f), analyse,
        "a.npz cannot be read .*'label/clean': it holds pickled objects"),
    Row("answers-that-claim",
        other_file("a.npz", lambda f, name: put(f, name, zipped(
            [("pipeline.npy", npy(np.array("p"))), ("seed.npy", claiming((2**50,)))]))), analyse,
        "at its array 'seed': it says 1,125,899,906,842,624 bytes"),
    Row("pipe-called-model", other_file("a.npz", pipe), analyse, "it is no ordinary file"),
    Row("a-trillion-classes", told({"labels": np.array([0, 2**40])}), analyse,
        "labels reaches 1099511627776, expected less than 2"),
    Row("a-million-classes", told({"labels": np.array([0, 10**6])}), analyse,
        "there would be 1,000,001 classes, expected 2 to 65,536"),
    Row("odd-ratio", told({"train_counts/\N{SUPERSCRIPT TWO}": [1, 1]}), analyse,
        "must be called after a whole ratio"),
    Row("long-ratio", told({"train_counts/" + "9" * 5000: [1, 1]}), analyse,
        "must be called after a whole ratio"),
    Row("endless-seed", told({}, seed=1e300), analyse, r"its seed is 1e\+300"),
    Row("infinite-bits", told({}, bits=np.inf), analyse, "its bits is inf"),
    Row("number-for-a-name", told({}, pipeline=3), analyse, "pipeline must be one text, not int64"),
    Row("formula-for-a-name", told({}, pipeline=FORMULA), analyse, "begins like a formula"),
    Row("escape-in-title", told({"title": ESCAPE}), analyse, r"title 'red \\x1b.*steer a terminal"),
    Row("escape-in-subgroup", told({"group": TRUE, "groups": ["a", ESCAPE]}), analyse,
        r"groups 'red \\x1b.*steer a terminal"),
    Row("formula-for-a-shift", told({}, **{f"label/{FORMULA}/3": TRUE}), analyse,
        r"the shift '=HYPERLINK\(1\)' begins like a formula"),
    Row("shift-outside", told({}, **{"label/../../a/3": TRUE}), analyse,
        r"has answers to '\.\./\.\./a/3': expected clean"),
    Row("nan-for-a-probability", told({}, **{"logp_true/clean": np.full(4, np.nan)}), analyse,
        "logp_true/clean must hold floats that are numbers"),
    Row("words-for-probabilities", told({}, **{"sum_p2/clean": np.full(4, "a")}), analyse,
        "sum_p2/clean must hold floats that are numbers"),
    Row("formula-for-a-folder", told({}, name=FORMULA), analyse,
        r"--analyse: the folder '=HYPERLINK\(1\)' begins like a formula"),
]  # fmt: skip

ROWS = [*WEIGHTS, *PACKED, *PREDICTIONS]
