"""Fog, snow, frost and spatter: what they add, hand-computed where that is possible."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from rcm.shift import colour, frost, spatter, weather
from rcm.shift.corruptions import corrupt

DRAW = np.random.default_rng(0)
KEYS = jax.random.split(jax.random.key(0), 8)


def test_a_plasma_without_finer_noise_interpolates():
    """With a decay of 1e6 only the first step draws; every later point is a mean of neighbours."""
    heights = np.asarray(weather.plasma(KEYS, 8, jnp.float32(1e6)))
    assert heights.min() == 0
    assert heights.max() == 1
    old, wrap = heights[:, ::2, ::2], (-1, -2)
    around = sum(np.roll(old, shift, wrap) for shift in ((0, 0), (-1, 0), (0, -1), (-1, -1)))
    np.testing.assert_allclose(heights[:, 1::2, 1::2], around / 4, atol=1e-4)


def test_noise_of_a_plasma_falls_by_the_square_of_the_decay():
    keys = jax.random.split(jax.random.key(1), 500)
    heights = np.asarray(weather.plasma(keys, 16, jnp.float32(2.0)))
    spread = []
    for step in (8, 4, 2):
        half = step // 2
        old, middle = heights[:, ::step, ::step], heights[:, half::step, half::step]
        shifts = ((0, 0), (-1, 0), (0, -1), (-1, -1))
        spread.append((middle - sum(np.roll(old, s, (1, 2)) for s in shifts) / 4).std())
    np.testing.assert_allclose(np.divide(spread[1:], spread[:-1]), 0.25, atol=0.02)


def test_fog_keeps_black_black_and_the_brightest_pixel_the_limit():
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[1, :16] = 200
    shifted = np.asarray(corrupt(images, np.arange(2), "fog", 5))
    assert (shifted[0] == 0).all()  # no light, no fog: the largest value stays the largest
    assert shifted[1].max() <= 200
    assert shifted[1, 16:].max() > 60


def test_snow_only_lightens_and_both_halves_mirror_each_other():
    images = np.zeros((4, 32, 32, 3), np.uint8)
    shifted = np.asarray(corrupt(images, np.arange(4), "snow", 3)).astype(int)
    whitened = int(0.1 * 127.5)
    assert shifted.min() >= whitened
    assert shifted.max() > 100
    np.testing.assert_array_equal(shifted, np.rot90(shifted, 2, (1, 2)))
    assert (shifted[..., :1] == shifted).all()


def test_saturation_by_hand():
    images = np.zeros((1, 8, 8, 3), np.uint8)
    images[0, 0, 0] = (200, 100, 150)  # S = 0.5
    images[0, 0, 1] = (200, 200, 200)  # grey counts as red
    shifted = [np.asarray(corrupt(images, np.arange(1), "saturate", s))[0, 0] for s in (1, 3, 5)]
    assert shifted[0][0].tolist() == [200, 170, 185]  # S = 0.15
    assert shifted[1][0].tolist() == [200, 50, 125]  # S = 0.75
    assert shifted[2][0].tolist() == [200, 0, 100]  # S = 1.45, cut to 1
    assert [row[1].tolist() for row in shifted] == [[200] * 3, [200] * 3, [200, 160, 160]]
    assert (shifted[2][2:] == 0).all()
    assert colour.saturate_tables(8, 8).shape == (5, 2)


# --- frost


def photograph(folder, name, size, grey):
    Image.new("RGB", size, (grey, grey, grey)).save(folder / name)


def test_frost_lays_a_supplied_texture_over_the_image(tmp_path):
    photograph(tmp_path, "a.png", (200, 180), 100)
    images = np.full((2, 32, 32, 3), 80, np.uint8)
    for severity, (ours, theirs) in enumerate(frost.FROST, start=1):
        shifted = corrupt(images, np.arange(2), "frost", severity, frost_dir=str(tmp_path))
        np.testing.assert_array_equal(shifted, int(80 * ours + 100 * theirs + 1e-6))


def test_photographs_are_sampled_and_not_smoothed(tmp_path):
    """Shrunk to a fifth as by OpenCV's INTER_LINEAR: every fifth pixel, from the third on."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 185, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(frost.photographs(str(tmp_path), 32, 32)[0], pixels[2::5, 2::5])
    between = frost.photographs(str(tmp_path), 64, 64)[0]  # to two fifths: x = 0.75, 3.25, ...
    rows = 0.25 * pixels[0].astype(float) + 0.75 * pixels[1]
    np.testing.assert_allclose(between[0, 0], 0.25 * rows[0] + 0.75 * rows[1], atol=0.51)


def test_frost_cuts_somewhere_else_for_every_image(tmp_path):
    ramp = np.tile(np.arange(250, dtype=np.uint8), (250, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    images = np.zeros((20, 32, 32, 3), np.uint8)
    shifted = np.asarray(corrupt(images, np.arange(20), "frost", 5, frost_dir=str(tmp_path)))
    assert len(np.unique(shifted[:, 0, 0, 0])) > 5


def test_frost_without_photographs_is_drawn_and_bluish_white():
    made = frost.drawn(32, 32)
    assert made.shape == (5, 128, 128, 3)
    assert 120 < made.mean() < 200
    assert made[..., 2].mean() > made[..., 0].mean()


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ((), "is no folder with photographs"),
        ((("a.png", (100, 100)),), "expected at least 160 x 160"),
        ((("a.png", None),), "cannot be read as an image"),
    ],
)
def test_bad_folders_of_photographs_are_refused(tmp_path, files, sentence):
    for name, size in files:
        if size is None:
            (tmp_path / name).write_bytes(b"no image")
        else:
            photograph(tmp_path, name, size, 9)
    with pytest.raises(ValueError, match=f"shift.frost_dir: .*{sentence}"):
        frost.tables(32, 32, str(tmp_path))


# --- spatter


@pytest.mark.parametrize("size", [64, 96])
def test_drops_cover_as_much_of_larger_images(size):
    """The share of an even image that a severity changes is like that of 32 x 32."""
    covered = {}
    for side, count in ((32, 60), (size, 60)):
        images = np.full((count, side, side, 3), 128, np.uint8)
        covered[side] = [
            (np.abs(np.asarray(corrupt(images, np.arange(count), "spatter", s)).astype(int) - 128)
             > 2).any(-1).mean()
            for s in (1, 3, 5)
        ]  # fmt: skip
    ratio = np.array(covered[size]) / covered[32]
    assert (ratio > 0.5).all()
    assert (ratio < 2).all()  # light reaches as many pixels at any size, so not exactly


def test_edges_of_a_square_are_its_outline_once():
    image = np.zeros((1, 16, 16), np.float32)
    image[0, 4:12, 4:12] = 200
    found = np.asarray(spatter.edges(jnp.asarray(image)))[0]
    assert 24 <= found.sum() <= 36
    assert not found[6:10, 6:10].any()
    assert not np.asarray(spatter.edges(jnp.asarray(image) * 0.05)).any()  # too faint


def test_weak_edges_count_where_strong_ones_reach_them():
    weak = jnp.zeros((1, 5, 9), bool).at[0, 2, 1:5].set(True).at[0, 2, 7].set(True)
    strong = jnp.zeros_like(weak).at[0, 2, 1].set(True)
    found = np.asarray(spatter._grown(strong, weak))[0, 2]
    assert found.tolist() == [False, True, True, True, True, False, False, False, False]


def test_distances_are_nearly_euclidean_and_cut():
    found = DRAW.random((3, 32, 32)) < 0.01
    found[0] = False
    got = np.asarray(spatter.distances(jnp.asarray(found)))
    assert (got[0] == spatter.FARTHEST).all()
    for one, where in zip(got[1:], found[1:], strict=True):
        exact = np.minimum(ndimage.distance_transform_edt(~where), spatter.FARTHEST)
        np.testing.assert_allclose(one, exact, rtol=0.03)


def test_equalization_by_hand():
    """Half of the pixels 3, a quarter 4 and 9 each: 0, then 255 / 2, then 255."""
    image = jnp.float32([[[3, 3], [4, 9]], [[7, 7], [7, 7]]])
    made = np.asarray(spatter.equalized(image))
    assert made[0].tolist() == [[0, 0], [128, 255]]
    assert made[1].tolist() == [[7, 7], [7, 7]]


def test_water_lightens_and_mud_covers():
    images = np.full((8, 32, 32, 3), 100, np.uint8)
    water = np.asarray(corrupt(images, np.arange(8), "spatter", 3))
    assert water.min() == 100
    assert (water > 100).any()
    mud = np.asarray(corrupt(images, np.arange(8), "spatter", 5))
    covered = (mud != 100).any(-1)
    assert 0.01 < covered.mean() < 0.5
    darkest = mud[covered].min(0)
    np.testing.assert_allclose(darkest, spatter.MUD, atol=1)
