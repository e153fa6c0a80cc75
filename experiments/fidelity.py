"""How close our corruptions are to the benchmark's own: a page from a reference sample.

Claim      all are within the limits of `rcm.shift.fidelity`, but frost without photographs
Command    python experiments/fidelity.py --sample=FILE.npz [--workdir=runs --member=FINGERPRINT]
Input      `clean` uint8 [N, 32, 32, 3], `label` [N] and per corruption uint8 [5, N, 32, 32, 3]
Hardware   2 CPU cores, one minute
Output     docs/results/corruption_fidelity.md and its picture
"""

import sys

# jax asks for a package of this name, which newer Pythons have: not the study beside this file
sys.modules.setdefault("compression", None)  # pyright: ignore[reportArgumentType]

import datetime
import pathlib
import shlex

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags, logging

from rcm import backend, config, foreign
from rcm.data.augment import to_float
from rcm.shift import fidelity, frost
from rcm.shift.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from rcm.store import load_member
from rcm.train import fit

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "results"
SAMPLE = flags.DEFINE_string("sample", None, "The reference sample, an .npz file.", required=True)
WORKDIR = flags.DEFINE_string("workdir", "runs", "Where the member is.")
MEMBER = flags.DEFINE_string("member", "", "Fingerprint of a dense member; empty: none.")
MODEL = flags.DEFINE_string("model", "resnet8", "Its network.")
WIDTH = flags.DEFINE_integer("width", 8, "Its width.")
FROST_DIR = flags.DEFINE_string("frost_dir", "", "Folder of photographs of frost; empty: none.")
OUTPUT = flags.DEFINE_string("output", str(FOLDER), "Folder of the page.")


def comparison_lines(found: list[fidelity.Comparison]) -> list[str]:
    """Markdown rows."""
    lines = [
        "| corruption | severity | change, ours | the sample's | difference of pixels "
        "| farthest statistic | of what is allowed |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for one in found:
        statistic, share = one.worst if one.statistics else ("", np.nan)
        pixels = "" if one.statistics else f"{one.difference:.3f}"
        allowed = f"{share:.0%}" if one.statistics else ""
        lines.append(
            f"| {one.name} | {one.severity} | {one.change:.2f} | {one.their_change:.2f} | {pixels} "
            f"| {statistic} | {allowed} |"
        )
    return lines


def picture(sample: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """One image under every corruption at every severity, ours on the left of the sample's."""
    image, levels = 3, len(SEVERITIES)
    clean, number = sample["clean"][image : image + 1], np.array([image])
    shape = {"wspace": 0.04, "hspace": 0.04, "width_ratios": [1] * levels + [0.25] + [1] * levels}
    canvas, axes = plt.subplots(
        len(CORRUPTIONS), 2 * levels + 1, figsize=(9, 16), gridspec_kw=shape
    )
    for row, name in zip(axes, CORRUPTIONS, strict=True):
        ours = [corrupt(clean, number, name, s, frost_dir=FROST_DIR.value)[0] for s in SEVERITIES]
        for place, pixels in zip(row, [*ours, None, *sample[name][:, image]], strict=True):
            place.set_axis_off()
            if pixels is not None:
                place.imshow(pixels)
        label = {"ha": "right", "va": "center", "fontsize": 12, "transform": row[0].transAxes}
        row[0].text(-0.1, 0.5, name.replace("_", " "), **label)
    for first, whose in ((0, "ours"), (levels + 1, "the sample's")):
        for severity, place in zip(SEVERITIES, axes[0, first:], strict=False):
            place.set_title(str(severity), fontsize=12)
        axes[0, first + levels // 2].set_title(f"{whose}, severity\n3", fontsize=12)
    canvas.savefig(path, dpi=72, bbox_inches="tight")


def accuracy_lines(sample: dict[str, np.ndarray]) -> list[str]:
    """Markdown rows of a member's accuracy on ours and on the sample's, paired by image.

    The interval of the difference is Agresti & Min's (2005): half an image added to each cell of
    the two-by-two table.
    """
    labels, ids = sample["label"], np.arange(len(sample["label"]))
    network = fit.make_model(config.Model(MODEL.value, WIDTH.value), int(labels.max()) + 1)
    stored = load_member(WORKDIR.value, MEMBER.value)
    shapes = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    prefix = ".variables"
    variables = jax.tree_util.tree_map_with_path(
        lambda path, _: stored[prefix + jax.tree_util.keystr(path)], shapes
    )
    predict = jax.jit(network.apply)

    def right(images: np.ndarray) -> np.ndarray:
        return np.asarray(predict(variables, to_float(jnp.asarray(images)))).argmax(-1) == labels

    clean = f"{100 * right(sample['clean']).mean():.1f}"
    lines = [
        "| corruption | right on ours, % | on the sample's, % | difference, points "
        "| 95 % interval |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| (none) | {clean} | {clean} |  |  |",
    ]
    for name in CORRUPTIONS:
        ours, theirs = (
            np.concatenate(parts)
            for parts in zip(
                *(
                    (right(np.asarray(corrupt(sample["clean"], ids, name, s, 0, FROST_DIR.value))),
                     right(sample[name][s - 1]))
                    for s in SEVERITIES
                ),
                strict=True,
            )
        )  # fmt: skip
        low, high = fidelity.paired_interval(ours, theirs)
        lines.append(
            f"| {name} | {100 * ours.mean():.1f} | {100 * theirs.mean():.1f} "
            f"| {100 * (ours.mean() - theirs.mean()):+.1f} "
            f"| {100 * low:+.1f} to {100 * high:+.1f} |"
        )
    return lines


def run() -> None:
    """Compare, draw, write the page."""
    backend.set_up("cpu")
    sample = read_sample(pathlib.Path(SAMPLE.value))
    folder = pathlib.Path(OUTPUT.value)
    config.require(folder.is_dir(), f"--output={folder}: there is no such folder.")
    if FROST_DIR.value:
        frost.photographs(FROST_DIR.value, *sample["clean"].shape[1:3])  # complains now
    found = fidelity.compare_all(sample, FROST_DIR.value)
    figures = folder / "corruption_fidelity"
    figures.mkdir(exist_ok=True)
    picture(sample, figures / "corruptions.png")
    environment, given = backend.environment(), FROST_DIR.value
    command = shlex.join(["python", "experiments/fidelity.py", "--sample=FILE", *hidden(sys.argv)])
    lines = [
        *INTRODUCTION.splitlines(),
        *(SUPPLIED.format(frost.source(given)) if given else DRAWN).splitlines(),
        "",
        f"- {backend.hardware()}; jax {environment['jax']}; {len(sample['clean'])} images; "
        f"`{command}`, {datetime.datetime.now(datetime.UTC).date()}",
        "",
        *comparison_lines(found),
        "",
        "![Every corruption at every severity, ours on the left of the sample's]"
        "(corruption_fidelity/corruptions.png)",
    ]
    if MEMBER.value:
        network = NETWORK.format(model=MODEL.value, width=WIDTH.value)
        lines += ["", "## What a trained network makes of both", "", network, ""]
        lines += accuracy_lines(sample)
    (folder / "corruption_fidelity.md").write_text("\n".join(lines) + "\n")


def hidden(arguments: list[str]) -> list[str]:
    """The flags of a command but those that say where things lie."""
    return [
        a
        for a in arguments[1:]
        if a.split("=")[0] not in ("--sample", "--workdir", "--output", "--frost_dir")
    ]


def read_sample(path: pathlib.Path) -> dict[str, np.ndarray]:
    """ValueError for a file that is missing or lacks an array."""
    try:
        return foreign.read_arrays(path, ("clean", "label", *CORRUPTIONS))
    except ValueError as error:
        raise ValueError(f"--sample={path} cannot be read ({error}).") from error


INTRODUCTION = """# How close our corruptions are to the benchmark's

Images regenerated by `rcm.shift.corruptions` beside a sample of 100 CIFAR-10 test images that was
made with the benchmark authors' recipe. Corruptions that draw nothing are compared pixel by pixel
(mean absolute difference in grey levels; asked for: at most 1, JPEG 1.5). Random ones are compared
by the mean, the variance, the mean absolute change and the power in every ring of spatial
frequencies up to 16 cycles an image and in the corners beyond, ours averaged over 20 redraws: a
difference may be three standard errors of a redraw plus 2 % of the value, and the last column says
how much of that the farthest statistic takes.
"""
DRAWN = """Frost is drawn by rcm, since the benchmark's photographs are not ours to ship: its power
at high frequencies is lower, and results with it are not comparable with published ones."""
SUPPLIED = "Frost is made with {}, supplied by the user."
NETWORK = """The answers of a {model} of width {width} to ours and to the sample's images, all of
them at five severities each, paired by image; the interval of the difference is Agresti and Min's
(2005) for paired proportions. Images recur across severities, so it is somewhat too narrow. Any
dense member will do, such as the first of
`launch.py --config=experiments/natural_corruptions.py:laptop` (2,000 steps of training), which
`--config.pipelines="()" --config.seeds=2 --config.shift.corruptions="()" --config.claims=` makes
without the rest of that study."""


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    try:
        run()
    except (ValueError, OSError, KeyError) as error:
        sys.exit(f"fidelity: {' '.join(str(error).split())}")


if __name__ == "__main__":
    app.run(main)
