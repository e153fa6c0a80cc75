"""Imports run one way, and heavy or writing libraries stay where DESIGN puts them."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "rcm").rglob("*.py"))

# Each room, and the rooms it may import.
BASE = {"config", "numerics"}
ALLOWED = {
    "config": set(),
    "numerics": set(),
    "data": BASE,
    "models": BASE,
    "shift": BASE,
    "analysis": BASE,
    "files": set(),
    "compress": BASE | {"files", "models"},
    "train": BASE | {"models", "data", "shift", "compress"},
    "sweep": BASE | {"data", "train"},
    "rounds": BASE | {"data", "sweep", "train"},
    "leaving": set(),
    "hosts": {"leaving"},
    "backend": BASE | {"hosts", "sweep"},
    "calibrate": BASE | {"backend", "files", "records", "rounds", "sweep", "train"},
    "cells": BASE | {"data", "shift"},
    "evaluate": BASE | {"cells", "train", "sweep"},
    "estimate": BASE | {"backend", "cells", "models", "plan", "predictors", "shifted", "sweep"}
    | {"train"},
    "report": BASE | {"analysis"},
    "records": set(),
    "arrays": {"records"},
    "kept": {"arrays", "files", "records"},
    "store": {"arrays", "files", "kept", "records"},
    "inventory": {"kept", "records", "store"},
    "progress": {"hosts"},
    "status": {"inventory", "store"},
    "verification": {"inventory", "kept", "progress", "records", "store"},
    "unreferred": {"config", "inventory", "progress", "store"},
    "upkeep": {"config", "progress", "status", "store", "unreferred", "verification"},
    "schedule": {"estimate", "plan", "sweep"},
    "writing": set(),
    "memory": {"config", "sweep"},
    "checkpoints": {"history", "plan", "leaving", "progress", "store", "train", "writing"},
    "validation": {"config"},
    "steps": {"config", "validation"},
    "scales": {"config"},
    "tails": BASE | {"data"},
    "pipelines": BASE | {"compress", "data", "steps", "train", "validation"},
    "plan": BASE | {"data", "models", "pipelines", "steps", "tails", "train"},
    "members": BASE | {"backend", "compress", "data", "plan"}
    | {"records", "rounds", "store", "sweep", "tails", "train"},
    "history": {"config", "plan", "store"},
    "training": {"checkpoints", "history", "leaving", "members", "plan", "progress", "rounds"}
    | {"sweep", "train", "writing"},
    "run": BASE | {"backend", "calibrate", "estimate", "hosts", "members", "memory", "plan"}
    | {"progress", "records", "rounds", "schedule", "store", "sweep", "training", "writing"},
    "shifted": {"cells", "files"},
    "testing": {"cells", "estimate", "evaluate", "hosts", "members", "memory", "plan", "progress"}
    | {"records", "schedule", "shifted", "store", "sweep", "train", "writing"},
    "populations": BASE | {"analysis", "cells", "data", "plan"},
    "rows": BASE | {"analysis", "cells", "evaluate", "plan", "populations", "shift"},
    "predictors": BASE | {"analysis", "data", "hosts", "members", "plan", "progress", "records"}
    | {"store", "sweep", "train"},
    "references": {"cells", "plan", "predictors"},
    "results": BASE | {"analysis", "cells", "evaluate", "plan", "predictors", "records"}
    | {"rows", "store"},
    "forgotten": BASE | {"analysis", "cells", "plan", "populations", "report", "results", "store"},
    "parity": set(),
    "export": BASE | {"compress", "data", "models", "parity", "store"},
    "study_export": BASE | {"compress", "export", "members", "plan", "progress"}
    | {"records", "store", "sweep", "train"},
    "imported": {"config", "analysis"},
    "answers": {"config", "analysis", "cells", "imported", "plan"},
    "reporting": BASE | {"analysis", "cells", "files", "forgotten", "history", "plan", "records"}
    | {"report", "shift", "steps", "store", "sweep"},
    "true_labels": {"config", "imported"},
    "answers_alone": {"analysis", "answers", "imported"},
    "answers_together": {"analysis", "answers", "imported"},
    "predictions": {"config", "analysis", "answers", "answers_alone", "answers_together", "data"}
    | {"files", "imported", "overview", "progress", "report", "reporting", "store", "true_labels"},
    "comparison": {"config", "analysis", "progress", "report", "store"},
    "overview": {"records", "report", "store"},
    "preparation": BASE | {"backend", "cells", "data", "plan", "populations", "reporting"}
    | {"shift", "validation"},
    "study": None,  # the top: anything
}  # fmt: skip

ONLY_IN = {
    "tensorflow": {"data", "export"},
    "tensorflow_datasets": {"data"},
    "ai_edge_litert": {"export"},
    "orbax": {"arrays"},
    "absl": set(),
}
LAZY = {
    "rcm.data.cifar100_c"
}  # files whose classes need such a library: imported lazily as a whole


def imports(path):
    """(module, inside a function) of every import statement."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.module == "rcm":
                names = [f"rcm.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) not in top


def room(path):
    parts = path.relative_to(ROOT / "rcm").parts
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    own = room(path)
    if own == "__init__":
        return
    own_file = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for name, inner in imports(path):
        parts = name.split(".")
        if parts[0] == "rcm" and len(parts) > 1 and ALLOWED[own] is not None:
            assert parts[1] in ALLOWED[own] | {own}, f"{own} must not import {name}"
        if parts[0] in ONLY_IN:
            assert own in ONLY_IN[parts[0]], f"{own} must not import {name}"
            assert inner or parts[0] == "orbax" or own_file in LAZY, (
                f"{name} must be imported lazily"
            )
        assert inner or name not in LAZY, f"{name} must be imported lazily"
        if own in ("analysis", "report"):
            assert parts[0] not in ("jax", "flax"), f"{own} is numpy only"


def test_only_the_store_and_the_array_cache_write():
    writers = {"write_text", "write_bytes", "to_csv", "to_parquet", "savez", "savefig"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in writers and node.args and room(path) not in ("store", "data"):
                target = ast.unparse(node.args[0])
                assert "buffer" in target, f"{path.name} writes: {ast.unparse(node)}"
