"""Noise for exploration, with a carry for each row that begins anew with an episode."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, Key, PyTree


class Noise(NamedTuple):
    """Of the rows of a batch. A carry from `init` is that of an episode which has not begun."""

    init: Callable[[int], PyTree]  # batch size B -> carry
    draw: Callable[[PyTree, Key], tuple[Array, PyTree]]  # (carry, keys [B]) -> noise [B, size], carry


def white(size: int) -> Noise:
    """Standard normal, new in each step."""
    return Noise(lambda batch: (), lambda carry, key: (jax.vmap(lambda k: jax.random.normal(k, (size,)))(key), carry))


class Held(NamedTuple):
    left: Array  # [B] int32, steps for which the noise stays what it is
    value: Array  # [B, size]


def repeated(size: int, longest: int, exponent: float = 2.0) -> Noise:
    """Standard normal, held for n steps, as likely as n^-exponent for n from 1 to `longest`: a zeta distribution that ends there.

    Each row has times of its own. What lasts moves a robot where white noise averages out (Dabney et al. 2021,
    https://arxiv.org/abs/2006.01782, of greedy actions); `longest` 1 is white noise.
    """
    weights = np.arange(1, longest + 1, dtype=np.float64) ** -exponent
    cumulative = jnp.asarray(np.cumsum(weights / weights.sum())[:-1], jnp.float32)

    def init(batch: int) -> Held:
        return Held(jnp.zeros(batch, jnp.int32), jnp.zeros((batch, size)))

    def one(held: Held, key: Key) -> tuple[Array, Held]:
        length, shape = jax.random.split(key)
        steps = 1 + (jax.random.uniform(length) >= cumulative).sum().astype(jnp.int32)
        new = Held(steps, jax.random.normal(shape, (size,)))
        now = jax.tree.map(lambda a, b: jnp.where(held.left > 0, a, b), held, new)
        return now.value, now._replace(left=now.left - 1)

    return white(size) if longest == 1 else Noise(init, jax.vmap(one))


def scaled(noise: Noise, low: float, high: float) -> Noise:
    """`noise` times a number of each row's own, drawn evenly between `low` and `high` anew for each episode.

    As in FastTD3 (Seo et al. 2025, https://arxiv.org/abs/2505.22642).
    """

    def init(batch: int) -> tuple[PyTree, Array]:
        return noise.init(batch), jnp.full(batch, -1.0, jnp.float32)

    def draw(carry: tuple[PyTree, Array], key: Key) -> tuple[Array, tuple[PyTree, Array]]:
        inner, scale = carry
        keys = jax.vmap(jax.random.split)(key)  # and no fold_in beside `key`: `noise` may split it, which gives the same keys
        own = jax.vmap(lambda k: jax.random.uniform(k, minval=low, maxval=high))(keys[:, 0])
        scale = jnp.where(scale < 0, own, scale)
        value, inner = noise.draw(inner, keys[:, 1])
        return value * scale[:, None], (inner, scale)

    return Noise(init, draw)
