"""Returns and advantages."""

import jax
import jax.numpy as jnp

from jaxrl.types import Array


def generalized_advantage(
    reward: Array, discount: Array, truncation: Array, value: Array, next_value: Array, gamma: float, gae_lambda: float
) -> tuple[Array, Array]:
    """Advantages and returns over a time-major rollout, all `[T, B]` (Schulman et al. 2016, https://arxiv.org/abs/1506.02438, equation 16).

    `next_value` is the value of the true next observation, also where an episode ends. A termination (`discount` 0) cuts the
    bootstrap; a truncation keeps it and only ends the sum, so nothing of the next episode leaks in.
    """
    delta = reward + gamma * discount * next_value - value
    carry_on = gamma * gae_lambda * discount * (1.0 - truncation)

    def step(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        advantage = now[0] + now[1] * later
        return advantage, advantage

    _, advantage = jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, carry_on), reverse=True)
    return advantage, advantage + value


def discounted_sum(reward: Array, gamma: float) -> Array:
    """Over the last axis: [..., n] to [...], the first reward undiscounted."""
    return reward @ jnp.power(gamma, jnp.arange(reward.shape[-1], dtype=jnp.float32))
