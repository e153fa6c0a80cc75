"""The rows of a synthetic study with every pipeline, three ratios and six corruptions."""

import numpy as np

CLASSES = 10
SHIFTS = ("gaussian_noise", "shot_noise", "impulse_noise", "brightness", "contrast", "pixelate")
DENSE_BYTES = 311_000.0
# name: label, kind, baseline, parent, accuracy lost at ratio 1, more per decade, stored share
STUDY = {
    "dense": ("dense", "dense", "", "", 0.0, 0.0, 1.0),
    "finetune": ("fine-tuned, same extra steps", "control", "dense", "dense", -0.006, 0.0, 1.0),
    "prune_50": ("prune 50 %", "trained", "finetune", "dense", -0.002, 0.004, 0.58),
    "prune_90": ("prune 90 %", "trained", "finetune", "dense", 0.045, 0.03, 0.16),
    "int8": ("int8", "post_training", "dense", "dense", 0.001, 0.0, 0.24),
    "int4": ("int4", "post_training", "dense", "dense", 0.05, 0.02, 0.125),
    "cluster_16": ("cluster 16", "trained", "finetune", "dense", 0.004, 0.003, 0.13),
    "prune_int8": ("prune 50 % → int8", "trained", "finetune", "dense", 0.0, 0.004, 0.15),
    "prune_cluster_int8": (
        "prune 50 % → cluster 16 → int8", "trained", "finetune", "dense", 0.008, 0.006, 0.09,
    ),
    "student": ("student trained alone", "control", "dense", "dense", 0.06, 0.012, 0.26),
    "kd_t2": ("distilled, T = 2", "student", "student", "dense", 0.045, 0.02, 0.26),
    "kd_t5": ("distilled, T = 5", "student", "student", "dense", 0.05, 0.022, 0.26),
}  # fmt: skip


def study_rows(seeds: int, ratios: tuple[float, ...], noise: float) -> list[dict]:
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        luck = rng.normal(0, 0.008)
        for ratio in ratios:
            for name, (*_, lost, more, share) in STUDY.items():
                mean = 0.82 - 0.11 * np.log10(ratio) - lost - more * np.log10(ratio) + luck
                member = {
                    "dataset": "cifar10", "model": "resnet8", "imbalance": "exp", "ratio": ratio,
                    "seed": seed, "pipeline": name, "n_max": 4800, "status": "ok",
                }  # fmt: skip
                rows += _member_rows(rng, member, mean, more, share, noise)
    return rows


def _member_rows(rng, member, mean, more, share, noise) -> list[dict]:
    tilt = (np.arange(CLASSES) - 4.5) / 9 * np.log10(member["ratio"]) * (0.25 + 4 * more)
    recall = np.clip(mean - tilt + rng.normal(0, noise, CLASSES), 0, 1)
    scalars = {
        "accuracy": recall.mean(), "balanced_accuracy": recall.mean(),
        "macro_f1": recall.mean() - 0.004, "g_mean": np.exp(np.log(recall + 1e-6).mean()),
        "recall_head": recall[:3].mean(), "recall_medium": recall[3:7].mean(),
        "recall_tail": recall[7:].mean(), "ece": 0.05 + 0.02 * np.log10(member["ratio"]),
        "nll": 1.2, "brier": 0.4, "bytes": DENSE_BYTES * share, "compression_ratio": 1 / share,
    }  # fmt: skip
    counts = 4800 * member["ratio"] ** (-np.arange(CLASSES) / 9)
    clean = {"shift": "clean", "severity": 0.0}
    rows = [member | clean | _value(name, value) for name, value in scalars.items()]
    for c in range(CLASSES):
        rows.append(member | clean | _value("recall", recall[c], str(c)))
        rows.append(member | clean | _value("train_count", counts[c].round(), str(c)))
    for hardness, shift in enumerate(SHIFTS, start=1):
        for severity in (1.0, 3.0, 5.0):
            drop = 0.012 * hardness * severity * (1 + 5 * more) + rng.normal(0, noise / 3)
            value = _value("accuracy", recall.mean() - drop)
            rows.append(member | {"shift": shift, "severity": severity} | value)
    return rows


def _value(metric: str, value: float, cls: str = "") -> dict:
    return {"metric": metric, "cls": cls, "value": float(value)}
