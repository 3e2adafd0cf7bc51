"""Advantages against a plain loop."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl.ops.returns import generalized_advantage


def by_hand(reward, discount, truncation, value, next_value, gamma, gae_lambda):
    """Sums each step's deltas up to its own episode's end."""
    steps, worlds = reward.shape
    delta = reward + gamma * discount * next_value - value
    advantage = np.zeros_like(reward)
    for b in range(worlds):
        for t in range(steps):
            weight, k = 1.0, t
            while True:
                advantage[t, b] += weight * delta[k, b]
                if discount[k, b] == 0 or truncation[k, b] == 1 or k == steps - 1:
                    break
                weight *= gamma * gae_lambda
                k += 1
    return advantage


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_equals_sums_within_each_episode(seed, gamma, gae_lambda):
    rng = np.random.default_rng(seed)
    shape = (6, 3)
    reward, value, next_value = rng.normal(size=(3, *shape)).astype(np.float32)
    discount = (rng.random(shape) > 0.2).astype(np.float32)
    truncation = ((rng.random(shape) < 0.2) * discount).astype(np.float32)
    advantage, returns = generalized_advantage(*map(jnp.asarray, (reward, discount, truncation, value, next_value)), gamma, gae_lambda)
    expected = by_hand(reward, discount, truncation, value, next_value, gamma, gae_lambda)
    np.testing.assert_allclose(advantage, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(returns, expected + value, rtol=1e-4, atol=1e-5)


def test_truncation_bootstraps_from_the_final_observation_and_termination_does_not():
    one = jnp.ones((1, 1))
    cut, _ = generalized_advantage(one, one, one, 0 * one, 10 * one, 0.9, 0.95)
    over, _ = generalized_advantage(one, 0 * one, 0 * one, 0 * one, 10 * one, 0.9, 0.95)
    assert float(cut[0, 0]) == 10.0 and float(over[0, 0]) == 1.0
