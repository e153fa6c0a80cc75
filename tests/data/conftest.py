"""A small data set of arrays as a source would read them."""

import numpy as np
import pytest

from rcm.data.identity import RawArrays

CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def raw():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (90, 8, 8, 3), dtype=np.uint8)
    images[5] = images[8] = images[11]  # duplicates, all of class 2
    labels = np.arange(90) % 3
    return RawArrays(images[:60], labels[:60], images[60:], labels[60:], CLASSES)
