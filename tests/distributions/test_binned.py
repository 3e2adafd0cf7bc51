"""Probabilities of bins against scipy and numpy."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from jaxrl.distributions import binned as module
from jaxrl.distributions.binned import binned
from jaxrl.ops.bins import Bins
from jaxrl.types import ArraySpec

BINS = Bins((-1.0, 0.0), (1.0, 5.0), 8)
BINNED = binned(BINS)
LOGITS, OTHER = np.random.default_rng(0).normal(size=(2, 5, 2, 8)).astype(np.float32) * 2
P, Q = special.softmax(LOGITS.astype(float), -1), special.softmax(OTHER.astype(float), -1)
PARAMETERS = {"logits": jnp.asarray(LOGITS)}


def test_probabilities_against_numpy():
    x = np.random.default_rng(1).integers(0, 8, (5, 2)).astype(np.int32)
    expected = [sum(np.log(P[row, i, x[row, i]]) for i in range(2)) for row in range(5)]
    np.testing.assert_allclose(BINNED.log_prob(PARAMETERS, jnp.asarray(x)), expected, rtol=1e-5)
    np.testing.assert_allclose(BINNED.entropy(PARAMETERS, jax.random.key(0)), stats.entropy(P, axis=-1).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(BINNED.kl(PARAMETERS, {"logits": jnp.asarray(OTHER)}), stats.entropy(P, Q, axis=-1).sum(-1), rtol=1e-4)


def test_draws_are_bins_by_their_probabilities():
    x = np.asarray(jax.jit(jax.vmap(BINNED.sample, (None, 0)))(PARAMETERS, jax.random.split(jax.random.key(0), 20_000)))
    assert x.dtype == np.int32 and x.shape == (20_000, 5, 2)
    shares = np.stack([(x == token).mean(0) for token in range(8)], -1)
    np.testing.assert_allclose(shares, P, atol=0.02)
    independent = (np.all(x[:, 0] == LOGITS[0].argmax(-1), -1)).mean()
    assert abs(independent - P[0].max(-1).prod()) < 0.02


def test_mode_and_mean_are_actions_in_the_range():
    centres = np.stack([-1 + (np.arange(8) + 0.5) * 0.25, (np.arange(8) + 0.5) * 0.625])
    mode = BINNED.to_action(BINNED.mode(PARAMETERS))
    np.testing.assert_allclose(mode, [[centres[i, P[row, i].argmax()] for i in range(2)] for row in range(5)], rtol=1e-6)
    np.testing.assert_allclose(module.mean(BINS, PARAMETERS), (P * centres).sum(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(module.mean(Bins(number=8), PARAMETERS), (P * centres[0]).sum(-1), rtol=1e-4, atol=1e-5)


def test_parameters_of_a_chunk():
    assert BINNED.parameters(ArraySpec((4, 2)))["logits"].shape == (4, 2, 8)
    chunks = {"logits": jnp.zeros((3, 4, 2, 8))}
    assert BINNED.sample(chunks, jax.random.key(0)).shape == (3, 4, 2)
    np.testing.assert_allclose(BINNED.log_prob(chunks, jnp.zeros((3, 4, 2), jnp.int32)), np.full((3, 4), -2 * np.log(8)), rtol=1e-6)
