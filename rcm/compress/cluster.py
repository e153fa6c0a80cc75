"""Weight clustering: every kernel shares at most K values (Han et al. 2016, arXiv 1510.00149).

The assignment is fixed at init by K-means; afterwards the codebook is trained. A weight's gradient
is replaced by the mean gradient of its cluster, the projection of the gradient onto the subspace of
shared values, so that the members of a cluster move together and momentum and weight decay act on
the codebook at the learning rate of a single weight. Han et al. 2016 take the sum instead, which
is the gradient of the codebook entry and scales the rate by the size of the cluster.

Pinned zero: in a kernel that holds exact zeros, and with at least two clusters, the zeros form a
cluster of their own that stays 0, gets no gradient and counts as one of the K. Nonzero weights
never join it, so sparsity is kept exactly. A kernel without zeros spends all K on its weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.compress.base import Compressor, Info, Levels, Variables, kernels, with_kernels
from rcm.compress.kmeans import STARTS, kmeans, midpoints, sort_weights
from rcm.config import choose, require

ATTEMPTS = 4  # of K-means, the best is kept; one alone is often 10 % above the optimum
SMALLEST_CODEBOOK = 16  # slots, so that all small numbers of clusters share one program


class Rule(NamedTuple):
    """What is static about clustering: slots of a codebook, and the fields of `Cluster`."""

    slots: int
    pin_zero: bool = True
    start: str = "plus_plus"
    gradient: str = "mean"
    iterations: int = 300


class Codebook(NamedTuple):
    """One kernel's clusters.

    values: float32 [slots], unused slots 0; assignments: uint8 (int32 above 256 slots), shaped like
    the kernel; counts: float32 [slots], weights per cluster; pinned: bool scalar, slot 0 stays 0.
    """

    values: Array
    assignments: Array
    counts: Array
    pinned: Array


class ClusterState(NamedTuple):
    """clusters: int32 scalar, 0 is off; codebooks by kernel."""

    clusters: Array
    codebooks: dict[str, Codebook]


def cluster(rule: Rule) -> Compressor:
    """Clustering; levels {"clusters"}, int32, 0 (off) to the number of slots."""

    def init(key: Array, variables: Variables, levels: Levels) -> ClusterState:
        clusters = jnp.asarray(levels["clusters"], jnp.int32)
        found = kernels(variables["params"], depthwise=False)
        return ClusterState(clusters, make_codebooks(key, found, clusters, rule))

    def update(state: ClusterState, variables: Variables, info: Info):
        on = state.clusters > 0
        moved, codebooks = {}, {}
        for name, kernel in kernels(variables["params"], depthwise=False).items():
            codebooks[name] = follow(state.codebooks[name], kernel)
            shared = codebooks[name].values[codebooks[name].assignments]
            moved[name] = jnp.where(on, shared, kernel)
        return with_kernels(variables, moved), ClusterState(state.clusters, codebooks)

    def apply(variables: Variables, state: ClusterState) -> Variables:
        on = state.clusters > 0
        found = kernels(variables["params"], depthwise=False)
        summed = rule.gradient == "sum"
        shared: dict[str, Any] = {
            name: share(kernel, state.codebooks[name], summed) for name, kernel in found.items()
        }
        effective = {name: jnp.where(on, shared[name], kernel) for name, kernel in found.items()}
        return with_kernels(variables, effective)

    def check(variables: Variables, state: ClusterState) -> list[str]:
        return _violations(kernels(variables["params"], depthwise=False), state)

    return Compressor(init, update, apply, check)


def make_codebooks(
    key: Array,
    found: dict[str, Array],
    clusters: Array,
    rule: Rule,
) -> dict[str, Codebook]:
    """A codebook per kernel."""
    uniform = jax.random.uniform(key, (len(found), ATTEMPTS, rule.slots, 2))
    draws = dict(zip(found, uniform, strict=True))

    def one(draws, flat, size):
        return cluster_weights(draws, flat, size, clusters, rule)

    codebooks = {}
    for names in _batches({name: kernel.size for name, kernel in found.items()}):
        sizes = [found[name].size for name in names]
        flat = [jnp.pad(found[name].ravel(), (0, max(sizes) - found[name].size)) for name in names]
        many = jax.vmap(one)(
            jnp.stack([draws[name] for name in names]), jnp.stack(flat), jnp.array(sizes)
        )
        for i, (name, size) in enumerate(zip(names, sizes, strict=True)):
            codebook = jax.tree.map(lambda leaf, i=i: leaf[i], many)
            assignments = codebook.assignments[:size].reshape(found[name].shape)
            codebooks[name] = codebook._replace(assignments=assignments)
    return codebooks


def _batches(sizes: dict[str, int]) -> list[list[str]]:
    """Kernels to pad and cluster together, within a factor of 16 in size.

    Every batch costs about a second of compilation and padding costs arithmetic; this gives two
    batches for the CIFAR ResNets instead of one for each of seven sizes.
    """
    batches: dict[int, list[str]] = {}
    largest = max(sizes.values())
    for name, size in sizes.items():
        batches.setdefault(((largest // size).bit_length() - 1) // 4, []).append(name)
    return list(batches.values())


def cluster_weights(
    draws: Array,
    flat: Array,
    size: Array | int,
    clusters: Array | int,
    rule: Rule,
) -> Codebook:
    """The codebook of the first `size` of float32 weights [n], with at most `clusters` values.

    draws: float32 [starts, slots, 2], uniform in [0, 1), clusters <= slots. Assignments of the
    padding behind `size` mean nothing and are not counted.
    """
    real = jnp.arange(flat.size) < size
    zero = (flat == 0) & real
    pinned = jnp.any(zero) & (jnp.asarray(clusters) > 1) & rule.pin_zero
    weights = sort_weights(flat, ~real | (zero & pinned))
    centroids = kmeans(draws, weights, clusters - pinned, rule.iterations, rule.start)
    assignments = jnp.searchsorted(midpoints(centroids), flat, side="right")
    assignments = jnp.where(pinned, jnp.where(zero, 0, assignments + 1), assignments)
    shifted = jnp.concatenate([jnp.zeros(1), centroids[:-1]])
    values = jnp.where(pinned, shifted, centroids)
    values = jnp.where(jnp.isfinite(values), values, 0)
    counts = jnp.zeros(rule.slots).at[assignments].add(real)
    dtype = jnp.uint8 if rule.slots <= 256 else jnp.int32
    return Codebook(values, assignments.astype(dtype), counts, pinned)


def follow(codebook: Codebook, kernel: Array) -> Codebook:
    """The codebook moved to the mean of `kernel` over each cluster; a pinned zero stays.

    Means are taken of the deviation from the codebook: weights that did not move leave it as it is
    to the bit, and long float32 sums lose nothing that matters.
    """
    deviation = kernel - codebook.values[codebook.assignments]
    return codebook._replace(values=codebook.values + cluster_means(deviation, codebook))


def cluster_means(x: Array, codebook: Codebook) -> Array:
    """[slots] means over each cluster of x, shaped like the kernel; 0 if empty or pinned."""
    slots = codebook.counts.size
    ids = codebook.assignments.ravel().astype(jnp.int32)
    means = jax.ops.segment_sum(x.ravel(), ids, slots) / jnp.maximum(codebook.counts, 1)
    return means.at[0].set(jnp.where(codebook.pinned, 0, means[0]))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def share(kernel: Array, codebook: Codebook, summed: bool) -> Array:
    """Each weight's codebook value; the gradient by `kernel` is the mean, or with `summed` the sum,
    over each cluster."""
    return codebook.values[codebook.assignments]


def _share_forward(kernel: Array, codebook: Codebook, summed: bool) -> tuple[Array, Codebook]:
    return share(kernel, codebook, summed), codebook


def _share_backward(summed: bool, codebook: Codebook, gradient: Array):
    moves = cluster_means(gradient, codebook)
    if summed:
        moves = moves * codebook.counts
    return moves[codebook.assignments], None


share.defvjp(_share_forward, _share_backward)


def _violations(found: dict, state: ClusterState) -> list[str]:
    limit = int(state.clusters)
    lines = []
    for name, kernel in found.items() if limit else ():
        kernel, codebook = np.asarray(kernel), state.codebooks[name]
        distinct = np.unique(kernel).size
        if distinct > limit:
            lines.append(f"{name}: {distinct} distinct values, expected at most {limit}.")
        pinned = (np.asarray(codebook.assignments) == 0) & np.asarray(codebook.pinned)
        grown = np.count_nonzero(kernel[pinned])
        if grown:
            lines.append(f"{name}: {grown} weights of the pinned zero cluster are not zero.")
    return lines


@dataclass(frozen=True)
class Cluster:
    """Technique: at most `clusters` values per kernel; `pin_zero` keeps exact zeros at zero.

    start: of K-means, `plus_plus`, `random`, `density` or `linear`. gradient: what moves a value,
    the `mean` or the `sum` of its weights' gradients. Depthwise kernels keep their values.
    """

    clusters: int = 16
    pin_zero: bool = True
    start: str = "plus_plus"
    gradient: str = "mean"

    trains: ClassVar[bool] = True  # the step is followed by fine-tuning

    def describe(self) -> str:
        """A short name for people."""
        return f"cluster {self.clusters}"

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for clusters below 1 or above the weights.

        smallest_kernel: weights of the model's smallest kernel.
        """
        choose(f"{name}: start", self.start, STARTS)
        choose(f"{name}: gradient", self.gradient, ("mean", "sum"))
        require(self.clusters >= 1, f"{name}: clusters must be at least 1, not {self.clusters}.")
        require(
            self.clusters <= smallest_kernel,
            f"{name}: {self.clusters} clusters are more than the {smallest_kernel} weights of the "
            "smallest kernel; use fewer clusters or a wider model.",
        )

    @property
    def slots(self) -> int:
        """Codebook length: the next power of two, at least 16, so that programs are shared."""
        return max(SMALLEST_CODEBOOK, 1 << (self.clusters - 1).bit_length())

    @property
    def rule(self) -> Rule:
        """The static part."""
        return Rule(self.slots, self.pin_zero, self.start, self.gradient)

    def static(self) -> tuple:
        """What decides the compiled program."""
        return ("cluster", *self.rule)

    def levels(self, steps: int) -> Mapping[str, np.generic]:
        """Traced numbers; the same for any number of steps."""
        return {"clusters": np.int32(self.clusters)}

    def build(self, earlier: tuple, network: Any) -> Compressor:
        """The compressor; it depends neither on the chain before it nor on the network."""
        return cluster(self.rule)
