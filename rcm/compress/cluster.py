"""Weight clustering: a kernel shares at most K values (Han et al. 2016, arXiv 1510.00149).

The assignment is fixed at init by K-means; afterwards the codebook is trained. A weight's gradient
is replaced by the mean gradient of its cluster, the projection of the gradient onto the subspace of
shared values, so that the members of a cluster move together and momentum and weight decay act on
the codebook at the learning rate of a single weight. Han et al. 2016 take the sum instead, which
is the gradient of the codebook entry and scales the rate by the size of the cluster.

Pinned zero: in a kernel that holds exact zeros, and with at least two clusters, the zeros form a
cluster of their own that stays 0, gets no gradient and counts as one of the K. Nonzero weights
never join it, so sparsity is kept exactly. A kernel without zeros spends all K on its weights.
With a codebook per output channel, all of this holds for each channel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rcm.compress.base import Compressor, Info, Levels, Variables, kernels, with_kernels
from rcm.compress.codebooks import Codebook, Rule, make_codebooks
from rcm.compress.kmeans import STARTS
from rcm.config import choose, require

SMALLEST_CODEBOOK = 16  # slots, so that all small numbers of clusters share one program


class ClusterState(NamedTuple):
    """clusters: int32 scalar, 0 is off; codebooks by kernel; exceptions: int32 [n], the numbers of
    clusters of the rule's exceptions, () without."""

    clusters: Array
    codebooks: dict[str, Codebook]
    exceptions: Any = ()


def cluster(rule: Rule) -> Compressor:
    """Clustering; levels {"clusters"}, int32, 0 (off) to the number of slots, and for a rule with
    exceptions {"exceptions"}, int32 [n], the same for each of them."""

    def init(key: Array, variables: Variables, levels: Levels) -> ClusterState:
        clusters = jnp.asarray(levels["clusters"], jnp.int32)
        own = jnp.asarray(levels["exceptions"], jnp.int32) if rule.exceptions else ()
        state = ClusterState(clusters, {}, own)
        found = kernels(variables["params"], depthwise=False)
        limits = {name: clusters_of(state, name, rule) for name in found}
        return state._replace(codebooks=make_codebooks(key, found, limits, rule))

    def update(state: ClusterState, variables: Variables, info: Info):
        moved, codebooks = {}, {}
        for name, kernel in kernels(variables["params"], depthwise=False).items():
            on = clusters_of(state, name, rule) > 0
            codebooks[name] = follow(state.codebooks[name], kernel)
            moved[name] = jnp.where(on, shared_values(codebooks[name]), kernel)
        return with_kernels(variables, moved), state._replace(codebooks=codebooks)

    def apply(variables: Variables, state: ClusterState) -> Variables:
        found = kernels(variables["params"], depthwise=False)
        summed = rule.gradient == "sum"
        shared: dict[str, Any] = {
            name: share(kernel, state.codebooks[name], summed) for name, kernel in found.items()
        }
        effective = {
            name: jnp.where(clusters_of(state, name, rule) > 0, shared[name], kernel)
            for name, kernel in found.items()
        }
        return with_kernels(variables, effective)

    def check(variables: Variables, state: ClusterState) -> list[str]:
        return _violations(kernels(variables["params"], depthwise=False), state, rule)

    return Compressor(init, update, apply, check)


def clusters_of(state: ClusterState, name: str, rule: Rule) -> Array:
    """How many values the kernel at path `name` may have, int32 scalar; 0 is any number."""
    for i, start in enumerate(rule.exceptions):
        if lies_in(name, start):
            return state.exceptions[i]
    return state.clusters


def lies_in(name: str, start: str) -> bool:
    """Whether the kernel at path `name` belongs to the module at path `start`, or is it."""
    return f"{name}/".startswith(f"{start}/")


def follow(codebook: Codebook, kernel: Array) -> Codebook:
    """The codebook moved to the mean of `kernel` over each cluster; a pinned zero stays.

    Means are taken of the deviation from the codebook: weights that did not move leave it as it is
    to the bit, and long float32 sums lose nothing that matters.
    """
    deviation = kernel - shared_values(codebook)
    return codebook._replace(values=codebook.values + cluster_means(deviation, codebook))


def shared_values(codebook: Codebook) -> Array:
    """Each weight's value in the codebook, shaped like the kernel."""
    return _lookup(codebook.values, codebook)


def _lookup(table: Array, codebook: Codebook) -> Array:
    """Each weight's entry of a table shaped like `values`."""
    return table.ravel()[_places(codebook)]


def _places(codebook: Codebook) -> Array:
    """Each weight's place in the flat values, shaped like the kernel."""
    places = codebook.assignments
    if codebook.values.ndim == 1:
        return places
    channels = lax.broadcasted_iota(jnp.int32, places.shape, places.ndim - 1)
    return places + channels * codebook.values.shape[1]


def cluster_means(x: Array, codebook: Codebook) -> Array:
    """Means over each cluster of x, shaped like `values`; 0 if empty or pinned.

    x: shaped like the kernel.
    """
    counts, ids = codebook.counts, _places(codebook).ravel().astype(jnp.int32)
    sums = jax.ops.segment_sum(x.ravel(), ids, counts.size).reshape(counts.shape)
    means = sums / jnp.maximum(counts, 1)
    return means.at[..., 0].set(jnp.where(codebook.pinned, 0, means[..., 0]))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def share(kernel: Array, codebook: Codebook, summed: bool) -> Array:
    """Each weight's codebook value; the gradient by `kernel` is the mean, or with `summed` the sum,
    over each cluster."""
    return shared_values(codebook)


def _share_forward(kernel: Array, codebook: Codebook, summed: bool) -> tuple[Array, Codebook]:
    return share(kernel, codebook, summed), codebook


def _share_backward(summed: bool, codebook: Codebook, gradient: Array):
    moves = cluster_means(gradient, codebook)
    if summed:
        moves = moves * codebook.counts
    return _lookup(moves, codebook), None


share.defvjp(_share_forward, _share_backward)


def _violations(found: dict, state: ClusterState, rule: Rule) -> list[str]:
    where = " in a channel" if rule.per_channel else ""
    lines = []
    for name, kernel in found.items():
        limit = int(clusters_of(state, name, rule))
        if limit == 0:
            continue
        kernel, codebook = np.asarray(kernel), state.codebooks[name]
        distinct = _most_distinct(kernel, rule)
        if distinct > limit:
            lines.append(f"{name}: {distinct} distinct values{where}, expected at most {limit}.")
        pinned = (np.asarray(codebook.assignments) == 0) & np.asarray(codebook.pinned)
        grown = np.count_nonzero(kernel[pinned])
        if grown:
            lines.append(f"{name}: {grown} weights of the pinned zero cluster are not zero.")
    return lines


def _most_distinct(kernel: np.ndarray, rule: Rule) -> int:
    """Distinct values in a kernel, or in that of its channels which has most."""
    channels = kernel.shape[-1] if rule.per_channel else 1
    ordered = np.sort(kernel.reshape(-1, channels), axis=0)
    return 1 + int(np.count_nonzero(np.diff(ordered, axis=0), axis=0).max())


@dataclass(frozen=True)
class Cluster:
    """Technique: at most `clusters` values per kernel; `pin_zero` keeps exact zeros at zero.

    start: of K-means, `plus_plus`, `random`, `density`, `linear`, or `exact`: the optimum itself
    for kernels (per channel: channels) of up to 65,536 weights, and `plus_plus` for larger ones.
    gradient: what moves a value, the `mean` or the `sum` of its weights' gradients. per_channel: a
    codebook of `clusters` values for each output channel. exceptions: (module or kernel, clusters),
    such as ("head", 64), or ("stem", 0) to spare it. Depthwise kernels keep their values.
    """

    clusters: int = 16
    pin_zero: bool = True
    start: str = "plus_plus"
    gradient: str = "mean"
    per_channel: bool = False
    exceptions: tuple[tuple[str, int], ...] = ()

    trains: ClassVar[bool] = True  # the step is followed by fine-tuning

    def describe(self) -> str:
        """A short name for people."""
        own = " with exceptions" if self.exceptions else ""
        return f"cluster {self.clusters}{' per channel' if self.per_channel else ''}{own}"

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for clusters below 1 or above the weights.

        smallest_kernel: weights of the model's smallest kernel.
        """
        choose(f"{name}: start", self.start, STARTS)
        choose(f"{name}: gradient", self.gradient, ("mean", "sum"))
        require(self.clusters >= 1, f"{name}: clusters must be at least 1, not {self.clusters}.")
        require(
            all(isinstance(e, tuple) and len(e) == 2 for e in self.exceptions)
            and all(isinstance(s, str) and type(k) is int and k >= 0 for s, k in self.exceptions),
            f'{name}: exceptions are pairs such as ("head", 64), not {self.exceptions}.',
        )
        require(
            self.clusters <= smallest_kernel,
            f"{name}: {self.clusters} clusters are more than the {smallest_kernel} weights of the "
            "smallest kernel; use fewer clusters or a wider model.",
        )

    def validate_kernels(self, name: str, sizes: Mapping[str, int]) -> None:
        """Raise ValueError, starting with `name`, for exceptions that name no kernel or have more
        clusters than one has weights; sizes: weights by kernel."""
        for start, own in self.exceptions:
            mine = [size for kernel, size in sizes.items() if lies_in(kernel, start)]
            modules = {"/".join(k.split("/")[:i]) for k in sizes for i in range(1, 9)}
            if not mine:
                choose(f"{name}: module of the exceptions", start, sorted(modules))
            require(
                own <= min(mine),
                f"{name}: {own} clusters are more than the {min(mine)} weights of a kernel in "
                f"{start}; use fewer.",
            )

    @property
    def slots(self) -> int:
        """Codebook length: the next power of two, at least 16, so that programs are shared."""
        return max(SMALLEST_CODEBOOK, 1 << (max(self.numbers) - 1).bit_length())

    @property
    def numbers(self) -> list[int]:
        """Every number of clusters that is asked for."""
        return [self.clusters, *(own for _, own in self.exceptions)]

    @classmethod
    def examples(cls) -> tuple["Cluster", ...]:
        """Settings that together use every word, for the contract tests."""
        return (
            cls(5),
            cls(3, start="exact", per_channel=True, exceptions=(("head", 2),)),
            cls(4, pin_zero=False, start="linear", gradient="sum"),
        )

    def promise(self) -> str:
        """What every later step keeps, in words."""
        where = "an output channel" if self.per_channel else "a kernel"
        zeros = ", zeros stay zero" if self.pin_zero and 1 not in self.numbers else ""
        own = "".join(f", {k or 'any number'} in {start}" for start, k in self.exceptions)
        return f"at most {self.clusters} values in {where}{own}{zeros}"

    @property
    def rule(self) -> Rule:
        """The static part."""
        return Rule(
            self.slots,
            self.pin_zero,
            self.start,
            self.gradient,
            per_channel=self.per_channel,
            exceptions=tuple(start for start, _ in self.exceptions),
        )

    def static(self) -> tuple:
        """What decides the compiled program."""
        return ("cluster", *self.rule)

    def levels(self, steps: int) -> Mapping[str, np.generic | np.ndarray]:
        """Traced numbers; the same for any number of steps."""
        clusters = {"clusters": np.int32(self.clusters)}
        if not self.exceptions:
            return clusters
        return {**clusters, "exceptions": np.array([own for _, own in self.exceptions], np.int32)}

    def build(self, earlier: tuple, network: Any) -> Compressor:
        """The compressor; it depends neither on the chain before it nor on the network."""
        return cluster(self.rule)
