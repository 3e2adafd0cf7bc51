"""Losses between a prediction and a target, per element of their common shape."""

import jax.numpy as jnp

from jaxrl.types import Array


def squared_error(prediction: Array, target: Array) -> Array:
    """`(prediction - target)^2`, of the shape of both."""
    return jnp.square(prediction - target)


def absolute_error(prediction: Array, target: Array) -> Array:
    """`|prediction - target|`, of the shape of both."""
    return jnp.abs(prediction - target)


def huber_error(prediction: Array, target: Array, threshold: float = 1.0) -> Array:
    """Half the squared error within `threshold`, straight lines beyond it (Huber 1964, https://doi.org/10.1214/aoms/1177703732)."""
    error = prediction - target
    size = jnp.abs(error)
    return jnp.where(size <= threshold, 0.5 * jnp.square(error), threshold * (size - 0.5 * threshold))


def quantile_huber_error(prediction: Array, target: Array, quantile: Array | float, threshold: float = 1.0) -> Array:
    """Least where `prediction` is the `quantile` of targets (Dabney et al. 2018, https://arxiv.org/abs/1710.10044, equation 10, per unit
    of `threshold`, so that a small one leaves the quantile regression loss, `|quantile - 1[target < prediction]| |error|`)."""
    return jnp.abs(quantile - (target < prediction)) * huber_error(prediction, target, threshold) / threshold


def expectile_error(prediction: Array, target: Array, expectile: Array | float) -> Array:
    """Least where `prediction` is the `expectile` of targets: `|expectile - 1[target < prediction]| error^2` (Newey and Powell 1987,
    https://doi.org/10.2307/1911031; Kostrikov et al. 2022, https://arxiv.org/abs/2110.06169, equation 5)."""
    return jnp.abs(expectile - (target < prediction)) * squared_error(prediction, target)


def pseudo_huber_distance(prediction: Array, target: Array, mask: Array, threshold: float = 0.00054) -> Array:
    """How far rows [B, ...] are apart, [B]: `sqrt(mean square + threshold^2) - threshold` over the elements whose mask is not 0.

    Song and Dhariwal 2023, https://arxiv.org/abs/2310.14189, section 3.3, by the square root of the number of elements.
    """
    axes = tuple(range(1, prediction.ndim))
    total = jnp.square(jnp.where(mask > 0, prediction - target, 0.0)).sum(axes)
    return jnp.sqrt(total / jnp.maximum((mask > 0).sum(axes), 1) + threshold**2) - threshold
