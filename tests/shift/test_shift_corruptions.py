"""Corruptions: hand-computed pixels, the benchmark's own pixels, and independence of the batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from rcm.shift import corruptions, fidelity, noise
from rcm.shift.corruptions import CORRUPTIONS, Corruption, corrupt

NAMES = tuple(CORRUPTIONS)
LAWS = {
    "gaussian_noise": (noise.gaussian_law, noise.GAUSSIAN_STD),
    "shot_noise": (noise.shot_law, noise.SHOT_PHOTONS),
    "impulse_noise": (noise.impulse_law, noise.IMPULSE_SHARE),
    "speckle_noise": (noise.speckle_law, noise.SPECKLE_STD),
}
NOISES = tuple(LAWS)
# that compute in floating point, or did
FLOATING = ("elastic_transform", "defocus_blur", "zoom_blur", "gaussian_blur", "glass_blur",
            "motion_blur", "snow", "frost", "fog", "spatter", "saturate")  # fmt: skip
# of four, how many of the benchmark's own steps have a direction, where not all
LEAST_STEPS = {"glass_blur": 2, "motion_blur": 3, "frost": 2, "elastic_transform": 3}
# by default one of those that share a function and differ in their tables
FIRST = {corruption.apply: name for name, corruption in reversed(CORRUPTIONS.items())}.values()
every = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] * (n not in FIRST)) for n in NAMES]
)


def random_images(count, size=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("severity", corruptions.SEVERITIES)
@pytest.mark.parametrize("name", NOISES)
def test_noise_has_the_moments_of_the_benchmark(sample, name, severity):
    """Mean and mean square of the change, ours and theirs, within 4.5 standard errors of the law's.

    The standard error is that of a redraw of all 307,200 values, from the law's own moments.
    """
    law, constants = LAWS[name]
    clean = sample["clean"].astype(int)
    change = np.arange(256)[None, :] - np.arange(256)[:, None]
    share = np.bincount(clean.ravel(), minlength=256) / clean.size
    ours = np.asarray(corrupt(sample["clean"], np.arange(100), name, severity))
    for power in (1, 2):
        moments = law(constants[severity - 1]) * change.astype(float) ** power
        mean = moments.sum(1)
        variance = (moments * change.astype(float) ** power).sum(1) - mean**2
        error = np.sqrt(share @ variance / clean.size)
        for images in (ours, sample[name][severity - 1]):
            measured = ((images - clean).astype(float) ** power).mean()
            assert abs(measured - share @ mean) < 4.5 * error


def test_brightness_by_hand():
    """V rises from 100 to 176.5 of 255, so the pixel is multiplied by 1.765; black turns grey."""
    images = np.zeros((1, 8, 8, 3), np.uint8)
    images[0, 0, 0] = (100, 50, 0)
    images[0, 0, 1] = (250, 125, 25)  # V is clipped at 255: times 1.02
    shifted = np.asarray(corrupt(images, np.arange(1), "brightness", 5))
    assert shifted[0, 0, 0].tolist() == [176, 88, 0]
    assert shifted[0, 0, 1].tolist() == [255, 127, 25]
    assert (shifted[0, 1:] == 76).all()  # 0.3 * 255 = 76.5, truncated


def test_contrast_by_hand_per_image_and_channel():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[0, :4, :, 0] = 200  # mean 100: 100 +- 15
    images[1, :4, :, 1] = 1  # mean 0.5: 0.575 and 0.425, both truncated to 0
    shifted = np.asarray(corrupt(images, np.arange(2), "contrast", 5))
    assert (shifted[0, :4, :, 0] == 115).all()
    assert (shifted[0, 4:, :, 0] == 85).all()
    assert (shifted[0, :, :, 1:] == 0).all()
    assert (shifted[1] == 0).all()


def test_contrast_of_the_largest_images_overflows_nowhere():
    """Three quarters white: the mean is 191.25, and 0.15 times as far from it are 162 and 200."""
    images = np.full((1, 648, 648, 3), 255, np.uint8)
    images[:, :162] = 0
    shifted = np.asarray(corrupt(images, np.arange(1), "contrast", 5))
    assert (shifted[:, :162] == 162).all()
    assert (shifted[:, 162:] == 200).all()


def test_impulse_noise_hits_single_values_with_equal_salt_and_pepper():
    images = np.full((32, 32, 32, 3), 77, np.uint8)
    shifted = np.asarray(corrupt(images, np.arange(32), "impulse_noise", 5))
    hit = shifted != 77
    assert set(np.unique(shifted)) == {0, 77, 255}
    np.testing.assert_allclose(hit.mean(), 0.07, atol=4 * np.sqrt(0.07 * 0.93 / hit.size))
    np.testing.assert_allclose((shifted[hit] == 255).mean(), 0.5, atol=2 / np.sqrt(hit.sum()))
    assert 0.5 < hit.all(-1).mean() / 0.07**3 < 2  # channels independently


@pytest.mark.parametrize("name", NAMES)
def test_change_grows_with_severity_where_the_benchmarks_does(sample, name):
    """And falls where it falls, as elastic's does. A step has a direction if the mean over the
    sample's images is more than three of its standard errors from zero."""
    clean, ids = sample["clean"].astype(int), np.arange(100)
    ours = [np.asarray(corrupt(sample["clean"], ids, name, s)) for s in corruptions.SEVERITIES]
    changes = (np.abs(np.stack(x) - clean).mean((2, 3, 4)) for x in (ours, sample[name]))
    steps, their_steps = (np.diff(change, axis=0) for change in changes)
    error = their_steps.std(1, ddof=1) / np.sqrt(len(ids))
    direction = np.sign(their_steps.mean(1)) * (np.abs(their_steps.mean(1)) > 3 * error)
    assert np.count_nonzero(direction) >= LEAST_STEPS.get(name, 4)
    assert (np.sign(steps.mean(1)) == direction)[direction != 0].all()


@every
def test_pixels_depend_on_the_image_and_its_id_alone(name):
    images, ids = random_images(24), np.arange(100, 124)
    whole = np.asarray(corrupt(images, ids, name, 3, seed=1))
    order = np.random.default_rng(1).permutation(24)
    np.testing.assert_array_equal(corrupt(images[order], ids[order], name, 3, seed=1), whole[order])
    parts = [corrupt(images[i : i + 3], ids[i : i + 3], name, 3, seed=1) for i in range(0, 24, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.optimized
@pytest.mark.parametrize("name", [n if n == "elastic_transform" else pytest.param(
    n, marks=[pytest.mark.long] * (n not in ("snow",))) for n in FLOATING])  # fmt: skip
def test_pixels_do_not_depend_on_the_batch_as_users_compile_it(name):
    """At the benchmark's size, where loops have ends that are compiled apart, and 250 images."""
    images, ids = random_images(250, size=32), np.arange(250)
    for severity in (1, 5):
        whole = np.asarray(corrupt(images, ids, name, severity))
        for size in (1, 7, 25):
            some = range(0, 250 if size == 25 else 10 * size, size)
            for at in (slice(start, start + size) for start in some):
                part = corrupt(images[at], ids[at], name, severity)
                np.testing.assert_array_equal(part, whole[at])


@pytest.mark.optimized
@pytest.mark.parametrize(("name", "size"), [("fog", 32), ("fog", 16), ("zoom_blur", 16)])
def test_one_image_alone_is_as_among_a_thousand(name, size):
    """Of these two some pixels in a million differed, when each size of a batch had a program of
    its own; noisy and smooth images."""
    images, ids = random_images(1000, size=size), np.arange(1000)
    images[::2] = images[::2].mean(axis=(1, 2), keepdims=True) + np.arange(size)[:, None, None]
    whole = np.asarray(corrupt(images, ids, name, 5))
    for at in (slice(i, i + count) for i in range(0, 1000, 97) for count in (1, 25)):
        np.testing.assert_array_equal(corrupt(images[at], ids[at], name, 5), whole[at])


@every
def test_pixels_do_not_depend_on_the_devices(name):
    images, ids = random_images(8), np.arange(8)
    mesh = Mesh(np.array(jax.devices()[:2]), ("images",))
    shifted = jax.shard_map(
        lambda images, ids: corrupt(images, ids, name, 2, seed=3),
        mesh=mesh,
        in_specs=(P("images"), P("images")),
        out_specs=P("images"),
    )
    on_two = jax.jit(shifted)(images, ids)
    assert len(on_two.sharding.device_set) == 2
    np.testing.assert_array_equal(on_two, corrupt(images, ids, name, 2, seed=3))


@pytest.mark.parametrize("name", NAMES)
def test_images_need_not_be_square_or_32_pixels(name):
    """The same image beside itself, corrupted at its ids: shape, type, change and randomness."""
    images = np.repeat(random_images(2, size=40)[:, :24], 2, axis=0)
    shifted = np.asarray(corrupt(images, np.array([0, 1, 0, 0]), name, 3))
    assert (shifted.shape, shifted.dtype) == ((4, 24, 40, 3), np.uint8)
    assert (shifted != images).any((1, 2, 3)).all()
    np.testing.assert_array_equal(shifted[2], shifted[3])
    drawn = (shifted[0] != shifted[1]).any()
    assert drawn == (name not in fidelity.DETERMINISTIC)


@pytest.mark.parametrize("name", NOISES)
def test_noise_is_fresh_for_each_image_and_seed(name):
    image = np.full((1, 32, 32, 3), 128, np.uint8)
    both = np.repeat(image, 2, axis=0)
    first, other = np.asarray(corrupt(both, np.array([0, 1]), name, 5))
    reseeded = np.asarray(corrupt(image, np.array([0]), name, 5, seed=1))[0]
    changed = (first != 128).mean()
    for fresh in (other, reseeded):  # the same draws would agree wherever the first changed
        assert ((first != 128) & (first == fresh)).mean() < 0.1 * changed


def test_pixels_stay_those_that_stored_predictions_were_made_from():
    images = np.full((1, 8, 8, 3), 128, np.uint8)
    expected = {
        "gaussian_noise": [90, 117, 84, 126, 95, 107],
        "shot_noise": [109, 135, 158, 122, 109, 114],
    }
    for name, values in expected.items():
        shifted = np.asarray(corrupt(images, np.array([7]), name, 3, seed=0))
        assert shifted[0, 0, :2].ravel().tolist() == values


def test_one_trace_for_all_severities_and_seeds_and_a_new_corruption_is_one_line(monkeypatch):
    traces = []

    def darken(images, share, keys):
        traces.append(images.shape)
        return (images * share).astype(jnp.uint8)

    shares = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    monkeypatch.setitem(CORRUPTIONS, "darken", Corruption(lambda h, w: shares, darken))
    monkeypatch.setattr(corruptions, "SHIFTS", ("clean", *CORRUPTIONS))
    images = np.full((2, 8, 8, 3), 100, np.uint8)
    for severity, value in zip(corruptions.SEVERITIES, (90, 80, 70, 60, 50), strict=True):
        shifted = corrupt(images, np.arange(2), "darken", severity, seed=severity)
        np.testing.assert_allclose(np.asarray(shifted, int), value, atol=1)
    assert traces == [(corruptions.BATCH, 8, 8, 3)]


def test_large_images_are_shifted_fewer_at_a_time(monkeypatch):
    """Never more pixels than 250 images of 32 x 32 have, or one image; with the same result as one
    by one."""
    traces = []

    def add_own(images, table, keys):
        traces.append(images.shape)
        noise = jax.vmap(lambda key: jax.random.randint(key, (), 0, 100))(keys)
        return (images + noise[:, None, None, None] + 0 * table).astype(jnp.uint8)

    tables = np.zeros(5, np.float32)
    monkeypatch.setitem(CORRUPTIONS, "add_own", Corruption(lambda h, w: tables, add_own))
    monkeypatch.setattr(corruptions, "SHIFTS", ("clean", *CORRUPTIONS))
    for side, together in ((32, 250), (64, 62), (224, 5), (1024, 1)):
        assert corruptions.at_once(side, side) == together
    images, ids = random_images(70, size=64), np.arange(70)
    whole = np.asarray(corrupt(images, ids, "add_own", 1))
    assert traces == [(62, 64, 64, 3)]
    for i in (0, 61, 62, 69):
        one = corrupt(images[i : i + 1], ids[i : i + 1], "add_own", 1)
        np.testing.assert_array_equal(one[0], whole[i])


def test_severity_may_be_traced():
    images, ids = random_images(4), np.arange(4)
    traced = jax.jit(functools.partial(corrupt, images, ids, "pixelate"))
    np.testing.assert_array_equal(traced(4), corrupt(images, ids, "pixelate", 4))


def test_clean_changes_nothing():
    images = random_images(2)
    np.testing.assert_array_equal(corrupt(images, np.arange(2), "clean", 1), images)


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_no_key_holds_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed must lie from 0 to 2147483647, got {seed}"):
        corrupt(random_images(2), np.arange(2), "fog", 1, seed=seed)


def test_validate_names_the_nearest_shift():
    corruptions.validate(corruptions.SHIFTS, corruptions.SEVERITIES)
    with pytest.raises(ValueError, match="gaussian_noise"):
        corruptions.validate(["gausian_noise"], [1])
    for severity in (0, 6, 1.0, True):
        with pytest.raises(ValueError, match="severity must be 1, 2, 3, 4 or 5"):
            corruptions.validate(["contrast"], [severity])


@pytest.mark.parametrize(
    ("images", "ids", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), np.arange(2), "must be uint8"),
        (np.zeros((2, 8, 12, 3), np.uint8), np.arange(2), "multiples of 8"),
        (np.zeros((2, 0, 0, 3), np.uint8), np.arange(2), "multiples of 8, not 0 x 0"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 2**31]), "ids must .* got 2147483648"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.array([-1, 5]), "ids must lie from 0 .* got -1"),
        (np.zeros((8, 8, 3), np.uint8), np.arange(8), "must be uint8"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.arange(3), "one integer per image"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.ones(2), "one integer per image"),
        (np.zeros((1, 4000, 4000, 3), np.uint8), np.arange(1), "up to 8,421,504 pixels"),
    ],
)
def test_unusable_images_are_refused(images, ids, message):
    with pytest.raises(ValueError, match=message):
        corrupt(images, ids, "contrast", 1)
