"""python launch.py [--config=experiments/NAME.py[:SCALE]] [--config.FIELD=VALUE ...]

Trains, compresses, tests and reports what the config describes; without one, the quickstart.
With --compare RUN_A RUN_B it shows two finished runs side by side, and with --analyse=FOLDER it
reports on predictions made elsewhere.
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
KEEP = flags.DEFINE_integer("keep", 2, "Checkpoints to keep of a round under training.")
COMPARE = flags.DEFINE_list("compare", [], "Two run folders to show side by side: A,B or A B.")
ANALYSE = flags.DEFINE_string("analyse", "", "A folder of predictions made elsewhere.")
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
    if not configs:
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
    from rcm import backend, hosts, study
    from rcm.leaving import in_a_sentence
    from rcm.progress import Display

    command = shlex.join(["python", *sys.argv])
    options = study.Options(
        workdir=WORKDIR.value,
        strategy=STRATEGY.value,
        lanes=LANES.value,
        dry_run=DRY_RUN.value,
        report_only=REPORT_ONLY.value,
        export=tuple(EXPORT.value),
        export_formats=tuple(EXPORT_FORMAT.value),
        eval_memory=EVAL_MEMORY.value,
        keep=KEEP.value,
        command=command,
    )
    logging.set_verbosity(logging.WARNING)  # libraries' chatter would bury the progress
    with in_a_sentence(), Display() as display:
        if runs:
            from rcm import comparison

            comparison.execute(runs, WORKDIR.value, command, display)
        elif ANALYSE.value:
            from rcm import predictions

            predictions.execute(ANALYSE.value, WORKDIR.value, command, display)
        else:
            network = (COORDINATOR.value, PROCESSES.value, PROCESS.value, HEARTBEAT.value)
            meet = partial(hosts.join, DISTRIBUTED.value, *network)
            found = backend.set_up(PLATFORM.value, DETERMINISTIC.value, meet)
            study.execute(CONFIG.value, options, display, found)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
