"""Densities against scipy and against samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrl.distributions.categorical import categorical
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


def test_categorical_agrees_with_its_samples_and_with_scipy():
    distribution = categorical()
    p, q = np.array([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25]]), np.array([[0.3, 0.3, 0.4], [0.2, 0.2, 0.6]])
    of_p, of_q = ({"logits": jnp.asarray(np.log(x) + 7.0, jnp.float32)} for x in (p, q))  # logits are free up to a constant
    for choice in range(3):
        x = jnp.full(2, choice, jnp.int32)
        np.testing.assert_allclose(distribution.log_prob(of_p, x), np.log(p[:, choice]), rtol=1e-5)
    np.testing.assert_allclose(distribution.entropy(of_p, jax.random.key(0)), stats.entropy(p, axis=1), rtol=1e-5)
    np.testing.assert_allclose(distribution.kl(of_p, of_q), stats.entropy(p, q, axis=1), rtol=1e-4)
    draws = jax.vmap(distribution.sample, (None, 0))(of_p, jax.random.split(jax.random.key(1), 100_000))
    assert draws.dtype == jnp.int32
    np.testing.assert_allclose([[(draws[:, i] == j).mean() for j in range(3)] for i in range(2)], p, atol=0.01)
    np.testing.assert_array_equal(distribution.mode(of_p), [1, 0])
