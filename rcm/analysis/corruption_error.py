"""Corruption error in its published forms, from plain arrays of error rates."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rcm.analysis.classification import Floats, mean_present

BENCHMARK = (  # the corruptions of which mCE is the mean
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur",
    "zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate",
    "jpeg_compression",
)  # fmt: skip
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # meant for validation
EVERY = BENCHMARK + EXTRA
UNROUNDED, AS_PUBLISHED = "unrounded", "rounded as published"
ROUNDING = 1e-9  # sums of float64 rates that are no larger are 0


class CorruptionError(NamedTuple):
    """Percent of a named reference's error: ce and relative_ce float64 [C] of each of
    `corruptions`, and their means; whether rounded as published."""

    reference: str
    rounded: bool
    corruptions: tuple[str, ...]
    ce: Floats
    mce: float
    relative_ce: Floats
    relative_mce: float

    @property
    def title(self) -> str:
        """What mCE is here, in words."""
        how = AS_PUBLISHED if self.rounded else UNROUNDED
        return f"mCE against {self.reference}, {how}, {named(self.corruptions)}"


def corruption_error(
    names: Sequence[str],
    errors: ArrayLike,
    reference: ArrayLike,
    clean: float,
    clean_reference: float,
    over: Sequence[str] = BENCHMARK,
    rounded: bool = False,
    *,
    against: str,
) -> CorruptionError:
    """CE, mCE and their relative forms of a model against a reference (Hendrycks & Dietterich 2019,
    arXiv 1903.12261, section 4.2: AlexNet; in arXiv 2512.24971 the model before its compression).

    errors, reference: error rates, fractions [K, severities], of the model and of the reference
    under the K corruptions `names`; clean, clean_reference: on clean images; against: what the
    reference is called. With E, P for the two:
    CE = 100 sum_s E(s) / sum_s P(s), relative CE = 100 sum_s (E(s) - E0) / sum_s (P(s) - P0), NaN
    where the sum below is not positive; mCE and relative mCE are the means over the corruptions
    `over`, without those that are NaN. rounded: as published, each CE to an integer and then the
    mean to one decimal. ValueError for arrays of other shapes or no fractions, and for corruptions
    of `over` that are not among `names`.
    """
    e, p = (np.asarray(rates, np.float64) for rates in (errors, reference))
    if e.ndim != 2 or e.shape != p.shape or len(e) != len(names):
        raise ValueError(
            f"errors have shapes {e.shape} and {p.shape} for {len(names)} corruptions, expected "
            "one row of severities per corruption for the model and for its reference"
        )
    every = np.concatenate([e.ravel(), p.ravel(), [clean, clean_reference]])
    if not ((every >= 0) & (every <= 1)).all():
        raise ValueError("error rates must be fractions from 0 to 1; divide percent by 100")
    unknown = sorted(set(over) - set(names))
    if unknown:
        raise ValueError(
            f"there are no errors under {', '.join(unknown)}; name in `over` what the mean is of"
        )
    rows = [list(names).index(name) for name in over]
    ce = _percent(e[rows].sum(1), p[rows].sum(1))
    relative = _percent((e[rows] - clean).sum(1), (p[rows] - clean_reference).sum(1))
    if rounded:
        ce, relative = ce.round(), relative.round()
    mce, relative_mce = mean_present(ce), mean_present(relative)
    if rounded:
        mce, relative_mce = round(mce, 1), round(relative_mce, 1)
    return CorruptionError(against, rounded, tuple(over), ce, mce, relative, relative_mce)


def averages(studied: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Over which corruptions a study's mCE is a mean, by what is put behind its name: `mce_15` and
    `mce_19` where the study has all of the benchmark and the extra ones, else `mce` over all that
    it has."""
    if set(EVERY) <= set(studied):
        return {"_15": BENCHMARK, "_19": EVERY}
    return {"": tuple(studied)}


def counted(studied: Collection[str]) -> tuple[str, ...]:
    """What the mCE of a claim or a comparison is a mean over: of what a study has, all but the
    extra corruptions, which the paper's does not count."""
    return tuple(name for name in studied if name not in EXTRA)


def named(corruptions: Collection[str]) -> str:
    """What a mean is over, in words."""
    if set(corruptions) == set(BENCHMARK):
        return "the benchmark's 15 corruptions"
    return f"{len(corruptions)} corruption{'s' if len(corruptions) != 1 else ''}"


def _percent(part: Floats, whole: Floats) -> Floats:
    return 100 * part / np.where(whole > ROUNDING, whole, np.nan)
