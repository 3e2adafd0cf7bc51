"""A return told by the probabilities of evenly spaced values (Bellemare et al. 2017, https://arxiv.org/abs/1707.06887)."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.distributions.return_distribution import ReturnDistribution
from jaxrl.losses.classification import soft_cross_entropy, two_hot
from jaxrl.types import Array


def categorical_return(bins: int, low: float, high: float) -> ReturnDistribution:
    """Logits of `bins` values from `low` to `high`, learnt by cross-entropy with the projected target (their algorithm 1).

    Returns beyond the range count as its ends: choose it wide enough, or scale rewards.

    Raises:
        ValueError: there are fewer than two bins, or the bounds are reversed.
    """
    if bins < 2:
        raise ValueError(f"bins is {bins}, but a categorical return needs at least 2")
    if low >= high:
        raise ValueError(f"the range of returns goes from {low} to {high}, but must go upwards")
    atoms = jnp.asarray(np.linspace(low, high, bins), jnp.float32)

    def mean(output: Array) -> Array:
        return jax.nn.softmax(output) @ atoms

    def backup(output: Array, reward: Array, discount: Array) -> Array:
        value = reward[..., None] + discount[..., None] * atoms.reshape(*(1,) * reward.ndim, -1)
        # Each probability moves to the two atoms around its value.
        shares = jax.nn.softmax(output)[..., :, None] * two_hot(value, atoms)
        return jax.lax.stop_gradient(shares.sum(-2))

    return ReturnDistribution(bins, mean, backup, soft_cross_entropy)
