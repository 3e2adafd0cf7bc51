"""Mixtures against scipy and against their own draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxrl.distributions import mixture as module
from jaxrl.distributions.mixture import mixture
from jaxrl.types import ArraySpec

MIXTURE = mixture(3)
WEIGHTS = np.array([0.2, 0.5, 0.3])
MEAN = np.array([[-2.0, 0.0], [1.0, 1.0], [0.0, -3.0]])
STD = np.array([[0.5, 0.2], [1.0, 0.3], [0.1, 2.0]])
PARAMETERS = {
    name: jnp.asarray(x, jnp.float32) for name, x in (("logits", np.log(WEIGHTS) + 4.0), ("mean", MEAN), ("log_std", np.log(STD)))
}


def rows(parameters, n):
    return {name: jnp.broadcast_to(x[None], (n, *x.shape)) for name, x in parameters.items()}


def log_density(x, weights=WEIGHTS, mean=MEAN, std=STD):
    return special.logsumexp(np.log(weights) + stats.norm(mean, std).logpdf(x[:, None]).sum(-1), axis=-1)


def draws(parameters, n, key=0):
    return np.asarray(jax.jit(MIXTURE.sample)(rows(parameters, n), jax.random.key(key)))


def test_density_against_scipy():
    x = np.random.default_rng(0).normal(size=(50, 2)) * 3
    found = jax.jit(MIXTURE.log_prob)(rows(PARAMETERS, 50), jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, log_density(x), rtol=1e-4)


def test_draws_have_the_moments_of_the_mixture():
    x = draws(PARAMETERS, 200_000)
    mean = WEIGHTS @ MEAN
    np.testing.assert_allclose(x.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(x.var(0), WEIGHTS @ (STD**2 + MEAN**2) - mean**2, rtol=0.02)
    near = np.argmin(((x[:, None] - MEAN) ** 2 / STD**2).sum(-1) + 2 * np.log(STD).sum(-1), axis=-1)
    np.testing.assert_allclose(np.bincount(near) / len(x), WEIGHTS, atol=0.02)


def test_entropy_and_its_gradient():
    x = draws(PARAMETERS, 200_000)
    keys = jax.random.split(jax.random.key(1), 20_000)
    estimate, gradient = jax.jit(jax.value_and_grad(lambda p: jax.vmap(MIXTURE.entropy, (None, 0))(p, keys).mean()))(PARAMETERS)
    exact = -log_density(x).mean()
    assert float(estimate) == pytest.approx(exact, abs=0.02)
    # Of the logits by differences of Monte Carlo over the same draws of each component.
    rng = np.random.default_rng(0)
    parts = MEAN[:, None] + STD[:, None] * rng.normal(size=(3, 50_000, 2))

    def entropy_of(logits):
        weights = special.softmax(logits)
        return -sum(w * log_density(part, weights).mean() for w, part in zip(weights, parts, strict=True))

    logits, step = np.log(WEIGHTS), 1e-3 * np.eye(3)
    numeric = [(entropy_of(logits + s) - entropy_of(logits - s)) / 2e-3 for s in step]
    np.testing.assert_allclose(gradient["logits"], numeric, atol=0.01)


def test_divergence_is_bounded_from_above():
    mean, weights = MEAN + np.array([0.3, -0.1]), np.array([0.3, 0.3, 0.4])
    other = PARAMETERS | {"mean": jnp.asarray(mean, jnp.float32), "logits": jnp.asarray(np.log(weights), jnp.float32)}
    x = draws(PARAMETERS, 100_000)
    exact = (log_density(x) - log_density(x, weights, mean)).mean()
    bound = float(MIXTURE.kl(PARAMETERS, other))
    pairs = (WEIGHTS * (np.log(WEIGHTS / weights) + ((MEAN - mean) ** 2 / STD**2 / 2).sum(-1))).sum()
    assert bound == pytest.approx(pairs, rel=1e-4) and exact <= bound
    assert float(MIXTURE.kl(PARAMETERS, PARAMETERS)) == pytest.approx(0.0, abs=1e-6)
    alone, moved = ({k: v[:1] for k, v in one.items()} for one in (PARAMETERS, other))
    assert float(MIXTURE.kl(alone, moved)) == pytest.approx(((0.3 / 0.5) ** 2 + (0.1 / 0.2) ** 2) / 2, rel=1e-4), "of one component exact"


def test_mode_is_the_mean_of_the_likeliest_component():
    np.testing.assert_array_equal(MIXTURE.mode(PARAMETERS), MEAN[1])
    several = rows(PARAMETERS, 3) | {"logits": jnp.eye(3)}
    np.testing.assert_array_equal(MIXTURE.mode(several), MEAN)


def test_low_noise_draws_are_the_means_by_their_weights():
    x = draws(module.with_low_noise(PARAMETERS), 20_000)
    distance = np.abs(x[:, None] - MEAN).max(-1)
    assert distance.min(-1).max() < 6e-4
    np.testing.assert_allclose(np.bincount(distance.argmin(-1)) / len(x), WEIGHTS, atol=0.02)


def test_parameters_of_robomimic():
    logits, mean, std = np.random.default_rng(0).normal(size=(3, 4, 3, 2)) * np.array([1.0, 3.0, 30.0])[:, None, None, None]
    found = jax.jit(module.robomimic_parameters)(*(jnp.asarray(x, jnp.float32) for x in (logits[..., 0], mean, std)))
    np.testing.assert_allclose(found["mean"], np.tanh(mean), rtol=1e-5)
    np.testing.assert_allclose(np.exp(found["log_std"]), np.logaddexp(0, std) + 1e-4, rtol=1e-4)


def test_chunks_are_drawn_as_one():
    """Both steps of a chunk come from one component."""
    spec = MIXTURE.parameters(ArraySpec((2, 1), names=("x",)))
    assert {name: s.shape for name, s in spec.items()} == {"logits": (3,), "mean": (3, 2, 1), "log_std": (3, 2, 1)}
    chunks = PARAMETERS | {"mean": jnp.array([[[-1.0], [1.0]], [[1.0], [-1.0]], [[5.0], [5.0]]]), "log_std": jnp.full((3, 2, 1), -5.0)}
    x = draws(chunks, 200)
    assert x.shape == (200, 2, 1)
    assert {tuple(step.ravel()) for step in np.round(x)} == {(-1.0, 1.0), (1.0, -1.0), (5.0, 5.0)}
    assert MIXTURE.log_prob(rows(chunks, 200), jnp.asarray(x)).shape == (200,) and MIXTURE.mode(chunks).shape == (2, 1)


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="components is 0, but a mixture needs at least 1"):
        mixture(0)
