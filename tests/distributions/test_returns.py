"""What critics say of returns, against loops in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.distributions import ensemble
from jaxrl.distributions.categorical_return import categorical_return
from jaxrl.distributions.quantile_return import quantile_return
from jaxrl.distributions.scalar_return import scalar_return
from jaxrl.losses.classification import two_hot

LOW, HIGH, BINS = -2.0, 3.0, 11
ATOMS = np.linspace(LOW, HIGH, BINS)
CATEGORICAL, QUANTILES = categorical_return(BINS, LOW, HIGH), quantile_return(4, 0.7)
EVERY = {"scalar": scalar_return(), "categorical": CATEGORICAL, "quantile": QUANTILES}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def projected(probabilities, reward, discount):
    """Algorithm 1 of Bellemare et al. 2017, atom by atom."""
    spacing = (HIGH - LOW) / (BINS - 1)
    moved = np.zeros(BINS)
    for j, atom in enumerate(ATOMS):
        b = (np.clip(reward + discount * atom, LOW, HIGH) - LOW) / spacing
        b = round(b) if abs(b - round(b)) < 1e-9 else b
        lower, upper = int(np.floor(b)), int(np.ceil(b))
        if lower == upper:
            moved[lower] += probabilities[j]
        else:
            moved[lower] += probabilities[j] * (upper - b)
            moved[upper] += probabilities[j] * (b - lower)
    return moved


def drawn(size, shape=(6,), seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, size)).astype(np.float32)


def test_projection_onto_the_atoms():
    output = drawn(BINS)
    reward = np.array([0.0, 0.3, -1.7, 0.25, 9.0, -9.0], np.float32)
    discount = np.array([1.0, 0.9, 0.9, 0.0, 0.9, 0.9], np.float32)
    target = np.asarray(CATEGORICAL.backup(jnp.asarray(output), jnp.asarray(reward), jnp.asarray(discount)))
    probabilities = softmax(output)
    expected = np.stack([projected(p, r, d) for p, r, d in zip(probabilities, reward, discount, strict=True)])
    np.testing.assert_allclose(target, expected, atol=1e-5)
    np.testing.assert_allclose(target.sum(-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(target[0], probabilities[0], atol=1e-6)  # of itself
    np.testing.assert_allclose(target[3] @ ATOMS, 0.25, atol=1e-5)  # ended: the reward, between two atoms
    assert target[3, :4].sum() == 0 and target[3, 6:].sum() == 0
    np.testing.assert_allclose(target[4:], np.eye(BINS)[[-1, 0]], atol=1e-6)  # beyond the range: its ends


def test_mean_is_kept_inside_the_range():
    inside = np.full((6, BINS), -30.0, np.float32)
    inside[:, 3:8] = drawn(5)
    reward, discount = jnp.linspace(-0.4, 0.4, 6), jnp.full(6, 0.9)
    target = CATEGORICAL.backup(jnp.asarray(inside), reward, discount)
    np.testing.assert_allclose(
        target @ jnp.asarray(ATOMS, jnp.float32), reward + discount * CATEGORICAL.mean(jnp.asarray(inside)), atol=1e-5
    )


@pytest.mark.parametrize(("bins", "width"), [(101, 5.0), (251, 250.0), (501, 10_000.0)])
def test_two_hot_shares_add_up_in_float32(bins, width):
    value = np.random.default_rng(0).uniform(-width, width, 1000).astype(np.float32)
    atoms = np.linspace(-width, width, bins)
    shares = np.asarray(two_hot(jnp.asarray(value), jnp.asarray(atoms, jnp.float32)), np.float64)
    np.testing.assert_allclose(shares.sum(-1), 1.0, atol=1e-4)
    np.testing.assert_allclose(shares @ atoms, value, atol=2e-4 * width)
    assert ((shares > 0).sum(-1) <= 2).all()


def test_cross_entropy_is_least_at_the_target():
    output, target = drawn(BINS), softmax(drawn(BINS, seed=1))
    loss = CATEGORICAL.loss(jnp.asarray(output), jnp.asarray(target))
    np.testing.assert_allclose(loss, -(target * np.log(softmax(output))).sum(-1), rtol=1e-5)
    gradient = jax.grad(lambda x: CATEGORICAL.loss(x, jnp.asarray(target)).sum())(jnp.asarray(output))
    np.testing.assert_allclose(gradient, softmax(output) - target, atol=1e-6)
    np.testing.assert_allclose(CATEGORICAL.mean(jnp.asarray(output)), softmax(output) @ ATOMS, rtol=1e-5, atol=1e-6)


def test_quantile_huber_loss():
    threshold, size = 0.7, 4
    output, target = drawn(size, (3,)), drawn(size, (3,), 1)
    expected, slope = np.zeros(3), np.zeros((3, size))
    for row in range(3):
        for i in range(size):
            place = (2 * i + 1) / (2 * size)
            for j in range(size):
                u = target[row, j] - output[row, i]
                weight = abs(place - (u < 0)) / threshold / size
                expected[row] += weight * (0.5 * u * u if abs(u) <= threshold else threshold * (abs(u) - 0.5 * threshold))
                slope[row, i] -= weight * np.clip(u, -threshold, threshold)
    np.testing.assert_allclose(QUANTILES.loss(jnp.asarray(output), jnp.asarray(target)), expected, rtol=1e-5)
    gradient = jax.grad(lambda x: QUANTILES.loss(x, jnp.asarray(target)).sum())(jnp.asarray(output))
    np.testing.assert_allclose(gradient, slope, atol=1e-6)


def test_quantiles_of_a_distribution_are_found():
    returns = quantile_return(5, 0.01)
    data = jnp.asarray(np.random.default_rng(0).exponential(size=4000), jnp.float32)
    slope = jax.jit(jax.grad(lambda q: returns.loss(q, data)))
    found = jnp.zeros(5)
    for _ in range(200):
        found = found - 0.5 * slope(found)
    np.testing.assert_allclose(found, np.quantile(data, (np.arange(5) + 0.5) / 5), atol=0.05)


@pytest.mark.parametrize("kind", EVERY)
def test_targets_hold_the_return_and_no_gradient(kind):
    returns = EVERY[kind]
    output = jnp.asarray(drawn(returns.size, (2, 3)))
    reward, discount = jnp.full((2, 3), 0.2), jnp.full((2, 3), 0.5)
    target = returns.backup(output, reward, discount)
    assert target.shape == output.shape and returns.loss(output, target).shape == (2, 3)
    if kind != "categorical":  # whose targets are probabilities
        np.testing.assert_allclose(returns.mean(target), reward + discount * returns.mean(output), atol=1e-5)
    gradient = jax.grad(lambda x: returns.loss(jnp.zeros_like(x), returns.backup(x, reward, discount)).sum())(output)
    assert not gradient.any()


@pytest.mark.parametrize("kind", EVERY)
def test_several_critics(kind):
    returns = EVERY[kind]
    outputs = jnp.asarray(drawn(returns.size, (3, 5)))
    reward, discount = jnp.linspace(-0.3, 0.3, 5), jnp.full(5, 0.8)
    means = np.asarray(returns.mean(outputs))
    np.testing.assert_allclose(ensemble.expected(returns, outputs, "minimum"), means.min(0))
    np.testing.assert_allclose(ensemble.expected(returns, outputs, "mean"), means.mean(0), rtol=1e-5)
    each = np.stack([returns.backup(outputs[e], reward, discount) for e in range(3)])
    np.testing.assert_allclose(
        ensemble.target(returns, outputs, "minimum", reward, discount), each[means.argmin(0), np.arange(5)], atol=1e-6
    )
    np.testing.assert_allclose(ensemble.target(returns, outputs, "mean", reward, discount), each.mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: categorical_return(1, -1.0, 1.0), "bins is 1, but a categorical return needs at least 2"),
        (lambda: categorical_return(3, 1.0, 1.0), "goes from 1.0 to 1.0, but must go upwards"),
        (lambda: quantile_return(0), "at least one quantile, got 0"),
        (lambda: quantile_return(3, 0.0), "threshold of the Huber loss is 0.0"),
    ],
)
def test_impossible_returns_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
