"""How close regenerated corruptions are to a reference sample of the benchmark's own.

A corruption that draws nothing is compared pixel by pixel. A random one is compared by statistics
of all images: ours averaged over redraws, the reference's being one draw, so a difference has the
standard error of one draw times sqrt(1 + 1 / redraws).
"""

from typing import NamedTuple

import numpy as np

from rcm.shift.corruptions import CORRUPTIONS, SEVERITIES, corrupt

DETERMINISTIC = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate",
                 "jpeg_compression", "gaussian_blur", "saturate")  # fmt: skip
REDRAWS = 20
ERRORS, SHARE = 3, 0.02  # a difference may be so many standard errors plus this share of the value


class Comparison(NamedTuple):
    """One corruption at one severity: change is the mean absolute change in grey levels.

    difference: mean absolute difference of the pixels, NaN for random corruptions. statistics: name
    -> (ours, the reference's, the standard error of their difference), {} for deterministic ones.
    """

    name: str
    severity: int
    change: float
    their_change: float
    difference: float
    statistics: dict[str, tuple[float, float, float]]

    @property
    def worst(self) -> tuple[str, float]:
        """The statistic that is farthest off, and its difference over what is allowed."""
        found = {
            name: abs(ours - theirs) / (ERRORS * error + SHARE * abs(theirs))
            for name, (ours, theirs, error) in self.statistics.items()
        }
        name = max(found, key=lambda key: found[key])
        return name, found[name]


def statistics_of(images: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    """Mean, variance, mean absolute change and power by spatial frequency of uint8 [N, H, W, 3].

    Power: of the grey image, mean over images and the ring of frequencies within half a cycle per
    image of k, for k from 1 to half the side, and over the corners beyond these rings.
    """
    x = images.astype(np.float64)
    power = (np.abs(np.fft.fft2(x.mean(-1))) ** 2).mean(0)
    frequency = [np.fft.fftfreq(size, 1 / size) for size in power.shape]
    ring = np.hypot(frequency[0][:, None], frequency[1][None, :]).round().astype(int)
    last = min(power.shape) // 2
    bands = {f"power {k}": power[ring == k].mean() for k in range(1, last + 1)}
    bands[f"power above {last}"] = power[ring > last].mean()
    whole = {"mean": x.mean(), "variance": x.var(), "change": np.abs(x - clean).mean()}
    return {name: float(value) for name, value in (whole | bands).items()}


def compare(
    clean: np.ndarray,
    reference: np.ndarray,
    name: str,
    severity: int,
    redraws: int = REDRAWS,
    frost_dir: str = "",
) -> Comparison:
    """clean and reference: uint8 [N, H, W, 3], the same images before and after; frost_dir: a
    folder of photographs of frost, without which ours is another."""
    ids = np.arange(len(clean))
    theirs = statistics_of(reference, clean)
    if name in DETERMINISTIC:
        ours = np.asarray(corrupt(clean, ids, name, severity)).astype(int)
        changes = float(np.abs(ours - clean).mean()), theirs["change"]
        return Comparison(name, severity, *changes, float(np.abs(ours - reference).mean()), {})
    draws = [
        statistics_of(np.asarray(corrupt(clean, ids, name, severity, seed, frost_dir)), clean)
        for seed in range(redraws)
    ]
    found = {}
    for statistic, value in theirs.items():
        values = np.array([draw[statistic] for draw in draws])
        error = values.std(ddof=1) * np.sqrt(1 + 1 / redraws)
        found[statistic] = (float(values.mean()), value, float(error))
    return Comparison(name, severity, found["change"][0], theirs["change"], np.nan, found)


def compare_all(sample: dict[str, np.ndarray], frost_dir: str = "") -> list[Comparison]:
    """At every severity; sample: "clean" uint8 [N, H, W, 3] and name -> uint8 [5, N, H, W, 3]."""
    return [
        compare(sample["clean"], sample[name][severity - 1], name, severity, frost_dir=frost_dir)
        for name in CORRUPTIONS
        for severity in SEVERITIES
    ]


def paired_interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """95 % interval of the difference of two shares of bool [N], paired: Wald's with half an
    observation added to each cell of the two-by-two table (Agresti & Min 2005)."""
    gained, lost = (ours & ~theirs).sum() + 0.5, (~ours & theirs).sum() + 0.5
    n = len(ours) + 2
    middle = (gained - lost) / n
    half = 1.959964 * np.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    return float(middle - half), float(middle + half)
