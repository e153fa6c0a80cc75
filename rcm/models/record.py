"""A network as plain data and back: the class of its module and that module's fields."""

import dataclasses
from typing import Any, get_origin

import flax.linen as nn
import jax.numpy as jnp

from rcm.config import choose, require
from rcm.models import MODELS

CLASSES = {constructor.func.__name__: constructor.func for constructor in MODELS.values()}
LARGEST = 2**20  # of a field; refuses numbers that would only fill the memory
LARGEST_BLOCKS = 2**10  # of a depth or of the blocks of a stage
PRECISIONS = ("float32", "bfloat16", "float16")


def network_fields(network: nn.Module) -> dict[str, Any]:
    """A module of `rcm.models` as JSON-ready data. ValueError for another module."""
    kind = type(network).__name__
    require(
        CLASSES.get(kind) is type(network),
        f"{kind} is no network of rcm.models, which alone can be described in a file.",
    )
    fields = {name: getattr(network, name) for name in _names(type(network))}
    return {"class": kind, **fields, "dtype": jnp.dtype(fields["dtype"]).name}


def read_network(fields: Any) -> Any:
    """The inverse of `network_fields`. ValueError for anything that it does not give."""
    require(isinstance(fields, dict), "A network must be described by its class and its fields.")
    choose("class of networks", str(fields.get("class")), CLASSES)
    kind = CLASSES[fields["class"]]
    names = _names(kind)
    given = fields.keys() - {"class"}
    require(
        given == set(names),
        f"A {kind.__name__} has the fields {', '.join(names)}, not {', '.join(sorted(given))}.",
    )
    choose("dtype", str(fields["dtype"]), PRECISIONS)
    read = {name: _tuples(fields[name]) for name in names if name != "dtype"}
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    for name, value in read.items():
        expected = get_origin(types[name]) or types[name]
        limit = LARGEST_BLOCKS if name in ("depth", "blocks") else LARGEST
        many = name == "blocks" and _total(value) > limit  # each costs time before any is refused
        require(
            type(value) is expected and _plausible(value, limit) and not many,
            f"The field {name} of a {kind.__name__} cannot be {fields[name]!r}.",
        )
    return kind(**read, dtype=jnp.dtype(fields["dtype"]))


def _names(kind: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(kind) if f.name not in ("parent", "name")]


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _total(value: Any) -> int:
    parts = value if isinstance(value, tuple) else ()
    return sum(part for part in parts if isinstance(part, int))


def _plausible(value: Any, limit: int) -> bool:
    if isinstance(value, tuple):
        return len(value) <= LARGEST_BLOCKS and all(_plausible(part, limit) for part in value)
    if isinstance(value, bool | str | float):
        return True
    return type(value) is int and 0 <= value <= limit
