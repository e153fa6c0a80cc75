"""Compression techniques: the table of them, and chains of them."""

from collections.abc import Mapping
from typing import Any

from rcm.compress.adjust import Adjust
from rcm.compress.base import Compressor, chain
from rcm.compress.cast import Cast
from rcm.compress.cluster import Cluster
from rcm.compress.dynamic import DynamicSparse
from rcm.compress.filters import PruneFilters
from rcm.compress.prune import Prune
from rcm.compress.qat import QAT
from rcm.compress.quantize import Quantize
from rcm.config import require
from rcm.models.channels import Channels

Technique = Prune | PruneFilters | DynamicSparse | Quantize | QAT | Cast | Cluster | Adjust
SPARSE = (Prune, PruneFilters, DynamicSparse)  # leave zeros that later techniques must keep
TECHNIQUES = {
    "prune": Prune,
    "prune_filters": PruneFilters,
    "dynamic_sparse": DynamicSparse,
    "quantize": Quantize,
    "qat": QAT,
    "cast": Cast,
    "cluster": Cluster,
    "adjust": Adjust,
}


def build_chain(techniques: tuple[Technique, ...], network: Any = None) -> Compressor:
    """The compressor of techniques in pipeline order; of none, the dense identity.

    network: a module of `rcm.models`, for techniques that ask for its channels or outer layers.
    """
    built = [technique.build(techniques[:i], network) for i, technique in enumerate(techniques)]
    return chain(*built)


def levels_of(techniques: tuple[Technique, ...], steps: int, counts: Any) -> tuple[Any, ...]:
    """Traced numbers of techniques for a stage of `steps` steps on so many images of each class."""
    return tuple(
        technique.levels(steps, counts)
        if isinstance(technique, Adjust)
        else technique.levels(steps)
        for technique in techniques
    )


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
            technique.validate_network(name, channels, kernel_sizes or {})
        if isinstance(technique, Quantize | QAT | Adjust):
            technique.validate_behind(name, techniques[:i])
        if isinstance(technique, Cluster):
            technique.validate_kernels(name, kernel_sizes or {})
        earlier = [type(t) for t in techniques[:i]]
        pruned = any(kind in SPARSE for kind in earlier)
        require(
            QAT not in earlier or _keeps_grids(technique),
            f"{name}: only quantize, adjust, filter pruning and pruning of single weights by "
            "magnitude can follow QAT, because anything else would leave the grid.",
        )
        if isinstance(technique, Quantize):
            _require_same_grids(name, technique, techniques[:i])
        require(
            Quantize not in earlier or isinstance(technique, Adjust),
            f"{name}: nothing can follow quantize, because it would leave the grid; put it last.",
        )
        require(
            Adjust not in earlier,
            f"{name}: nothing can follow adjust, which belongs to the finished network; put it "
            "last.",
        )
        require(
            Cast not in earlier or isinstance(technique, Adjust),
            f"{name}: nothing can follow a cast, because it would leave the format; put it last.",
        )
        if isinstance(technique, Cluster) and pruned:
            require(
                technique.pin_zero and 1 not in technique.numbers,
                f"{name}: clustering behind pruning needs pin_zero=True and at least 2 clusters, "
                "or pruned weights would grow back.",
            )
        require(
            not (pruned and isinstance(technique, DynamicSparse)),
            f"{name}: dynamic sparse training behind pruning would grow what was pruned; put it "
            "first.",
        )
        if isinstance(technique, SPARSE):
            require(
                Cluster not in earlier,
                f"{name}: pruning behind clustering would add a value to full codebooks; "
                "put prune before cluster.",
            )


def _keeps_grids(technique: Technique) -> bool:
    """Whether weights on symmetric grids stay on them: zero is on each, and the largest weight of a
    grid, which its step is read off, is the last to go."""
    if isinstance(technique, Prune):
        return (technique.score, technique.structure) == ("magnitude", "weights")
    return isinstance(technique, Quantize | Adjust | PruneFilters)


def _require_same_grids(name: str, technique: Quantize, earlier: tuple[Technique, ...]) -> None:
    """Raise ValueError, starting with `name`, for integers on other grids than QAT trained."""
    bits, edges = technique.bits, technique.edge_bits or technique.bits
    for i, trained in enumerate(earlier):
        if not isinstance(trained, QAT):
            continue
        require(
            (bits, edges) == (trained.bits, trained.edge_bits),
            f"{name}: quantize has {bits} bits ({edges} in the outer layers) behind QAT at "
            f"{trained.bits} ({trained.edge_bits}), whose grids it would leave: give it bits "
            f"{trained.bits} and edge_bits {trained.edge_bits}.",
        )
        require(
            technique.grid(earlier) == trained.grid(earlier[:i]),
            f"{name}: quantize has {technique.weights} grids by {technique.granularity} behind "
            "QAT, which trained other ones: leave weights symmetric and granularity 'auto'.",
        )
