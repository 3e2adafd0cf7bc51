"""Losses of logits [..., K] over K classes or bins, [...]. Finite for logits up to 1e30; a label out of range yields NaN."""

import jax
import jax.numpy as jnp

from jaxrl.types import Array


def _log_prob(logits: Array, label: Array) -> Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), label[..., None], -1)[..., 0]


def cross_entropy(logits: Array, label: Array, smoothing: float = 0.0) -> Array:
    """`-log p(label)` for integers `label` [...].

    `smoothing` is the share of the target that is spread evenly over all K (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567,
    section 7).
    """
    loss = -_log_prob(logits, label)
    if not smoothing:
        return loss
    return (1.0 - smoothing) * loss - smoothing * jax.nn.log_softmax(logits).mean(-1)


def soft_cross_entropy(logits: Array, target: Array) -> Array:
    """`-sum_k target_k log p_k` for probabilities `target` [..., K]."""
    return -(target * jax.nn.log_softmax(logits)).sum(-1)


def focal(logits: Array, label: Array, gamma: float = 2.0) -> Array:
    """`-(1 - p)^gamma log p` of p = p(label): what is known already counts less (Lin et al. 2017, https://arxiv.org/abs/1708.02002,
    equation 4)."""
    log_p = _log_prob(logits, label)
    # The smallest number of float32 keeps the slope of the power finite where p is 1 and gamma below 1.
    return -jnp.power(jnp.maximum(-jnp.expm1(log_p), 1e-30), gamma) * log_p


def two_hot(value: Array, atoms: Array) -> Array:
    """Shares [..., size] of the two of the even `atoms` [size] next to `value` [...] that have it as their mean; clipped to their range.

    A target of `soft_cross_entropy` (Bellemare et al. 2017, https://arxiv.org/abs/1707.06887, equation 7).
    """
    spacing = atoms[1] - atoms[0]
    value = jnp.clip(value, atoms[0], atoms[-1])
    distance = jnp.abs(value[..., None] - atoms.reshape(*(1,) * value.ndim, -1))
    return jnp.clip(1.0 - distance / spacing, 0.0, 1.0)
