"""What the columns of the main table mean, of those that a study has."""

from collections.abc import Iterable

from rcm.report.layout import MCE, RELATIVE, Column

MEANINGS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("g_mean",), "G-mean: the geometric mean of the recalls of all classes."),
    (
        ("recall_head",),
        "Head, medium, tail: mean recall of the classes with the most, with fewer and with the "
        "fewest training images, of ten classes three, four and three; at ratio 1 of the same.",
    ),
    (
        ("accuracy_change", "tail_change"),
        "Change by compression: minus the primary baseline (base) or the parent, same seed.",
    ),
    (("gap",), "Gap: accuracy at ratio 1 minus accuracy at this ratio, same seed."),
    (
        ("did",),
        "DiD: a pipeline's gap minus that of its baseline or parent; above zero, compression makes "
        "imbalance cost more.",
    ),
    (
        ("ece",),
        "ECE: how far confidence is from the rate of right answers, mean over the images in 15 "
        "bins of equal width.",
    ),
    (
        MCE,
        "mCE: error on corrupted images, summed over severities, in percent of another network's, "
        "mean over corruptions.",
    ),
    (
        RELATIVE,
        "Relative mCE: the same of what corruption adds to clean error; corruptions that add less "
        "than a point to the other's are missing, and counted.",
    ),
    (
        ("excess_error",),
        "Excess: what corruption adds to clean error, minus the same of the parent.",
    ),
    (
        ("effective_robustness",),
        "Effective: corrupted accuracy above what a line through the dense networks has for the "
        "clean accuracy; its interval doubts the line, too.",
    ),
    (
        ("compression_ratio",),
        "Ratio: how many times smaller than its parent a network is when both are packed and "
        "deflated.",
    ),
)


def explained(columns: Iterable[Column]) -> str:
    """Sentences about those of the columns that do not explain themselves."""
    shown = {column.quantity for column in columns}
    return " ".join(words for quantities, words in MEANINGS if shown & {*quantities})
