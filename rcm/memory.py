"""What fits into a device's memory, and what to do when something did not."""

import jax

from rcm import config
from rcm.sweep import Execution


def is_exhausted(error: Exception) -> bool:
    """Whether a device had too little memory for what it was asked."""
    return str(error).startswith("RESOURCE_EXHAUSTED")


def halved(execution: Execution, what: str) -> Execution:
    """The execution with half as many lanes on each device or, where virtual devices share the
    memory of one host, on half as many. Raises ValueError where a member alone, called `what`, is
    too large."""
    lanes = execution.lanes // execution.devices
    if lanes > 1:
        return execution._replace(lanes=lanes // 2 * execution.devices)
    config.require(
        execution.devices > 1 and jax.default_backend() == "cpu",
        f"{what} does not fit into the memory of a device, even alone: lower train.batch, choose a "
        "smaller model or a larger device; what is finished is kept.",
    )
    devices = execution.devices // 2
    return execution._replace(lanes=devices, devices=devices)
