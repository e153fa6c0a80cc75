"""Published numbers that may stand beside a study's own, never mixed with them.

Source: "Evaluating the Impact of Compression Techniques on the Robustness of CNNs under Natural
Corruptions", arXiv 2512.24971: networks pretrained on ImageNet, images enlarged to 224 pixels, one
seed, early stopping on the test set.
"""

from typing import NamedTuple

from rcm.analysis.statistics import PipelineInfo

NETWORKS = ("ResNet-50", "VGG-19", "MobileNetV2")
BITS, SPARSITY = 8, 0.5
FAMILIES = {"resnet": 0, "wrn": 0, "vgg": 1, "mobilenet": 2}  # our networks by name -> NETWORKS


class Published(NamedTuple):
    """One configuration of one network: clean accuracy in percent, mCE and relative mCE in percent
    of the original's error, how many times smaller the deflated file is."""

    accuracy: float
    mce: float
    relative_mce: float
    ratio: float


# techniques in order: the paper's name, then accuracy, mCE, relative mCE, ratio of each network
CIFAR10 = {
    (): ("Original", (88.42, 100.0, 100.0, 1.00),
        (72.24, 100.0, 100.0, 1.00), (89.76, 100.0, 100.0, 1.00)),
    ("quantize",): ("Quantization Int8 (PTQ)", (88.38, 99.6, 98.8, 4.14),
        (71.75, 101.5, 101.7, 4.75), (87.12, 112.5, 105.1, 3.71)),
    ("prune",): ("Pruning", (93.26, 76.7, 87.5, 1.64),
        (76.54, 92.1, 101.1, 1.65), (88.90, 105.1, 103.5, 1.62)),
    ("prune", "quantize"): ("Pruning + Int8", (93.23, 77.3, 88.2, 5.65),
        (76.12, 93.5, 103.3, 6.20), (85.96, 121.7, 113.8, 5.14)),
    ("cluster",): ("Clustering", (92.03, 81.3, 89.3, 4.53),
        (74.79, 94.8, 96.6, 6.20), (90.65, 96.2, 99.1, 3.68)),
    ("cluster", "quantize"): ("Clustering + Int8", (91.73, 82.1, 88.5, 6.50),
        (74.33, 96.5, 99.1, 7.52), (87.78, 109.3, 105.5, 5.78)),
    ("prune", "cluster"): ("Pruning+Clustering", (92.50, 81.1, 91.5, 5.43),
        (75.57, 94.3, 102.0, 7.15), (90.35, 94.7, 95.3, 4.44)),
    ("prune", "cluster", "quantize"): ("Pruning+Clustering + Int8", (92.41, 81.6, 91.8, 7.90),
        (75.06, 95.0, 101.1, 8.99), (88.93, 103.3, 101.5, 6.90)),
    ("qat",): ("QAT", (93.02, 78.5, 89.9, 2.20),
        (76.05, 92.7, 101.5, 2.79), (90.14, 100.5, 101.8, 1.86)),
    ("qat", "quantize"): ("QAT + Int8", (62.89, 201.7, 126.6, 4.20),
        (61.33, 118.9, 97.9, 4.78), (79.54, 144.1, 118.4, 3.74)),
    ("cluster", "qat"): ("CQAT", (92.19, 81.2, 91.1, 4.34),
        (74.68, 94.9, 98.3, 5.76), (89.20, 99.7, 97.5, 3.52)),
    ("cluster", "qat", "quantize"): ("CQAT + Int8", (92.18, 81.1, 90.7, 6.33),
        (74.74, 94.8, 98.3, 7.70), (89.41, 99.0, 98.5, 5.40)),
    ("prune", "qat"): ("PQAT", (93.46, 76.7, 88.2, 3.12),
        (75.69, 93.2, 100.3, 3.83), (89.60, 107.4, 110.4, 2.60)),
    ("prune", "qat", "quantize"): ("PQAT + Int8", (93.45, 76.7, 88.0, 5.73),
        (75.70, 93.1, 100.0, 6.22), (89.59, 106.9, 109.3, 5.19)),
    ("prune", "cluster", "qat"): ("PCQAT", (92.69, 77.0, 86.1, 5.46),
        (74.17, 98.4, 105.6, 6.98), (88.44, 108.2, 106.9, 4.76)),
    ("prune", "cluster", "qat", "quantize"): ("PCQAT + Int8", (92.67, 76.7, 85.8, 8.13),
        (74.19, 98.4, 105.5, 9.43), (88.22, 108.1, 105.4, 7.83)),
}  # fmt: skip
CIFAR100 = {
    (): ("Original", (76.06, 100.0, 100.0, 1.00),
        (55.89, 100.0, 100.0, 1.00), (71.85, 100.0, 100.0, 1.00)),
    ("quantize",): ("Quantization Int8 (PTQ)", (75.67, 100.4, 99.9, 4.25),
        (55.27, 100.2, 97.2, 4.53), (65.66, 110.7, 99.4, 3.72)),
    ("prune",): ("Pruning", (77.17, 97.9, 100.0, 1.64),
        (58.55, 96.1, 100.1, 1.65), (71.33, 99.9, 98.1, 1.62)),
    ("prune", "quantize"): ("Pruning + Int8", (76.57, 98.5, 98.3, 5.75),
        (58.38, 96.3, 100.3, 6.01), (69.76, 103.0, 98.5, 5.14)),
    ("cluster",): ("Clustering", (75.85, 96.7, 92.2, 4.64),
        (57.62, 95.8, 93.6, 5.58), (71.88, 97.5, 95.3, 3.66)),
    ("cluster", "quantize"): ("Clustering + Int8", (74.28, 99.9, 94.0, 6.57),
        (54.59, 98.7, 86.7, 6.96), (68.66, 104.1, 98.2, 5.80)),
    ("prune", "cluster"): ("Pruning+Clustering", (76.45, 96.1, 93.8, 5.56),
        (57.72, 96.5, 97.3, 6.56), (71.56, 98.6, 98.0, 4.49)),
    ("prune", "cluster", "quantize"): ("Pruning+Clustering + Int8", (75.90, 97.1, 93.5, 8.08),
        (54.11, 99.7, 90.1, 8.57), (68.63, 103.6, 98.0, 7.09)),
    ("qat",): ("QAT", (77.34, 97.5, 100.7, 2.24),
        (65.45, 87.5, 103.7, 2.58), (73.10, 97.3, 98.7, 1.88)),
    ("qat", "quantize"): ("QAT + Int8", (66.27, 121.7, 106.7, 4.26),
        (54.42, 99.7, 92.9, 4.53), (58.65, 117.3, 85.7, 3.77)),
    ("cluster", "qat"): ("CQAT", (77.81, 95.5, 98.5, 4.54),
        (63.13, 91.3, 106.6, 5.35), (69.09, 104.9, 100.7, 3.73)),
    ("cluster", "qat", "quantize"): ("CQAT + Int8", (77.67, 95.4, 97.7, 6.62),
        (63.10, 91.2, 106.3, 7.25), (69.00, 104.8, 100.1, 5.93)),
    ("prune", "qat"): ("PQAT", (77.29, 95.1, 95.4, 3.18),
        (60.75, 92.4, 97.6, 3.60), (71.08, 101.0, 99.9, 2.65)),
    ("prune", "qat", "quantize"): ("PQAT + Int8", (77.32, 95.4, 96.5, 5.75),
        (60.67, 92.5, 97.1, 5.98), (70.92, 101.3, 99.8, 5.21)),
    ("prune", "cluster", "qat"): ("PCQAT", (76.79, 97.8, 99.3, 5.78),
        (61.67, 91.5, 100.1, 6.70), (66.86, 107.9, 99.9, 5.15)),
    ("prune", "cluster", "qat", "quantize"): ("PCQAT + Int8", (76.66, 98.2, 99.7, 8.60),
        (61.50, 91.5, 99.1, 9.24), (66.69, 108.1, 99.1, 8.56)),
}  # fmt: skip
TABLES = {"cifar10": CIFAR10, "cifar100": CIFAR100}
# what the paper reports, or its table holds, by the claims of protocol S3
REPORTED = {
    "C1a": "best mCE 76.7 (ResNet-50), 92.1 (VGG-19), 94.7 (MobileNetV2), CIFAR-10",
    "C2": "best mCE 76.7 (ResNet-50), 92.1 (VGG-19), 94.7 (MobileNetV2), CIFAR-10",
    "C3": "mCE 99.6 (ResNet-50), 101.5 (VGG-19), 112.5 (MobileNetV2), CIFAR-10",
    "C4a": "mCE minus the median of 13 others: -2.6 (ResNet-50), -2.1 (VGG-19), -6.4 (MobileNetV2)",
    "C4b": "mCE rises by 12 to 123",
    "C5": "mCE 81.1 to 96.2, CIFAR-10",
    "C6": "on the front of all networks, CIFAR-10: PQAT, PQAT + Int8, PCQAT + Int8 of ResNet-50; "
    "Pruning+Clustering + Int8, PCQAT + Int8 of VGG-19",
    "C7": "mCE changes by at most 0.7",
    "C8a": "p = 1.3e-5 over the six blocks of its table",
    "C8b": "p = 0.24 over the six blocks of its table",
    "C9": "r = 0.99 over the 90 cells of its table",
}


def like(model: str) -> int | None:
    """Which of `NETWORKS` is of the family of a network here, such as resnet20-w16, or None."""
    found = [network for family, network in FAMILIES.items() if model.startswith(family)]
    return found[0] if found else None


def configuration(
    pipeline: PipelineInfo, dataset: str = "cifar10"
) -> tuple[str, tuple[Published, ...]] | None:
    """The paper's configuration of these techniques at its bits and sparsity, of the dense parent
    its original: the name and the numbers of each network; None if there is none. dataset: one of
    `TABLES`."""
    compressed = pipeline.kind in ("trained", "post_training") and pipeline.techniques
    if not compressed and pipeline.kind != "dense":
        return None
    bits = BITS if {"quantize", "qat"} & set(pipeline.techniques) else 0
    sparsity = SPARSITY if "prune" in pipeline.techniques else 0
    if pipeline.repair or (pipeline.bits, pipeline.sparsity) != (bits, sparsity):
        return None
    row = TABLES[dataset].get(pipeline.techniques)
    return (row[0], tuple(Published(*numbers) for numbers in row[1:])) if row else None
