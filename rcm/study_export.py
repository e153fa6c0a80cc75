"""Which members of a study are exported, from what, and under which names."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rcm import config, export, sweep
from rcm.compress import QAT, Quantize, build_chain
from rcm.config import DENSE
from rcm.export import Disagrees, Exported
from rcm.members import ONE_LANE, Members
from rcm.plan import Job, Plan
from rcm.progress import Display
from rcm.records import Damaged
from rcm.store import Store
from rcm.train import fit
from rcm.train.step import TrainState

FORMATS = {"stablehlo": ".stablehlo", "tflite": ".tflite", "int8": ".int8.tflite"}
CALIBRATION_IMAGES = 200  # for members that no pipeline calibrated


def validate(plan: Plan, pipelines: Sequence[str], formats: Sequence[str]) -> None:
    """Raise ValueError for what cannot be exported, before anything runs."""
    known = [DENSE, *(pipeline.name for pipeline in plan.pipelines)]
    for name in pipelines:
        config.choose("pipeline to export", name, known)
    for name in formats:
        config.choose("export format", name, FORMATS)
    files = {file_name(plan, name) for name in known}
    config.require(
        len(files) == len(known) or not pipelines,
        f"Two pipelines would be exported under one file name, of {', '.join(sorted(files))}: "
        "rename one.",
    )
    if pipelines and {"tflite", "int8"} & set(formats):
        export.require_tools()
    for name in pipelines if "int8" in formats else ():
        widths = {bits for step in quantizers(exported_job(plan, name)) for bits in widths_of(step)}
        config.require(
            widths <= {8},
            f"Pipeline {name!r} has bit widths {sorted(widths)} and a full-integer file 8 alone: "
            "export it to stablehlo or tflite, which simulate them.",
        )


def export_members(
    plan: Plan,
    store: Store,
    folder: Path,
    pipelines: Sequence[str],
    formats: Sequence[str],
    display: Display,
) -> int:
    """Write seed 0 at the first ratio of every pipeline, in every format, below `folder`/export,
    with a note beside each that reports read.

    Files that do not agree with their member are named and not written; returns how many. Raises
    ValueError for a member that diverged or cannot be read.
    """
    members, refused = Members(plan, store), 0
    for name in pipelines:
        job = exported_job(plan, name)
        try:
            state = members.state(job.fingerprint)
        except Damaged as error:
            raise ValueError(f"{error}: run the command again, without --report_only.") from error
        config.require(bool(state.alive), f"{name} diverged and cannot be exported.")
        for kind in formats:
            path = folder / "export" / f"{file_name(plan, name)}{FORMATS[kind]}"
            try:
                made = export_member(members, job, state, kind, path)
            except Disagrees as error:
                display.say(str(error))
                refused += 1
                continue
            display.say(sentence(made))
            agreement = made.agreement._asdict()
            note = {"pipeline": name, "member": job.fingerprint, "format": kind, **agreement}
            store.note_export(path, note)
            store.log(folder, {"event": "exported", "path": str(path), **agreement})
    return refused


def export_member(members: Members, job: Job, state: TrainState, kind: str, path: Path) -> Exported:
    """One member as one file."""
    program, test = job.program, members.plan.dataset.test
    network = fit.parts_of(program).model
    seen = sweep.effective(program, ONE_LANE, [state])[0]
    steps = quantizers(job)
    if kind == "int8":
        count = steps[-1].calibration_images if steps else CALIBRATION_IMAGES
        make = partial(export.export_int8, simulated=seen if steps else None)
        images = members.calibration(job, count)
        return sweep.with_precision(program, make)(
            network, unquantized(job, state), path, test, images
        )
    make = export.export_stablehlo if kind == "stablehlo" else export.export_tflite
    return sweep.with_precision(program, make)(network, seen, path, test)


def unquantized(job: Job, state: TrainState) -> dict[str, Any]:
    """A member's effective variables as they are without its quantizers.

    What stands behind these stays, such as adjusted logits: labels that it changes are no cost of
    quantization, of which the parity gate allows a multiple.
    """
    network = fit.parts_of(job.program).model
    pairs = zip(job.program.techniques, state.compression, strict=True)
    kept = [(t, own) for t, own in pairs if not isinstance(t, Quantize | QAT)]
    variables = {name: leaf for name, leaf in state.variables.items() if name != "quant"}
    chain = build_chain(tuple(technique for technique, _ in kept), network)
    return chain.apply(variables, tuple(own for _, own in kept))


def quantizers(job: Job) -> list[Quantize | QAT]:
    return [t for t in job.program.techniques if isinstance(t, Quantize | QAT)]


def widths_of(step: Quantize | QAT) -> set[int]:
    """Bits of weights and activations, those of the outer layers too; 0 is float."""
    edges = {step.edge_bits} if step.edge_bits else set()  # without, like the other layers
    return {step.bits, step.activation_bits} | edges


def exported_job(plan: Plan, pipeline: str) -> Job:
    """The last job of seed 0 at the study's first ratio."""
    return plan.jobs[plan.ends[pipeline, plan.study.data.ratios[0], 0]]


def file_name(plan: Plan, pipeline: str) -> str:
    """Such as `prune50-r1-s0`; what a file cannot be called becomes `_`."""
    name = re.sub(r"[^\w.-]+", "_", pipeline)
    return f"{name}-r{plan.study.data.ratios[0]}-s0"


def sentence(made: Exported) -> str:
    """One line about a written file."""
    found = made.agreement
    return (
        f"Exported {made.path}: {made.bytes:,} bytes, accuracy {found.accuracy:.2%} (simulated "
        f"{found.simulated:.2%}), {found.disagreement:.2%} of labels differ."
    )
