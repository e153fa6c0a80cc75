"""Which GPUs of a machine a process takes that a cluster started.

JAX gives the i-th task on a machine the i-th GPU that it sees (issues 16788, 23452 and 29669 of
jax-ml/jax), which is none where Slurm has bound a single one to each task, and one of eight where
a machine has one task.
"""

from collections.abc import Mapping


def own_gpus(environment: Mapping[str, str]) -> list[int] | None:
    """Places, among the GPUs that this process sees, of those that it takes: all that are bound to
    it, else its share. None leaves it to JAX: without a cluster, without a list of what is seen
    (CUDA_VISIBLE_DEVICES), or where the user says it (JAX_LOCAL_DEVICE_IDS)."""
    seen = len(list(filter(None, environment.get("CUDA_VISIBLE_DEVICES", "").split(","))))
    place = _place(environment)
    if not seen or place is None or "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    index, tasks = place
    bound = environment.get("SLURM_GPUS_PER_TASK", "")  # a number, perhaps behind a type
    if bound.rpartition(":")[2] == str(seen):  # else those of all tasks are seen
        return list(range(seen))
    if seen < tasks:
        return [index % seen]
    return list(range(index * seen // tasks, (index + 1) * seen // tasks))


def _place(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Which task this is among how many on its machine, as Slurm or Open MPI tell it."""
    if "OMPI_COMM_WORLD_LOCAL_RANK" in environment:
        names = ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")
        return int(environment[names[0]]), int(environment[names[1]])
    names = ("SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_TASKS_PER_NODE")
    if not all(name in environment for name in names):
        return None
    index, machine, per_machine = (environment[name] for name in names)
    counts: list[int] = []
    for part in per_machine.split(","):  # such as 8(x2),4
        count, _, times = part.rstrip(")").partition("(x")
        counts += [int(count)] * int(times or 1)
    return int(index), counts[int(machine)]
