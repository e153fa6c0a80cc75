"""Square attack: random search that asks for no gradient (Andriushchenko et al. 2020, 1912.00049).

The image starts with stripes of +-eps, and squares of one change each, in colours of +-eps, are
kept where they bring the margin down. A model that only hides its gradients falls to it.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from rcm.shift.ball import Budget, Found, Logits, better, fold, margin, wide

FIRST_SHARE = 0.8  # of the image that the first squares cover, as in AutoAttack
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries


def square(logits: Logits, images: Array, labels: Array, keys: Array, budget: Budget) -> Array:
    """Random search from stripes of +-eps; `steps` queries. L-inf only."""
    if budget.norm != "linf":
        raise ValueError(f"square searches an L-inf ball, not {budget.norm!r}: use norm='linf'.")
    height, width, channels = images.shape[1:]

    def signs(keys: Array, shape: tuple[int, ...]) -> Array:
        return jax.vmap(lambda key: jax.random.rademacher(key, shape, jnp.float32))(keys)

    def query(i: Array, found: Found) -> Found:
        side = _side(i, jnp.asarray(budget.steps), height, width)
        place, colour = fold(keys, 2 * i + 1), fold(keys, 2 * i + 2)
        drawn = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(place)
        top = jnp.floor(drawn[:, :1] * (height - side + 1))
        left = jnp.floor(drawn[:, 1:] * (width - side + 1))
        rows, columns = jnp.arange(height)[None], jnp.arange(width)[None]
        inside = (rows >= top) & (rows < top + side)
        across = (columns >= left) & (columns < left + side)
        inside = inside[:, :, None, None] & across[:, None, :, None]
        moved = images + budget.eps * signs(colour, (1, 1, channels))
        x = jnp.where(inside, jnp.clip(moved, 0, 1), found.images)
        return better(found, Found(x, margin(logits(x), labels)), settle=True)

    x = jnp.clip(images + budget.eps * signs(fold(keys, 0), (1, width, channels)), 0, 1)
    clean = Found(images, margin(logits(images), labels))
    striped = Found(x, margin(logits(x), labels))
    start = jax.tree.map(
        lambda a, b: jnp.where(wide(clean.margin <= 0) if a.ndim > 1 else clean.margin <= 0, a, b),
        clean,
        striped,
    )
    return lax.fori_loop(0, budget.steps, query, start).images


def _side(query: Array, queries: Array, height: int, width: int) -> Array:
    """Pixels of a square's side: its share of the image halves at set points of the search."""
    at = query * 10000 // jnp.maximum(queries, 1)
    halvings = (at > jnp.array(HALVINGS)).sum()
    share = FIRST_SHARE / 2.0**halvings
    return jnp.clip(jnp.round(jnp.sqrt(share * height * width)), 1, min(height, width))
