"""Weights to begin from: names and axes against torchvision's definitions, files, identity."""

import io
import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from rcm import config
from rcm.models import MODELS, pretrained
from rcm.models.pretrained import load, own_names, read_safetensors

IMAGE = (32, 32, 3)
LARGE = (224, 224, 3)
DRAW = np.random.default_rng(0)
# state_dict entries of torchvision's networks, without the norms' counters: two for a convolution
# with a bias or a dense layer, one for one without, four for a norm
ENTRIES = {
    "resnet18": 20 * 5 + 2,
    "resnet34": 36 * 5 + 2,
    "resnet50": 53 * 5 + 2,
    "vgg11": 8 * 2 + 6,
    "vgg16": 13 * 2 + 6,
    "vgg19": 16 * 2 + 6,
    "vgg11_bn": 8 * 6 + 6,
    "vgg16_bn": 13 * 6 + 6,
    "vgg19_bn": 16 * 6 + 6,
    "mobilenet_v2": 52 * 5 + 2,
}
# Some of torchvision's own state_dict entries and their shapes, by hand.
KNOWN = {
    "resnet18": {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.1.bn2.running_var": (64,),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
        "fc.weight": (1000, 512),
    },
    "resnet34": {"layer3.5.conv2.weight": (256, 256, 3, 3)},
    "resnet50": {
        "bn1.running_mean": (64,),
        "layer1.0.downsample.1.bias": (256,),
        "layer3.5.conv3.weight": (1024, 256, 1, 1),
        "layer4.0.conv2.weight": (512, 512, 3, 3),
        "fc.bias": (1000,),
    },
    "vgg11": {"features.18.weight": (512, 512, 3, 3), "classifier.3.weight": (4096, 4096)},
    "vgg16": {"features.28.bias": (512,), "classifier.0.weight": (4096, 25088)},
    "vgg19": {"features.34.weight": (512, 512, 3, 3), "classifier.6.bias": (1000,)},
    "vgg11_bn": {"features.25.weight": (512, 512, 3, 3), "features.26.running_mean": (512,)},
    "vgg16_bn": {"features.40.bias": (512,), "features.41.weight": (512,)},
    "vgg19_bn": {"features.49.weight": (512, 512, 3, 3), "features.50.running_var": (512,)},
    "mobilenet_v2": {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.2.running_mean": (16,),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.17.conv.3.weight": (320,),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (1000, 1280),
    },
}


def their_shapes(network, image):
    """torchvision's name -> shape, through our map and our leaves' shapes."""
    leaves = pretrained._shapes(network, image)
    names = pretrained.torchvision_names(pretrained.torchvision_modules(network), leaves)
    turn = {4: lambda s: (s[3], s[2], s[0], s[1]), 2: lambda s: s[::-1], 1: lambda s: s}
    return {theirs: turn[len(leaves[ours])](leaves[ours]) for theirs, ours in names.items()}


@pytest.mark.parametrize("name", KNOWN)
def test_names_and_shapes_are_torchvisions(name):
    shapes = their_shapes(MODELS[name](classes=1000, stem="imagenet"), LARGE)
    assert len(shapes) == ENTRIES[name]
    assert KNOWN[name].items() <= shapes.items()


def variables_of(network, image=IMAGE):
    """Variables of every leaf's shape, all numbers different."""
    made = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *image)))
    return jax.tree.map(lambda leaf: DRAW.uniform(0.1, 1, leaf.shape).astype(np.float32), made)


def small(name, **fields):
    return MODELS[name](**{"classes": 5, "width": 8, **fields})


@pytest.mark.parametrize("name", ["tiny", "resnet8", "vgg11_bn", "wrn16_8"])
def test_our_own_names_are_an_exact_round_trip(name, tmp_path):
    network = small(name)
    variables = variables_of(network)
    np.savez(tmp_path / "w.npz", **own_names(variables))
    found = load(str(tmp_path / "w.npz"), network, IMAGE)
    assert found.inputs == "symmetric"
    begun = pretrained.filled(jax.tree.map(jnp.zeros_like, variables), found.arrays)
    jax.tree.map(np.testing.assert_array_equal, begun, variables)


def as_torchvision(network, variables, image):
    """Variables as a torchvision state_dict, written independently of the loader's turns."""
    leaves = own_names(variables)
    names = pretrained.torchvision_names(pretrained.torchvision_modules(network), leaves)
    state = {}
    for theirs, ours in names.items():
        array = leaves[ours]
        if array.ndim == 4:
            array = np.einsum("hwio->oihw", array)
        elif "hidden1" in ours:  # [(h w c), o] -> [o, (c h w)]
            array = np.einsum("hwco->ochw", array.reshape(7, 7, -1, array.shape[-1]))
            array = array.reshape(len(array), -1)
        elif array.ndim == 2:
            array = np.einsum("io->oi", array)
        state[theirs] = np.ascontiguousarray(array)
        if theirs.endswith("running_mean"):
            state[theirs.replace("running_mean", "num_batches_tracked")] = np.array(7)
    return state


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """(a network with an ImageNet stem, its variables, the path of its torchvision file)."""
    network = small("resnet18", stem="imagenet")
    variables = variables_of(network)
    path = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    path.write_bytes(save(as_torchvision(network, variables, IMAGE)))
    return network, variables, path


def test_torchvision_names_fill_every_leaf(resnet):
    network, variables, path = resnet
    found = load(str(path), network, IMAGE)
    assert found.inputs == "imagenet"
    begun = pretrained.filled(jax.tree.map(jnp.zeros_like, variables), found.arrays)
    jax.tree.map(np.testing.assert_array_equal, begun, variables)


def test_a_head_of_other_classes_is_left_as_it_was(resnet):
    network, variables, path = resnet
    other = network.clone(classes=7)
    found = load(str(path), other, IMAGE)
    assert "the file's has 5 classes, the data 7" in found.note
    zeros = jax.tree.map(jnp.zeros_like, variables_of(other))
    begun = pretrained.filled(zeros, found.arrays)["params"]
    assert not np.any(begun["head"]["kernel"])
    np.testing.assert_array_equal(
        begun["stem"]["conv"]["kernel"], variables["params"]["stem"]["conv"]["kernel"]
    )


def test_identity_is_that_of_the_content(resnet, tmp_path):
    network, variables, path = resnet
    same, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    same.write_bytes(path.read_bytes())
    variables["params"]["head"]["bias"] += 1
    other.write_bytes(save(as_torchvision(network, variables, IMAGE)))
    identities = [load(str(p), network, IMAGE).identity for p in (path, same, other)]
    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize(
    ("network", "change", "sentence"),
    [
        (small("resnet18"), {}, "7 x 7 and the network one of 3 x 3: use --config.model.stem=imag"),
        (small("resnet34", stem="imagenet"), {}, "lacks layer1.2.bn1.bias"),
        (small("resnet18", stem="imagenet", width=4), {}, "--config.model.width"),
        (small("resnet8"), {}, "torchvision has no ResNet"),
        (small("resnet18", stem="imagenet"), {"extra": np.zeros(3)}, "has extra"),
        (small("resnet18", stem="imagenet"), {"bn1.bias": None}, "lacks bn1.bias"),
        (small("resnet18", stem="imagenet"), {"bn1.bias": np.full(8, np.nan)}, "not finite"),
        (small("resnet18", stem="imagenet"), {"bn1.bias": np.full(8, 1e300)}, "not finite"),
        (small("resnet18", stem="imagenet"), {"fc.bias": np.zeros(7)}, "head/bias (7,), not (5,)"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_get_one_sentence(resnet, tmp_path, network, change, sentence):
    state = read_safetensors(resnet[2].read_bytes()) | change
    path = tmp_path / "w.npz"
    np.savez(path, **{name: array for name, array in state.items() if array is not None})
    with pytest.raises(ValueError, match=r"w\.npz") as caught:
        load(str(path), network, IMAGE)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_vgg_for_imagenet_names_its_stem(tmp_path):
    path = tmp_path / "vgg.npz"
    np.savez(path, **{"features.0.weight": np.zeros(1), "classifier.0.weight": np.zeros(1)})
    with pytest.raises(ValueError, match=r"use --config\.model\.stem=imagenet"):
        load(str(path), small("vgg11"), IMAGE)


def test_safetensors_are_read_as_their_own_package_writes_them():
    arrays = {
        "a": DRAW.normal(size=(2, 3, 4)).astype(np.float32),
        "b": DRAW.normal(size=5).astype(np.float16),
        "c": np.array(2.5),
        "empty": np.zeros((0, 3), np.float32),
        "bfloat": np.asarray(jnp.array([1.5, -2], jnp.bfloat16)),
    }
    found = read_safetensors(save(arrays, {"format": "np"}))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def packed(header, body=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"x": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.safetensors", b"\xff" * 20),
        ("w.safetensors", b""),
        ("w.safetensors", packed([])),
        ("w.safetensors", packed(entry(), b"1234567")),
        ("w.safetensors", packed(entry(offsets=(-8, 0)), b"12345678")),
        ("w.safetensors", packed(entry(shape=(3,)), b"12345678")),
        ("w.safetensors", packed(entry(shape=(-1, -2)), b"12345678")),
        ("w.safetensors", packed(entry("I8", (8,)), b"12345678")),
        ("w.safetensors", packed(entry(shape=(2**70,)), b"12345678")),
        ("w.safetensors", packed({"x": {}})),
        ("w.safetensors", struct.pack("<Q", 200_000) + 200_000 * b"["),
        ("w.safetensors", packed({})),
        ("w.npz", b"PK no zip"),
        ("w.npz", b""),
        ("w.pth", b""),
    ],
)
def test_broken_files_get_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as caught:
        load(str(tmp_path / name), small("tiny"), IMAGE)
    assert "\n" not in str(caught.value)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data())
def test_a_flipped_bit_in_a_compressed_file_gets_one_sentence(flipped, data):
    """Where one in the names or the checksum's own place goes by unseen, the weights do not fit."""
    path, whole = flipped
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    broken = bytearray(whole)
    broken[place // 8] ^= 1 << place % 8
    path.write_bytes(bytes(broken))
    with pytest.raises(ValueError, match=r"w\.npz") as caught:
        load(str(path), small("tiny"), IMAGE)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def flipped(tmp_path_factory):
    """(a path, the bytes of a compressed npz file of other weights)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, weights=np.arange(300, dtype=np.float32))
    return tmp_path_factory.mktemp("flipped") / "w.npz", buffer.getvalue()


def test_pickled_objects_and_words_are_refused(tmp_path):
    for bad in (np.array([{}], object), np.array(["a"])):
        np.savez(tmp_path / "w.npz", **{"params/head/bias": bad})
        with pytest.raises(ValueError, match="damaged or not what its name says"):
            load(str(tmp_path / "w.npz"), small("tiny"), IMAGE)
    with pytest.raises(ValueError, match="cannot be read"):
        load(str(tmp_path / "absent.npz"), small("tiny"), IMAGE)


def test_imagenet_inputs_are_what_torchvision_subtracts():
    """The network of a constant image of ImageNet's mean colour sees zeros: only norms remain."""
    from rcm.models.layers import standardise

    mean = jnp.array([0.485, 0.456, 0.406]).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(standardise(mean, jnp.float32, "imagenet"), 0, atol=1e-7)
    one = standardise(
        mean + jnp.array([0.229, 0, 0.225]).reshape(1, 1, 1, 3), jnp.float32, "imagenet"
    )
    np.testing.assert_allclose(one.ravel(), [1, 0, 1], atol=1e-6)
    with pytest.raises(ValueError, match="unknown inputs"):
        standardise(mean, jnp.float32, "imagnet")
    assert config.Model().inputs == ""
