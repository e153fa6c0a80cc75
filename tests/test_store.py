"""What is stored comes back, or is named as damaged; nothing half written ever counts."""

import contextlib
import json
import multiprocessing

import numpy as np
import pytest

from rcm import arrays, kept
from rcm import store as store_module
from rcm.files import write_json
from rcm.records import Damaged, read_json, unflatten
from rcm.store import Store, load_member, write_bytes
from tests.commands import flipped

TREE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": (np.array([True, False]),)}
RECORD = {
    "members": ["first", "second"],
    "stage": "s",
    "labels": [],
    "choice": [],
    "execution": [],
    "environment": {},
    "hardware": "",
    "source": "",
}
NOTES = {"seconds": 1.0, "alive": [True, True], "bytes": [1, 1]}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    store.start_chunk("chunk", RECORD)
    return store


def test_a_finished_chunk_gives_each_member_back(store):
    store.finish_chunk("chunk", TREE, NOTES)
    assert set(Store(store.root).index()) == {"first", "second"}
    second = load_member(store.root, "second")
    np.testing.assert_array_equal(second["['a']"], TREE["a"][1])
    assert second["['b'][0]"].dtype == bool
    with pytest.raises(KeyError, match="third"):
        load_member(store.root, "third")


def test_an_unfinished_chunk_does_not_count(store):
    store.save_progress("chunk", 3, TREE, 1.5)
    assert store.index() == {}
    assert list(store.unfinished()) == ["chunk"]


def test_the_last_checkpoint_counts_and_only_so_many_are_kept(store):
    for step in (1, 2, 10):
        later = {**TREE, "a": TREE["a"] + step}
        store.save_progress("chunk", step, later, 2.5, {"batches": [step]})
    step, tree, seconds, history = store.load_progress("chunk", TREE)
    assert (step, seconds, history) == (10, 2.5, {"batches": [10]})
    np.testing.assert_array_equal(tree["a"], later["a"])
    folder = store.stages / "chunk"
    assert {path.stem for path in folder.glob("progress-*")} == {"progress-2", "progress-10"}
    store.finish_chunk("chunk", TREE, NOTES)
    assert store.load_progress("chunk", TREE) is None
    assert not list(folder.glob("progress-*"))


@pytest.mark.parametrize("keep", [1, 2])
def test_an_earlier_checkpoint_stands_in_for_a_damaged_one(store, keep):
    store.keep = kept.Limits(keep)
    for step in (1, 2):
        store.save_progress("chunk", step, TREE, 1.0)
    biggest = biggest_file(store.stages / "chunk" / "progress-2")
    biggest.write_bytes(biggest.read_bytes()[:-1])
    found = store.load_progress("chunk", TREE)
    assert len(store.damage) == 1
    assert (found and found.step) == (None if keep == 1 else 1)
    store.save_progress("chunk", 1, TREE, 1.0)  # though the damaged one was later
    assert store.load_progress("chunk", TREE).step == 1


@pytest.mark.parametrize(
    ("room", "before", "after"), [(0.1, 1, 1), (2.5, 1, 2), (3.5, 2, 3), (9.0, 4, 4)]
)
def test_checkpoints_take_no_more_than_they_may(store, monkeypatch, room, before, after):
    """While one is written, too; but the last whole one stays."""
    folder, there = store.stages / "chunk", []
    tree = {"a": np.random.default_rng(0).normal(size=(200, 100))}
    store.save_progress("chunk", 0, tree, 1.0)
    each = sum(path.stat().st_size for path in (folder / "progress-0").rglob("*"))
    store.keep = kept.Limits(4, room * each)
    write = kept.save_tree

    def watched(path, tree):
        there.append(len(list(folder.glob("progress-*.json"))))
        return write(path, tree)

    monkeypatch.setattr(kept, "save_tree", watched)
    for step in range(1, 6):
        store.save_progress("chunk", step, tree, 1.0)
    assert there[-1] == before
    assert kept.steps(folder) == [5, 4, 3, 2][:after]


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        (["3"], kept.Limits(3)),
        (["1.5GiB"], kept.Limits(2, 1.5 * 2**30)),
        (["4", "10GiB"], kept.Limits(4, 10 * 2**30)),
    ],
)
def test_what_stays_is_a_number_or_bytes(words, limits):
    assert kept.limits(words) == limits


@pytest.mark.parametrize("words", [["0"], ["-1"], ["two"], ["4GB"], ["", "2"], ["2.5"]])
def test_what_is_neither_is_refused(words):
    with pytest.raises(ValueError, match=f"--keep={','.join(words)}: give how many .* 2,4GiB"):
        kept.limits(words)


def biggest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize("harm", ["truncate", "flip"])
@pytest.mark.parametrize("part", ["final", "progress-1"])
def test_a_damaged_checkpoint_is_never_used(store, part, harm):
    tree = {"a": np.random.default_rng(0).normal(size=(2, 500)).astype(np.float32)}
    store.save_progress("chunk", 1, tree, 1.5)
    if part == "final":
        store.finish_chunk("chunk", tree, NOTES)
    path = biggest_file(store.stages / "chunk" / part)
    content = bytearray(path.read_bytes())
    if harm == "truncate":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    if part == "final":
        with pytest.raises(Damaged, match="final"):
            store.load_chunk("chunk")
    else:
        assert store.load_progress("chunk", tree) is None
        assert "is left out" in store.damage[0]


def test_a_foreign_checkpoint_is_not_used(store):
    store.save_progress("chunk", 1, {"other": TREE["a"]}, 1.5)
    assert store.load_progress("chunk", TREE) is None
    assert "not those of this program" in store.damage[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("record.json", "{"),
        ("record.json", "[]"),
        ("record.json", json.dumps({**RECORD, "members": ["second", "first"]})),
        ("done.json", "{}"),
    ],
)
def test_a_chunk_with_a_broken_record_is_set_aside(store, name, content):
    store.finish_chunk("chunk", TREE, NOTES)
    (store.stages / "chunk" / name).write_text(content)
    fresh = Store(store.root)
    assert fresh.index() == {}
    assert "set aside" in fresh.damage[0]
    assert (store.root / "damaged" / "chunk").is_dir()


@pytest.mark.parametrize("name", ["record.json", "progress-1.json", "done.json"])
def test_a_flipped_bit_of_a_note_is_found_or_changes_nothing(store, name):
    def told():
        folder = store.stages / "chunk"
        read = {"record.json": store.record, "done.json": store.notes}
        return read[name]("chunk") if name in read else kept.read(folder, 1)[0]

    store.save_progress("chunk", 1, TREE, 1.5, {"losses": [[0.25, 1e-7], [3]]})
    if name == "done.json":
        store.finish_chunk("chunk", TREE, {**NOTES, "sizes": [{"bytes_zstd": 3}, {}]})
    written = told()
    for _ in flipped(store.stages / "chunk" / name):
        try:
            found = told()
        except Damaged:
            continue
        assert {field: found[field] for field in written} == written


def test_notes_of_earlier_versions_have_no_checksum(store):
    path = store.stages / "chunk" / "record.json"
    write_json(path, RECORD)
    assert store.record("chunk") == RECORD


def test_predictions_round_trip_and_damage_is_named(store):
    labels = np.arange(8, dtype=np.uint8).reshape(2, 4)
    arrays = {"label": labels, "margin": labels.astype(np.float16), "other": labels[:1]}
    store.save_predictions("chunk", "clean", arrays)
    path = store.stages / "chunk" / "predictions" / "clean.npz"
    for found in (store.load_predictions("chunk", "clean"), *despite_a_flipped_bit(store, path)):
        assert found.keys() == arrays.keys()  # a flipped bit is found or changes nothing
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(Damaged, match=r"clean\.npz"):
        store.load_predictions("chunk", "clean")


def despite_a_flipped_bit(store, path):
    for bit in range(8):
        for _ in flipped(path, first=bit):
            with contextlib.suppress(Damaged):
                yield store.load_predictions("chunk", "clean")


def test_pickles_are_refused(store):
    path = store.stages / "chunk" / "predictions" / "clean.npz"
    path.parent.mkdir()
    np.savez(path, label=np.array([{}], dtype=object))
    with pytest.raises(Damaged):
        store.load_predictions("chunk", "clean")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_told_in_one_sentence(store, monkeypatch):
    def full(*_, **__):
        raise ValueError("OUT_OF_RANGE: Error writing ocdbt")

    monkeypatch.setattr(arrays.ocp.StandardCheckpointer, "save", full)
    with pytest.raises(ValueError, match="free space, or choose another workdir"):
        store.save_progress("chunk", 1, TREE, 1.5)


def test_an_unwritable_workdir_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        Store(tmp_path / "file")


def hold(root, held, release):
    with Store(root).lock("stage"):
        held.set()
        release.wait(30)


def test_a_stage_is_locked_between_processes(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, release))
    process.start()
    assert held.wait(60)
    store = Store(tmp_path)
    with store.lock("stage", wait=False) as got:
        assert not got
    with store.lock("another", wait=False) as got:
        assert got
    release.set()
    with store.lock("stage") as got:  # waits for the other process
        assert got
    process.join(30)


def test_json_errors_name_the_file(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"a": 1})[:-2])
    with pytest.raises(Damaged, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_unflatten_needs_the_same_names():
    with pytest.raises(Damaged, match="'b'"):
        unflatten({"['a']": TREE["a"]}, TREE)
