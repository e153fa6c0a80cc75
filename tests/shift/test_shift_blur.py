"""Blurs against scipy, Pillow and hand-computed pixels."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from rcm.shift import blur, elastic, jpeg, motion
from rcm.shift.corruptions import corrupt

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("size", [5, 32])
@pytest.mark.parametrize(
    ("sigma", "mode", "truncate"), [(0.4, "nearest", 4), (1.0, "nearest", 4), (2.5, "reflect", 3)]
)
def test_gaussian_is_scipys(size, sigma, mode, truncate):
    expected = ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode=mode, truncate=truncate)
    made = blur.gaussian_matrix(size, sigma, mode, truncate)
    np.testing.assert_allclose(made, expected, atol=1e-12)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.06, 1.15, 1.26, 2.25])
@pytest.mark.parametrize("size", [8, 32, 40])
def test_zoom_is_the_middle_of_scipys(size, factor):
    cut = int(np.ceil(size / factor))
    top = (size - cut) // 2
    large = ndimage.zoom(np.eye(size)[top : top + cut], (factor, 1), order=1)
    trim = (len(large) - size) // 2
    made = blur.zoom_matrix(size, factor)
    np.testing.assert_allclose(made, large[trim : trim + size], atol=1e-12)


def test_fewest_terms_are_the_same_map():
    rows, columns = DRAW.normal(size=(2, 3, 6, 6))
    twice = np.concatenate([rows, 2 * rows]), np.concatenate([columns, columns])
    made = blur.fewest_terms(*twice)
    assert len(made.rows) == 3
    image = DRAW.normal(size=(6, 6))
    expected = 3 * sum(r @ image @ c.T for r, c in zip(rows, columns, strict=True))
    got = blur.separable(jnp.float32(image)[None, :, :, None], made)[0, :, :, 0]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 40)])
def test_zoom_blur_is_the_mean_of_its_zooms(height, width):
    images = DRAW.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    for severity, end in enumerate(blur.ZOOM_END, start=1):
        factors = np.arange(1, end, 0.01)
        total = images.astype(float)
        for factor in factors:
            rows, columns = (blur.zoom_matrix(size, factor) for size in (height, width))
            total = total + np.einsum("ij,bjkc,lk->bilc", rows, images, columns)
        error = np.asarray(corrupt(images, np.arange(2), "zoom_blur", severity)) - np.floor(
            total / (len(factors) + 1)
        )
        assert np.abs(error).max() <= 1
        assert (error != 0).mean() < 0.01


def test_defocus_spreads_a_point_over_a_disk():
    images = np.zeros((1, 32, 32, 3), np.uint8)
    images[0, 16, 16] = 250
    shifted = np.asarray(corrupt(images, np.arange(1), "defocus_blur", 4))[0, :, :, 0]
    cross = [(16, 16), (15, 16), (17, 16), (16, 15), (16, 17)]
    assert all(abs(int(shifted[place]) - 50) <= 1 for place in cross)  # a disk of radius 1
    assert shifted.sum() == sum(int(shifted[place]) for place in cross)


@pytest.mark.parametrize("name", ["gaussian_blur", "defocus_blur", "zoom_blur", "glass_blur"])
def test_a_blur_leaves_a_flat_image_flat(name):
    images = np.full((1, 32, 32, 3), 255, np.uint8) - np.arange(3, dtype=np.uint8)
    for severity in (1, 5):
        np.testing.assert_array_equal(corrupt(images, np.arange(1), name, severity), images)


def test_motion_draws_a_point_out_against_its_direction():
    image = np.zeros((3, 9, 9, 1), np.float32)
    image[:, 4, 4] = 200
    weights = jnp.array([0.5, 0.25, 0.25])
    made = np.asarray(motion.blur(jnp.asarray(image), weights, jnp.array([0.0, 90.0, 45.0])))
    for one, (down, right) in zip(made[..., 0], [(0, 1), (1, 0), (1, 1)], strict=True):
        expected = np.zeros((9, 9))
        for tap, value in ((0, 100), (1, 50)):
            expected[4 - tap * down, 4 - tap * right] = value
        last = 2 if (down, right) != (1, 1) else 1  # 2 cos 45 degrees is 1.41: once more on 1
        expected[4 - last * down, 4 - last * right] += 50
        np.testing.assert_array_equal(one, expected)


def test_motion_weights_are_half_a_gaussian():
    weights = motion.kernels([6], [1.0])[0]
    expected = np.exp(-0.5 * np.arange(13.0) ** 2)
    np.testing.assert_allclose(weights, (expected / expected.sum())[: len(weights)], atol=1e-4)
    assert motion.kernels([1, 9], [9.0, 9.0]).shape == (2, 19)


def test_glass_takes_over_neighbours_above_and_left_inside_a_border():
    images = np.tile(np.arange(64, dtype=np.uint8).reshape(8, 8), (50, 1, 1))[..., None]
    images = np.repeat(images, 3, -1)
    table = blur.GlassTable(np.int32(1), blur.gaussians(8, 8, [0.0]))
    table = table._replace(blur=blur.Separable(*(x[0] for x in table.blur)))
    made = np.asarray(
        blur.glass(jnp.asarray(images), table, jax.random.split(jax.random.key(0), 50))
    )
    np.testing.assert_array_equal(made[:, :2], images[:, :2])
    np.testing.assert_array_equal(made[:, :, :2], images[:, :, :2])
    jumps = images.astype(int)[:, 2:, 2:] - made[:, 2:, 2:]
    values, counts = np.unique(jumps, return_counts=True)
    assert values.tolist() == [0, 1, 8, 9]  # itself, left, above, above left
    np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=0.05)


# --- elastic


@pytest.mark.parametrize("mode", ["mirror", "reflect"])
def test_reading_between_pixels_is_scipys(mode):
    image = DRAW.integers(0, 256 << elastic.LEVEL, (9, 7)).astype(np.int32)
    y, x = DRAW.uniform(-4, 12, (9, 7)), DRAW.uniform(-4, 10, (9, 7))
    y, x = (np.rint(place * 2**elastic.PLACE).astype(np.int32) for place in (y, x))
    places = [y / 2**elastic.PLACE, x / 2**elastic.PLACE]
    expected = ndimage.map_coordinates(image.astype(float), places, order=1, mode=mode)
    got = elastic._read(jnp.asarray(image)[None, :, :, None], y[None], x[None], mode)
    np.testing.assert_allclose(got[0, :, :, 0], expected, atol=1)  # rounded across, then down


@pytest.mark.parametrize("size", [8, 32, 224])
def test_the_affine_map_brings_moved_corners_home(size):
    """Corners of a square about the middle, moved by whole pixels; each map is a part of 2^14."""
    moved = size // 32 * np.array([[1, -2], [0, 1], [-1, 2]]) if size > 8 else np.eye(3, 2)
    moved = moved.astype(np.int32)  # x before y
    low, high = size // 2 - size // 3, size // 2 + size // 3
    corners = np.array([[high, high], [high, low], [low, low]])
    grid = jnp.asarray(np.stack(np.meshgrid(*[np.arange(size)] * 2, indexing="ij")))
    y, x = elastic._affine(jnp.asarray(moved << elastic._corner_bits(size)), *grid)
    at = tuple((corners + moved).T[::-1])
    found = np.stack([np.asarray(x)[at], np.asarray(y)[at]], 1) / 2**elastic.PLACE
    np.testing.assert_allclose(found, corners, atol=(size + 1) / 2**elastic.PLACE)


def test_a_field_is_smoothed_as_by_scipy():
    """In the steps in which it is drawn, and the same to the bit in any batch."""
    table = jax.tree.map(lambda entry: entry[2], elastic.tables(32, 32))
    field = DRAW.integers(-1024, 1025, (3, 32, 32, 2)).astype(np.float32)
    found = np.asarray(elastic._smoothed(jnp.asarray(field), table)) / 2**elastic.WEIGHT
    sigma = (0, 0.06 * 32, 0.06 * 32, 0)
    expected = ndimage.gaussian_filter(field.astype(float), sigma, mode="reflect", truncate=3)
    np.testing.assert_allclose(found, expected, atol=1)
    np.testing.assert_allclose(table.alpha * 2 ** (10 + 13), 0.08 * 32 * 2**14, rtol=1e-6)


# --- JPEG


def pillows(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def natural(count, height, width):
    """Smooth colours with edges: what JPEG was made for."""
    noise = DRAW.normal(size=(count, height, width, 3))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 0.5)) * 300 + 128
    smooth[:, height // 3 :] += 40
    return np.clip(smooth, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40), (96, 96)])
def test_jpeg_is_pillows_to_the_bit(height, width):
    noise = DRAW.integers(0, 256, (2, height, width, 3), np.uint8)
    images = np.concatenate([natural(4, height, width), noise])
    for severity, quality in enumerate(jpeg.QUALITY, start=1):
        expected = np.stack([pillows(image, quality) for image in images])
        found = corrupt(images, np.arange(6), "jpeg_compression", severity)
        np.testing.assert_array_equal(found, expected)


def test_jpeg_tables_are_pillows():
    for quality in (*jpeg.QUALITY, 10, 95):
        file = io.BytesIO()
        Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
        made = jpeg.steps(quality)
        for table, expected in zip(made, Image.open(file).quantization.values(), strict=True):
            np.testing.assert_array_equal(table.ravel(), expected)
