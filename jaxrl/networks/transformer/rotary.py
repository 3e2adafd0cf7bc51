"""Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864)."""

import jax.numpy as jnp

from jaxrl.types import Array


def rotary(x: Array, places: Array, longest: float) -> Array:
    """Turns x [B, T, heads, size] by angles that grow with `places` [B, T], so that products tell how far apart two tokens are.

    Coordinate i makes a plane with coordinate i + size / 2, as in Gemma and Llama, and turns by 1 / longest**(2 i / size) per place.
    Computed in float32.
    """
    half = x.shape[-1] // 2
    rates = jnp.float32(longest) ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = (places.astype(jnp.float32)[..., None] * rates[None, None])[:, :, None]
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1).astype(x.dtype)
