"""Regenerated corruptions against the reference sample, and how that is measured."""

import os

import numpy as np
import pytest
from PIL import Image

from rcm.shift import fidelity, frost
from rcm.shift.corruptions import CORRUPTIONS, SEVERITIES


@pytest.mark.parametrize(
    "severities", [(5,), pytest.param(SEVERITIES, marks=pytest.mark.long)], ids=["some", "all"]
)
@pytest.mark.parametrize("name", [n for n in CORRUPTIONS if n != "frost"])
def test_every_corruption_is_close_to_the_benchmarks(sample, name, severities):
    for severity in severities:
        found = fidelity.compare(sample["clean"], sample[name][severity - 1], name, severity)
        if name in fidelity.DETERMINISTIC:
            assert found.difference <= (0.0 if name == "jpeg_compression" else 1.0)
            assert abs(found.change - found.their_change) < 0.1
        else:
            assert found.worst[1] <= 1, found.worst


def test_frost_is_close_to_the_benchmarks_where_photographs_are(sample):
    """The folder that RCM_FROST_DIR names holds the benchmark's, which are not ours to ship."""
    folder = os.environ.get("RCM_FROST_DIR", "")
    if not folder:
        pytest.skip("no photographs of frost: set RCM_FROST_DIR to a folder with the benchmark's")
    for severity in SEVERITIES:
        images = sample["clean"], sample["frost"][severity - 1]
        found = fidelity.compare(*images, "frost", severity, frost_dir=folder)
        assert found.worst[1] <= 1, found.worst


def test_photographs_of_frost_are_what_is_compared(sample, tmp_path):
    """Of grey panes every image has its blend; without them it is a texture of ours."""
    Image.new("RGB", (200, 200), (100, 100, 100)).save(tmp_path / "pane.png")
    images = sample["clean"][:5], sample["frost"][2, :5]
    blend, ours = (
        fidelity.compare(*images, "frost", 3, 3, folder).statistics["mean"][0]
        for folder in (str(tmp_path), "")
    )
    own, theirs = frost.FROST[2]
    expected = np.minimum((sample["clean"][:5] * own + 100 * theirs).astype(int), 255).mean()
    assert blend == pytest.approx(expected, abs=0.5)
    assert abs(ours - blend) > 1


def test_another_corruption_is_far_off(sample):
    """The measure tells the neighbours of a severity apart, and one noise from another."""
    clean = sample["clean"]
    for name, other, severity in (("fog", "fog", 4), ("gaussian_noise", "shot_noise", 3)):
        assert fidelity.compare(clean, sample[other][severity - 1], name, 3, 5).worst[1] > 1


def test_statistics_by_hand():
    """A wave of 4 cycles and amplitude 10 over 32 pixels: power (10 * 512)^2 at two places."""
    wave = 100 + 10 * np.cos(2 * np.pi * 4 * np.arange(32) / 32)
    images = np.broadcast_to(wave[None, None, :, None], (2, 32, 32, 3))
    found = fidelity.statistics_of(images, np.full_like(images, 100))
    np.testing.assert_allclose([found["mean"], found["variance"]], [100, 50], atol=1e-9)
    ring = sum(round(np.hypot(i, j)) == 4 for i in range(-16, 16) for j in range(-16, 16))
    np.testing.assert_allclose(found["power 4"], 2 * (10 * 512) ** 2 / ring, rtol=1e-9)
    assert found["power 9"] < 1e-9
    checked = 100 + 10 * (-1) ** np.add.outer(np.arange(32), np.arange(32))  # all in one corner
    images = np.broadcast_to(checked[None, :, :, None], (2, 32, 32, 3))
    found = fidelity.statistics_of(images, images)
    beyond = sum(round(np.hypot(i, j)) > 16 for i in range(-16, 16) for j in range(-16, 16))
    np.testing.assert_allclose(found["power above 16"], (10 * 1024) ** 2 / beyond, rtol=1e-9)
    assert found["power 16"] < 1e-9


def test_the_paired_interval_by_hand():
    """8 gained and 2 lost of 98: (8.5 - 2.5) / 100 = 0.06 +- 1.96 sqrt(11 - 0.36) / 100."""
    ours = np.array([True] * 8 + [False] * 2 + [True] * 88)
    theirs = np.array([False] * 8 + [True] * 2 + [True] * 88)
    low, high = fidelity.paired_interval(ours, theirs)
    np.testing.assert_allclose([low, high], [0.06 - 0.063933, 0.06 + 0.063933], atol=1e-5)
