"""What no study of a workdir refers to, and its deletion: `launch.py --prune_store`."""

import collections
from typing import NamedTuple

from rich.filesize import decimal

from rcm import config, inventory
from rcm.inventory import Chunk
from rcm.progress import Display
from rcm.store import Store

LISTED = 20  # rounds


class Unreferred(NamedTuple):
    """rounds: by name, of members that no study has; predictions: bytes by round and cell, which no
    study that has a member of the round asks for; damaged: bytes of what was set aside, by name;
    left: of what killed writers left, by place; held: how many rounds would go if no process held
    them."""

    rounds: dict[str, Chunk]
    predictions: dict[tuple[str, str], int]
    damaged: dict[str, int]
    left: dict[str, int]
    held: int = 0

    @property
    def what(self) -> str:
        """Such as `12 rounds and 1 damaged round (1.3 GB)`; "" for nothing."""
        counts = {"round": self.rounds, "prediction": self.predictions}
        counts |= {"damaged round": self.damaged, "leaving": self.left}
        told = [f"{len(n):,} {name}{'s' * (len(n) > 1)}" for name, n in counts.items() if n]
        sizes = [*self.predictions.values(), *self.damaged.values(), *self.left.values()]
        size = sum(sizes) + sum(chunk.size for chunk in self.rounds.values())
        return f"{' and '.join(told)} ({decimal(size)})" if told else ""


def prune(store: Store, yes: bool, display: Display) -> None:
    """Tell what nothing refers to and delete it if the user agrees, unasked with `yes`. Raises
    ValueError where a study does not say what it refers to."""
    found = find(store)
    for line in listing(found):
        display.say(line)
    if not found.what:
        display.say("Nothing to delete: studies refer to all that is there.")
    elif yes or display.ask(f"Delete {found.what}?"):
        found = common(found, find(store))  # a study may have begun while the question stood
        for name in delete(store, found):
            display.say(f"round {name} stays: a process has taken its stage.")
            del found.rounds[name]
        display.say(f"Deleted {found.what or 'nothing'}.")
    else:
        display.say("Nothing was deleted; --yes deletes without asking.")


def find(store: Store) -> Unreferred:
    """What nothing refers to. Raises ValueError where a study does not say what it refers to.

    Rounds whose notes cannot be read stay: the next run sets them aside.
    """
    asking = referred(store)
    found = [chunk for chunk in inventory.chunks(store) if not chunk.fault]
    running = inventory.held(store, [chunk.stage for chunk in found])
    rounds, predictions, held = {}, {}, 0
    for chunk in found:
        asked = [cells for members, cells in asking if not members.isdisjoint(chunk.members)]
        if chunk.stage in running:
            held += not asked
        elif not asked:
            rounds[chunk.name] = chunk
        else:
            left = chunk.predictions.keys() - frozenset().union(*asked)
            predictions |= {(chunk.name, cell): chunk.predictions[cell] for cell in sorted(left)}
    aside = (inventory.damaged(store), inventory.leavings(store))
    return Unreferred(rounds, predictions, *aside, held)


def referred(store: Store) -> list[tuple[frozenset[str], frozenset[str]]]:
    """The members and the cells of every study."""
    known, silent = [], []
    for folder in inventory.studies(store):
        if folder.references:
            cells = frozenset().union(*(cells for _, cells in folder.references.tested))
            known.append((folder.references.members, cells))
        else:
            silent.append(folder.path.name)
    config.require(
        not silent,
        f"{', '.join(silent)} in {store.root}: these folders do not say which rounds they refer "
        "to, so nothing is deleted. Run their studies again (--report_only is enough where they "
        "are finished), or remove the folders.",
    )
    return known


def listing(found: Unreferred) -> list[str]:
    """A line for each round, cell and damaged round that would go."""
    rounds = list(found.rounds.values())
    lines = [f"round {one.name}: {one.what}, {decimal(one.size)}" for one in rounds[:LISTED]]
    if more := rounds[LISTED:]:
        lines.append(f"{len(more):,} more rounds: {decimal(sum(one.size for one in more))}")
    cells: dict[str, list[int]] = collections.defaultdict(list)
    for (_, cell), size in found.predictions.items():
        cells[cell].append(size)
    lines += [f"predictions {c} of {len(n):,} rounds: {decimal(sum(n))}" for c, n in cells.items()]
    lines += [f"damaged {name}: {decimal(size)}" for name, size in found.damaged.items()]
    lines += [f"left by a killed process, {p}: {decimal(n)}" for p, n in found.left.items()]
    if found.held:
        lines.append(f"{found.held:,} more are held by a running process and stay.")
    return lines


def common(one: Unreferred, other: Unreferred) -> Unreferred:
    """What both have, as it was found last."""
    return Unreferred(
        {name: chunk for name, chunk in other.rounds.items() if name in one.rounds},
        {key: size for key, size in other.predictions.items() if key in one.predictions},
        {name: size for name, size in other.damaged.items() if name in one.damaged},
        {place: size for place, size in other.left.items() if place in one.left},
    )


def delete(store: Store, found: Unreferred) -> list[str]:
    """Delete what was found, each round under its stage's lock; the rounds whose lock is taken,
    which stay."""
    taken = []
    for name, chunk in found.rounds.items():
        with store.lock(chunk.stage, wait=False) as free:
            if free:
                store.remove(name)
            else:
                taken.append(name)
    for chunk, cell in found.predictions:
        store.drop_predictions(chunk, cell)
    for name in found.damaged:
        store.remove_damaged(name)
    for place in found.left:
        store.remove_leavings(place)
    return taken
