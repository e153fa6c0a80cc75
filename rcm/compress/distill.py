"""Knowledge distillation: what a student's loss asks of it beside the labels.

Every kind is a function of a `Lesson` and gives a loss for each example [B], float32, for the
caller to weigh and average: mixing * this + (1 - mixing) * cross entropy. The teacher never gets a
gradient. Self-distillation is any of them with a teacher of the student's own architecture.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

PROJECTION = "projection"  # of a student's params while it learns features of another width
LENGTH_EPSILON = 1e-12  # added to an attention map's squared length


class Seen(NamedTuple):
    """What a network shows of a batch: logits [B, C] and the outputs of its stages, each
    [B, H, W, channels], () where the kind asks for none."""

    logits: Array
    features: tuple[Array, ...] = ()


class Lesson(NamedTuple):
    """labels int [B]; temperature: a traced scalar, 0 is read as 1; constants: traced numbers of
    the kind; projection: see `hint_loss`."""

    student: Seen
    teacher: Seen
    labels: Array
    temperature: Array | float
    constants: Mapping[str, Any] | None = None
    projection: Mapping[str, Array] | None = None


def distillation_loss(
    student_logits: Array, teacher_logits: Array, temperature: Array | float
) -> Array:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) of each example, in nats.

    Logits [B, C] of any float dtype (Hinton, Vinyals & Dean 2015, arXiv 1503.02531). T^2 keeps the
    gradient's size whatever T. A temperature of 0 is read as 1, so that a member whose distillation
    is switched off (mixing 0) stays finite.
    """
    temperature = _temperature(temperature)
    student, teacher = _softened(student_logits, teacher_logits, temperature)
    return temperature**2 * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)


def ensemble_logits(logits: Sequence[Array], temperature: Array | float) -> Array:
    """Logits [B, C] of a teacher that predicts the mean of its members' softened probabilities.

    logits: one [B, C] for each member, of any float dtype; one alone is given back as it is. Else
    the result is float32, T log mean softmax(logits / T), so that at this temperature its softmax
    is that mean (the arithmetic mean of section 5.1 in Hinton et al. 2015).
    """
    if len(logits) == 1:
        return logits[0]
    temperature = _temperature(temperature)
    soft = [jax.nn.log_softmax(member.astype(jnp.float32) / temperature) for member in logits]
    return temperature * (jax.nn.logsumexp(jnp.stack(soft), axis=0) - jnp.log(len(logits)))


def decoupled_terms(
    student_logits: Array, teacher_logits: Array, labels: Array, temperature: Array | float
) -> tuple[Array, Array]:
    """(target, others), each [B] in nats: the two parts of Hinton's loss (Zhao et al. 2022, arXiv
    2203.08679). With p the teacher's softened probability of the label, that is
    target + (1 - p) others.

    target: T^2 KL between the two-way splits (label, all others); others: T^2 KL between the
    distributions over the other classes, among themselves.
    """
    temperature = _temperature(temperature)
    student, teacher = _softened(student_logits, teacher_logits, temperature)
    is_label = jnp.arange(student.shape[-1])[None, :] == labels[:, None]

    def split(log_p: Array) -> tuple[Array, Array]:
        of_label = jnp.take_along_axis(log_p, labels[:, None], axis=1)
        of_others = jax.nn.logsumexp(log_p, axis=1, keepdims=True, where=~is_label)
        return jnp.concatenate([of_label, of_others], axis=1), log_p - of_others

    (student_pair, student_rest), (teacher_pair, teacher_rest) = split(student), split(teacher)
    target = jnp.sum(jnp.exp(teacher_pair) * (teacher_pair - student_pair), axis=1)
    rest = jnp.where(is_label, 0, jnp.exp(teacher_rest) * (teacher_rest - student_rest))
    return temperature**2 * target, temperature**2 * jnp.sum(rest, axis=1)


def class_balanced_loss(
    student_logits: Array,
    teacher_logits: Array,
    class_weight: Array,
    temperature: Array | float,
) -> Array:
    """T^2 KL(teacher' || student) of each example, in nats.

    teacher' is the teacher's softened prediction times the class weights [C], normalised (Zhang et
    al. 2021, arXiv 2104.10510; there the weights come from the effective numbers of images, and the
    labels' own loss stays unweighted).
    """
    temperature = _temperature(temperature)
    student, teacher = _softened(student_logits, teacher_logits, temperature)
    teacher = jax.nn.log_softmax(teacher + jnp.log(class_weight)[None, :])
    return temperature**2 * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)


def attention_loss(student: Sequence[Array], teacher: Sequence[Array]) -> Array:
    """Squared difference of attention maps, mean over positions and summed over matched stages, of
    each example (Zagoruyko & Komodakis 2017, arXiv 1612.03928).

    student, teacher: outputs of stages [B, H, W, channels]. A map is the sum over channels of
    squares, brought to unit length over its positions. Stages are matched from the last backwards;
    of two maps of different size the larger is averaged down to the smaller.
    """
    loss = jnp.float32(0)
    for ours, theirs in matched(student, teacher):
        maps = [jnp.square(x.astype(jnp.float32)).sum(-1) for x in (ours, theirs)]
        ours, theirs = (_unit(x) for x in same_size(*maps))
        loss = loss + jnp.square(ours - lax.stop_gradient(theirs)).mean(1)
    return loss


def hint_loss(
    student: Sequence[Array],
    teacher: Sequence[Array],
    projection: Mapping[str, Array] | None = None,
) -> Array:
    """Mean squared difference between the features of one stage, of each example: FitNets' hint
    (Romero et al. 2015, arXiv 1412.6550).

    The stage is the middle one of those that match, as for attention. The student's channels go
    through the trained projection {"weight" [own, teacher's], "bias"}, a 1 x 1 convolution, unless
    it is None: the identity. FitNets trains hints in a stage before distillation; here it is one
    loss with the labels', as in Tian et al. 2020 (arXiv 1910.10699).
    """
    ours, theirs = hint_stage(student, teacher)
    ours, theirs = ours.astype(jnp.float32), theirs.astype(jnp.float32)
    if projection is not None:
        ours = ours @ projection["weight"] + projection["bias"].reshape(1, 1, 1, -1)
    ours, theirs = same_size(ours, theirs)
    return jnp.square(ours - lax.stop_gradient(theirs)).mean((1, 2, 3))


def matched(student: Sequence[Any], teacher: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Pairs of stages, first to last, matched from the last backwards."""
    count = min(len(student), len(teacher))
    return list(zip(student[-count:], teacher[-count:], strict=True))


def hint_stage(student: Sequence[Any], teacher: Sequence[Any]) -> tuple[Any, Any]:
    """The pair whose features FitNets compares: the middle one, the later of two."""
    pairs = matched(student, teacher)
    return pairs[len(pairs) // 2]


def make_projection(key: Array, inputs: int, outputs: int) -> dict[str, Array] | None:
    """A projection for `hint_loss`; None where the widths agree.

    No leaf is called `kernel`, so that no compressor takes it for a part of the network.
    """
    if inputs == outputs:
        return None
    weight = jax.nn.initializers.lecun_normal()(key, (inputs, outputs))
    return {"weight": weight, "bias": jnp.zeros(outputs)}


def same_size(a: Array, b: Array) -> tuple[Array, Array]:
    """Both [B, H, W, ...] on the smaller grid: means over windows where the sizes divide, else
    linear interpolation with antialiasing."""
    height, width = (min(sizes) for sizes in zip(a.shape[1:3], b.shape[1:3], strict=True))
    return _shrunk(a, height, width), _shrunk(b, height, width)


def _shrunk(x: Array, height: int, width: int) -> Array:
    batch, old_height, old_width, *rest = x.shape
    if (old_height, old_width) == (height, width):
        return x
    if old_height % height or old_width % width:
        return jax.image.resize(x, (batch, height, width, *rest), "linear")
    windows = (batch, height, old_height // height, width, old_width // width, *rest)
    return x.reshape(windows).mean((2, 4))


def _unit(x: Array) -> Array:
    x = x.reshape(x.shape[0], -1)
    return x * lax.rsqrt(jnp.square(x).sum(1, keepdims=True) + LENGTH_EPSILON)


def _temperature(temperature: Array | float) -> Array:
    temperature = jnp.asarray(temperature, jnp.float32)
    return jnp.where(temperature > 0, temperature, 1)


def _softened(student: Array, teacher: Array, temperature: Array) -> tuple[Array, Array]:
    """Log-probabilities at a temperature, float32 [B, C]; the teacher's without gradient."""
    student = jax.nn.log_softmax(student.astype(jnp.float32) / temperature)
    teacher = lax.stop_gradient(teacher.astype(jnp.float32))
    return student, jax.nn.log_softmax(teacher / temperature)


def _hinton(lesson: Lesson) -> Array:
    return distillation_loss(lesson.student.logits, lesson.teacher.logits, lesson.temperature)


def _decoupled(lesson: Lesson) -> Array:
    student, teacher, constants = lesson.student, lesson.teacher, lesson.constants or {}
    terms = decoupled_terms(student.logits, teacher.logits, lesson.labels, lesson.temperature)
    return constants["alpha"] * terms[0] + constants["beta"] * terms[1]


def _class_balanced(lesson: Lesson) -> Array:
    weight = (lesson.constants or {})["class_weight"]
    logits = (lesson.student.logits, lesson.teacher.logits)
    return class_balanced_loss(*logits, weight, lesson.temperature)


def _attention(lesson: Lesson) -> Array:
    loss = attention_loss(lesson.student.features, lesson.teacher.features)
    return (lesson.constants or {})["strength"] * loss


def _features(lesson: Lesson) -> Array:
    loss = hint_loss(lesson.student.features, lesson.teacher.features, lesson.projection)
    return (lesson.constants or {})["strength"] * loss


DISTILLATIONS: dict[str, Callable[[Lesson], Array]] = {
    "hinton": _hinton,
    "decoupled": _decoupled,
    "class_balanced": _class_balanced,
    "attention": _attention,
    "features": _features,
}
