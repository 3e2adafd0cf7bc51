"""Several critics' opinions of one return, [E, ..., size], put together."""

from typing import Literal

import jax.numpy as jnp

from jaxrl.distributions.return_distribution import ReturnDistribution
from jaxrl.types import Array

How = Literal["minimum", "mean"]


def expected(returns: ReturnDistribution, outputs: Array, how: How) -> Array:
    """The return [...] that the critics expect: the smallest of their means (Fujimoto et al. 2018, section 4.2), or the mean of them."""
    values = returns.mean(outputs)
    return values.min(0) if how == "minimum" else values.mean(0)


def target(returns: ReturnDistribution, outputs: Array, how: How, reward: Array, discount: Array) -> Array:
    """What all critics are to learn, [..., size]: `reward + discount * return`, the return being that of the lowest critic, or of all."""
    if how == "mean":
        every = outputs.shape[:-1]
        return returns.backup(outputs, jnp.broadcast_to(reward, every), jnp.broadcast_to(discount, every)).mean(0)
    least = jnp.argmin(returns.mean(outputs), 0)[None, ..., None]
    return returns.backup(jnp.take_along_axis(outputs, least, 0)[0], reward, discount)
