"""Wrong labels planted on training images, and which training images show what becomes of them.

A planted label is the given class of an image replaced by another one: symmetric noise, as the
literature of noisy labels calls it. Everything is keyed by the seed of the data, so members of all
seeds, ratios and pipelines are taught the same mistakes.
"""

import numpy as np

from rcm.data.longtail import WRONG_LABEL, permuted_classes, random_bits, stratified_subset


def plant(labels: np.ndarray, pool: np.ndarray, share: float, seed: int) -> np.ndarray:
    """int32 [N]: `labels` with a share of each class, among the images in `pool`, replaced by
    another class, all others equally likely.

    labels: int32 [N] of the training split; pool: those that may train, without validation images.
    Of the first n images of a class's keyed order floor(n share + 1/2) are wrong, for every n: a
    tail is such a beginning, so each has the share to within half an image of a class, and an image
    is wrong in all tails or in none.
    """
    classes = int(labels.max()) + 1
    in_pool = np.zeros(len(labels), bool)
    in_pool[pool] = True
    given = labels.astype(np.int32)
    for c, members in enumerate(permuted_classes(labels, seed)):
        members = members[in_pool[members]]
        so_far = np.floor(np.arange(len(members) + 1) * share + 0.5)
        others = (random_bits(seed, WRONG_LABEL, c, len(members)) % (classes - 1)).astype(np.int32)
        wrong = np.diff(so_far) > 0
        given[members[wrong]] = (others + (others >= c))[wrong]
    return given


def tested(
    table: np.ndarray, labels: np.ndarray, given: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """int32 sorted indices of `count` of the training images in `table` (all, if it has no more).

    Those whose given label is not their own fill up to half of them, the others the rest, both in
    the shares of their classes; so rates belong to one of the two groups, never to both together.
    labels, given: int32 [N] of the training split.
    """
    if count >= len(table):
        return table
    wrong = table[given[table] != labels[table]]
    right = table[given[table] == labels[table]]
    others = min(len(right), count - min(len(wrong), count // 2))
    parts = [_stratified(right, labels, others, seed)]
    parts.append(_stratified(wrong, labels, count - others, seed))
    return np.sort(np.concatenate(parts)).astype(np.int32)


def _stratified(table: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`stratified_subset` of some of the images, which may lack classes and be none."""
    if not count:
        return table[:0]
    _, present = np.unique(labels[table], return_inverse=True)
    return table[stratified_subset(present, count, seed)]
