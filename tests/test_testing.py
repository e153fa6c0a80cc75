"""Testing a population in bounded memory, cell by cell, from shifted images made once."""

import dataclasses
import re
import weakref

import jax
import numpy as np
import pandas as pd
import pytest

from rcm import config, evaluate, shifted, testing
from rcm.cells import MADE_BY, CellSpec
from rcm.estimate import evaluation_cost, here, total_cost
from rcm.members import Members
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.results import read_results
from rcm.run import Runner
from rcm.shift.corruptions import corrupt
from rcm.store import Store
from rcm.sweep import Execution
from rcm.testing import Tester, groups, member_bytes
from rcm.writing import Writer

POPULATION, CHUNK = 64, 8
EXECUTION = Execution("vmap", CHUNK, 1, 1)


@pytest.fixture(scope="module")
def population(toy_file, tmp_path_factory):
    """(plan, cells, workdir) of 64 members of one step, trained in chunks of 8, not yet tested."""
    study = config.Study(
        name="many",
        seeds=POPULATION,
        data=config.Data(name=str(toy_file)),
        model=config.Model(name="tiny", width=4),
        train=config.Train(steps=1, batch=8, schedule="constant", warmup_epochs=0, augment="none"),
        shift=config.Shift(
            corruptions=("gaussian_noise", "contrast"), severities=(3,), domains=("inverted",)
        ),
    )
    plan, cells = prepare(study)
    workdir = tmp_path_factory.mktemp("many")
    with Display() as display:
        Runner(plan, Store(workdir), EXECUTION, False, display).run()
    return plan, cells, workdir


def results_of(plan, cells, workdir, memory, cache):
    with Display() as display:
        where = (plan, Store(workdir), EXECUTION, display)
        Tester(*where, memory=memory, cache=cache).run(cells)
    frame = read_results(plan, Store(workdir), cells)
    for path in workdir.glob("stages/*/predictions/*.npz"):
        path.unlink()
    return frame


def test_memory_bounds_how_many_members_are_tested_at_once(population, tmp_path, monkeypatch):
    """What is alive on the host and the device stays within the bound, and changes no number."""
    plan, cells, workdir = population
    with Display() as display:
        tester = Tester(plan, Store(workdir), EXECUTION, display, memory=1, cache=tmp_path)
    job = next(iter(plan.jobs.values()))
    each = member_bytes(tester.members.template(job), cells, len(plan.dataset.classes))
    loaded, alive, peaks, save = 0, {}, [], Store.save_predictions

    def states(members, job, chunk):
        nonlocal loaded
        found, loaded = load(members, job, chunk), loaded + 1
        for leaf in jax.tree.leaves(found):  # those that share memory count once, numbers not
            memory = leaf if leaf.base is None else leaf.base
            if isinstance(memory, np.ndarray) and id(memory) not in alive:
                alive[id(memory)] = memory.nbytes
                weakref.finalize(memory, alive.pop, id(memory))
        peaks.append(sum(alive.values()))
        return found

    def saved(store, chunk, cell, arrays):
        device = sum(array.nbytes for array in jax.live_arrays()) - before
        answers = sum(array.nbytes for array in arrays.values())
        peaks.append(sum(alive.values()) + device + answers)
        save(store, chunk, cell, arrays)

    load = Members.states
    whole = results_of(plan, cells, workdir, memory=2**31, cache=tmp_path)
    before = sum(array.nbytes for array in jax.live_arrays())
    monkeypatch.setattr(Members, "states", states)
    monkeypatch.setattr(Store, "save_predictions", saved)
    # counted at once: later the next batch of images is there, too
    monkeypatch.setattr(Writer, "write", lambda _, function, *arguments: function(*arguments))
    memory = 2.5 * CHUNK * each
    bounded = results_of(plan, cells, workdir, memory, cache=tmp_path)
    pd.testing.assert_frame_equal(whole, bounded, check_exact=True)
    assert loaded == POPULATION // CHUNK
    assert CHUNK * each < max(peaks) <= memory  # two chunks, and a batch of images


def test_members_that_are_tested_together_and_take_more_than_is_given_are_refused(
    population, tmp_path
):
    """With the least that would do, whether they are stored already or not; and nothing is lost."""
    plan, cells, workdir = population
    with Display() as display:
        for found in (workdir, tmp_path / "new"):
            tester = Tester(plan, Store(found), EXECUTION, display, 2.0**14, tmp_path)
            asked = tester.run if found == workdir else tester.require
            with pytest.raises(ValueError, match=f"Testing {CHUNK} members .* GiB") as refused:
                asked(cells)
            advice = re.search(r"--eval_memory=([\d.]+) or", str(refused.value))
            assert advice
            tester.memory = float(advice[1]) * 2**30
            tester.require(cells)
    assert not list(workdir.glob("stages/*/predictions/*.npz"))


def test_a_domain_is_compared_with_the_same_classes_at_home(population, tmp_path):
    plan, cells, workdir = population
    with Display() as display:
        where = (plan, Store(workdir), EXECUTION, display)
        Tester(*where, memory=2**31, cache=tmp_path).run(cells)
    store, elsewhere = Store(workdir), cells[-1]
    frame = read_results(plan, store, cells)
    assert elsewhere.key == f"domain-inverted-{elsewhere.digest}"
    for (_, _, seed), fingerprint in plan.ends.items():
        place = store.index()[fingerprint]
        answers = store.load_predictions(place.chunk, elsewhere.key)["label"][place.row]
        own = frame[(frame["seed"] == seed) & (frame["cls"] == "")]
        value = own.set_index(["shift", "metric"])["value"]
        expected = (answers == elsewhere.labels).mean()
        assert value["inverted", "domain_accuracy"] == pytest.approx(expected)
        assert value["inverted", "source_accuracy"] == value["clean", "accuracy"]


def test_the_plan_counts_the_bytes_that_are_stored(population, tmp_path):
    plan, cells, workdir = population
    with Display() as display:
        where = (plan, Store(workdir), EXECUTION, display)
        Tester(*where, memory=2**31, cache=tmp_path).run(cells)
    store, stored = Store(workdir), 0
    for chunk in {place.chunk for place in store.index().values()}:
        for cell in cells:
            arrays = store.load_predictions(chunk, cell.key)
            stored += sum(arrays[name].nbytes for name in arrays if name != MADE_BY)
    assert stored == evaluation_cost(plan, cells, here(EXECUTION)).size


def test_groups_are_as_large_as_fit_and_never_empty():
    sizes = {"a": 4, "b": 4, "c": 2, "d": 9, "e": 1}
    assert list(groups(sizes, 8)) == [["a", "b"], ["c"], ["d"], ["e"]]
    assert list(groups(sizes, 0)) == [[name] for name in sizes]
    assert list(groups(sizes, 100)) == [list(sizes)]
    assert list(groups({}, 1)) == []


def test_lanes_that_are_filled_up_count():
    """In eight lanes four chunks of two take what one does; a fifth takes a round of its own."""
    sizes = dict.fromkeys("abcde", 2)
    assert list(groups(sizes, 8, lanes=8)) == [["a", "b", "c", "d"], ["e"]]
    assert list(groups(sizes, 15, lanes=8)) == [["a", "b", "c", "d"], ["e"]]
    assert list(groups(sizes, 16, lanes=8)) == [list(sizes)]
    assert list(groups(sizes, 5, lanes=8)) == [[name] for name in sizes]


def test_an_interrupted_test_goes_on_where_it_was(population, tmp_path, monkeypatch):
    plan, cells, workdir = population
    whole = results_of(plan, cells, workdir, 2**31, tmp_path)
    asked, predict = [], evaluate.predict_cell

    def breaks(program, execution, rounds, cell, advance):
        asked.append(cell.key)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return predict(program, execution, rounds, cell, advance)

    monkeypatch.setattr(testing.evaluate, "predict_cell", breaks)
    with pytest.raises(KeyboardInterrupt):
        results_of(plan, cells, workdir, 2**31, tmp_path)
    pd.testing.assert_frame_equal(
        results_of(plan, cells, workdir, 2**31, tmp_path), whole, check_exact=True
    )
    assert asked == [cell.key for cell in cells[:3]] + [cell.key for cell in cells[2:]]


def test_cached_images_are_made_once_and_change_nothing(population, tmp_path, monkeypatch):
    plan, cells, workdir = population
    whole = results_of(plan, cells, workdir, 2**31, tmp_path)
    study = dataclasses.replace(plan.study, shift=dataclasses.replace(plan.study.shift, cache=True))
    plan, cells = prepare(study)
    pd.testing.assert_frame_equal(
        results_of(plan, cells, workdir, 2**31, tmp_path), whole, check_exact=True
    )
    files = sorted(tmp_path.rglob("*.npy"))
    assert [len(np.load(file)) for file in files] == [
        len(cell.ids) for cell in cells if cell.severity
    ]
    held = sum(file.stat().st_size for file in files)
    assert shifted.stored_bytes(cells) == held - 128 * len(files)  # numpy's headers
    machine, unkept = here(Execution("loop", 2, 2, 1)), population[0]
    more = total_cost(plan, cells, machine).size - total_cost(unkept, cells, machine).size
    assert more == shifted.stored_bytes(cells)

    monkeypatch.setattr(CellSpec, "batch", only_without_shift(CellSpec.batch))
    pd.testing.assert_frame_equal(
        results_of(plan, cells, workdir, 2**31, tmp_path), whole, check_exact=True
    )


def only_without_shift(batch):
    def guarded(cell, start):
        assert cell.clean or cell.shifted is not None
        return batch(cell, start)

    return guarded


@pytest.mark.parametrize("damage", ["changed", "cut", "foreign", "unsure"])
def test_a_damaged_cache_is_made_again(tmp_path, damage):
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
    cell = CellSpec("contrast", 3, images, np.zeros(9, np.int32), np.arange(9), 0)
    expected = np.asarray(corrupt(images, np.arange(9), "contrast", 3))
    made = shifted.with_images(cell, tmp_path, "data")
    np.testing.assert_array_equal(made.shifted, expected)
    (file,), (note,) = tmp_path.rglob("*.npy"), tmp_path.rglob("*.json")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    if damage == "foreign":
        np.save(file, images[:3])
    elif damage == "unsure":
        note.unlink()
    else:
        file.write_bytes(content if damage == "changed" else content[:-5])
    np.testing.assert_array_equal(shifted.with_images(cell, tmp_path, "data").shifted, expected)


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path):
    images = np.zeros((2, 8, 8, 3), np.uint8)
    cell = CellSpec("contrast", 3, images, np.zeros(2, np.int32), np.arange(2), 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be kept in .*: free space there"):
        shifted.with_images(cell, tmp_path / "file", "data")
