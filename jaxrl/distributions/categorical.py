"""Distribution over a number of choices, for discrete actions."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.distributions.distribution import Distribution
from jaxrl.losses.classification import cross_entropy
from jaxrl.types import Array, ArraySpec, Key, Params, Spec


def sample(parameters: Params, key: Key) -> Array:
    """int32 [...], one draw per row; the parameters are `logits` [..., number of choices]."""
    return jax.random.categorical(key, parameters["logits"]).astype(jnp.int32)


def log_prob(parameters: Params, x: Array) -> Array:
    """Of the choices `x` [...]. Returns [...]."""
    return -cross_entropy(parameters["logits"], x)


def entropy(parameters: Params, key: Key) -> Array:
    """Exact, [...]."""
    del key
    log_p = jax.nn.log_softmax(parameters["logits"])
    return -(jnp.exp(log_p) * log_p).sum(-1)


def kl(p: Params, q: Params) -> Array:
    """KL(p || q), [...]."""
    log_p, log_q = (jax.nn.log_softmax(one["logits"]) for one in (p, q))
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)


def mode(parameters: Params) -> Array:
    """int32 [...], the first of the likeliest choices."""
    return jnp.argmax(parameters["logits"], -1).astype(jnp.int32)


def _parameters(action: ArraySpec) -> Spec:
    last: Any = action.high
    return {"logits": ArraySpec((last + 1,))}


def categorical() -> Distribution:
    """Actions are the draws themselves."""
    return Distribution(sample, log_prob, entropy, kl, mode, to_action=lambda x: x, parameters=_parameters, discrete=True)
