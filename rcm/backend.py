"""How this machine runs members: JAX's set-up, the execution record, the choice of a strategy."""

import contextlib
import hashlib
import os
import pathlib
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax

from rcm import config, heap
from rcm.groups import granted_cores, granted_memory
from rcm.hosts import Hosts
from rcm.sweep import Execution

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def cores() -> int:
    """CPU cores this process may use: of its affinity, or its control groups' quota if less."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(usable or 1, granted_cores()))


def host_memory() -> int:
    """Bytes of memory this process may use: the machine's, or its control groups' limit if less."""
    return min(granted_memory(), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def cache_folder() -> pathlib.Path:
    """The user's cache folder for rcm: $XDG_CACHE_HOME/rcm or ~/.cache/rcm."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "rcm"


def set_up(
    backend: str = "", deterministic: bool = False, meet: Callable[[], Hosts] = Hosts
) -> Hosts:
    """Configure JAX and meet the other processes of the run, if any; must come before anything
    touches a device.

    One virtual CPU device per core, since members side by side beat one member on all cores
    (docs/benchmarks.md); compiled programs persist in the user's cache folder. ValueError
    for a platform that is not there, and what `meet` raises.
    """
    heap.keep_freed_memory()
    if backend:
        config.choose("platform", backend, ("cpu", "gpu", "tpu"))
        jax.config.update("jax_platforms", "cuda" if backend == "gpu" else backend)
    if deterministic:
        add_xla_flag("--xla_gpu_deterministic_ops=true")
    jax.config.update("jax_num_cpu_devices", cores())
    check_programs()
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    hosts = meet()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # jax asserts that its last resort is there
        reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
        raise ValueError(
            f"JAX finds no {backend or 'usable'} device here: choose another --platform or install "
            f"the matching jax plugin{reason}."
        ) from error
    return hosts


def check_programs() -> None:
    """See `compiled.check_cached`; a JAX that has moved what it builds on goes without."""
    with contextlib.suppress(ImportError, AttributeError):
        from rcm.compiled import check_cached

        check_cached()


def add_xla_flag(flag: str) -> None:
    """Add a flag to XLA_FLAGS; a user's own setting of it, which comes later, wins."""
    os.environ["XLA_FLAGS"] = f"{flag} {os.environ.get('XLA_FLAGS', '')}".strip()


def environment() -> dict[str, Any]:
    """What, beside the execution, bit equality depends on."""
    device = jax.local_devices()[0]
    return {
        "backend": jax.default_backend(),
        "device": device.device_kind if device.platform != "cpu" else processor(),
        "threads": cores(),
        "devices": jax.local_device_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def source_hash() -> str:
    """Hash of the package's own source files."""
    root = pathlib.Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def hardware() -> str:
    """One line about the machine, for people."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return f"{jax.local_device_count()} x {device.device_kind}"
    return f"{cores()} CPU core{'s' if cores() > 1 else ''} ({processor()})"


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def image_memory() -> int:
    """Bytes that training images may take on one device: half of its memory, or of its share of
    the host's where devices are virtual."""
    virtual = jax.local_devices()[0].platform == "cpu"
    return device_memory() // (jax.local_device_count() if virtual else 1) // 2


def device_memory() -> int:
    """Bytes of memory of one device, or of the host that virtual devices share."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return host_memory()
    return (device.memory_stats() or {}).get("bytes_limit", sys.maxsize)


def used_memory() -> int:
    """Bytes of it in use: of the first device, or by this process where the system tells that."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_in_use", 0)
    return heap.used()


def choose_execution(strategy: str = "auto", lanes: int = 0) -> Execution:
    """The table's choice for this backend, with the user's strategy and lane count honoured.

    On CPU a loop over the virtual devices, one step per call: more lanes or steps gain nothing
    there. On GPUs a loop, too, of scanned steps, because lanes gain on narrow networks only and
    lose on wide ones, which long plans find out by measuring (`calibrate`; docs/benchmarks.md). On
    TPUs, where nothing was measured, lanes. Raises ValueError for an unknown strategy or an
    impossible lane count.
    """
    config.choose("strategy", strategy, ("auto", "loop", "vmap"))
    config.require(lanes >= 0, f"--lanes must be 0 (automatic) or a count, not {lanes}.")
    devices = jax.local_device_count()
    cpu = jax.default_backend() == "cpu"
    steps_per_call = 1 if cpu else 25
    if strategy == "auto":
        strategy = "vmap" if jax.default_backend() == "tpu" else "loop"
    lanes = lanes or devices * (1 if strategy == "loop" else 2 if cpu else 16)
    used = min(lanes, devices)
    config.require(
        strategy == "vmap" or lanes == used,
        f"--strategy=loop runs one lane per device: --lanes={lanes} is too many for {devices} "
        "devices; lower it or use --strategy=vmap.",
    )
    config.require(
        lanes % used == 0,
        f"--lanes={lanes} cannot be shared evenly by {devices} devices: "
        f"use {lanes // used * used} or {-(-lanes // used) * used}.",
    )
    return Execution(strategy, lanes, used, steps_per_call)


def fitted(choice: Execution, members: int) -> Execution:
    """The choice without the lanes that a population of so many members would only pad: with as few
    as its number of rounds needs."""
    rounds = -(-members // choice.lanes)
    if choice.strategy == "loop" and rounds > 1:
        return choice
    needed = -(-members // rounds)
    devices = min(choice.devices, needed)
    return choice._replace(lanes=-(-needed // devices) * devices, devices=devices)
