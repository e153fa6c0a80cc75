"""Hostile workdirs and run folders, such as somebody else's that were unpacked here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rcm import comparison
from rcm.analysis.statistics import COLUMNS
from rcm.arrays import Marks, load_tree
from rcm.records import Damaged, read_exports
from rcm.store import Store
from tests.hostile.making import ESCAPE, FORMULA, Row, deep, npy, objects, pipe, put, savez, zipped

RECORD = {"stage": "s", "members": ["one"], "labels": ["s ratio 1 seed 0"], "choice": [],
          "execution": [], "environment": {}, "hardware": "", "source": ""}  # fmt: skip
DONE = {"digest": "", "seconds": 1.0, "alive": [True], "bytes": [1]}


def chunk(record: Any = RECORD, **done: Any) -> Any:
    """A workdir with one finished round, whose digest of the record fits."""

    def make(folder: Path) -> Path:
        store = Store(folder)
        place = put(store.stages, "c/record.json", json.dumps(record).encode()).parent
        told = {**DONE, "record": store._record_digest("c"), **done}
        put(place, "done.json", json.dumps(told).encode())
        return folder

    return make


def damage(folder: Path) -> None:
    """What a workdir's index says of its only round."""
    store = Store(folder)
    assert store.index() == {}
    raise Damaged(store.damage[0])


def predicted(make: Any) -> Any:
    def made(folder: Path) -> Path:
        make(folder / "stages" / "c" / "predictions", "clean.npz")
        return folder

    return made


def answers(folder: Path) -> Any:
    return Store(folder).load_predictions("c", "clean")


def unreadable_progress(folder: Path) -> None:
    store = Store(folder)
    assert store.load_progress("c", {}) is None
    raise Damaged(store.damage[0])


def load_any(folder: Path) -> Any:
    return load_tree(folder, Marks("", ""))


def tree_of_terabytes(folder: Path) -> Path:
    """A checkpoint of one small array that says it has 2^40 numbers."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(folder / "final", {"a": np.zeros(4, np.float32)})
    (layout,) = (folder / "final").glob("*/.zarray")
    about = json.loads(layout.read_text())
    layout.write_text(json.dumps({**about, "shape": [2**40], "chunks": [2**40]}))
    return folder / "final"


def linked_log(folder: Path) -> Path:
    """A study's folder whose log leads elsewhere."""
    target = put(folder, "precious", b"precious")
    (folder / "study").mkdir()
    (folder / "study" / "log.jsonl").symlink_to(target)
    return folder


def write_log(folder: Path) -> None:
    try:
        Store(folder).log(folder / "study", {"event": "started"})
    finally:
        assert (folder / "precious").read_bytes() == b"precious"


def exported(folder: Path) -> None:
    raise Damaged(read_exports(folder)[1][0])


NOTE = {"pipeline": "p", "member": "m", "format": "int8", "bytes": 1, "sha256": "",
        "accuracy": float("nan"), "simulated": 0.5, "disagreement": 0.0}  # fmt: skip

STORE = [
    Row("nested-record", lambda f: put(chunk()(f), "stages/c/record.json", deep()).parents[2],
        damage, "record.json cannot be read: its JSON is nested too deeply; the round was set"),
    Row("pipe-for-a-record",
        lambda f: [chunk()(f), (f / "stages/c/record.json").unlink(),
                   pipe(f, "stages/c/record.json")][0], damage, "it is no ordinary file"),
    Row("members-that-are-none", chunk({**RECORD, "members": [{}]}), damage,
        "record.json has something else than str among its members"),
    Row("lock-outside", chunk({**RECORD, "stage": "../../../outside"}), damage,
        "record.json is of a stage whose name no file can have"),
    Row("fewer-members-than-said", chunk(alive=[]), damage, "done.json is not about 1 members"),
    Row("words-for-bytes", chunk(bytes=["1"]), damage, "something else than int among its bytes"),
    Row("endless-seconds", chunk(seconds=float("inf")), damage, "done.json has no seconds"),
    Row("pickled-predictions", lambda f: predicted(
        lambda place, name: savez(place, name, label=objects(f)))(f), answers,
        r"clean.npz cannot be read \(.*it holds pickled objects"),
    Row("bomb-for-predictions", predicted(lambda place, name: put(
        place, name, zipped([("label.npy", npy(np.zeros(10**7, np.uint8)))]))), answers,
        "more than 100 times as many"),
    Row("nested-progress", lambda f: put(f, "stages/c/progress-3.json", deep()).parents[2],
        unreadable_progress, "A checkpoint of c is left out: .*nested too deeply"),
    Row("tree-of-terabytes", tree_of_terabytes, load_any,
        r"final cannot be restored \(it would unpack .* to 4,398,046,511,104, more than"),
    Row("log-that-is-a-link", linked_log, write_log, "log.jsonl is a link: remove it"),
    Row("nan-in-a-note", lambda f: put(put(f, "a.tflite", b"x").parent, "a.tflite.json",
        json.dumps(NOTE).encode()).parent, exported, "has no accuracy; the report leaves that"),
]  # fmt: skip

FRAME = pd.DataFrame([["d", "m", "exp", 1.0, 0, "dense", "clean", 0.0, "accuracy", "", 0.5]],
                     columns=pd.Index(COLUMNS))  # fmt: skip


def finished(frame: Any = FRAME, config: bytes = b"{}", **about: Any) -> Any:
    """A run folder; frame: a results table by pandas or by pyarrow."""

    def make(folder: Path) -> Path:
        table = pa.Table.from_pandas(frame) if isinstance(frame, pd.DataFrame) else frame
        pq.write_table(table, folder / "results.parquet")
        put(folder, "config.json", config)
        put(folder, "run.json", json.dumps(about).encode())
        return folder

    return make


def side(folder: Path) -> Any:
    return comparison.read_side(folder, "run")


def long_word(rows: int) -> Any:
    """A table of a few bytes a row that says a long word in each."""
    return pa.table({"pipeline": pa.array(["a" * 100_000]).take(pa.array([0] * rows))})


RUNS = [
    Row("table-bomb", finished(pd.DataFrame({n: np.zeros(10**6, np.int8) for n in "abcd"})), side,
        "run cannot be read .*would unpack .* bytes to 32,000,000.*make its report again"),
    Row("table-of-lists", finished(pd.DataFrame({"value": [[1, 2]]})), side,
        "its column 'value' holds list"),
    Row("table-of-structures", finished(pa.table({"a": [{"b": 1}]})), side, "'a' holds struct"),
    Row("words-for-values", finished(FRAME.assign(value="a")), side, "'value' holds large_string"),
    Row("gaps-in-a-table", finished(FRAME.assign(seed=np.nan)), side, "column 'seed' has gaps"),
    Row("long-words-in-a-table", finished(long_word(20)), side, "has 100,000 letters, expected"),
    Row("escape-in-a-table", finished(FRAME.assign(model=ESCAPE)), side,
        r"in the column model the name 'red \\x1b"),
    Row("formula-in-a-table", finished(FRAME.assign(pipeline=FORMULA)), side,
        "in the column pipeline the name .* begins like a formula"),
    Row("no-table", lambda f: put(finished()(f), "results.parquet", b"PAR1PAR1").parent, side,
        "run cannot be read"),
    Row("config-said-twice", finished(config=b'{"seeds": 1, "seeds": 2}'), side,
        "its JSON says 'seeds' twice"),
    Row("nested-config", finished(config=b'{"a":' * 90 + b"1" + b"}" * 90), side,
        "its JSON is nested too deeply"),
    Row("words-for-data", finished(config=b'{"data": "d"}'), side, "does not describe its data"),
    Row("words-for-pipelines", finished(pipelines=["dense"]), side,
        "run.json does not describe its pipelines"),
    Row("pipelines-with-more", finished(pipelines=[{"name": "a", "techniques": [], "x": 1}]), side,
        "run.json does not describe its pipelines"),
    Row("number-for-a-pipeline", finished(pipelines=[
        {"name": 3, "label": "", "kind": "dense", "techniques": []}]), side,
        "a pipeline in run.json: name must be of type str"),
    Row("lists-for-versions", finished(versions=["jax"]), side,
        "run.json does not tell its data, hardware and versions"),
]  # fmt: skip

ROWS = [*STORE, *RUNS]
