"""A return told by quantiles of equal probability (Dabney et al. 2018, https://arxiv.org/abs/1710.10044)."""

import jax
import jax.numpy as jnp

from jaxrl.distributions.return_distribution import ReturnDistribution
from jaxrl.losses.regression import quantile_huber_error
from jaxrl.types import Array


def quantile_return(size: int, threshold: float = 1.0) -> ReturnDistribution:
    """The quantiles at (2 i + 1) / (2 size), learnt by the quantile Huber loss (their equation 10) that is square within `threshold`.

    Raises:
        ValueError: there is no quantile, or the threshold is not positive.
    """
    if size < 1:
        raise ValueError(f"a return needs at least one quantile, got {size}")
    if threshold <= 0:
        raise ValueError(f"the threshold of the Huber loss is {threshold}, but must be above 0")
    places = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size

    def backup(output: Array, reward: Array, discount: Array) -> Array:
        return jax.lax.stop_gradient(reward[..., None] + discount[..., None] * output)

    def loss(output: Array, target: Array) -> Array:
        own = places.reshape(*(1,) * (output.ndim - 1), -1, 1)
        error = quantile_huber_error(output[..., :, None], target[..., None, :], own, threshold)  # [..., output, target]
        return error.mean(-1).sum(-1)

    return ReturnDistribution(size, lambda output: output.mean(-1), backup, loss)
