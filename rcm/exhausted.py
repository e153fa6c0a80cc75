"""What to do when a device had too little memory for what it was asked."""

from collections.abc import Callable
from typing import Any

import jax

from rcm import config
from rcm.sweep import Execution


def is_exhausted(error: Exception) -> bool:
    """Whether a device had too little memory for what it was asked."""
    return str(error).startswith("RESOURCE_EXHAUSTED")


def fits(function: Callable[..., Any], *arguments: Any) -> bool:
    """Call a function; False if a device had too little memory for it, with nothing held of it."""
    try:
        function(*arguments)
    except jax.errors.JaxRuntimeError as error:
        if not is_exhausted(error):
            raise
        return False
    return True


def halved(
    execution: Execution, what: str, say: Callable[[str], None], field: str = "train.batch"
) -> Execution:
    """The execution with half as many lanes on each device or, where virtual devices share the
    memory of one host, on half as many, and says so. Raises ValueError where a member alone, called
    `what`, is too large; field: what to lower then."""
    devices, each = execution.devices, execution.lanes // execution.devices
    if each > 1:
        each //= 2
    else:
        config.require(
            devices > 1 and jax.default_backend() == "cpu",
            f"{what} does not fit into the memory of a device, even alone: lower {field}, "
            "choose a smaller model or a larger device; what is finished is kept.",
        )
        devices //= 2
    say(f"Too little memory for {execution.lanes} lanes: {devices * each} now.")
    return execution._replace(lanes=devices * each, devices=devices)
