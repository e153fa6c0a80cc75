"""The claims of "What Do Compressed Deep Neural Networks Forget?" (arXiv 1911.05248) and
"Characterising Bias in Compressed Models" (arXiv 2010.03058), protocol S4.

What they are read off is in `estimands_exemplars`; C7 to C10 are in `claims_harm`.
"""

from rcm.analysis.claims import PARENT, TOST, Claim
from rcm.analysis.claims_harm import CONTROL, HARM_CLAIMS, INDEPENDENT, SOURCE
from rcm.analysis.estimands_exemplars import (
    divergent_images,
    doubted,
    few_lose_much,
    growth,
    harder_for,
    harder_than_chance,
    more_where_corrupted,
    more_where_mislabelled,
    rate_of_exemplars,
    same_accuracy,
    spread_of_harm,
)

SAME = 0.5  # points by which what is the same may differ (protocols)
OTHERS = "the other images"
FEW = "the study has no populations of five members, or no pruned pipeline"
NO_REPLICA = "the study has no second dense population (Replica)"
NO_SHIFT = "the study has no corruptions, or no second dense population (Replica)"
NO_WRONG_LABELS = "no training images with a wrong label are tested (shift.train_images)"
EXEMPLAR_CLAIMS = (
    Claim(
        "C1a",
        "Pruned networks have the accuracy of dense ones.",
        SOURCE,
        "Change of accuracy, averaged over pruned pipelines, within half a point.",
        same_accuracy,
        contrast="pruned against dense networks",
        baseline=PARENT,
        test=TOST,
        direction="same",
        margin=SAME,
        untested=FEW,
        published="ImageNet, ResNet-50: top-1 76.7 % dense, 75.9 % at 50 %, 72.6 % at 90 %",
        figure="results",
    ),
    Claim(
        "C1b",
        "Yet they answer a subset of images differently.",
        SOURCE,
        "Share of images whose modal label differs from that of independent dense members, minus "
        "that share between dense members, averaged over pruned pipelines.",
        divergent_images,
        contrast="pruned against independent dense populations",
        baseline=INDEPENDENT,
        unit="percent of images",
        untested=NO_REPLICA,
        figure="exemplar_rates",
    ),
    Claim(
        "C2",
        "Harm to classes grows with sparsity.",
        SOURCE,
        "Slope on sparsity of the mean over classes of the absolute change of recall beyond that "
        "of accuracy. The paper counts classes; the counts are in the table of harmed ones.",
        growth(spread_of_harm),
        contrast="pruned networks of higher against those of lower sparsity, by class",
        baseline=PARENT,
        unit="points per 10 points of sparsity",
        untested="the study does not prune to two sparsities",
        published="ImageNet, ResNet-50: 170, 372, 637 of 1,000 classes at 50, 70, 90 %",
        figure="harmed-classes",
    ),
    Claim(
        "C3",
        "Few classes lose much while others gain.",
        SOURCE,
        "Skewness over classes of the change of recall beyond that of accuracy, at the highest "
        "sparsity.",
        few_lose_much,
        contrast="classes of the sparsest networks against one another",
        baseline=PARENT,
        direction="less",
        unit="(skewness)",
        untested="the study has fewer than three classes or members, or no pruned pipeline",
        figure="recall_change",
    ),
    Claim(
        "C4a",
        "Exemplars are more at higher sparsity.",
        SOURCE,
        "Slope on sparsity of the rate of exemplars.",
        growth(rate_of_exemplars),
        contrast="pruned networks of higher against those of lower sparsity",
        baseline=PARENT,
        unit="percent of images per 10 points of sparsity",
        untested="the study does not prune to two sparsities, or has no populations of five",
        published="ImageNet, ResNet-50: 10.27 % of the test images at 90 %",
        figure="exemplar_rates",
    ),
    Claim(
        "C4b",
        "Exemplars are harder for dense networks, too.",
        SOURCE,
        "Accuracy of dense members on the other images minus that on the exemplars that all other "
        "members define.",
        harder_for("parent_"),
        contrast="exemplars against other images, answered by dense networks",
        baseline=OTHERS,
        untested=FEW,
        published="ImageNet, ResNet-50: dense top-1 39.8 % on exemplars, 76.75 % on all images",
        figure="accuracy-on-exemplars",
    ),
    Claim(
        "C4c",
        "They are harder than images on which dense networks differ by chance.",
        CONTROL,
        "Accuracy of dense members on exemplars of a dense population of other seeds minus that on "
        "those of pruned ones.",
        harder_than_chance,
        contrast="exemplars of pruned against those of dense populations",
        baseline="a dense population of other seeds",
        untested=NO_REPLICA,
        figure="accuracy-on-exemplars",
    ),
    Claim(
        "C5",
        "Without the exemplars, pruned networks are more accurate.",
        SOURCE,
        "Accuracy of pruned members on the other images minus that on the exemplars that all other "
        "members define; of dense ones: C4b.",
        harder_for(""),
        contrast="exemplars against other images, answered by pruned networks",
        baseline=OTHERS,
        untested=FEW,
        figure="accuracy-on-exemplars",
    ),
    Claim(
        "C6a",
        "Exemplars are images that people doubt.",
        SOURCE,
        "Entropy of people's answers (CIFAR-10H) to exemplars minus that to other images, in "
        "percent of its largest value.",
        doubted("human"),
        contrast="exemplars against other images, answered by people",
        baseline=OTHERS,
        unit="percent",
        untested="there are no people's answers to these images (CIFAR-10H)",
        figure="doubtful-images",
    ),
    Claim(
        "C6b",
        "Exemplars are atypical images.",
        SOURCE,
        "Share of independent dense members that do not give their modal label, on exemplars minus "
        "on other images.",
        doubted("replica"),
        contrast="exemplars against other images, answered by independent dense networks",
        baseline=OTHERS,
        unit="percent of members",
        untested=NO_REPLICA,
        figure="doubtful-images",
    ),
    Claim(
        "C6c",
        "There are more of them among corrupted images.",
        SOURCE,
        "Rate of exemplars against independent dense members beyond that between dense members, on "
        "corrupted images minus on clean ones.",
        more_where_corrupted,
        contrast="corrupted against clean images, pruned against independent dense populations",
        baseline=INDEPENDENT,
        unit="percent of images",
        untested=NO_SHIFT,
        figure="exemplars-among-shifted-images",
    ),
    Claim(
        "C6d",
        "There are more of them among wrongly labelled training images.",
        SOURCE,
        "Rate of exemplars among training images with a wrong label minus that among the others, "
        "averaged over pruned pipelines; labels planted, or CIFAR-10N's.",
        more_where_mislabelled("rate"),
        contrast="training images with a wrong label against those with the right one",
        baseline="the rightly labelled images",
        unit="percent of images",
        untested=NO_WRONG_LABELS,
        figure="wrongly-labelled-images",
    ),
    Claim(
        "C6e",
        "More than chance makes there.",
        CONTROL,
        "The same difference of the rate against independent dense members beyond that between "
        "dense members.",
        more_where_mislabelled("excess"),
        contrast=(
            "wrongly against rightly labelled images, pruned against independent dense populations"
        ),
        baseline=INDEPENDENT,
        unit="percent of images",
        untested=f"{NO_WRONG_LABELS}, or no second dense population (Replica)",
        figure="wrongly-labelled-images",
    ),
    *HARM_CLAIMS,
)
