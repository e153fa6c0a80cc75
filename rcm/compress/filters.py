"""Filter pruning: whole channels go, so that a smaller network of the same family remains.

A channel's score is summed over the filters that make it (one, or all that add to a residual
stream): L1 or L2 norm of its weights (Li et al. 2017, arXiv 1608.08710), or the size of its batch
norm's scale (Liu et al. 2017, arXiv 1708.06519). A pruned channel is zero: its filters, their
biases and norms. That is what `shrink` relies on when it takes it out.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.compress.base import Compressor, Info, Levels, Variables
from rcm.compress.masks import pruned_count
from rcm.compress.select import smallest
from rcm.config import choose, require
from rcm.models.channels import Channels

SCORES = ("l1", "l2", "scale")


class FilterState(NamedTuple):
    """keep: bool [channels] by group; pruned: int32 scalars by group, how many must be gone."""

    keep: dict[str, Array]
    pruned: dict[str, Array]


def prune_filters(
    groups: dict[Channels, int], score: str, normalised: tuple[str, ...] = ()
) -> Compressor:
    """Filter pruning, one-shot; levels {"rates"}: float32 [n], shares to prune.

    groups: what is pruned, and the place of its rate. round(rate * channels) go, half to even, but
    never all; ties by the lowest index. Gradients of what is pruned are zero. normalised: layers
    that bring their kernels to unit length, of which rows that read a pruned channel are zero, too,
    since they count in that length.
    """

    def init(key: Array, variables: Variables, levels: Levels) -> FilterState:
        params = variables["params"]
        scores = {group.name: channel_scores(params, group, score) for group in groups}
        pruned = {
            group.name: jnp.minimum(
                pruned_count(levels["rates"][place], scores[group.name].size),
                scores[group.name].size - 1,
            )
            for group, place in groups.items()
        }
        gone = smallest(scores, pruned) if groups else {}
        return FilterState({name: ~mask for name, mask in gone.items()}, pruned)

    def update(state: FilterState, variables: Variables, info: Info):
        return apply(variables, state), state

    def apply(variables: Variables, state: FilterState) -> Variables:
        params = variables["params"]
        for group in groups:
            for path in group.outputs:
                params = _edit(params, path, lambda _, x, k=state.keep[group.name]: _zero(x, k))
            for path in set(group.inputs) & set(normalised):
                params = _edit(params, path, lambda n, x, k=state.keep[group.name]: _blind(n, x, k))
        return {**variables, "params": params}

    def check(variables: Variables, state: FilterState) -> list[str]:
        return [line for group in groups for line in _violations(variables, state, group)]

    return Compressor(init, update, apply, check)


def channel_scores(params: Any, group: Channels, score: str) -> Array:
    """float32 [channels], the score of every channel of a group."""
    total = jnp.float32(0)
    for path in group.outputs:
        leaves = _leaves(_node(params, path))
        if score == "scale":
            total = total + jnp.abs(leaves["scale"]) if "scale" in leaves else total
        elif "kernel" in leaves:
            flat = leaves["kernel"].reshape(-1, leaves["kernel"].shape[-1])
            norm = jnp.abs(flat).sum(0) if score == "l1" else jnp.sqrt(jnp.square(flat).sum(0))
            total = total + norm
    return total


def shrink(
    model: Any, variables: Mapping[str, Any], keep: Mapping[str, np.ndarray]
) -> tuple[Any, dict[str, Any]]:
    """(smaller network of the same family, its variables) without the channels that `keep` drops.

    model: a network of `rcm.models`; the rest as for `take_out`. Logits are the same up to the
    order of float sums.
    """
    sizes = dict(model.sizes) | {name: int(np.sum(kept)) for name, kept in keep.items()}
    smaller = take_out(variables, model.channels(), keep)
    return model.clone(sizes=tuple(sorted(sizes.items()))), smaller


def take_out(
    variables: Mapping[str, Any], channels: tuple[Channels, ...], keep: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """`variables` without the channels that `keep` drops.

    variables: the *effective* ones, in which dropped channels are zero, numpy, without a member
    axis; keep: bool [channels] by the name of a group; groups left out are kept whole. Raises
    ValueError for an unknown group or one with nothing left.
    """
    known = {group.name: group for group in channels}
    smaller = dict(variables)
    for name, kept in keep.items():
        choose("group of channels", name, known)
        require(bool(np.any(kept)), f"Group {name} would lose all of its channels; keep one.")
        kept = np.asarray(kept)
        for collection in {"params", "batch_stats"} & smaller.keys():
            tree = smaller[collection]
            for path in known[name].outputs:
                tree = _edit(tree, path, lambda _, x, k=kept: np.asarray(x)[..., k])
            smaller[collection] = tree
        for path in known[name].inputs:
            function = lambda leaf_name, x, k=kept: _take_inputs(leaf_name, x, k)  # noqa: E731
            smaller["params"] = _edit(smaller["params"], path, function)
    return smaller


def _take_inputs(name: str, leaf: Any, kept: np.ndarray) -> np.ndarray:
    """A kernel without dropped inputs; a dense layer may read each channel at several places."""
    leaf = np.asarray(leaf)
    if name != "kernel" or leaf.shape[-2] == 1:  # depthwise: its inputs are its outputs
        return leaf
    places = leaf.shape[-2] // kept.size
    return leaf[..., np.tile(kept, places), :]


def _edit(tree: Any, path: str, function: Any) -> Any:
    """`tree` with function(leaf's name, leaf) on every leaf of the module at `path`, if there."""
    head, _, rest = path.partition("/")
    if head not in tree:
        return tree
    if rest:
        return {**tree, head: _edit(tree[head], rest, function)}
    return {**tree, head: _each(tree[head], function)}


def _each(node: Any, function: Any) -> Any:
    return {
        name: _each(leaf, function) if isinstance(leaf, Mapping) else function(name, leaf)
        for name, leaf in node.items()
    }


def _node(tree: Any, path: str) -> Any:
    for name in path.split("/"):
        tree = tree[name]
    return tree


def _leaves(node: Any) -> dict[str, Any]:
    """The leaves of one convolution and its norm by their own names: kernel, bias, scale."""
    found = {}
    for name, leaf in node.items():
        found |= _leaves(leaf) if isinstance(leaf, Mapping) else {name: leaf}
    return found


def _zero(leaf: Array, keep: Array) -> Array:
    return jnp.where(keep.reshape((1,) * (leaf.ndim - 1) + (-1,)), leaf, 0)


def _blind(name: str, leaf: Array, keep: Array) -> Array:
    """A dense kernel without weight on dropped inputs."""
    return jnp.where(keep[:, None], leaf, 0) if name == "kernel" else leaf


def _violations(variables: Variables, state: FilterState, group: Channels) -> list[str]:
    keep, expected = np.asarray(state.keep[group.name]), int(state.pruned[group.name])
    lines = []
    if np.count_nonzero(~keep) != expected:
        gone = np.count_nonzero(~keep)
        lines.append(f"{group.name}: {gone} channels are pruned, expected {expected}.")
    for path in group.outputs:
        for name, leaf in _leaves(_node(variables["params"], path)).items():
            alive = np.count_nonzero(np.asarray(leaf)[..., ~keep])
            if alive:
                lines.append(f"{path}: {alive} numbers of pruned channels ({name}) are not zero.")
    return lines


@dataclass(frozen=True)
class PruneFilters:
    """Technique: filter pruning, `rates` by stage, first to last (the last one holds for the rest).

    Only channels inside the blocks are pruned, or with `streams` also the residual streams, at the
    rate of their stage; the stem and what follows the stages are spared. exceptions: (block or
    group, rate), such as ("stage3_block2", 0.1) or ("stage2_block1", 0.0).
    """

    rates: tuple[float, ...] = (0.6, 0.5, 0.3)
    exceptions: tuple[tuple[str, float], ...] = ()
    score: str = "l1"
    streams: bool = False

    trains: ClassVar[bool] = True  # the step is followed by fine-tuning

    def describe(self) -> str:
        """A short name for people."""
        rates = "/".join(f"{rate:.0%}"[:-1] for rate in self.rates)
        return f"filters {rates} %" + (" with streams" if self.streams else "")

    def validate(self, name: str, smallest_kernel: int) -> None:
        """Raise ValueError, starting with `name`, for a number or a word that cannot be used."""
        choose(f"{name}: score", self.score, SCORES)
        require(
            all(isinstance(e, tuple) and len(e) == 2 for e in self.exceptions)
            and all(isinstance(start, str) for start, _ in self.exceptions),
            f'{name}: exceptions are pairs such as ("stage3_block2", 0.1), not {self.exceptions}.',
        )
        rates = [*self.rates, *(rate for _, rate in self.exceptions)]
        require(len(self.rates) > 0, f"{name}: rates is empty: give at least one, such as 0.5.")
        require(
            all(isinstance(rate, float | int) and 0 <= rate < 1 for rate in rates),
            f"{name}: rates must lie in [0, 1), not {rates}; 0.6 prunes 60 % of the filters.",
        )

    def validate_network(
        self, name: str, channels: tuple[Channels, ...], kernels: Collection[str] = ()
    ) -> None:
        """Raise ValueError, starting with `name`, for exceptions that name no group of a network, a
        network without groups, or scores by norms that it lacks. kernels: paths, such as
        `stage1_conv1/kernel`, whose convolution has no norm beside it."""
        groups = [group for group in channels if group.stage > 0]
        require(
            any(self.streams or not group.stream for group in groups),
            f"{name}: this network has no channels that filter pruning could take out.",
        )
        starts = {part for group in groups for part in (group.name, group.name.split("/")[0])}
        for group in self.places(channels) if self.score == "scale" else ():
            require(
                not all(f"{path}/kernel" in kernels for path in group.outputs),
                f"{name}: {group.name} has no batch norm, whose scale would be the score; use "
                "score='l1' or 'l2'.",
            )
        for start, _ in self.exceptions:
            choose(f"{name}: group or block of the exceptions", start, sorted(starts))

    def places(self, channels: tuple[Channels, ...]) -> dict[Channels, int]:
        """The groups of a network that this technique prunes, and where in the level `rates` each
        finds its own."""
        starts = [start for start, _ in self.exceptions]

        def place(group: Channels) -> int:
            for i, start in enumerate(starts):
                if start in (group.name, group.name.split("/")[0]):
                    return len(self.rates) + i
            return min(group.stage, len(self.rates)) - 1

        wanted = [g for g in channels if g.stage > 0 and (self.streams or not g.stream)]
        return {group: place(group) for group in wanted}

    @classmethod
    def examples(cls) -> tuple["PruneFilters", ...]:
        """Settings that together use every word, for the contract tests."""
        return (
            cls((0.5,)),
            cls((0.7,), score="l2", streams=True),
            cls((0.5,), score="scale"),
        )

    def promise(self) -> str:
        """What every later step keeps, in words."""
        return "pruned channels are zero, with their norms and biases"

    def static(self) -> tuple:
        """What decides the compiled program."""
        starts = tuple(start for start, _ in self.exceptions)
        return ("filters", len(self.rates), starts, self.score, self.streams)

    def levels(self, steps: int) -> Mapping[str, np.ndarray]:
        """Traced numbers; the same for any number of steps."""
        rates = [*self.rates, *(rate for _, rate in self.exceptions)]
        return {"rates": np.array(rates, np.float32)}

    def build(self, earlier: tuple, network: Any) -> Compressor:
        """The compressor for a network, of which it needs the groups of channels and the head."""
        normalised = (network.edges[-1],) if network.classifier == "cosine" else ()
        return prune_filters(self.places(network.channels()), self.score, normalised)
