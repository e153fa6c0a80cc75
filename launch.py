"""python launch.py [--config=experiments/NAME.py[:SCALE]] [--config.FIELD=VALUE ...]

Trains, compresses, tests and reports what the config describes; without one, the quickstart.
--compare RUN_A RUN_B shows two finished runs side by side, --analyse=FOLDER reports on predictions
made elsewhere, and --status, --verify and --prune_store look after a workdir.
"""

import pathlib
import shlex
import sys
from functools import partial

from absl import app, flags, logging
from ml_collections import config_flags

from rcm.config import unknown_field

QUICKSTART = pathlib.Path(__file__).parent / "experiments" / "quickstart.py"

# Without a default here, so that a mistyped override fails in `parse` and not while importing.
CONFIG = config_flags.DEFINE_config_file("config", None, "The study (default: the quickstart).")
WORKDIR = flags.DEFINE_string("workdir", "runs", "Where stages and reports are kept.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the plan and run nothing.")
REPORT_ONLY = flags.DEFINE_bool("report_only", False, "Rebuild the report from predictions.")
STRATEGY = flags.DEFINE_string("strategy", "auto", "auto, loop or vmap.")
LANES = flags.DEFINE_integer("lanes", 0, "Members side by side; 0 chooses.")
PLATFORM = flags.DEFINE_string("platform", "", "cpu, gpu or tpu; empty takes what JAX finds.")
EXPORT = flags.DEFINE_list("export", [], "Pipelines to write as model files, such as dense.")
EXPORT_FORMAT = flags.DEFINE_list("export_format", ["stablehlo"], "stablehlo, tflite or int8.")
EVAL_MEMORY = flags.DEFINE_float("eval_memory", 2.0, "GiB for members and answers in a test.")
KEEP = flags.DEFINE_list("keep", ["2"], "Checkpoints of a round in training: 3, 4GiB or 3,4GiB.")
COMPARE = flags.DEFINE_list("compare", [], "Two run folders to show side by side: A,B or A B.")
ANALYSE = flags.DEFINE_string("analyse", "", "A folder of predictions made elsewhere.")
UPKEEP = [
    flags.DEFINE_bool("status", False, "List a workdir's studies, stages and sizes; run nothing."),
    flags.DEFINE_bool("verify", False, "Read all files of a workdir and name what is damaged."),
    flags.DEFINE_bool("prune_store", False, "Delete what no study refers to, after asking."),
]
YES = flags.DEFINE_bool("yes", False, "Delete without asking.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes, on any machines.")
COORDINATOR = flags.DEFINE_string("coordinator_address", "", "HOST:PORT of process 0.")
PROCESSES = flags.DEFINE_integer("num_processes", 0, "How many; 0 asks the cluster.")
PROCESS = flags.DEFINE_integer("process_id", -1, "Which one this is; -1 asks the cluster.")
HEARTBEAT = flags.DEFINE_integer("heartbeat_seconds", 100, "Silence that counts as a death.")
DETERMINISTIC = flags.DEFINE_bool("deterministic", False, "Bit-equal results on GPU, slower.")


def parse(arguments: list[str]) -> list[str]:
    """Parse flags; every mistake ends in one sentence."""
    flags.FLAGS.set_gnu_getopt(True)  # flags may follow the second folder of --compare
    configs = [a.partition("=")[2] for a in arguments if a.split("=")[0] in ("--config", "-config")]
    if not configs and not {f"--{flag.name}" for flag in UPKEEP} & set(arguments):
        arguments = [arguments[0], f"--config={QUICKSTART}", *arguments[1:]]
    for path in (config.split(":")[0] for config in configs):
        if path and not pathlib.Path(path).is_file():
            sys.exit(f"rcm: there is no config file {path}: expected experiments/NAME.py[:SCALE].")
    try:
        return flags.FLAGS(arguments)
    except (KeyError, AttributeError) as error:
        sys.exit(f"rcm: {unknown_field(arguments, str(error))}")
    except (flags.Error, ValueError, TypeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        sentence = lines[-1 if "Traceback" in str(error) else 0]
        sys.exit(f"rcm: {sentence.removeprefix('ValueError: ').strip()}")


def main(arguments: list[str]) -> None:
    runs = [*COMPARE.value, *arguments[1:]] if COMPARE.value else []
    if arguments[1:] and not runs:
        sys.exit(f"rcm: {arguments[1]!r} is no flag: flags look like --config.seeds=3.")
    from rcm import upkeep
    from rcm.leaving import in_a_sentence
    from rcm.progress import Display

    command, workdir = shlex.join(["python", *sys.argv]), WORKDIR.value
    logging.set_verbosity(logging.WARNING)  # libraries' chatter would bury the progress
    with in_a_sentence(), Display() as display:
        if asked := {flag.name for flag in UPKEEP if flag.value}:
            sys.exit(upkeep.execute(asked, workdir, YES.value, display))
        if runs or ANALYSE.value:
            from rcm import comparison, predictions

            show, given = (comparison, runs) if runs else (predictions, ANALYSE.value)
            show.execute(given, workdir, command, display)
            return
        from rcm import backend, hosts, study

        options = study.Options(
            workdir=workdir, strategy=STRATEGY.value, lanes=LANES.value, dry_run=DRY_RUN.value,
            report_only=REPORT_ONLY.value, keep=tuple(KEEP.value), eval_memory=EVAL_MEMORY.value,
            export=tuple(EXPORT.value), export_formats=tuple(EXPORT_FORMAT.value), command=command,
        )  # fmt: skip
        network = (COORDINATOR.value, PROCESSES.value, PROCESS.value, HEARTBEAT.value)
        meet = partial(hosts.join, DISTRIBUTED.value, *network)
        found = backend.set_up(PLATFORM.value, DETERMINISTIC.value, meet)
        study.execute(CONFIG.value, options, display, found)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
