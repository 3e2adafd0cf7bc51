"""Against scipy's softmax, and against what they are in the limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxrl.losses import classification

RNG = np.random.default_rng(0)
LOGITS, LABEL = (RNG.normal(size=(4, 3, 6)) * 3).astype(np.float32), RNG.integers(0, 6, (4, 3)).astype(np.int32)
LOG_P = special.log_softmax(LOGITS.astype(float), -1)
CHOSEN = np.take_along_axis(LOG_P, LABEL[..., None], -1)[..., 0]


def test_cross_entropy_against_scipy():
    np.testing.assert_allclose(classification.cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABEL)), -CHOSEN, rtol=1e-5)


def test_smoothing_is_a_target_with_a_share_for_all():
    smoothed = 0.9 * np.eye(6)[LABEL] + 0.1 / 6
    expected = -(smoothed * LOG_P).sum(-1)
    logits = jnp.asarray(LOGITS)
    np.testing.assert_allclose(classification.cross_entropy(logits, jnp.asarray(LABEL), 0.1), expected, rtol=1e-5)
    np.testing.assert_allclose(classification.soft_cross_entropy(logits, jnp.asarray(smoothed, jnp.float32)), expected, rtol=1e-5)


def test_gradient_is_probability_less_target():
    gradient = jax.grad(lambda x: classification.cross_entropy(x, jnp.asarray(LABEL)).sum())(jnp.asarray(LOGITS))
    np.testing.assert_allclose(gradient, np.exp(LOG_P) - np.eye(6)[LABEL], atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_against_numpy(gamma):
    expected = -((1 - np.exp(CHOSEN)) ** gamma) * CHOSEN
    focal = jax.jit(classification.focal, static_argnums=2)(jnp.asarray(LOGITS), jnp.asarray(LABEL), gamma)
    np.testing.assert_allclose(focal, expected, rtol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_of_what_is_certain_has_a_gradient(gamma):
    logits = jnp.array([[40.0, 0.0], [200.0, 0.0], [0.0, 200.0]])
    value, slope = jax.jit(jax.value_and_grad(lambda x: classification.focal(x, jnp.zeros(3, jnp.int32), gamma).sum()))(logits)
    assert float(value) == pytest.approx(200.0) and np.isfinite(slope).all()
    np.testing.assert_allclose(slope[:2], 0.0, atol=1e-6)
    np.testing.assert_allclose(slope[2], [-1.0, 1.0], rtol=1e-5)


def test_a_label_out_of_range_does_not_pass_for_one():
    assert np.isnan(classification.cross_entropy(jnp.zeros((1, 3)), jnp.array([3])))


def test_two_hot_of_an_atom_and_beyond():
    atoms = jnp.linspace(-1.0, 1.0, 5)
    shares = classification.two_hot(jnp.array([0.5, 0.375, -9.0]), atoms)
    np.testing.assert_allclose(shares, [[0, 0, 0, 1, 0], [0, 0, 0.25, 0.75, 0], [1, 0, 0, 0, 0]], atol=1e-6)
