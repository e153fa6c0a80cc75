"""How fast is rcm here: strategies, compilation, memory, evaluation, and PyTorch beside it.

Goals      on CPU `auto` within 5 % of the best fixed strategy, a ResNet-8 step within 1.0x of
           PyTorch channels_last eager, evaluation at least 4,000 images/s, 12 corruptions at
           least 8,000 and none under 1,500; masks of a ResNet-50 in 2 s and codebooks in 20 s;
           steps with a chain 1.05x (masks) to 1.35x (QAT)
Command    python experiments/bench.py            (pip install -e .[bench] adds PyTorch)
Hardware   2 CPU cores with nothing else running, 8 minutes for the sections up to
           memory, some 11 for those of compression, 9 for those of whole studies, 25 for
           networks, 30 for `foretold`; an accelerator by --platform
Output     tables on the terminal, and a generated block of docs/benchmarks.md
"""

import sys

# jax asks for a package of this name, which newer Pythons have: not the study beside this file
sys.modules.setdefault("compression", None)  # pyright: ignore[reportArgumentType]

import datetime
import os
import pathlib
import shlex
import subprocess
from collections.abc import Callable
from importlib.metadata import version

import bench_compress
import bench_engine
import bench_evaluate
import bench_networks
import bench_process
import bench_store
import bench_study
import bench_tables
import bench_tested
import jax
import torch_baseline
from absl import app, flags, logging
from bench_engine import Settings, Trainer
from bench_tables import EXECUTION, Table, cells, interleaved, spread, verdict
from rich.console import Console

from rcm import backend, calibrate, config, sweep
from rcm.models import MODELS

DOCUMENT = pathlib.Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def training(settings: Settings) -> Table:
    """Every fixed strategy and `auto`, measured on its own even where it is one of them."""
    auto = backend.choose_execution()
    chosen = (f"auto = {auto.strategy}", *cells(auto)[1:])
    fixed = {cells(execution): execution for execution in bench_engine.fixed_executions(settings)}
    executions = {**fixed, chosen: auto}
    trainers = {name: Trainer(settings, execution) for name, execution in executions.items()}
    values = interleaved(trainers, settings.rounds)
    rows = [
        (*name, spread(row), spread(row / values[chosen]), str(len(row)))
        for name, row in values.items()
    ]
    fastest = bench_tables.best({name: values[name] for name in fixed})
    best = f"the best fixed strategy ({fastest[0]}, lanes {fastest[1]})"
    limit = 1.05 if settings.judged else None
    notes = [verdict(f"`auto` over {best}", values[chosen] / values[fastest], at_most=limit)]
    if set(calibrate.candidates(auto)) <= set(executions.values()):
        found = cells(bench_engine.calibrated(settings, auto))
        text = f"What calibration chooses ({found[0]}, lanes {found[1]}) over {best}"
        notes.append(verdict(text, values[found] / values[fastest]))
    header = (*EXECUTION, "ms per member and step", "over auto", "n")
    return Table("Training", header, rows, notes)


def pytorch(settings: Settings) -> Table:
    """ms per member and step of rcm and of PyTorch, each with all cores at work."""
    if missing := bench_engine.why_no_torch(settings):
        return Table("PyTorch", (), (), [f"Not measured: {missing}"])
    auto, cores = backend.choose_execution(), backend.cores()
    depth, steps = int(settings.model.removeprefix("resnet")), settings.member_steps // cores
    network = (depth, settings.width, settings.batch, max(2, steps))
    ours, whole = "rcm, auto, without augmentation", "PyTorch, one model on all cores"
    workers = {
        whole: torch_baseline.Workers(1, *network, cores),
        f"{whole}, compiled": torch_baseline.Workers(1, *network, cores, True),
        "PyTorch, one process per core": torch_baseline.Workers(cores, *network, 1),
        "PyTorch, one process per core, compiled": torch_baseline.Workers(cores, *network, 1, True),
    }
    candidates: dict[str, Callable[[], float]] = {
        "rcm, auto, with augmentation": Trainer(settings, auto),
        ours: Trainer(settings, auto, "none"),
        f"{whole}, with rcm's malloc options": lambda: torch_baseline.milliseconds_per_step(
            *network, cores
        ),
        **workers,
    }
    values = interleaved(candidates, settings.rounds)
    for worker in workers.values():
        worker.close()
    rows = [
        (k, spread(row), spread(values[ours] / row), str(len(row))) for k, row in values.items()
    ]
    limit = 1.0 if settings.judged else None
    notes = [verdict(f"rcm over {whole}", values[ours] / values[whole], at_most=limit)]
    others = [name for name in values if name.startswith("PyTorch") and name != whole]
    notes += [verdict(f"rcm over {name}", values[ours] / values[name]) for name in others]
    header = ("candidate", "ms per member and step", "rcm without augmentation over it", "n")
    return Table(f"PyTorch {version('torch')}, channels_last", header, rows, notes)


def choices(settings: Settings) -> Table:
    """What each of the set-up's choices for CPUs gains here, measured by leaving it out."""
    if jax.default_backend() != "cpu":
        return Table("Choices", (), (), ["Not measured: these choices are made on CPU only."])
    engines = {name: bench_engine.Without(settings, name) for name in bench_engine.CHOICES}
    values = interleaved(engines, settings.rounds)
    rows = [
        (
            label,
            spread(values[name]),
            spread(values[name] / values["nothing"]),
            str(settings.rounds),
        )
        for name, label in bench_engine.CHOICES.items()
    ]
    for engine in engines.values():
        engine.process.shutdown()
    return Table(
        "Choices", ("auto, with", "ms per member and step", "over as shipped", "n"), rows, []
    )


SECTIONS: dict[str, Callable[[Settings], Table]] = {
    "training": training,
    "pytorch": pytorch,
    "choices": choices,
    **bench_evaluate.SECTIONS,
    **bench_networks.SECTIONS,
    **bench_process.SECTIONS,
    **bench_tested.SECTIONS,
    **bench_compress.SECTIONS,
    "store": bench_store.store,
    "analysis": bench_store.analysis,
    "population": bench_study.population,
    "storing": bench_study.storing,
    "foretold": bench_study.foretold,
}


# The command. Flags are defined here and read once, in `settings_of`.

SELECTED = flags.DEFINE_list("sections", list(SECTIONS), f"Any of {', '.join(SECTIONS)}.")
MODEL = flags.DEFINE_string("model", "resnet8", "The network.")
WIDTH = flags.DEFINE_integer("width", 16, "Its width.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 128, "Training images a step.", lower_bound=1)
PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "tf32", "bfloat16"], "Of compute."
)
NETS = flags.DEFINE_list("networks", None, "Of the section of this name; default: all it knows.")
PRECISIONS = flags.DEFINE_list("precisions", None, "Of that section; default: float32, or all.")
LANES = flags.DEFINE_multi_integer(
    "lanes", [], "Lanes per device of vmap, to be repeated; by default several.", lower_bound=2
)
ROUNDS = flags.DEFINE_integer("rounds", 10, "Interleaved rounds.", lower_bound=2)
PLATFORM = flags.DEFINE_string("platform", "", "cpu, gpu or tpu; empty takes what JAX finds.")
SMOKE = flags.DEFINE_bool("smoke", False, "A tiny net and 2 rounds: does everything run?")
BLOCK = flags.DEFINE_string("block", "", "Block of the document; empty is the backend's name.")
OUTPUT = flags.DEFINE_string(
    "document", None, "Page to write (empty: none); default docs/benchmarks.md, none with --smoke."
)


def settings_of() -> Settings:
    """What the flags ask for on this backend. ValueError for an unknown model."""
    for name in (MODEL.value, *(NETS.value or ())):
        config.choose("model", name, MODELS)
    for name in PRECISIONS.value or ():
        config.choose("precision", name, sweep.MATMUL)
    cpu = jax.default_backend() == "cpu"
    settings = Settings(
        MODEL.value, WIDTH.value, BATCH.value, PRECISION.value, image=32, rounds=ROUNDS.value,
        lanes_per_device=tuple(LANES.value) or ((1, 2, 4) if cpu else (4, 8, 16, 30)),
        steps_per_call=(1,) if cpu else (1, 25),
        member_steps=16 if cpu else 800, eval_images=2000,
        platform=PLATFORM.value, networks=tuple(NETS.value or bench_networks.NETWORKS),
        precisions=tuple(PRECISIONS.value or (["float32"] if cpu else sweep.MATMUL)),
    )  # fmt: skip
    if not SMOKE.value:
        return settings
    return settings._replace(
        model="tiny", width=4, batch=8, image=8, rounds=2, lanes_per_device=(2,), member_steps=4,
        eval_images=20, networks=("tiny",), precisions=("float32", "bfloat16"),
    )  # fmt: skip


def heading(settings: Settings, load: float) -> str:
    """What was run, where and when, as Markdown."""
    environment = backend.environment()
    packages = {name: environment[name] for name in ("python", "jax", "jaxlib", "flax")}
    network = f"{settings.model}, width {settings.width}, batch {settings.batch}"
    today = datetime.datetime.now(datetime.UTC).date()
    command = shlex.join(["python", "experiments/bench.py", *sys.argv[1:]])
    return "\n".join(
        [
            f"- {backend.hardware()}, {environment['backend']}, load {load:.2f} before the start",
            "- " + ", ".join(f"{name} {found}" for name, found in packages.items()) + commit(),
            f"- {network}, {settings.precision}, {settings.image} x {settings.image} images",
            f"- `{command}`, {today}; medians (quartiles) of n interleaved measurements",
            "",
        ]
    )


def commit() -> str:
    """Which one of this repository is run, behind a comma, "-dirty" where files differ from it;
    nothing outside of a repository."""
    asked = ["git", "-C", str(DOCUMENT.parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f", commit {found}"


def document_path() -> pathlib.Path | None:
    """Where the block goes. ValueError if its folder does not exist."""
    if OUTPUT.value is None:
        return None if SMOKE.value else DOCUMENT
    path = pathlib.Path(OUTPUT.value)
    config.require(path.parent.is_dir(), f"--document={path}: there is no folder {path.parent}.")
    return path if OUTPUT.value else None


def run() -> None:
    """Measure the chosen sections, print each as it is done, write the document at the end."""
    for name in SELECTED.value:
        config.choose("section", name, SECTIONS)
    console = Console(width=None if sys.stdout.isatty() else 120)
    load = os.getloadavg()[0]
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # child processes need some
    backend.set_up(PLATFORM.value)
    settings = settings_of()
    if load > 0.5:
        console.print(f"Load {load:.1f}: something else is running and will blur the times.")
    document = document_path()
    text = document.read_text() if document and document.exists() else ""
    block = BLOCK.value or jax.default_backend()
    bench_tables.with_block(text, block, "")  # complains now, not after minutes
    parts = [heading(settings, load)]
    for name in SELECTED.value:
        table = SECTIONS[name](settings)
        bench_tables.show(table, console)
        parts.append(bench_tables.markdown(table))
    if document:
        document.write_text(bench_tables.with_block(text, block, "\n".join(parts)))
        console.print(f"Written: block {block!r} of {document.name}")


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    try:
        run()
    except (ValueError, OSError) as error:
        sys.exit(f"bench: {' '.join(str(error).split())}")


if __name__ == "__main__":
    app.run(main)
