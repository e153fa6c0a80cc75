"""Crops and flips against a written-out numpy reference, and the same pixels under jit and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm.data import augment

IMAGES = np.random.default_rng(0).integers(1, 256, (64, 12, 16, 3), dtype=np.uint8)


def candidates(image, pad, flip):
    """Every crop (and its mirror image) of the zero-padded image, by offset."""
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    found = {}
    for row in range(2 * pad + 1):
        for column in range(2 * pad + 1):
            crop = padded[row : row + height, column : column + width]
            found[crop.tobytes()] = (row, column, False)
            if flip:
                found[crop[:, ::-1].tobytes()] = (row, column, True)
    return found


@pytest.mark.parametrize("name", ["crop", "crop_flip"])
def test_every_image_is_one_of_the_possible_crops(name):
    function = getattr(augment, name)
    out = np.asarray(function(jax.random.key(0), jnp.asarray(IMAGES), pad=2))
    drawn = [
        candidates(a, 2, "flip" in name)[b.tobytes()] for a, b in zip(IMAGES, out, strict=True)
    ]
    assert out.dtype == np.uint8
    assert {row for row, _, _ in drawn} == {column for _, column, _ in drawn} == set(range(5))
    flipped = sum(flip for _, _, flip in drawn)
    assert flipped == 0 if name == "crop" else 16 <= flipped <= 48


def test_pad_zero_is_the_identity_for_crop():
    out = augment.crop(jax.random.key(0), jnp.asarray(IMAGES), pad=0)
    assert np.array_equal(out, IMAGES)


def test_default_pad_is_an_eighth_of_the_height():
    images = jnp.asarray(IMAGES[:, :, :12])  # 12 // 8 = 1 pixel
    out = np.asarray(augment.crop(jax.random.key(3), images))
    for image, cropped in zip(np.asarray(images), out, strict=True):
        assert cropped.tobytes() in candidates(image, 1, flip=False)


@pytest.mark.parametrize("name", list(augment.AUGMENTATIONS))
def test_jit_and_vmap_give_the_same_pixels(name):
    function = augment.AUGMENTATIONS[name]
    keys = jax.random.split(jax.random.key(1), 3)
    images = jnp.asarray(np.stack([IMAGES, IMAGES[::-1], 255 - IMAGES]))
    alone = np.stack([function(key, lane) for key, lane in zip(keys, images, strict=True)])
    compiled = jax.jit(function)
    jitted = np.stack([compiled(key, lane) for key, lane in zip(keys, images, strict=True)])
    assert np.array_equal(alone, jitted)
    assert np.array_equal(alone, jax.jit(jax.vmap(function))(keys, images))
    assert np.array_equal(alone, jax.lax.map(lambda x: function(*x), (keys, images)))


def test_none_changes_nothing_and_keys_change_crops():
    images = jnp.asarray(IMAGES)
    assert np.array_equal(augment.none(jax.random.key(0), images), IMAGES)
    first, second = (augment.crop(jax.random.key(k), images) for k in (0, 1))
    assert not np.array_equal(first, second)


def test_to_float_spans_zero_to_one():
    out = np.asarray(jax.jit(augment.to_float)(jnp.arange(256, dtype=jnp.uint8)))
    assert out.dtype == np.float32
    assert out.min() == 0
    assert out.max() == 1
    np.testing.assert_allclose(out, np.arange(256) / 255, rtol=1e-7)


@pytest.mark.parametrize("name", ["crop", "crop_flip"])
def test_bad_input_is_refused(name):
    function = getattr(augment, name)
    with pytest.raises(ValueError, match="expected uint8"):
        function(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    with pytest.raises(ValueError, match="expected uint8"):
        function(jax.random.key(0), jnp.zeros((8, 8, 3), jnp.uint8))
    with pytest.raises(ValueError, match="pad is -1"):
        function(jax.random.key(0), jnp.asarray(IMAGES), pad=-1)
