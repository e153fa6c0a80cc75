"""Long tails: class counts, index tables, the validation split, and the order of training batches.

Everything random is a permutation keyed by (seed, purpose, number) through numpy's counter-based
Philox, computed from its raw bits (whose stream numpy guarantees), so it can be asked for in any
order and never depends on what else is drawn. Indices are those of the canonical order.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rcm.config import choose

IMBALANCES = ("exp", "step")
CLASS_ORDERS = ("id", "permuted")
HEAD, MEDIUM, TAIL = "head", "medium", "tail"
_CLASS_IMAGES, _CLASS_ORDER, _EPOCH, _CLASS_EPOCH, WRONG_LABEL = range(5)  # purposes of a key


def class_counts(
    kind: str,
    n_max: int,
    ratio: float,
    classes: int,
    minority: float = 0.5,
    order: np.ndarray | None = None,
) -> np.ndarray:
    """Training images per class, int64 [C]: the imbalanced CIFAR of the long-tail literature.

    `exp` (Cui et al. 2019, arXiv 1901.05555): int(n_max * ratio ** (-r / (C - 1))) for class rank
    r; `step` (Buda et al. 2018, arXiv 1710.05381): n_max for the first C - round(minority * C)
    ranks, int(n_max / ratio) for the others. order: class id of each rank, by default the id.

    ValueError for an unknown kind, a ratio below 1 or beyond n_max (the rarest class would be
    empty), fewer than two classes, and a `minority` share of no class or of all.
    """
    _check_counts(kind, n_max, ratio, classes)
    if kind == "exp":
        sizes = n_max * float(ratio) ** (-np.arange(classes) / (classes - 1))
    else:
        sizes = np.full(classes, n_max / ratio)
        sizes[: classes - _minority_classes(minority, classes)] = n_max
    # The margin keeps n_max / ratio = 49.999999999999993 from losing an image to rounding.
    counts = np.floor(sizes * (1 + 1e-12)).astype(np.int64)
    by_class = np.empty_like(counts)
    by_class[np.arange(classes) if order is None else order] = counts
    return by_class


def _check_counts(kind: str, n_max: int, ratio: float, classes: int) -> None:
    choose("imbalance", kind, IMBALANCES)
    if classes < 2 or n_max < 1:
        raise ValueError(f"{classes} classes of {n_max} images: expected at least 2 classes of 1")
    if not ratio >= 1:
        raise ValueError(f"imbalance ratio is {ratio}, expected at least 1 (1 is balanced)")
    if ratio > n_max:
        raise ValueError(
            f"imbalance ratio {ratio} leaves the rarest class without images: the largest class "
            f"has {n_max}, so the largest possible ratio is {n_max}"
        )


def _minority_classes(minority: float, classes: int) -> int:
    few = round(minority * classes) if 0 < minority < 1 else 0
    if not 0 < few < classes:
        raise ValueError(
            f"minority share {minority} of {classes} classes, expected a share in (0, 1) that "
            "makes at least one class rare and leaves one frequent"
        )
    return few


def realised_ratio(counts: np.ndarray) -> float:
    """Largest over smallest class count: 250 for CIFAR-100 (500 a class) at a nominal 200."""
    return float(counts.max() / counts.min())


def class_order(kind: str, classes: int, seed: int = 0) -> np.ndarray:
    """Class id of each frequency rank, int64 [C]: `id` (0, 1, ...) or `permuted` by the seed."""
    choose("class order", kind, CLASS_ORDERS)
    if kind == "id":
        return np.arange(classes)
    return permutation(seed, _CLASS_ORDER, 0, classes).astype(np.int64)


def groups(
    counts: np.ndarray, kind: str, order: np.ndarray | None = None, minority: float = 0.5
) -> np.ndarray:
    """Each class is "head", "medium" or "tail", str [C], by rank of its training count.

    `exp`: the first and the last third are head and tail (ranks 0-2, 3-6, 7-9 of ten); `step`: head
    and tail. Equal counts rank by `order` (default: by class id) and, for `step`, the last
    `minority` share is tail: so the groups of another ratio can be read at ratio 1.
    """
    choose("imbalance", kind, IMBALANCES)
    classes = len(counts)
    position = np.argsort(np.arange(classes) if order is None else order)
    rank = np.argsort(np.lexsort((position, -counts)))
    if kind == "exp":
        third = max(1, classes // 3)
        return np.select([rank < third, rank >= classes - third], [HEAD, TAIL], MEDIUM)
    rare = counts < counts.max()
    if not rare.any():
        rare = rank >= classes - _minority_classes(minority, classes)
    return np.where(rare, TAIL, HEAD)


def validation_split(
    labels: np.ndarray, per_class: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(pool, validation): int32 sorted indices that part the training images, class-balanced.

    labels: int32 [N] of the training split; per_class: validation images of each class, by default
    4 % of the smallest class rounded up, 0 for none. They are the end of each class's permutation,
    tails are the beginning, so the split is the same for every ratio. ValueError when a class has
    no images or would have none left.
    """
    smallest = _class_sizes(labels).min()
    per_class = -(-4 * int(smallest) // 100) if per_class is None else per_class
    if not 0 <= per_class < smallest:
        raise ValueError(
            f"{per_class} validation images per class, expected 0 to {smallest - 1}: the smallest "
            f"class has {smallest} and must keep one for training"
        )
    validation = np.zeros(len(labels), bool)
    for members in permuted_classes(labels, seed):
        validation[members[len(members) - per_class :]] = True
    return np.flatnonzero(~validation).astype(np.int32), np.flatnonzero(validation).astype(np.int32)


def tail_table(labels: np.ndarray, pool: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """int32 sorted indices of the `counts[c]` training images of each class c, out of `pool`.

    They are a prefix of a per-class permutation keyed by the seed (of the data, not of the
    member), so the table of a larger ratio is contained in that of a smaller one. ValueError when
    the pool has too few images of a class.
    """
    in_pool = np.zeros(len(labels), bool)
    in_pool[pool] = True
    chosen = []
    for c, members in enumerate(permuted_classes(labels, seed)):
        members = members[in_pool[members]]
        if counts[c] > len(members):
            raise ValueError(
                f"class {c} has {len(members)} images in the pool, {counts[c]} were asked for; "
                "lower n_max or the validation split"
            )
        chosen.append(members[: counts[c]])
    return np.sort(np.concatenate(chosen)).astype(np.int32)


def stratified_subset(labels: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """int32 sorted indices of n images with the class shares of `labels` (largest remainders), none
    of a class without images.

    Classes are prefixes of one permutation per class, so subsets of balanced classes are nested.
    ValueError unless 1 <= n <= len(labels).
    """
    if not 1 <= n <= len(labels):
        raise ValueError(f"a subset of {n} images, expected 1 to {len(labels)}")
    quotas, remainders = np.divmod(np.bincount(labels) * n, len(labels))
    quotas[np.argsort(-remainders, kind="stable")[: n - quotas.sum()]] += 1
    members = zip(permuted_classes(labels, seed), quotas, strict=True)
    return np.sort(np.concatenate([m[:quota] for m, quota in members])).astype(np.int32)


def _class_sizes(labels: np.ndarray) -> np.ndarray:
    sizes = np.bincount(labels)
    if len(sizes) == 0 or sizes.min() == 0:
        empty = np.flatnonzero(sizes == 0).tolist()
        raise ValueError(f"classes {empty} have no images, expected at least one of each class")
    return sizes


def permuted_classes(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """The indices of each class in that class's keyed order."""
    members = [np.flatnonzero(labels == c) for c in range(int(labels.max()) + 1)]
    return [m[permutation(seed, _CLASS_IMAGES, c, len(m))] for c, m in enumerate(members)]


@lru_cache(maxsize=128)  # consecutive chunks of a schedule share their epoch's permutation
def permutation(seed: int, purpose: int, number: int, n: int) -> np.ndarray:
    """A permutation of n, int32 and read-only, keyed by three integers >= 0."""
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected an integer of at least 0")
    order = np.argsort(random_bits(seed, purpose, number, n), kind="stable").astype(np.int32)
    order.flags.writeable = False
    return order


def random_bits(seed: int, purpose: int, number: int, n: int) -> np.ndarray:
    """n random numbers, uint64, keyed by three integers >= 0."""
    return np.random.Philox(key=[seed, purpose], counter=[0, 0, number, 0]).random_raw(n)


def steps_per_epoch(classes: int, n_max: int, batch: int) -> int:
    """ceil(classes * n_max / batch): the balanced set's steps, the same for every ratio."""
    return math.ceil(classes * n_max / batch)


class Balance(NamedTuple):
    """Class-balanced sampling from step `begin` on; labels: int [n], of each entry of a table."""

    labels: np.ndarray
    begin: int = 0


def batch_indices(
    seed: int,
    table: np.ndarray,
    batch: int,
    start: int,
    steps: int,
    balance: Balance | None = None,
) -> np.ndarray:
    """int32 [steps, batch]: the images of a member's steps start ... start + steps - 1.

    A member walks through its own epochs' permutations of `table`, keyed by (seed, epoch), in full
    batches that cross epoch borders. From `balance.begin` on, if given, draws take turns among the
    classes instead, and each class walks through epochs of its own, so that a rare class comes
    around more often. Any step can be asked for directly. ValueError for an empty table, a batch
    below 1, negative steps, and labels of another length than the table.
    """
    n = len(table)
    if n < 1 or batch < 1 or start < 0 or steps < 0:
        raise ValueError(
            f"schedule of {steps} steps from {start} with batch {batch} over {n} images: expected "
            "at least one image, a batch of at least 1 and steps of at least 0"
        )
    if balance is not None:
        if len(balance.labels) != n:
            raise ValueError(
                f"{len(balance.labels)} labels for a table of {n} images: give one for each."
            )
        before = max(0, min(steps, balance.begin - start))
        plain = batch_indices(seed, table, batch, start, before)
        later = _balanced(
            seed, table, balance.labels, (start + before) * batch, (steps - before) * batch
        )
        return np.concatenate([plain, later.reshape(-1, batch)])
    first, last = start * batch // n, -(-(start + steps) * batch // n)
    epochs = [permutation(seed, _EPOCH, epoch, n) for epoch in range(first, max(last, first + 1))]
    begin = start * batch - first * n
    chosen = np.concatenate(epochs)[begin : begin + steps * batch]
    return table[chosen].reshape(steps, batch).astype(np.int32)


def _balanced(
    seed: int, table: np.ndarray, labels: np.ndarray, start: int, count: int
) -> np.ndarray:
    """int32 [count]: draws start ... start + count - 1, of which draw d is of class d modulo C."""
    classes = np.unique(labels)
    turn, place = np.divmod(np.arange(start, start + count), len(classes))
    chosen = np.empty(count, np.int32)
    for i, c in enumerate(classes):
        members, mine = np.flatnonzero(labels == c), place == i
        epoch, position = np.divmod(turn[mine], len(members))
        for e in np.unique(epoch):
            number = int(e) * len(classes) + i
            order = permutation(seed, _CLASS_EPOCH, number, len(members))
            own = np.flatnonzero(mine)[epoch == e]
            chosen[own] = table[members[order[position[epoch == e]]]]
    return chosen
