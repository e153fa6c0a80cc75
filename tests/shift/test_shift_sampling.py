"""The samplers behind the corruptions against scipy (laws) and Pillow (box filter)."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from rcm.shift import alias, box, corruptions, noise


def probability_of(tables):
    """The law that alias tables [256] stand for, from the definition of the method."""
    kept = (tables >> 8).astype(np.int64)
    law = kept.astype(float)
    np.add.at(law, tables & 255, 2.0**24 - kept)
    return law / 2.0**32


@pytest.mark.parametrize("law", ["flat", "certain", "two", "random", "peaked"])
def test_alias_tables_stand_for_their_law(law):
    rng = np.random.default_rng(0)
    probabilities = {
        "flat": np.full(256, 1 / 256),
        "certain": np.eye(256)[3],
        "two": 0.3 * np.eye(256)[0] + 0.7 * np.eye(256)[255],
        "random": rng.dirichlet(np.ones(256)),
        "peaked": rng.dirichlet(np.full(256, 0.01)),
    }[law]
    tables = alias.build(np.stack([probabilities, np.roll(probabilities, 9)]))
    for table, expected in zip(tables, (probabilities, np.roll(probabilities, 9)), strict=True):
        np.testing.assert_allclose(probability_of(table), expected, atol=1e-9)


def test_alias_build_refuses_what_is_no_law():
    with pytest.raises(ValueError, match="sum to 1"):
        alias.build(np.full((2, 256), 0.01))


def test_alias_sample_is_a_look_up_of_column_and_share():
    table = np.zeros((2, 256), np.uint32)
    table[1, 5] = (3 << 8) | 200  # column 5 keeps 3 of 2^24, the rest goes to 200
    bits = jnp.array([(2 << 8) | 5, (3 << 8) | 5], jnp.uint32)
    outcomes = alias.sample(jnp.asarray(table), jnp.array([1, 1], jnp.uint8), bits)
    assert outcomes.tolist() == [5, 200]


def gaussian_cdf(grey, constant):
    """P(out <= j) for j < 255: the noisy value lies below the next grey level."""
    return stats.norm.cdf((np.arange(1, 256) - grey) / 255, scale=constant)


def speckle_cdf(grey, constant):
    """The same with noise in proportion to the value; black stays black."""
    return stats.norm.cdf((np.arange(1, 256) - grey) / 255, scale=max(constant * grey / 255, 1e-9))


def shot_cdf(grey, photons):
    """P(out <= j) for j < 255: fewer photons than the next grey level needs."""
    enough = -(-np.arange(1, 256) * photons // 255)  # rounded up
    return stats.poisson.cdf(enough - 1, grey / 255 * photons)


CASES = [
    ("gaussian_noise", gaussian_cdf, noise.GAUSSIAN_STD, noise.gaussian_law),
    ("speckle_noise", speckle_cdf, noise.SPECKLE_STD, noise.speckle_law),
    ("shot_noise", shot_cdf, noise.SHOT_PHOTONS, noise.shot_law),
]


@pytest.mark.parametrize(("name", "cdf", "constants", "law"), CASES)
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_laws_are_scipys(name, cdf, constants, law, severity):
    constant = constants[severity - 1]
    for grey in (0, 1, 100, 254, 255):
        expected = np.diff(cdf(grey, constant), prepend=0, append=1)
        np.testing.assert_allclose(law(constant)[grey], expected, atol=1e-12)


@pytest.mark.parametrize(("name", "cdf", "constants", "law"), CASES)
@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("grey", [0, 3, 128, 252])
def test_noise_follows_its_law(name, cdf, constants, law, severity, grey):
    """Chi-square of 98,304 noisy copies of one grey level; bins of at least 5 expected."""
    images = np.full((32, 32, 32, 3), grey, np.uint8)
    shifted = np.asarray(corruptions.corrupt(images, np.arange(32), name, severity))
    borders = cdf(grey, constants[severity - 1])
    expected = np.diff(borders, prepend=0, append=1) * shifted.size
    counts = np.bincount(shifted.ravel(), minlength=256)
    kept = expected >= 5
    assert counts[~kept].sum() <= expected[~kept].sum() + 5 * np.sqrt(expected[~kept].sum()) + 1
    if kept.sum() == 1:  # black has no photons, and nothing to multiply
        assert counts[kept].tolist() == [shifted.size]
        return
    scaled = expected[kept] * counts[kept].sum() / expected[kept].sum()
    assert stats.chisquare(counts[kept], scaled).pvalue > 1e-4


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (32, 32), (40, 64), (96, 96)])
def test_pixelate_is_pillows_to_the_bit(size):
    height, width = size
    images = np.random.default_rng(0).integers(0, 256, (6, height, width, 3), dtype=np.uint8)
    for severity, scale in enumerate(box.PIXELATE_SCALE, start=1):
        small = (int(width * scale), int(height * scale))
        expected = [
            Image.fromarray(image).resize(small, Image.Resampling.BOX)
            .resize((width, height), Image.Resampling.BOX)
            for image in images
        ]  # fmt: skip
        shifted = corruptions.corrupt(images, np.arange(6), "pixelate", severity)
        np.testing.assert_array_equal(shifted, np.stack([np.asarray(e) for e in expected]))


def test_box_weights_of_one_pixel_sum_to_one():
    for size in (8, 32, 224):
        weight = box.taps(size, box.PIXELATE_SCALE).weight
        np.testing.assert_allclose(weight.sum(-1) / 2**box.PRECISION, 1, atol=1e-6)
