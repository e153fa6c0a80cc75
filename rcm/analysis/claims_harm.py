"""Claims C7 to C10 of protocol S4 (see `claims_exemplars`): who is hurt, and by what."""

from rcm.analysis.claims import PARENT, PRIMARY, Claim
from rcm.analysis.estimands_exemplars import (
    excess_errors,
    growth,
    quantized_excess,
    quantized_rate,
    quantized_spread,
    quantized_spread_from_others,
    rare_subgroup,
    tail_of_pruned,
)

SOURCE, BIAS = "arXiv 1911.05248", "arXiv 2010.03058"
CONTROL = f"null of {SOURCE}"
INDEPENDENT = "two dense populations of different seeds"
UNPAIRED = "the study does not both quantize after training and prune"
HARM_CLAIMS = (
    Claim(
        "C7",
        "The long tail is hurt most.",
        SOURCE,
        "Difference in differences of tail recall minus that of head recall, averaged over pruned "
        "pipelines and ratios above 1.",
        tail_of_pruned,
        contrast=(
            "rare classes against frequent ones, pruned against dense, ratios above 1 against "
            "ratio 1"
        ),
        baseline=PRIMARY,
        untested="the study has no imbalance, or no balanced members to compare with",
        figure="recall_change",
    ),
    Claim(
        "C8",
        "Sparser networks are more sensitive to corruption.",
        SOURCE,
        "Slope on sparsity of what corruption adds to clean error beyond the parent's.",
        growth(excess_errors),
        contrast=(
            "pruned networks of higher against those of lower sparsity, corrupted against clean "
            "images"
        ),
        baseline=PARENT,
        unit="points per 10 points of sparsity",
        untested="the study has no corruptions, or does not prune to two sparsities",
        figure="corruptions",
    ),
    Claim(
        "C9a",
        "Quantization after training is less disparate over classes than heavy pruning.",
        SOURCE,
        "Mean over classes of the absolute change of recall beyond that of accuracy, integers "
        "after training minus the sparsest pipeline.",
        quantized_spread,
        contrast="integers after training against the sparsest networks, by class",
        baseline="the sparsest networks",
        direction="less",
        untested=UNPAIRED,
        published="ImageNet, ResNet-50: 119 of 1,000 classes by int8, 637 at 90 % sparsity",
        figure="harmed-classes",
    ),
    Claim(
        "C9b",
        "It forgets fewer images.",
        SOURCE,
        "Rate of exemplars of integers after training minus that of the sparsest pipeline.",
        quantized_rate,
        contrast="integers after training against the sparsest networks",
        baseline="the sparsest networks",
        direction="less",
        unit="percent of images",
        untested=UNPAIRED,
        figure="exemplar_rates",
    ),
    Claim(
        "C9c",
        "Less disparate where both are compared with independent networks.",
        CONTROL,
        "As C9a, with changes of recall against dense members of other seeds. Integers come from "
        "the very parents they are compared with in C9a, which pruned networks do not.",
        quantized_spread_from_others,
        contrast="integers after training against the sparsest networks, by class",
        baseline=INDEPENDENT,
        direction="less",
        untested=f"{UNPAIRED}, or has no second dense population (Replica)",
        figure="harmed-classes",
    ),
    Claim(
        "C9d",
        "It forgets fewer images where both are compared with independent networks.",
        CONTROL,
        "As C9b, with rates of exemplars against dense members of other seeds beyond that between "
        "dense members.",
        quantized_excess,
        contrast="integers after training against the sparsest networks",
        baseline=INDEPENDENT,
        direction="less",
        unit="percent of images",
        untested=f"{UNPAIRED}, or has no second dense population (Replica)",
        figure="exemplar_rates",
    ),
    Claim(
        "C10",
        "Errors amplify on rare subgroups.",
        BIAS,
        "Change of mean false answers, in percent of the parents', to the subgroup and class with "
        "the fewest training images minus the mean of other subgroups, at the highest sparsity.",
        rare_subgroup,
        contrast="the rarest subgroup against the others, at the highest sparsity",
        baseline=PARENT,
        unit="percent of the parent's rate",
        untested="the data have no subgroups, or the study no pruned pipeline",
        published="CelebA at 95 %: +49.5 % false positives in the rare subgroup, +6.3 % in all",
        figure="change-by-subgroup",
    ),
)
