"""Normal distribution squashed by tanh, for actions in [-1, 1] (Haarnoja et al. 2018, https://arxiv.org/abs/1801.01290, appendix C)."""

import jax
import jax.numpy as jnp

from jaxrl.distributions import normal
from jaxrl.distributions.distribution import Distribution
from jaxrl.types import Array, Key, Params


def _log_slope(x: Array) -> Array:
    """log(1 - tanh(x)^2), without cancellation."""
    return 2.0 * (jnp.log(2.0) - x - jax.nn.softplus(-2.0 * x))


def log_prob(parameters: Params, x: Array) -> Array:
    """Of the action tanh(x), for `x` [..., A]. Returns [...]."""
    return normal.log_prob(parameters, x) - _log_slope(x).sum(-1)


def entropy(parameters: Params, key: Key) -> Array:
    """The normal's exact entropy plus one draw's estimate of the expected log slope, [...]."""
    x = normal.sample(parameters, key)
    return normal.entropy(parameters, key) + _log_slope(x).sum(-1)


def tanh_normal() -> Distribution:
    """Actions are tanh of the draws."""
    return Distribution(normal.sample, log_prob, entropy, normal.kl, lambda p: p["mean"], jnp.tanh, normal.parameters_of)
