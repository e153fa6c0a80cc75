"""The claims of "Robustness to distribution shifts of compressed networks for edge devices" (arXiv
2401.12014), protocol S2. What they are read off is in `estimands_shift`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from rcm.analysis.claims import PARENT, PRIMARY, TOST, Claim
from rcm.analysis.contrasts import ALIKE
from rcm.analysis.estimands_shift import (
    attacked,
    distilled_across_rates,
    distilled_against_pruned_rates,
    distilled_over_pruned,
    eight_bits,
    elsewhere,
    large_loses_more,
    larger_drops_more,
    loses_more,
    pruned_last,
    quantized_over_both,
)

SOURCE = "arXiv 2401.12014"
SAME = 0.5  # points by which what is the same may differ (protocols)
LACKING = "the study lacks this kind of shift, or the pipelines that it takes"
UNMATCHED = f"the study lacks this kind of shift, or pipelines within {ALIKE:g} times the size"
WORST_CASE = "worst case over attacks, averaged over radii"
SHIFTS = (
    (attacked, "under attack", f"accuracy under attack ({WORST_CASE})"),
    (elsewhere, "in other domains", "accuracy in other domains (averaged over them)"),
)


def _of_both(
    number: str, text: str, estimand: str, estimate: Callable, letters: str = "ab", **more: Any
) -> list[Claim]:
    """The claim under attack and in other domains."""
    return [
        Claim(
            f"{number}{letter}",
            f"{text} {words}.",
            SOURCE,
            estimand.format(accuracy=accuracy),
            partial(estimate, where=where),
            **more,
        )
        for letter, (where, words, accuracy) in zip(letters, SHIFTS, strict=True)
    ]


SHIFT_CLAIMS = (
    *_of_both(
        "C1",
        "Compressed networks are less robust than the original",
        "Drop from accuracy on the same images to {accuracy}, minus the drop of the dense network "
        "with the same further steps, of the parent for what is not trained, of a student's "
        "teacher; averaged over compressed pipelines. In percent: 100 minus the relative "
        "robustness.",
        loses_more,
        contrast=(
            "compressed pipelines against uncompressed networks, shifted images against the same "
            "or like ones before the shift"
        ),
        baseline=PRIMARY,
        figure="robustness-relative-to-the-parent",
        untested=LACKING,
    ),
    *_of_both(
        "C2",
        "A larger network loses more, even compressed to a smaller one's size,",
        "Drop from accuracy on the same images to {accuracy}, of a network compressed to the bytes "
        "of a smaller one, which is trained alone or compressed, too, minus the drop of that one; "
        "averaged over pairs.",
        large_loses_more,
        contrast=(
            "networks compressed to the size of smaller ones against these, shifted images "
            "against the same or like ones before the shift"
        ),
        baseline="the smaller network, trained alone or compressed",
        figure="robustness_vs_size",
        untested=UNMATCHED,
    ),
    *_of_both(
        "C2",
        "A larger network loses more, uncompressed,",
        "Least-squares slope of the drop from accuracy on the same images to {accuracy} on the "
        "doublings of stored size, over the dense network and those of other depths and widths, "
        "each trained alone. In percent: of what each loses of its own accuracy.",
        larger_drops_more,
        letters="cd",
        contrast="larger networks against smaller ones, shifted images against the same or like "
        "ones before the shift",
        baseline="none: no change over sizes",
        figure="robustness_vs_size",
        unit="points per doubling of size",
        untested="the study lacks this kind of shift, or networks of another size, trained alone",
    ),
    *_of_both(
        "C3",
        "Distilled networks are more robust than pruned ones of their size",
        "Difference in {accuracy}: students minus pruned networks of matched size, averaged over "
        "pairs. In percent: of each one's own accuracy before the shift.",
        distilled_over_pruned,
        contrast="students against pruned networks of matched size, on shifted images",
        baseline="the pruned networks",
        figure="robustness_vs_size",
        untested=UNMATCHED,
    ),
    *_of_both(
        "C4",
        "Quantization after training is more robust than distillation and pruning",
        "Difference in {accuracy}: networks quantized after training minus students, or minus "
        "pruned networks, averaged over pairs of matched size; the smaller of the two, chosen by "
        "the other seeds. In percent: of each one's own accuracy before the shift.",
        quantized_over_both,
        contrast=(
            "networks quantized after training against students and pruned networks of matched "
            "size, on shifted images"
        ),
        baseline="of the two those harder to beat, as the other seeds choose",
        figure="robustness_vs_size",
        untested=UNMATCHED,
    ),
    *_of_both(
        "C5",
        "Eight bits after training are nearly free",
        "Change of {accuracy} by 8-bit integers after training, within half a point.",
        eight_bits,
        contrast="8-bit integers after training against dense networks, on shifted images",
        baseline=PARENT,
        test=TOST,
        figure="robustness-relative-to-the-parent",
        direction="same",
        margin=SAME,
        untested=LACKING,
    ),
    Claim(
        "C6a",
        "Distilled networks are as robust under attack at every rate.",
        SOURCE,
        f"Least-squares slope of accuracy under attack ({WORST_CASE}) on the halvings of stored "
        "size, over students, within half a point.",
        distilled_across_rates,
        contrast="smaller students against larger ones, under attack",
        baseline="none: no change over sizes",
        test=TOST,
        figure="robustness_vs_size",
        direction="same",
        margin=SAME,
        unit="points per halving of size",
        untested="the study lacks attacks, or students of two sizes",
    ),
    Claim(
        "C6b",
        "Under attack distilled networks are more consistent across rates than pruned ones.",
        SOURCE,
        "That slope of students minus that of pruned networks.",
        distilled_against_pruned_rates,
        contrast="students against pruned networks, smaller against larger ones, under attack",
        baseline="the slope of the pruned networks",
        figure="robustness_vs_size",
        unit="points per halving of size",
        untested="the study lacks attacks, or students or pruned networks of two sizes",
    ),
    Claim(
        "C6c",
        "Pruning is the worst under attack.",
        SOURCE,
        f"Difference in accuracy under attack ({WORST_CASE}): pruned networks minus students, or "
        "minus networks quantized after training, averaged over pairs of matched size; the larger "
        "of the two, chosen by the other seeds.",
        pruned_last,
        contrast=(
            "pruned networks against students and networks quantized after training of matched "
            "size, under attack"
        ),
        baseline="of the two those nearer, as the other seeds choose",
        figure="robustness_vs_size",
        direction="less",
        untested=UNMATCHED,
    ),
)
