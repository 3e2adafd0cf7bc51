"""A mixture of two Gaussians under noise, whose exact denoiser can be written down."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array

MEANS, STDS, WEIGHTS = np.array([-0.7, 0.5]), np.array([0.1, 0.2]), np.array([0.3, 0.7])
MEAN = float((WEIGHTS * MEANS).sum())
VARIANCE = float((WEIGHTS * (STDS**2 + MEANS**2)).sum() - MEAN**2)


def expected(noisy: Array, signal: Array, sigma: Array) -> Array:
    """E[x | signal * x + sigma * noise], of every number by itself."""
    total = [(signal * s) ** 2 + sigma**2 for s in STDS]
    logits = [jnp.log(w) - 0.5 * jnp.log(v) - (noisy - signal * m) ** 2 / (2 * v) for w, m, v in zip(WEIGHTS, MEANS, total, strict=True)]
    shares = jax.nn.softmax(jnp.stack(logits), 0)
    means = [m + signal * s**2 / v * (noisy - signal * m) for m, s, v in zip(MEANS, STDS, total, strict=True)]
    return sum(share * mean for share, mean in zip(shares, means, strict=True))


def distribution(x: np.ndarray) -> np.ndarray:
    """P(X <= x)."""
    from scipy.stats import norm

    return sum(w * norm.cdf(x, m, s) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True))
