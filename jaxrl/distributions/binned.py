"""Each number of an action by the probabilities of bins, one apart from the other (RT-1, Brohan et al. 2022, OpenVLA, Kim et al. 2024)."""

import jax
import jax.numpy as jnp

from jaxrl.distributions import categorical
from jaxrl.distributions.distribution import Distribution
from jaxrl.ops import bins as ops
from jaxrl.ops.bins import Bins
from jaxrl.types import Array, ArraySpec, Key, Params, Spec


def log_prob(parameters: Params, x: Array) -> Array:
    """Of the bins `x` int32 [..., A], all together, [...]; the parameters are `logits` [..., A, number]."""
    return categorical.log_prob(parameters, x).sum(-1)


def entropy(parameters: Params, key: Key) -> Array:
    """Exact, [...]."""
    return categorical.entropy(parameters, key).sum(-1)


def kl(p: Params, q: Params) -> Array:
    """KL(p || q), [...]."""
    return categorical.kl(p, q).sum(-1)


def binned(bins: Bins) -> Distribution:
    """Draws are bins, int32 [..., A], and `to_action` makes what they stand for of them.

    `log_prob`, `entropy` and `kl` are those of a choice among bins, no densities. `mode` takes the likeliest bin of each number.
    """

    def parameters(action: ArraySpec) -> Spec:
        return {"logits": ArraySpec((*action.shape, bins.number))}

    def to_action(x: Array) -> Array:
        return jnp.asarray(ops.decode(bins, x))

    return Distribution(categorical.sample, log_prob, entropy, kl, categorical.mode, to_action, parameters)


def mean(bins: Bins, parameters: Params) -> Array:
    """The expected action [..., A], which unlike the mode may lie between two likely ones."""
    values = jnp.asarray(ops.values(bins), jnp.float32)
    probabilities = jax.nn.softmax(parameters["logits"])
    return (probabilities * values.reshape(*(1,) * (probabilities.ndim - values.ndim), *values.shape)).sum(-1)
