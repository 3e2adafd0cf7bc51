"""Losses between a prediction and a target of the same shape, per element."""

import jax.numpy as jnp

from jaxrl.types import Array


def squared_error(prediction: Array, target: Array) -> Array:
    """`(prediction - target)^2`, of the shape of both."""
    return jnp.square(prediction - target)


def absolute_error(prediction: Array, target: Array) -> Array:
    """`|prediction - target|`, of the shape of both."""
    return jnp.abs(prediction - target)
