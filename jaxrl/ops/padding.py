"""What counts of a chunk that is padded, and what stands in the place of padding where it has to be read as a whole."""

import jax
import jax.numpy as jnp

from jaxrl.types import Array


def held(x: Array, mask: Array) -> Array:
    """`x` [..., H, A] where `mask` of its shape is not 0; elsewhere the last such number before it in time, or 0 where there is none."""
    axis = x.ndim - 2
    steps = jnp.arange(x.shape[axis]).reshape(-1, 1)
    last = jax.lax.cummax(jnp.where(mask > 0, jnp.broadcast_to(steps, x.shape[-2:]).reshape(*(1,) * axis, *x.shape[-2:]), -1), axis)
    found = jnp.take_along_axis(jnp.where(mask > 0, x, 0.0), jnp.maximum(last, 0), axis)
    return jnp.where(last >= 0, found, 0.0)


TINY = 1e-6  # in place of the sum of a mask that is 0 everywhere


def masked_sum(x: Array, mask: Array) -> Array:
    """Sum over the elements, by their masks of the same shape, of those whose mask is not 0; whatever the others hold."""
    return jnp.where(mask > 0, x * mask, 0.0).sum()


def masked_mean(x: Array, mask: Array) -> Array:
    """Mean over the elements whose mask, of the same shape, is not 0; whatever the others hold."""
    return masked_sum(x, mask) / jnp.maximum(mask.sum(), TINY)
