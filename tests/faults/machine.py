"""python machine.py DEVICES LANES flags...: `launch.py` as on a machine of so many CPU devices, in
whose memory so many lanes fit: a call of more fails as XLA says it."""

import runpy
import sys

from jax.errors import JaxRuntimeError

from rcm import backend, evaluate, rounds


def limit(module, name: str, most: int) -> None:
    """Have a function that is given (program, execution, ...) fail for more lanes than `most`."""
    whole = getattr(module, name)

    def limited(program, execution, *arguments):
        if execution.lanes > most:
            raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")
        return whole(program, execution, *arguments)

    setattr(module, name, limited)


if __name__ == "__main__":
    devices, lanes, *flags = sys.argv[1:]
    backend.cores = lambda: int(devices)
    limit(rounds, "run_round", int(lanes))
    limit(evaluate, "predict_cell", int(lanes))
    sys.argv = ["launch.py", *flags]
    runpy.run_path("launch.py", run_name="__main__")
