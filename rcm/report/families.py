"""Families of techniques, in which figures of many pipelines show them."""

from collections.abc import Sequence

from rcm.analysis.statistics import PipelineInfo

Pipelines = Sequence[PipelineInfo]

SEVERAL = "several techniques"
FAMILIES = {
    **dict.fromkeys(("prune", "prune_filters", "dynamic_sparse"), "pruning"),
    **dict.fromkeys(("quantize", "qat", "cast"), "quantization"),
    "cluster": "clustering",
    "adjust": "logit adjustment",
}  # of techniques; another one is a family of its own


def by_family(pipelines: Pipelines) -> dict[str, Pipelines]:
    """Pipelines by what they are made of, each family with the references it is compared with."""
    members: dict[str, list[PipelineInfo]] = {}
    for pipeline in pipelines:
        kinds = {FAMILIES.get(name, name) for name in pipeline.techniques}
        if kinds or pipeline.kind == "student":
            family = "distillation" if not kinds else SEVERAL if len(kinds) > 1 else kinds.pop()
            members.setdefault(family, []).append(pipeline)
    return {family: _with_references(own, pipelines) for family, own in members.items()}


def _with_references(own: Pipelines, pipelines: Pipelines) -> list[PipelineInfo]:
    """The pipelines, their baselines and the dense parent, in the order of display."""
    baselines = {pipeline.baseline for pipeline in own}
    return [p for p in pipelines if p in own or p.name in baselines or p.kind == "dense"]
