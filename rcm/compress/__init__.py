"""Compression techniques: the table of them, and chains of them."""

from collections.abc import Mapping
from typing import Any

from rcm.compress.base import Compressor, chain
from rcm.compress.cluster import Cluster
from rcm.compress.filters import PruneFilters
from rcm.compress.prune import Prune
from rcm.compress.qat import QAT
from rcm.compress.quantize import Quantize
from rcm.config import require
from rcm.models.channels import Channels

Technique = Prune | PruneFilters | Quantize | QAT | Cluster
TECHNIQUES = {
    "prune": Prune,
    "prune_filters": PruneFilters,
    "quantize": Quantize,
    "qat": QAT,
    "cluster": Cluster,
}


def build_chain(techniques: tuple[Technique, ...], network: Any = None) -> Compressor:
    """The compressor of techniques in pipeline order; of none, the dense identity.

    network: a module of `rcm.models`, for techniques that ask for its channels or outer layers.
    """
    built = [technique.build(techniques[:i], network) for i, technique in enumerate(techniques)]
    return chain(*built)


def validate_chain(
    name: str,
    techniques: tuple[Technique, ...],
    smallest_kernel: int,
    channels: tuple[Channels, ...] = (),
    kernel_sizes: Mapping[str, int] | None = None,
) -> None:
    """Raise ValueError, starting with `name`, for bad numbers or an order that breaks an invariant.

    smallest_kernel: weights of the model's smallest kernel; channels: its groups of channels;
    kernel_sizes: weights by kernel, for techniques that name kernels.
    """
    for i, technique in enumerate(techniques):
        technique.validate(name, smallest_kernel)
        if isinstance(technique, PruneFilters):
            technique.validate_network(name, channels)
        if isinstance(technique, Cluster):
            technique.validate_kernels(name, kernel_sizes or {})
        earlier = [type(t) for t in techniques[:i]]
        pruned = Prune in earlier or PruneFilters in earlier
        require(
            QAT not in earlier or isinstance(technique, Quantize),
            f"{name}: only quantize can follow QAT, because anything else would leave the grid.",
        )
        require(
            Quantize not in earlier,
            f"{name}: nothing can follow quantize, because it would leave the grid; put it last.",
        )
        if isinstance(technique, Cluster) and pruned:
            require(
                technique.pin_zero and 1 not in technique.numbers,
                f"{name}: clustering behind pruning needs pin_zero=True and at least 2 clusters, "
                "or pruned weights would grow back.",
            )
        if isinstance(technique, Prune | PruneFilters):
            require(
                Cluster not in earlier,
                f"{name}: pruning behind clustering would add a value to full codebooks; "
                "put prune before cluster.",
            )
