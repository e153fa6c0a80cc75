"""Which GPUs a task takes, from the variables that Slurm and Open MPI set."""

import itertools

import pytest

from rcm.cluster import own_gpus


def slurm(local, tasks, seen, node=0, **more):
    return {
        "SLURM_LOCALID": str(local), "SLURM_NODEID": str(node), "SLURM_STEP_TASKS_PER_NODE": tasks,
        "CUDA_VISIBLE_DEVICES": seen, **more,
    }  # fmt: skip


EIGHT = "0,1,2,3,4,5,6,7"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (slurm(5, "8(x2)", EIGHT), [5]),  # a task per GPU, none bound: what JAX does
        (slurm(5, "8(x2)", "3"), [0]),  # each bound to one
        (slurm(0, "1(x4)", EIGHT), list(range(8))),  # a task per machine takes it all
        (slurm(1, "2", EIGHT), [4, 5, 6, 7]),
        (slurm(1, "2", "4,5", SLURM_GPUS_PER_TASK="2"), [0, 1]),  # two bound to each
        (slurm(1, "2", "4,5", SLURM_GPUS_PER_TASK="a100:2"), [0, 1]),
        (slurm(3, "8", EIGHT, SLURM_GPUS_PER_TASK="1"), [3]),  # promised to each, and none bound
        (slurm(6, "8", "0,1,2,3"), [2]),  # two tasks share a GPU
        (slurm(1, "8(x2),2", EIGHT, node=2), [4, 5, 6, 7]),  # the third machine has two tasks
        (slurm(1, "8", "GPU-2cd4,GPU-70aa,"), [1]),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
          "CUDA_VISIBLE_DEVICES": EIGHT}, [4, 5, 6, 7]),
        (slurm(1, "2", ""), None),
        (slurm(1, "2", EIGHT, JAX_LOCAL_DEVICE_IDS="3"), None),
        ({"CUDA_VISIBLE_DEVICES": EIGHT}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_task_takes_what_is_bound_to_it_or_its_share(environment, expected):
    assert own_gpus(environment) == expected


@pytest.mark.parametrize(("tasks", "gpus"), [(1, 8), (2, 8), (3, 8), (8, 8)])
def test_shares_are_disjoint_and_together_all(tasks, gpus):
    seen = ",".join(map(str, range(gpus)))
    shares = [own_gpus(slurm(local, str(tasks), seen)) for local in range(tasks)]
    assert sorted(itertools.chain(*shares)) == list(range(gpus))
