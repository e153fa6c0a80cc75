"""Knowledge distillation as a loss (Hinton, Vinyals & Dean 2015, arXiv 1503.02531)."""

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
    temperature = jnp.asarray(temperature, jnp.float32)
    temperature = jnp.where(temperature > 0, temperature, 1)
    student = jax.nn.log_softmax(student_logits.astype(jnp.float32) / temperature)
    teacher = lax.stop_gradient(teacher_logits.astype(jnp.float32))
    teacher = jax.nn.log_softmax(teacher / temperature)
    return temperature**2 * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)
