"""What denoisers are made of."""

import math
from typing import Any

import jax.numpy as jnp

from jaxrl.types import Array


def chunk_shape(output_shape: tuple[int, ...], who: str) -> tuple[int, int]:
    """(horizon, action_dim).

    Raises:
        ValueError: actions are no vectors; `who` is the network that asks.
    """
    if len(output_shape) != 2:
        raise ValueError(f"{who} makes chunks [horizon, action_dim], but the output is to have the shape {tuple(output_shape)}")
    return output_shape[0], output_shape[1]


def sinusoid(time: Array, size: int) -> Array:
    """[B] to [B, size]: sines, then cosines, of wavelengths from 2 pi to 10000 times that."""
    half = size // 2
    angles = time[:, None] * jnp.exp(jnp.arange(half) * (-math.log(10000.0) / (half - 1)))[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def mish(x: Any) -> Any:
    """x * tanh(softplus(x)) (Misra 2019, https://arxiv.org/abs/1908.08681), with one exponential in place of three functions."""
    e = jnp.exp(jnp.minimum(x, 20.0))  # beyond which it is x in float32
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


def check_sinusoid(size: int, field: str) -> None:
    """Raises ValueError where `sinusoid` has no such size."""
    if size < 4 or size % 2:
        raise ValueError(f"{field} is {size}, but must be even and at least 4: half are sines, half cosines")
