"""python launch.py [--config=experiments/NAME.py[:SCALE]] [--config.FIELD=VALUE ...]"""

import shlex
import sys

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", "experiments/quickstart.py", "The study.")
WORKDIR = flags.DEFINE_string("workdir", "runs", "Where stages and reports are kept.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the plan and run nothing.")
REPORT_ONLY = flags.DEFINE_bool("report_only", False, "Rebuild the report from predictions.")
STRATEGY = flags.DEFINE_string("strategy", "auto", "auto, loop or vmap.")
LANES = flags.DEFINE_integer("lanes", 0, "Members side by side; 0 chooses.")
PLATFORM = flags.DEFINE_string("platform", "", "cpu, gpu or tpu; '' takes what JAX finds.")
DETERMINISTIC = flags.DEFINE_bool("deterministic", False, "Bit-equal results on GPU, slower.")


def main(_: list[str]) -> None:
    from rcm import backend, study
    from rcm.progress import Display

    options = study.Options(
        workdir=WORKDIR.value,
        strategy=STRATEGY.value,
        lanes=LANES.value,
        dry_run=DRY_RUN.value,
        report_only=REPORT_ONLY.value,
        command=shlex.join(["python", *sys.argv]),
    )
    try:
        backend.set_up(PLATFORM.value, DETERMINISTIC.value)
        with Display() as display:
            study.execute(CONFIG.value, options, display)
    except ValueError as error:
        sys.exit(f"rcm: {error}")
    except KeyboardInterrupt:
        sys.exit("rcm: interrupted; the same command goes on from the last checkpoint.")


if __name__ == "__main__":
    app.run(main)
