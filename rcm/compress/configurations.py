"""The sixteen configurations A to P of protocol S3, by letter.

Source: "Evaluating the Impact of Compression Techniques on the Robustness of CNNs under Natural
Corruptions", arXiv 2512.24971. The order is prune, cluster, quantization-aware training, int8; each
stage is trained on from the one before and keeps what that established. 50 % of every kernel is
pruned by magnitude and 16 values are shared, depthwise kernels spared.
"""

from typing import NamedTuple

from rcm.compress.cluster import Cluster
from rcm.compress.prune import Prune
from rcm.compress.qat import QAT
from rcm.compress.quantize import Quantize
from rcm.config import Pipeline, choose


class Configuration(NamedTuple):
    """published: its name in the paper's table; name: ours; steps: techniques in order."""

    published: str
    name: str
    steps: tuple


def _table() -> dict[str, Configuration]:
    prune, cluster, qat, int8 = Prune(0.5), Cluster(16), QAT(8, 8), Quantize(8, 8)
    trained = (
        ("Original", "original", ()),
        ("Pruning", "prune", (prune,)),
        ("Clustering", "cluster", (cluster,)),
        ("Pruning+Clustering", "prune_cluster", (prune, cluster)),
        ("QAT", "qat", (qat,)),
        ("CQAT", "cqat", (cluster, qat)),
        ("PQAT", "pqat", (prune, qat)),
        ("PCQAT", "pcqat", (prune, cluster, qat)),
    )
    found = {}
    for i, (published, name, steps) in enumerate(trained):
        letter, converted = "ACEGIKMO"[i], "BDFHJLNP"[i]
        found[letter] = Configuration(published, f"{letter}_{name}", steps)
        label = f"{published} + Int8" if steps else "Quantization Int8 (PTQ)"
        end = f"{converted}_{name}_int8" if steps else f"{converted}_int8"
        found[converted] = Configuration(label, end, (*steps, int8))
    return dict(sorted(found.items()))


CONFIGURATIONS = _table()


def configurations(letters: str = "BCDEFGHIJKLMNOP") -> tuple[Pipeline, ...]:
    """Pipelines of the configurations with these letters, A left out, which is the dense parent.

    Raises ValueError for a letter beyond P.
    """
    for letter in letters:
        choose("configuration of S3", letter, CONFIGURATIONS)
    chosen = (CONFIGURATIONS[letter] for letter in letters if letter != "A")
    return tuple(Pipeline(each.name, each.steps) for each in chosen)
