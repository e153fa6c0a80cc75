"""Knowledge distillation as a loss (Hinton, Vinyals & Dean 2015, arXiv 1503.02531)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax


def distillation_loss(
    student_logits: Array, teacher_logits: Array, temperature: Array | float
) -> Array:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) of each example, in nats.

    Logits [B, C] of any float dtype; the result is float32 [B], for the caller to weigh and average
    (mixing * this + (1 - mixing) * cross entropy). T^2 keeps the gradient's size whatever T. The
    teacher gets no gradient. A temperature of 0 is read as 1, so that a member whose distillation
    is switched off (mixing 0) stays finite.
    """
    temperature = _positive(temperature)
    student = jax.nn.log_softmax(student_logits.astype(jnp.float32) / temperature)
    teacher = lax.stop_gradient(teacher_logits.astype(jnp.float32))
    teacher = jax.nn.log_softmax(teacher / temperature)
    return temperature**2 * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)


def ensemble_logits(logits: Sequence[Array], temperature: Array | float) -> Array:
    """Logits [B, C] of a teacher that predicts the mean of its members' softened probabilities.

    logits: one [B, C] for each member, of any float dtype; one alone is given back as it is. Else
    the result is float32, T log mean softmax(logits / T), so that at this temperature its softmax
    is that mean (the arithmetic mean of section 5.1 in Hinton et al. 2015).
    """
    if len(logits) == 1:
        return logits[0]
    temperature = _positive(temperature)
    soft = [jax.nn.log_softmax(member.astype(jnp.float32) / temperature) for member in logits]
    return temperature * (jax.nn.logsumexp(jnp.stack(soft), axis=0) - jnp.log(len(logits)))


def _positive(temperature: Array | float) -> Array:
    temperature = jnp.asarray(temperature, jnp.float32)
    return jnp.where(temperature > 0, temperature, 1)
