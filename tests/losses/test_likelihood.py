"""Against scipy's densities, integrals and draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from jaxrl.losses import likelihood

RNG = np.random.default_rng(0)
MEAN, LOG_STD, X = (RNG.normal(size=(6, 3)).astype(np.float32) for _ in range(3))
mixture_nll = jax.jit(likelihood.mixture_nll)


def test_gaussian_against_scipy():
    expected = -stats.norm(MEAN, np.exp(LOG_STD)).logpdf(X)
    np.testing.assert_allclose(likelihood.gaussian_nll(*map(jnp.asarray, (MEAN, LOG_STD, X))), expected, rtol=1e-5, atol=1e-6)


def mixture(event, batch=(4,), components=3, seed=1):
    rng = np.random.default_rng(seed)
    logits, x = rng.normal(size=(*batch, components)) * 2, rng.normal(size=(*batch, *event))
    mean, log_std = rng.normal(size=(2, *batch, components, *event)) * 0.5
    return [part.astype(np.float32) for part in (logits, mean, log_std, x)]


def mixture_oracle(logits, mean, log_std, x, mask):
    """One row, component by component, in double precision."""
    log_p = [stats.norm.logpdf(x, m, np.exp(s))[mask > 0].sum() for m, s in zip(mean, log_std.astype(float), strict=True)]
    return -special.logsumexp(special.log_softmax(logits.astype(float)) + np.array(log_p))


@pytest.mark.parametrize("event", [(2,), (5, 2)], ids=["vector", "chunk"])
def test_mixture_against_scipy(event):
    parts = mixture(event)
    loss = mixture_nll(*map(jnp.asarray, parts))
    expected = [mixture_oracle(*row, np.ones(event)) for row in zip(*parts, strict=True)]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_mixture_of_one_is_the_gaussian_and_equal_ones_are_one():
    _, mean, log_std, x = map(jnp.asarray, mixture((2,), components=1))
    alone = jax.jit(likelihood.gaussian_nll)(mean[:, 0], log_std[:, 0], x).sum(-1)
    np.testing.assert_allclose(mixture_nll(jnp.full((4, 1), 7.0), mean, log_std, x), alone, rtol=1e-5)
    twice = mixture_nll(jnp.array([[3.0, -1.0]] * 4), *(jnp.repeat(part, 2, 1) for part in (mean, log_std)), x)
    np.testing.assert_allclose(twice, alone, rtol=1e-5)


def test_masked_elements_of_a_mixture_are_integrated_out():
    logits, mean, log_std, x = mixture((2,), (1,))
    mask = np.array([[1.0, 0.0]], np.float32)
    loss = mixture_nll(*map(jnp.asarray, (logits, mean, log_std, x, mask)))

    def density(y):
        return np.exp(-mixture_oracle(logits[0], mean[0], log_std[0], np.array([x[0, 0], y]), np.ones(2)))

    assert float(loss[0]) == pytest.approx(-np.log(integrate.quad(density, -12, 12)[0]), rel=1e-4)


@pytest.mark.parametrize("garbage", [1e30, np.nan, np.inf])
def test_masked_elements_of_a_mixture_may_hold_anything(garbage):
    parts = [jnp.asarray(part) for part in mixture((5, 2))]
    mask = jnp.asarray(np.random.default_rng(3).integers(0, 2, (4, 5, 2)), jnp.float32)

    @jax.jit
    @jax.value_and_grad
    def total(parts, x):
        return likelihood.mixture_nll(*parts, x, mask).sum()

    clean, dirty = total(parts[:3], parts[3]), total(parts[:3], jnp.where(mask > 0, parts[3], garbage))
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(clean))


def test_divergence_against_an_integral():
    (mean, other), (log_std, other_log_std) = MEAN[:2, 0], LOG_STD[:2, 0]
    p, q = stats.norm(mean, np.exp(log_std)), stats.norm(other, np.exp(other_log_std))
    expected, _ = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -20, 20)
    arguments = [jnp.asarray([x]) for x in (mean, log_std, other, other_log_std)]
    np.testing.assert_allclose(likelihood.gaussian_kl(*arguments)[0], expected, rtol=1e-4)


def test_divergence_from_the_standard_one():
    kl = likelihood.gaussian_kl_to_standard(jnp.asarray(MEAN), jnp.asarray(LOG_STD))
    zeros = jnp.zeros(MEAN.shape)
    np.testing.assert_allclose(kl, likelihood.gaussian_kl(jnp.asarray(MEAN), jnp.asarray(LOG_STD), zeros, zeros), rtol=1e-4, atol=1e-6)
    near = np.array([1e-3, -1e-3, 0.0])  # where the general formula has no digit left
    exact = 0.5 * (near**2 + np.expm1(2 * near)) - near
    np.testing.assert_allclose(likelihood.gaussian_kl_to_standard(*[jnp.asarray(near, jnp.float32)] * 2), exact, rtol=0.1)


def test_bound_of_a_linear_model_is_tight_at_its_posterior():
    """x = z + noise with z and noise standard normal: the posterior is N(x / 2, 1 / 2), the evidence N(0, 2)."""
    x, draws = 0.8, np.random.default_rng(0).normal(size=200_000)
    mean, log_std = jnp.full((len(draws), 1), x / 2), jnp.full((len(draws), 1), 0.5 * np.log(0.5))
    z = x / 2 + np.sqrt(0.5) * draws
    reconstruction = jnp.asarray(-stats.norm(z, 1).logpdf(x), jnp.float32)
    bound = likelihood.negative_elbo(reconstruction, mean, log_std)
    assert float(bound.mean()) == pytest.approx(-stats.norm(0, np.sqrt(2)).logpdf(x), abs=5e-3)
    off = likelihood.negative_elbo(reconstruction, mean, log_std, beta=10.0)
    kl = 0.5 * ((x / 2) ** 2 + 0.5 - 1 - np.log(0.5))
    assert float((off - bound).mean()) == pytest.approx(9 * kl, rel=1e-3)
