"""Commands started as users start them and ended as they end, and what they leave compared."""

import pathlib
import signal
import socket
import time

import numpy as np
import pandas as pd

from rcm.progress import Display
from rcm.store import Store
from rcm.study import Options, execute

ROOT = pathlib.Path(__file__).resolve().parents[1]

CONFIG = """
from rcm import config
from rcm.compress import Prune, Quantize


def get_config(scale=""):
    recipe = dict(batch=16, schedule="cosine", warmup_epochs=0.0, augment="crop")
    return config.Study(
        name="toy", seeds=2, data=config.Data(name={data!r}),
        model=config.Model(name="tiny", width=4),
        train=config.Train(steps=12, **recipe),
        fine_tune=config.Train(steps=6, learning_rate=0.01, **recipe),
        shift=config.Shift(corruptions=("gaussian_noise",), severities=(3,)),
        pipelines=(config.Pipeline("all", (Prune(0.5), Quantize(8))),),
        checkpoint_seconds=0.0,
    )
"""


def run_study(study, workdir, **options):
    """The page of a study that is run in this process, by two lanes unless others are given."""
    with Display() as display:
        return execute(study, Options(workdir=str(workdir), **{"lanes": 2, **options}), display)


def finish(process):
    shown = process.communicate(timeout=300)[0]
    return process.returncode, shown


def kill_when(process, workdir, pattern):
    """`kill -9` as soon as a file of this pattern lies in the workdir."""
    kill_once(process, lambda: any(workdir.glob(pattern)))


def kill_once(process, holds):
    """`kill -9` as soon as a condition holds, which is asked again and again."""
    deadline = time.monotonic() + 200
    while not holds():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def require_equal(workdir, expected):
    """Results, what was run together and every stored array are equal, bit by bit."""
    folders = (workdir, expected)
    one, two = (pd.read_parquet(next(d.glob("toy-*/results.parquet"))) for d in folders)
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    for path in expected.glob("stages/*/**/*.npz"):  # beside them may lie what was set aside
        with np.load(workdir / path.relative_to(expected)) as found, np.load(path) as arrays:
            assert found.files == arrays.files
            for array in arrays.files:
                np.testing.assert_array_equal(found[array], arrays[array], strict=True)
    first, second = map(Store, folders)
    assert first.index() == second.index()
    for chunk in {place.chunk for place in first.index().values()}:
        for told in ("digest", "history"):
            assert first.notes(chunk)[told] == second.notes(chunk)[told]
    curves = (next(d.glob("toy-*/tables/training.csv")).read_bytes() for d in folders)
    assert next(curves) == next(curves)


def flipped(path, step=1, first=0):
    """Have a bit of every `step`-th byte of a file flipped in turn, beginning with bit `first`."""
    whole = path.read_bytes()
    for place in range(0, len(whole), step):
        content = bytearray(whole)
        content[place] ^= 1 << (first + place // step) % 8
        path.write_bytes(bytes(content))
        yield place
    path.write_bytes(whole)


def start_all(command, workdir, count, *flags):
    """The processes of a distributed run, which notice a death within ten seconds."""
    address = f"localhost:{free_port()}"
    flags += ("--distributed", f"--coordinator_address={address}", f"--num_processes={count}")
    flags += ("--heartbeat_seconds=10",)
    return [command(workdir, *flags, f"--process_id={i}") for i in range(count)]


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
