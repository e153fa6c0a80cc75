"""The claims of "Evaluating the Impact of Compression Techniques on the Robustness of CNNs under
Natural Corruptions" (arXiv 2512.24971), protocol S3. What they are read off is in
`estimands_corruption`.
"""

from rcm.analysis.claims import FRIEDMAN, PARENT, TOST, Claim
from rcm.analysis.estimands_corruption import (
    below_the_others,
    combined_on_front,
    conversion_after_qat,
    conversion_behind_structure,
    differ_in,
    gains_at_clean_error,
    gains_over_control,
    gains_over_parent,
    larger_gain_more,
    quantized_alone,
    restates_clean_error,
    worst_of_clustering,
)
from rcm.analysis.published import REPORTED

SOURCE = "arXiv 2512.24971"
CONTROL = f"confound control of {SOURCE}"
SAME = 0.5  # by which what is the same may differ (protocols)
COLLAPSE = 12.0  # the smallest published rise of mCE by int8 after quantization-aware training
RESTATES = 0.9  # a correlation by which four fifths of the one's variance are the other's
KEPT = 0.7  # the largest published change of mCE by int8 behind clusters, zeros or both
OWN = (
    "dense with the same further steps; of what is not trained the parent; of students the same "
    "network trained alone"
)
LACKING = "the study lacks the configurations of S3 that it takes"
UNIT = "percent of the parent's error"
CORRUPTION_CLAIMS = (
    Claim(
        "C1a",
        "Some compression strategies improve robustness.",
        SOURCE,
        "mCE - 100 of the best compressed pipeline, chosen by the other seeds.",
        gains_over_parent,
        contrast="the best compressed pipeline against dense networks, on corrupted images",
        baseline=PARENT,
        direction="less",
        unit=UNIT,
        published=REPORTED["C1a"],
        figure="corruptions",
    ),
    Claim(
        "C1b",
        "They do against a dense network with the same further steps.",
        CONTROL,
        "Corrupted accuracy of the best compressed pipeline, chosen by the other seeds, minus its "
        "primary baseline's.",
        gains_over_control,
        contrast=(
            "the best compressed pipeline against one with the same training, on corrupted images"
        ),
        baseline=OWN,
        figure="results",
    ),
    Claim(
        "C1c",
        "They do at matched clean error.",
        CONTROL,
        "Effective robustness of the best compressed pipeline, chosen by the other seeds, minus "
        "its primary baseline's.",
        gains_at_clean_error,
        contrast=(
            "the best compressed pipeline against dense networks of its clean error, on corrupted "
            "images"
        ),
        baseline=OWN,
        untested="the study has fewer than five dense networks of different accuracy",
        figure="effective_robustness",
    ),
    Claim(
        "C2",
        "More complex networks gain more.",
        SOURCE,
        "Least-squares slope of 100 - mCE on the doublings of the uncompressed networks' stored "
        "size, averaged over the techniques that all networks undergo.",
        larger_gain_more,
        contrast="larger networks against smaller ones, each compressed, on corrupted images",
        baseline="the uncompressed parent of each",
        unit="percent of the parent's error per doubling",
        untested="the study compresses one network; experiments/over_networks.py takes several "
        "runs",
        published=REPORTED["C2"],
        figure="published-numbers",
    ),
    Claim(
        "C3",
        "Quantization after training alone gives no gain.",
        SOURCE,
        "mCE - 100 of 8-bit integers of the dense parent, within half a percent.",
        quantized_alone,
        contrast="int8 of dense networks against these, on corrupted images",
        baseline=PARENT,
        test=TOST,
        direction="same",
        margin=SAME,
        unit=UNIT,
        untested=LACKING,
        published=REPORTED["C3"],
        figure="corruptions",
    ),
    Claim(
        "C4a",
        "Training with quantization is among the most robust strategies.",
        SOURCE,
        "mCE of training with eight bits minus the median of the other compressed pipelines', of "
        "which its own int8 conversion is none.",
        below_the_others,
        contrast="networks trained with quantization against other compressed ones, by mCE",
        baseline="the median of the others",
        direction="less",
        unit=UNIT,
        untested=LACKING,
        published=REPORTED["C4a"],
        figure="ranks",
    ),
    Claim(
        "C4b",
        "Int8 conversion of a network trained with quantization collapses.",
        SOURCE,
        "mCE after the conversion minus before, beyond 12.",
        conversion_after_qat,
        contrast="int8 of networks trained with quantization against these, on corrupted images",
        baseline="the same networks before the conversion",
        margin=COLLAPSE,
        unit=UNIT,
        untested=LACKING,
        published=REPORTED["C4b"],
        figure="corruptions",
    ),
    Claim(
        "C5",
        "Clustering, also of pruned networks, never hurts.",
        SOURCE,
        "mCE - 100 of the worse of clustering and pruning with clustering, chosen by the other "
        "seeds, at most half a percent.",
        worst_of_clustering,
        contrast="clustered networks, pruned or not, against dense ones, on corrupted images",
        baseline=PARENT,
        direction="less",
        margin=-SAME,
        unit=UNIT,
        untested=LACKING,
        published=REPORTED["C5"],
        figure="corruptions",
    ),
    Claim(
        "C6",
        "Combined pipelines form the Pareto front.",
        SOURCE,
        "Their share of the front of compression ratio, mCE and accuracy, of the dense parent and "
        "its compressed pipelines, minus their share of these, which chance gives them.",
        combined_on_front,
        contrast="pipelines of several techniques against all others on the front",
        baseline="their share of the competitors",
        unit="percent of the front beyond their share",
        untested=LACKING,
        published=REPORTED["C6"],
        figure="trade-offs",
    ),
    Claim(
        "C7",
        "Int8 behind training with clusters, zeros or both changes next to nothing.",
        SOURCE,
        "The largest of the three changes of mCE, at most 0.7.",
        conversion_behind_structure,
        contrast=(
            "int8 of networks trained with clusters, zeros or both against these, on corrupted "
            "images"
        ),
        baseline="the same networks before the conversion",
        direction="less",
        margin=-KEPT,
        unit=UNIT,
        untested=LACKING,
        published=REPORTED["C7"],
        figure="corruptions",
    ),
    *(
        Claim(
            name,
            f"Compression techniques differ in {words}.",
            source,
            "Friedman test of the compressed pipelines, seeds as blocks; the effect is the spread "
            "between their means.",
            differ_in(quantity),
            contrast="compressed pipelines against one another",
            baseline="none: one in common would cancel",
            test=FRIEDMAN,
            direction="any",
            unit=f"{unit} between the extremes",
            untested=untested,
            published=REPORTED.get(name, ""),
            figure=figure,
        )
        for name, words, quantity, unit, source, untested, figure in (
            ("C8a", "robustness, by mCE", "mce", "percent", SOURCE, LACKING, "corruptions"),
            (
                "C8b", "robustness, by relative mCE", "relative_mce", "percent", CONTROL, LACKING,
                "corruptions",
            ),
            (
                "C8c", "robustness at matched clean error", "effective_robustness", "points",
                CONTROL, "the study has fewer than five dense networks", "effective_robustness",
            ),
        )
    ),
    Claim(
        "C9",
        "mCE almost restates clean error.",
        CONTROL,
        "Correlation of mCE with clean error relative to the parent's, over the compressed "
        "pipelines of a seed, beyond 0.9.",
        restates_clean_error,
        contrast="mCE against clean error, over the compressed pipelines of a seed",
        baseline=PARENT,
        margin=RESTATES,
        unit="correlation",
        untested="the study has fewer than three compressed pipelines, or no corruptions",
        published=REPORTED["C9"],
        figure="results",
    ),
)  # fmt: skip
