"""population x shifts -> predictions: what every member answers to every shifted image.

Images are shifted once per cell and batch and shown to all lanes. What is stored is in DESIGN's
words: logits for clean cells, four numbers per image for every other.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rcm import sweep
from rcm.data import longtail
from rcm.shift import frost
from rcm.shift.corruptions import CORRUPTIONS, corrupt
from rcm.sweep import Execution
from rcm.train.fit import Program, without_recipe

BATCH = 250  # 500 is a quarter slower on CPU, where its activations leave the cache
HALF_MAX = 6e4  # float16 ends at 65,504


class CellSpec(NamedTuple):
    """One column of the evaluation: a shift at a severity on a list of images.

    images uint8 [N, H, W, 3] (may be memory-mapped), labels int32 [N], ids int32 [N]: the images'
    positions in the canonical order of their split, which key the shift's randomness. frost_dir:
    of the photographs of frost, if the shift takes any.
    """

    shift: str
    severity: int
    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    seed: int
    frost_dir: str = ""

    @property
    def key(self) -> str:
        """The cell's file name: everything that decides its pixels but the data set itself."""
        if self.severity == 0:
            return self.shift
        shift = self.shift
        if CORRUPTIONS[shift].textured:
            shift += f"-{frost.source(self.frost_dir)}"
        return f"{shift}-{self.severity}-n{len(self.ids)}-seed{self.seed}"

    @property
    def clean(self) -> bool:
        return self.severity == 0

    def batch(self, start: int) -> np.ndarray:
        """Shifted images of one batch, uint8, the last batch padded by its last image."""
        rows = np.minimum(np.arange(start, start + BATCH), len(self.ids) - 1)
        images = np.asarray(self.images[rows])
        if self.clean:
            return images
        ids = np.asarray(self.ids[rows])
        shift = (self.shift, self.severity, self.seed, self.frost_dir)
        return np.asarray(corrupt(images, ids, *shift))


def cells_of(shift: Any, dataset: Any, validation: np.ndarray) -> list[CellSpec]:
    """Clean test, clean validation (if there is one), and every corruption at every severity."""
    test, train = dataset.test, dataset.train
    everything = np.arange(len(test.labels), dtype=np.int32)
    cells = [CellSpec("clean", 0, test.images, test.labels, everything, shift.seed)]
    if len(validation):
        images, labels = train.images[validation], train.labels[validation]
        cells.append(CellSpec("clean_val", 0, images, labels, validation, shift.seed))
    subset = everything
    if 0 < shift.images < len(everything):
        subset = longtail.stratified_subset(test.labels, shift.images, shift.seed)
    images, labels, ids = test.images[subset], test.labels[subset], subset.astype(np.int32)
    return cells + [
        CellSpec(name, severity, images, labels, ids, shift.seed, shift.frost_dir)
        for name in shift.corruptions
        for severity in shift.severities
    ]


def fields(logits: np.ndarray, labels: np.ndarray, clean: bool) -> dict[str, np.ndarray]:
    """What is stored of logits float32 [M, N, C]: label, three float16 numbers, clean: logits too.

    log-probabilities are natural; sum_p2 is the sum over classes of p^2.
    """
    logits = np.clip(
        np.nan_to_num(logits), -HALF_MAX, HALF_MAX
    )  # a diverged member's may be anything
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = np.maximum(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)), -HALF_MAX)
    label = logits.argmax(-1)
    true = np.broadcast_to(labels[None, :, None], (*label.shape, 1))
    small = np.uint8 if logits.shape[-1] <= 256 else np.uint16
    stored = {
        "label": label.astype(small),
        "logp_pred": np.take_along_axis(log_p, label[..., None], -1)[..., 0].astype(np.float16),
        "logp_true": np.take_along_axis(log_p, true, -1)[..., 0].astype(np.float16),
        "sum_p2": np.exp(2 * log_p).sum(-1).astype(np.float16),
    }
    return stored | ({"logits": logits.astype(np.float16)} if clean else {})


def predict_cell(
    program: Program,
    execution: Execution,
    rounds: Sequence[Any],
    cell: CellSpec,
    advance: Callable[[int], None],
) -> np.ndarray:
    """Logits float32 [members (padded), N, C] of one cell; `rounds` are placed states [L, ...].

    advance(images) is called after every batch that all rounds have seen.
    """
    function = sweep.compiled_predict(without_recipe(program), sweep.one_call(execution))
    batches = []
    for start in range(0, len(cell.ids), BATCH):
        images = sweep.share(execution, cell.batch(start))
        batches.append([function(images, states) for states in rounds])
        if len(batches) > 1:  # wait for the batch before, so that two are in flight and no more
            batches[-2] = [np.asarray(logits) for logits in batches[-2]]
        advance(min(BATCH, len(cell.ids) - start))
    by_round = [
        np.concatenate([np.asarray(x) for x in row], 1) for row in zip(*batches, strict=True)
    ]
    return np.concatenate(by_round)[:, : len(cell.ids)]
