"""Imports run one way, and heavy or writing libraries stay where DESIGN puts them."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "rcm").rglob("*.py"))

# Each room, and the rooms it may import.
GUARDS = {"foreign", "words"}  # of what comes from elsewhere
BASE = {"config", "numerics", *GUARDS}
ALLOWED = {
    "config": set(),
    "numerics": set(),
    "foreign": set(),
    "words": set(),
    "data": BASE,
    "models": BASE,
    "shift": BASE,
    "analysis": BASE,
    "files": set(),
    "compress": BASE | {"files", "models"},
    "train": BASE | {"models", "data", "shift", "compress"},
    "sweep": BASE | {"data", "train"},
    "rounds": BASE | {"data", "heap", "sweep", "train"},
    "leaving": {"words"},
    "cluster": set(),
    "native": set(),
    "hosts": {"cluster", "leaving", "native"},
    "compiled": set(),
    "heap": set(),
    "groups": set(),
    "backend": BASE | {"compiled", "groups", "heap", "hosts", "sweep"},
    "calibrate": BASE | {"backend", "exhausted", "files", "records", "rounds", "sweep", "train"},
    "cells": BASE | {"data", "shift"},
    "evaluate": BASE | {"analysis", "cells", "heap", "train", "sweep"},
    "estimate": BASE | {"backend", "cells", "models", "plan", "predictors", "shifted", "sweep"}
    | {"train"},
    "report": BASE | {"analysis"},
    "records": {"files", "foreign"},
    "arrays": {"foreign", "records"},
    "kept": {"arrays", "config", "files", "records"},
    "store": {"arrays", "files", "foreign", "kept", "records"},
    "progress": {"hosts", "words"},
    "shared": {"config", "files", "hosts", "store"},
    "inventory": {"kept", "records", "store"},
    "status": {"inventory", "progress", "store"},
    "verification": {"inventory", "kept", "progress", "records", "results_table", "store"},
    "unreferred": {"config", "inventory", "progress", "store"},
    "upkeep": {"config", "progress", "status", "store", "unreferred", "verification"},
    "schedule": {"backend", "estimate", "plan", "sweep"},
    "writing": set(),
    "exhausted": {"config", "sweep"},
    "memory": BASE | {"backend", "cells", "estimate", "evaluate", "heap", "members", "plan"}
    | {"programs", "rounds", "shift", "sweep", "train"},
    "checkpoints": {"history", "plan", "leaving", "progress", "rounds", "store", "train"}
    | {"writing"},
    "validation": {"config"},
    "steps": {"config", "validation"},
    "scales": {"config"},
    "tails": BASE | {"data"},
    "baselines": BASE | {"steps", "train"},
    "pipelines": BASE | {"baselines", "compress", "data", "steps", "train", "validation"},
    "plan": BASE | {"baselines", "data", "models", "pipelines", "steps", "tails", "train"},
    "members": BASE | {"backend", "compress", "data", "plan"}
    | {"records", "rounds", "store", "sweep", "tails", "train"},
    "history": set(),
    "curves": {"config", "plan", "records"},
    "training": {"checkpoints", "history", "leaving", "members", "plan", "progress", "rounds"}
    | {"sweep", "train", "writing"},
    "programs": {"heap"},
    "run": BASE | {"backend", "calibrate", "estimate", "exhausted", "hosts", "members", "plan"}
    | {"programs", "progress", "records", "rounds", "schedule", "store", "sweep", "training"}
    | {"writing"},
    "shifted": {"cells", "files", "foreign"},
    "testing": BASE | {"backend", "cells", "estimate", "evaluate", "exhausted", "hosts", "members"}
    | {"memory", "plan", "programs", "progress", "records", "schedule", "shifted", "store"}
    | {"sweep", "train", "writing"},
    "populations": BASE | {"analysis", "baselines", "cells", "data", "plan"},
    "pictures": {"analysis", "report"},
    "rows": BASE | {"analysis", "baselines", "cells", "evaluate", "plan", "populations", "shift"},
    "predictors": BASE | {"analysis", "data", "exhausted", "hosts", "members", "plan"}
    | {"progress", "records", "store", "sweep", "train"},
    "references": {"cells", "plan", "predictors"},
    "results": BASE | {"analysis", "baselines", "cells", "evaluate", "plan", "predictors"}
    | {"records", "rows", "store"},
    "forgotten": BASE | {"analysis", "cells", "pictures", "plan", "populations", "report"}
    | {"results", "store"},
    "parity": set(),
    "export": BASE | {"compress", "data", "models", "parity", "store"},
    "study_export": BASE | {"compress", "export", "members", "plan", "progress"}
    | {"records", "store", "sweep", "train"},
    "imported": {"config", "analysis", *GUARDS},
    "answers": {"config", "analysis", "cells", "imported", "plan"},
    "reporting": BASE | {"analysis", "cells", "files", "curves", "forgotten", "plan", "records"}
    | {"report", "shift", "steps", "store", "sweep"},
    "true_labels": {"config", "imported"},
    "answers_alone": {"analysis", "answers", "imported"},
    "answers_together": {"analysis", "answers", "answers_alone", "imported", "pictures", "report"},
    "predictions": {"config", "analysis", "answers", "answers_alone", "answers_together", "data"}
    | {"files", "imported", "overview", "progress", "report", "reporting", "store", "true_labels"}
    | {"shift", "words"},
    "results_table": {"analysis", *GUARDS},
    "comparison": {"config", "analysis", "progress", "report", "results_table", "store", *GUARDS},
    "overview": {"foreign", "records", "report", "store"},
    "preparation": BASE | {"backend", "baselines", "cells", "data", "plan"}
    | {"shift", "validation"},
    "outcome": None,  # the top: anything
    "study": None,
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


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text())


def imports(path):
    """(module, inside a function) of every import statement."""
    tree = tree_of(path)
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
        for node in ast.walk(tree_of(path)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in writers and node.args and room(path) not in ("store", "data"):
                target = ast.unparse(node.args[0])
                assert "buffer" in target, f"{path.name} writes: {ast.unparse(node)}"


def test_training_waits_for_no_library_of_reports():
    """They take as long to import as jax; a module that is None cannot be imported."""
    late = ("pandas", "scipy.stats", "matplotlib", "sklearn", "tensorflow", "rcm.outcome")
    code = f"import sys; sys.modules.update(dict.fromkeys({late})); import rcm.study, launch"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


RUNS_CODE = {"eval", "exec", "__import__", "np.load", "pd.read_pickle", "os.system", "torch.load"}
UNTRUSTING = {"pickle", "marshal", "shelve", "dill", "joblib", "yaml", "tarfile", "subprocess"}
JSON_OF_OWN = {"foreign", "hosts"}  # the only readers; the second of what processes tell each other


def test_nothing_in_a_file_is_run_or_unpacked():
    """Arrays and JSON are read by `rcm.foreign`, which trusts nothing; no archive is unpacked."""
    for path in FILES:
        found = {name.split(".")[0] for name, _ in imports(path)}
        assert found.isdisjoint(UNTRUSTING), f"{path.name} imports {found & UNTRUSTING}"
        calls = (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))
        called = {ast.unparse(call.func) for call in calls}
        assert called.isdisjoint(RUNS_CODE), f"{path.name} calls {called & RUNS_CODE}"
        assert room(path) in JSON_OF_OWN or called.isdisjoint({"json.load", "json.loads"}), (
            path.name
        )
