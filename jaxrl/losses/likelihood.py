"""Negative log-likelihoods and divergences of Gaussians, in nats.

Those of one number each are per element of a shape; those of vectors say which axes they sum over. In float32 they and their gradients
are finite for standard deviations from e^-20 to e^20 and values up to 1e8.
"""

import jax
import jax.numpy as jnp

from jaxrl.types import Array

LOG_2PI = 1.8378770664093453


def gaussian_nll(mean: Array, log_std: Array, x: Array) -> Array:
    """`-log N(x; mean, e^(2 log_std))`, of the shape of all three."""
    return 0.5 * (jnp.square((x - mean) * jnp.exp(-log_std)) + LOG_2PI) + log_std


def mixture_nll(logits: Array, mean: Array, log_std: Array, x: Array, mask: Array | None = None) -> Array:
    """Of K diagonal Gaussians, [...] (Bishop 1994, mixture density networks, https://publications.aston.ac.uk/id/eprint/373).

    `logits` [..., K], `mean` and `log_std` [..., K, *event], `x` [..., *event]: the event is a vector or a whole chunk. Elements of it
    whose `mask`, of the shape of `x`, is 0 are marginalised out and may hold anything.
    """
    components, event = logits.ndim - 1, tuple(range(logits.ndim, mean.ndim))
    nll = gaussian_nll(mean, log_std, jnp.expand_dims(x if mask is None else jnp.where(mask > 0, x, 0.0), components))
    if mask is not None:
        nll = jnp.where(jnp.expand_dims(mask, components) > 0, nll, 0.0)
    return -jax.nn.logsumexp(jax.nn.log_softmax(logits) - nll.sum(event), -1)


def gaussian_kl(mean: Array, log_std: Array, other_mean: Array, other_log_std: Array) -> Array:
    """KL(one || other) of two Gaussians, of the shape of all four."""
    ratio = jnp.exp(log_std - other_log_std)
    z = (mean - other_mean) * jnp.exp(-other_log_std)
    return other_log_std - log_std + 0.5 * (jnp.square(ratio) + jnp.square(z) - 1.0)


def gaussian_kl_to_standard(mean: Array, log_std: Array) -> Array:
    """KL(N(mean, e^(2 log_std)) || N(0, 1)), of the shape of both (Kingma and Welling 2014, https://arxiv.org/abs/1312.6114, appendix B).

    Without the cancellation that the general formula has near the standard one.
    """
    return 0.5 * (jnp.square(mean) + jnp.expm1(2.0 * log_std)) - log_std


def negative_elbo(reconstruction: Array, mean: Array, log_std: Array, beta: float = 1.0) -> Array:
    """What bounds the negative log-likelihood of what was reconstructed from above, [...] (Kingma and Welling 2014, equation 7).

    `reconstruction` [...] is the negative log-likelihood of the data under one draw of the latent vector, whose posterior has `mean` and
    `log_std` [..., Z]. A `beta` other than 1 is that of Higgins et al. 2017 (https://openreview.net/forum?id=Sy2fzU9gl), no bound below 1.
    """
    return reconstruction + beta * gaussian_kl_to_standard(mean, log_std).sum(-1)
