"""Densities against scipy and against samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrl.distributions.normal import normal
from jaxrl.distributions.tanh_normal import tanh_normal

MEAN, STD = np.array([0.3, -0.8]), np.array([0.5, 1.2])
PARAMETERS = {"mean": jnp.asarray(MEAN, jnp.float32), "log_std": jnp.asarray(np.log(STD), jnp.float32)}
OTHER = {"mean": jnp.array([0.0, 0.5]), "log_std": jnp.array([0.2, -0.3])}


def batched(parameters, n):
    return {name: jnp.broadcast_to(x[None], (n, 2)) for name, x in parameters.items()}


def test_normal_density_entropy_and_divergence():
    distribution = normal()
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    expected = stats.norm(MEAN, STD).logpdf(x).sum(-1)
    np.testing.assert_allclose(distribution.log_prob(batched(PARAMETERS, 50), jnp.asarray(x)), expected, rtol=1e-4)
    np.testing.assert_allclose(distribution.entropy(PARAMETERS, jax.random.key(0)), stats.norm(MEAN, STD).entropy().sum(), rtol=1e-5)
    draws = jax.vmap(distribution.sample, (None, 0))(PARAMETERS, jax.random.split(jax.random.key(1), 200_000))
    log_ratio = distribution.log_prob(batched(PARAMETERS, len(draws)), draws) - distribution.log_prob(batched(OTHER, len(draws)), draws)
    np.testing.assert_allclose(distribution.kl(PARAMETERS, OTHER), log_ratio.mean(), rtol=0.02)
    np.testing.assert_allclose(draws.mean(0), MEAN, atol=0.01)


def test_tanh_normal_density_integrates_to_one_and_matches_its_entropy():
    distribution = tanh_normal()
    one = {name: x[:1] for name, x in PARAMETERS.items()}
    action = np.linspace(-1 + 1e-5, 1 - 1e-5, 20_001)
    x = jnp.asarray(np.arctanh(action), jnp.float32)[:, None]
    density = np.exp(distribution.log_prob({name: jnp.broadcast_to(v[None], (len(x), 1)) for name, v in one.items()}, x))
    assert np.trapezoid(density, action) == pytest.approx(1.0, abs=2e-3)
    estimates = jax.vmap(distribution.entropy, (None, 0))(one, jax.random.split(jax.random.key(0), 20_000))
    assert float(estimates.mean()) == pytest.approx(-np.trapezoid(density * np.log(density + 1e-30), action), abs=0.02)
    assert np.isfinite(distribution.log_prob(PARAMETERS, jnp.array([40.0, -40.0]))), "far out in the tails"
