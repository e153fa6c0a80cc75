"""Which forgotten images a report shows, and what populations say to them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rcm.analysis.exemplars import label_counts, modal
from rcm.analysis.forgotten import Answers
from rcm.analysis.forgotten_tables import Population
from rcm.analysis.statistics import COMPRESSED
from rcm.report.gallery import ACROSS, Picture

SHOWN = 3  # compressed pipelines in the gallery

Confidence = Mapping[tuple[str, int], np.ndarray]  # float [N] by pipeline and seed


def pictures(
    answers: Answers,
    found: Sequence[Population],
    dense: str,
    image_of: Callable[[int], np.ndarray],
    names: Sequence[str],
    confidence: Confidence,
) -> dict[str, list[Picture]]:
    """The farthest exemplars of the replica and of the compressed pipelines that have most, by the
    label of a pipeline; of equally far ones those first of which the dense members are surest, as
    a place in the test set would prefer its first classes.

    image_of: place among the answers -> uint8 [H, W, 3] or [H, W]; names: of the classes;
    confidence: in the predicted class, NaN where it is not known.
    """
    ranked = sorted(found, key=lambda one: -int(one.chosen.sum()))
    plain = [one for one in ranked if not one.pipeline.repair]
    most = [one for one in plain if one.pipeline.kind in COMPRESSED][:SHOWN]
    null = [one for one in found if one.pipeline.kind == "replica"][:1]
    members = [confidence[dense, seed] for seed in answers.labels[dense]]
    doubt = -np.nan_to_num(np.mean(members, axis=0))
    return {
        one.pipeline.label: [
            Picture(
                np.asarray(image_of(image)),
                names[int(answers.truth[image])],
                _said(answers, dense, one.parents[:, image], image, names, confidence),
                _said(answers, one.pipeline.name, one.own[:, image], image, names, confidence),
            )
            for image in map(int, np.lexsort((doubt, -one.distance.round(9))))
            if one.chosen[image]
        ][:ACROSS]
        for one in [*most, *null]
    }


def _said(
    answers: Answers,
    name: str,
    members: np.ndarray,
    image: int,
    names: Sequence[str],
    confidence: Confidence,
) -> tuple[str, float, float]:
    """Of a population's labels [n] of one image the modal one, the share that gives it, and the
    mean confidence of those that do."""
    label = int(modal(label_counts(members[:, None], answers.classes))[0])
    labels = answers.labels[name]
    sure = [confidence[name, seed][image] for seed in labels if labels[seed][image] == label]
    return names[label], float((members == label).mean()), float(np.mean(sure))
