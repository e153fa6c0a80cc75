"""Who runs which rounds in a distributed run, and how long processes wait for each other.

Stages that need nothing of each other make a wave; its rounds are shared, the longest first to
whoever has least. All processes meet after every wave.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rcm.backend import fitted
from rcm.estimate import Machine, here, member_seconds, rounds
from rcm.plan import Job, Plan, Stage
from rcm.sweep import Execution


class Round(NamedTuple):
    """Members of a stage (fingerprints) that run side by side, and how; `begun`: an interrupted
    round that goes on."""

    members: list[str]
    execution: Execution
    begun: bool


def round_of(members: list[str], execution: Sequence, begun: bool) -> Round:
    """A round as it comes through JSON."""
    return Round(members, Execution(*execution), begun)


def split(members: Sequence[str], execution: Execution) -> list[Round]:
    """New rounds of members, as many at a time as there are lanes."""
    starts = range(0, len(members), execution.lanes)
    return [Round(list(members[i : i + execution.lanes]), execution, begun=False) for i in starts]


def shares(costs: Sequence[float], count: int) -> list[list[int]]:
    """The places of the tasks of each of `count` processes, of tasks with these costs.

    The longest first to whoever has least: at most a third longer than the best distribution
    (Graham, "Bounds on multiprocessing timing anomalies", 1969).
    """
    loads, places = [0.0] * count, [[] for _ in range(count)]
    for place in sorted(range(len(costs)), key=lambda place: (-costs[place], place)):
        least = loads.index(min(loads))
        loads[least] += costs[place]
        places[least].append(place)
    return [sorted(own) for own in places]


def waves(stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """The stages of a plan in groups, each of which needs only earlier ones."""
    left, done = list(stages), set()
    while left:
        ready = [s for s in left if all(job.needs <= done for job in s.jobs)]
        yield ready
        done |= {job.fingerprint for stage in ready for job in stage.jobs}
        left = [stage for stage in left if stage not in ready]


def round_seconds(job: Job, machine: Machine) -> float:
    """Estimated seconds of a round of members like `job`; never 0, so that rounds without training
    are shared, too."""
    return 1.0 + machine.execution.lanes * member_seconds(job, machine)


def longest_first(stages: Sequence[Stage], execution: Execution) -> list[Stage]:
    """Stages by what they take, so that none of several commands on a workdir is left with the
    longest one at last."""
    machine = here(execution)

    def seconds(stage: Stage) -> float:
        return round_seconds(stage.first, machine) * rounds(len(stage.jobs), execution)

    return sorted(stages, key=seconds, reverse=True)


class Load(NamedTuple):
    """Estimated seconds of the longest process in every wave together, and the share of all
    processes' time in which they wait for it."""

    seconds: float
    idle: float


def load(plan: Plan, machine: Machine, count: int) -> Load:
    """What training all of a plan in `count` processes like this machine comes to."""
    busy = longest = 0.0
    for wave in waves(plan.stages):
        costs = [
            round_seconds(stage.first, machine)
            for stage in wave
            for _ in range(rounds(len(stage.jobs), machine.execution))
        ]
        loads = [sum(costs[place] for place in own) for own in shares(costs, count)]
        busy, longest = busy + sum(loads), longest + max(loads)
    return Load(longest, 1 - busy / (count * longest))


def unfilled(plan: Plan, machine: Machine) -> float:
    """The share of the devices' estimated training time in which they have no member: populations
    smaller than their number, and last rounds that are not full."""
    whole = taken = 0.0
    for stage in plan.stages:
        seconds, members = member_seconds(stage.first, machine), len(stage.jobs)
        own = fitted(machine.execution, members)
        together = machine.execution.devices * own.lanes / own.devices
        whole += seconds * rounds(members, own) * together
        taken += seconds * members
    return 1 - taken / whole if whole else 0.0
