"""What a page says about the run behind it."""

from rcm.reporting import hardware_of, run_notes, versions


def test_versions_of_all_rounds_are_told():
    first = {"source": "abc", "environment": {"jax": "0.10.2", "devices": 2}}
    second = {"source": "abc", "environment": {"jax": "0.11.2", "devices": 2}}
    assert versions([first, second, first]) == {
        "rcm source": "abc",
        "jax": "0.10.2 and 0.11.2",
        "devices": "2",
    }


def record(stage, devices, source="abc", lanes=4, steps=1):
    execution = ["vmap", lanes, devices, steps]
    environment = {"jax": "0.10.2", "devices": devices}
    labels = [f"{stage} ratio 10 seed 0"]
    return {"labels": labels, "execution": execution, "environment": environment, "source": source}


def test_rounds_of_one_kind_need_no_note():
    assert run_notes([record("dense", 2), record("finetune", 2, steps=25)]) == []


def test_the_page_says_which_rounds_ran_elsewhere():
    """A study that was begun on eight devices and ended on three."""
    found = run_notes([record("dense", 8, lanes=8), record("finetune", 3, lanes=3),
                       record("prune 50%", 3, lanes=3)])  # fmt: skip
    assert found == [
        "Rounds differ in their environment (devices 8: dense; devices 3: finetune, prune 50%).",
        "Rounds differ in their execution (vmap with 8 lanes on 8 devices: dense; vmap with 3 "
        "lanes on 3 devices: finetune, prune 50%).",
    ]
    alone = run_notes([record("dense", 1, lanes=1), record("finetune", 2, lanes=2)])
    assert "vmap with 1 lane on 1 device: dense; vmap with 2 lanes on 2 devices" in alone[1]
    many = [record(f"stage {i}", 1, source="old" if i else "new") for i in range(7)]
    assert run_notes(many) == [
        "Rounds differ in their source (new: stage 0; old: stage 1, stage 2, stage 3, stage 4 and "
        "2 more)."
    ]


def test_the_page_says_in_how_many_processes():
    rounds = [{"hardware": "2 CPU cores", "process": i} for i in (0, 1, 1)]
    assert hardware_of(rounds) == "2 CPU cores, in 2 processes"
    assert hardware_of([{"hardware": "2 CPU cores"}]) == "2 CPU cores"
