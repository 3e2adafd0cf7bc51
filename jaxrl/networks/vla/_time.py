"""Time as waves, as pi0 has it."""

import jax.numpy as jnp

from jaxrl.types import Array

SHORTEST, LONGEST = 4e-3, 4.0  # of the periods, in the time that noise takes


def waves(time: Array, size: int) -> Array:
    """[B, size] of times [B]: sines, then cosines, of periods whose logarithms are spaced evenly."""
    period = SHORTEST * (LONGEST / SHORTEST) ** jnp.linspace(0.0, 1.0, size // 2)  # in float32, as those who trained with them
    angle = time[:, None] * (1.0 / period * 2 * jnp.pi)[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
