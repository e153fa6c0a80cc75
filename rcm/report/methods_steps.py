"""Steps of a pipeline in words, from their plain form: `config.plain` of a step."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Plain = Mapping[str, Any]

SCOPES = {
    "layer": "of each kernel's weights",
    "global": "of all kernels' weights together",
    "erk": "of the weights (shared among kernels by the Erdős-Rényi-kernel rule)",
}
SCORES = {
    "magnitude": "by magnitude",
    "random": "at random",
    "taylor": "by the first-order change of the loss",
    "movement": "by movement away from zero",
}
FILTER_SCORES = {"l1": "L1 norm", "l2": "L2 norm", "scale": "batch-norm scale"}
CLUSTERED = {
    "plus_plus": "k-means++",
    "random": "k-means from random weights",
    "density": "k-means from equal shares of the weights",
    "linear": "k-means from even spaces",
    "exact": "exact k-means",
}
DISTILLED = {
    "hinton": "softened predictions",
    "decoupled": "decoupled softened predictions",
    "class_balanced": "class-balanced softened predictions",
    "attention": "attention maps",
    "features": "features",
}


def pipelines_in_words(pipelines: Sequence[Plain]) -> tuple[tuple[str, str], ...]:
    """(name, words) of every pipeline; a step that is all of another pipeline is called by its
    name."""
    single = {_key(p["steps"][0]): p["name"] for p in pipelines if len(p["steps"]) == 1}
    return tuple((p["name"], _chain(p, single)) for p in pipelines)


def _chain(pipeline: Plain, single: Mapping[str, str]) -> str:
    named = {key: name for key, name in single.items() if name != pipeline["name"]}
    return "; then ".join(_called(step, named) for step in pipeline["steps"])


def _called(step: Plain, named: Mapping[str, str]) -> str:
    if _key(step) in named:
        return f"as {named[_key(step)]}"
    if step["type"] in WRAPPED:
        return WRAPPED[step["type"]](step, _called(step["step"], named))
    return WORDS[step["type"]](step)


def _key(step: Plain) -> str:
    return json.dumps(step, sort_keys=True)


def joined(words: Sequence[Any]) -> str:
    """ "1, 10 and 100"."""
    texts = [f"{word:g}" if isinstance(word, float) else str(word) for word in words]
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def counted(number: int, thing: str) -> str:
    """ "1 step", "2,500 steps"."""
    return f"{number:,} {thing if number == 1 else plural(thing)}"


def plural(thing: str) -> str:
    return f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"


def _finetune(step: Plain) -> str:
    return "fine-tuning without compression"


def _replica(step: Plain) -> str:
    return "the dense network of another seed, which the study does not use otherwise"


def _student(step: Plain) -> str:
    network = step["name"] or "the study's network"
    return f"{network} at width {step['width']}" if step["width"] else network


def _scratch(step: Plain) -> str:
    budget = f" for {counted(step['steps'], 'step')}" if step["steps"] else ""
    return f"{_student(step)} trained from scratch without a teacher{budget}"


def _distill(step: Plain) -> str:
    many = step["teachers"] > 1
    teacher = f"{step['teachers']} networks of consecutive seeds" if many else "its parent"
    return (
        f"{_student(step)} as a student that learns from the {DISTILLED[step['kind']]} of "
        f"{teacher} (temperature {step['temperature']:g}, weight {step['mixing']:g} beside "
        f"{1 - step['mixing']:.4g} of the labels)"
    )


def _prune(step: Plain) -> str:
    group, share = step["group"], step["sparsity"]
    if step["structure"] == "n_of_m":
        what = f"{group - round(share * group)} of every {group} neighbouring input weights kept"
        return f"pruning with {what}, {SCORES[step['score']]}{_schedule(step)}"
    blocks = f", in blocks of {group}" if step["structure"] == "block" else ""
    scope = SCOPES[step["scope"]]
    return f"pruning of {percent(share)} {scope} {SCORES[step['score']]}{blocks}{_schedule(step)}"


def _schedule(step: Plain) -> str:
    if step["schedule"] == "oneshot":
        return ", at once and then fine-tuned"
    if step["begin"] == step["end"]:
        return f", at once after {percent(step['begin'])} of the steps"
    return (
        f", along a cubic schedule from {percent(step['begin'])} to {percent(step['end'])} of the "
        f"steps, every {counted(step['every'], 'step')}"
    )


def _filters(step: Plain) -> str:
    rates = joined([f"{100 * rate:.4g}" for rate in step["rates"]])
    stages = " in the stages in turn" if len(step["rates"]) > 1 else ""
    own = [f"{100 * rate:.4g} % in {where}" for where, rate in step["exceptions"]]
    but = f", but {joined(own)}" if own else ""
    streams = ", residual streams included" if step["streams"] else ""
    return (
        f"pruning of {rates} % of the filters{stages} by {FILTER_SCORES[step['score']]}{but}"
        f"{streams}, at once and then fine-tuned"
    )


def _dynamic(step: Plain) -> str:
    name = {"gradient": "RigL", "random": "SET"}[step["growth"]]
    where = {"gradient": "the gradient is largest", "random": "chance wants"}[step["growth"]]
    falling = ", falling along a cosine" if step["decay"] == "cosine" else ""
    return (
        f"{name}, sparse training in which {percent(step['sparsity'])} {SCOPES[step['scope']]} are "
        f"zero and, every {counted(step['every'], 'step')} until {percent(step['end'])} of them, "
        f"{percent(step['fraction'])} of the others{falling}, move to where {where}"
    )


def _quantize(step: Plain) -> str:
    words = [f"{step['weights']} weights{_granularity(step)}"]
    words += ["ranges of weights by least squared error"] * (step["weight_range"] == "mse")
    words += [f"{step['edge_bits']} bits in the first and the last layer"] * (step["edge_bits"] > 0)
    words += [f"biases of {step['bias_bits']} bits"] * (step["bias_bits"] > 0)
    if step["activations"] == "dynamic":
        words.append("ranges of activations from each image")
    elif step["activation_bits"]:
        seen = counted(step["calibration_images"], "training image")
        words.append(f"ranges of activations by the {_calibration(step)} of {seen}")
    return f"post-training quantization to {_bits(step)} ({'; '.join(words)})"


def _calibration(step: Plain) -> str:
    methods = {
        "minmax": "smallest and largest value",
        "moving_average": "moving average of smallest and largest values",
        "percentile": f"{step['percentile']:g}th percentile",
        "mse": "least squared error",
    }
    return methods[step["calibration"]]


def _qat(step: Plain) -> str:
    words = ["learned step sizes" if step["step"] == "learned" else "grids that follow the ranges"]
    words += [f"{step['edge_bits']} bits in the first and the last layer"] * (step["edge_bits"] > 0)
    words += [f"activations from {percent(step['delay'])} of the steps on"] * (step["delay"] > 0)
    words += [f"batch norms frozen from {percent(step['freeze'])} on"] * (step["freeze"] < 1)
    where = _granularity(step)
    return f"quantization-aware training at {_bits(step)}{where} ({'; '.join(words)})"


def _bits(step: Plain) -> str:
    activations = f"{step['activation_bits']}-bit" if step["activation_bits"] else "float"
    return f"{step['bits']}-bit weights and {activations} activations"


def _granularity(step: Plain) -> str:
    return "" if step["granularity"] == "auto" else f" per {step['granularity']}"


def _cast(step: Plain) -> str:
    return f"kernels stored as {step['format']}"


def _cluster(step: Plain) -> str:
    where = "for an output channel" if step["per_channel"] else "for a kernel"
    own = [f"{number or 'any number'} in {place}" for place, number in step["exceptions"]]
    words = [CLUSTERED[step["start"]], *["zeros stay"] * step["pin_zero"], *own]
    return (
        f"weight clustering to {step['clusters']} values {where} ({'; '.join(words)}), fine-tuned"
    )


def _adjust(step: Plain) -> str:
    return (
        f"logits adjusted after training by {step['tau']:g} times the log of each class's share of "
        "the training images"
    )


def _tuned(step: Plain, inner: str) -> str:
    changes = joined([f"{name.replace('_', ' ')} {_value(v)}" for name, v in step["changes"]])
    return f"{inner}, but with {changes}" if changes else inner


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ") or "none"


def _rewound(step: Plain, inner: str) -> str:
    what = "weights and learning rates go" if step["weights"] else "learning rates go"
    return f"{inner}; {what} back to {percent(step['to'])} of the main training"


def _from_start(step: Plain, inner: str) -> str:
    return f"{inner}; on the untrained network, by the main recipe"


WORDS: dict[str, Callable[[Plain], str]] = {
    "Finetune": _finetune,
    "Replica": _replica,
    "Scratch": _scratch,
    "Distill": _distill,
    "Prune": _prune,
    "PruneFilters": _filters,
    "DynamicSparse": _dynamic,
    "Quantize": _quantize,
    "QAT": _qat,
    "Cast": _cast,
    "Cluster": _cluster,
    "Adjust": _adjust,
}
WRAPPED: dict[str, Callable[[Plain, str], str]] = {
    "Tuned": _tuned,
    "Rewound": _rewound,
    "FromStart": _from_start,
}
