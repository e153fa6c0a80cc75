"""Strict by default: silent broadcasting raises, warnings are errors (pyproject), no network."""

import functools
import gc
import os
import pathlib
import socket
import subprocess
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest

from rcm import config
from rcm.compress import Cluster, Prune, Quantize
from tests.commands import CONFIG, ROOT, finish

# XLA's options of a quick compilation: no loops by way of MLIR, and each program in one part
QUICK = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


def pytest_configure():
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    gc.set_threshold(50_000, 20, 20)  # tracing makes so many objects that collecting took a tenth
    compile_quickly_where_asked()


def compile_quickly_where_asked():
    """Adds `QUICK` to every compilation while `jax_disable_most_optimizations` is set. XLA_FLAGS
    would hold for `optimized` tests, too, and jax has no public place for such options; where the
    private one has moved, tests take longer."""
    try:
        from jax._src import compiler

        options_of = compiler.get_compile_options
    except (ImportError, AttributeError):
        return
    known = known_options()

    def options(*arguments, env_options_overrides=None, **named):
        quick = known if jax.config.read("jax_disable_most_optimizations") else {}
        given = {**quick, **(env_options_overrides or {})}
        return options_of(*arguments, env_options_overrides=given, **named)

    compiler.get_compile_options = options


@functools.cache
def known_options():
    """Those of `QUICK` that this version of XLA has: jax 0.12 has lost one of them."""
    return {name: value for name, value in QUICK.items() if is_known(name, value)}


def is_known(option, value):
    try:
        jax.jit(lambda: 0).lower().compile({option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


@pytest.hookimpl(tryfirst=True)  # before any fixture compiles something
def pytest_runtest_setup(item):
    """Programs that run for milliseconds are compiled quickly, which takes a sixth of the time; as
    for users where a test or module is marked `optimized`, because it is about equal bits or about
    speed, or everywhere under JAX_DISABLE_MOST_OPTIMIZATIONS=0."""
    asked = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") != "0"
    quickly = asked and not item.get_closest_marker("optimized")
    if quickly != jax.config.read("jax_disable_most_optimizations"):
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", quickly)


@pytest.fixture(scope="session")
def quick_environment():
    """The environment of a command whose programs are compiled quickly, too."""
    flags = " ".join(f"--{name}={value}".lower() for name, value in known_options().items())
    return {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": flags}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that opens an internet connection fails; local sockets stay allowed."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise AssertionError(f"a test tried to reach the network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared():
    """The folder of reference data beside the project; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data folder beside the project ({SHARED.name}/ is absent)")
    return SHARED


@pytest.fixture(scope="session")
def sample(shared):
    """Of the benchmark's own pixels: 100 clean images of CIFAR-10 and uint8 [5, 100, 32, 32, 3] of
    each corruption; the test is skipped without."""
    path = shared / "data" / "cifar10_c_sample.npz"
    if not path.is_file():
        pytest.skip(f"no sample of the benchmark's images ({path.name} is absent)")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files if name != "id"}


@pytest.fixture(scope="session")
def shared_by_workers(tmp_path_factory):
    """A folder that all workers of a run see."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def cache_home(shared_by_workers):
    """$XDG_CACHE_HOME of all workers of a run: to decode CIFAR-10 takes ten seconds."""
    return shared_by_workers / "cache"


@pytest.fixture(scope="session")
def toy_file(tmp_path_factory):
    """A data set of 3 classes, 60 + 20 images of 8 x 8 each, that a tiny net can learn."""
    draw = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("toy") / "toy.npz"
    arrays = {"classes": np.array(["red", "green", "blue"])}
    for split, each in (("train", 60), ("test", 20)):
        labels = np.repeat(np.arange(3, dtype=np.int32), each)
        images = draw.integers(0, 120, (3 * each, 8, 8, 3))
        images[np.arange(3 * each), :, :, labels] += 90
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels}
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def make_toy_study(toy_file):
    """() -> a new study of every kind of stage that takes seconds."""
    return lambda: _toy_study(toy_file)


@pytest.fixture
def toy_study(make_toy_study):
    return make_toy_study()


def _toy_study(toy_file):
    recipe = {"batch": 16, "schedule": "cosine", "warmup_epochs": 0.0, "augment": "none"}
    return config.Study(
        name="toy",
        seeds=2,
        data=config.Data(name=str(toy_file), ratios=(1, 4)),
        model=config.Model(name="tiny", width=4),
        train=config.Train(steps=6, **recipe),
        fine_tune=config.Train(steps=4, learning_rate=0.01, **recipe),
        shift=config.Shift(corruptions=("contrast",), severities=(1, 5)),
        pipelines=(
            config.Pipeline("prune50", (Prune(0.5),)),
            config.Pipeline("int8", (Quantize(8),)),
            config.Pipeline("distilled", (config.Distill(width=2),)),
            config.Pipeline("all", (Prune(0.5), Cluster(8), Quantize(8))),
        ),
    )


@pytest.fixture(scope="session")
def toy_config(tmp_path_factory, toy_file):
    """A config file of a study of toy data."""
    path = tmp_path_factory.mktemp("config") / "toy.py"
    path.write_text(CONFIG.format(data=str(toy_file)))
    return path


@pytest.fixture(scope="session")
def command(tmp_path_factory, toy_config, quick_environment):
    """(workdir, *flags, script=..., **environment) -> `launch.py` on toy data and two virtual
    devices, whatever the machine, or a script that calls it; all share the cache `command.cache`
    unless told otherwise."""
    folder = tmp_path_factory.mktemp("launch")
    environment = {
        **quick_environment,
        "JAX_PLATFORMS": "cpu",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "COLUMNS": "200",
        "PYTHONPATH": str(ROOT),
    }

    def start(workdir, *flags, script=("tests/faults/machine.py", "2", "999"), **own):
        study = (f"--config={toy_config}", f"--workdir={workdir}")
        return subprocess.Popen(
            [sys.executable, *script, *study, *flags], cwd=ROOT, env={**environment, **own},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    start.cache = folder / "cache"
    return start


@pytest.fixture(scope="session")
def whole(command, tmp_path_factory):
    """The workdir of the study, run by one process without interruption."""
    workdir = tmp_path_factory.mktemp("whole")
    code, shown = finish(command(workdir))
    assert code == 0, shown
    assert "report.html" in shown
    return workdir
