"""Normal distribution with a diagonal covariance, over actions as they are."""

import jax
import jax.numpy as jnp

from jaxrl.distributions.distribution import Distribution
from jaxrl.losses.likelihood import LOG_2PI, gaussian_kl
from jaxrl.types import Array, ArraySpec, Key, Params, Spec


def log_prob(parameters: Params, x: Array) -> Array:
    """Of `x` [..., A]; parameters are `mean` and `log_std`, both [..., A]. Returns [...]."""
    z = (x - parameters["mean"]) * jnp.exp(-parameters["log_std"])
    # Summed apart: `-gaussian_nll(...).sum(-1)` would differ in the last digit, and so from every run that was measured.
    return -0.5 * (jnp.square(z) + LOG_2PI).sum(-1) - parameters["log_std"].sum(-1)


def sample(parameters: Params, key: Key) -> Array:
    """[..., A], one draw per row."""
    mean = parameters["mean"]
    return mean + jnp.exp(parameters["log_std"]) * jax.random.normal(key, mean.shape, mean.dtype)


def entropy(parameters: Params, key: Key) -> Array:
    """Exact, [...]."""
    del key
    return (parameters["log_std"] + 0.5 * (1.0 + LOG_2PI)).sum(-1)


def kl(p: Params, q: Params) -> Array:
    """KL(p || q), [...]."""
    return gaussian_kl(p["mean"], p["log_std"], q["mean"], q["log_std"]).sum(-1)


def parameters_of(action: ArraySpec) -> Spec:
    """What the parameters are for such an action, of one row."""
    part = ArraySpec(action.shape, names=action.names)
    return {"mean": part, "log_std": part}


def normal() -> Distribution:
    """Actions are the draws themselves."""
    return Distribution(sample, log_prob, entropy, kl, lambda parameters: parameters["mean"], lambda x: x, parameters_of)
