"""What a study refers to in the workdir's stages, for its folder: what nothing refers to may go."""

from collections.abc import Sequence
from typing import Any

from rcm.cells import Spec, is_tested
from rcm.plan import Plan
from rcm.predictors import dense_jobs, file_name


def references(plan: Plan, cells: Sequence[Spec]) -> dict[str, Any]:
    """`members`: fingerprints of all member-stages; `tested`: groups of members that answer the
    same cells, of which each dense member has one more for its predictors of harm."""
    pipelines = {pipeline for pipeline, _, _ in plan.ends}
    answered = {
        pipeline: tuple(cell.key for cell in cells if is_tested(cell, pipeline))
        for pipeline in pipelines
    }
    groups: dict[tuple[str, ...], set[str]] = {}
    for (pipeline, _, _), member in plan.ends.items():
        groups.setdefault(answered[pipeline], set()).add(member)
    for job in dense_jobs(plan):
        groups.setdefault((file_name(plan, job),), set()).add(job.fingerprint)
    tested = [{"members": sorted(own), "cells": list(keys)} for keys, own in groups.items()]
    return {"members": sorted(plan.jobs), "tested": tested}
