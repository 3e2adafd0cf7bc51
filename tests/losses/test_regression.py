"""Against loops in numpy, and against what their minima are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxrl.losses import regression

PREDICTION, TARGET = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32) * 2


def huber(error, threshold):
    return 0.5 * error**2 if abs(error) <= threshold else threshold * (abs(error) - 0.5 * threshold)


ORACLES = {
    "squared": (regression.squared_error, lambda p, t: (p - t) ** 2),
    "absolute": (regression.absolute_error, lambda p, t: abs(p - t)),
    "huber": (lambda p, t: regression.huber_error(p, t, 0.7), lambda p, t: huber(p - t, 0.7)),
    "quantile": (
        lambda p, t: regression.quantile_huber_error(p, t, 0.2, 0.7),
        lambda p, t: (0.8 if t < p else 0.2) * huber(p - t, 0.7) / 0.7,
    ),
    "expectile": (lambda p, t: regression.expectile_error(p, t, 0.9), lambda p, t: (0.1 if t < p else 0.9) * (p - t) ** 2),
}


@pytest.mark.parametrize("name", ORACLES)
def test_each_element_against_numpy(name):
    loss, oracle = ORACLES[name]
    value, pull = jax.vjp(jax.jit(lambda p: loss(p, jnp.asarray(TARGET))), jnp.asarray(PREDICTION))
    np.testing.assert_allclose(value, np.vectorize(oracle)(PREDICTION, TARGET), rtol=1e-5)
    slope = pull(jnp.ones_like(value))[0]
    step, double = 1e-6, PREDICTION.astype(np.float64)
    numeric = (np.vectorize(oracle)(double + step, TARGET) - np.vectorize(oracle)(double - step, TARGET)) / (2 * step)
    np.testing.assert_allclose(slope, numeric, atol=1e-4)


def test_huber_meets_its_lines_where_they_begin():
    edge = jnp.array([0.699999, 0.700001])
    value, pull = jax.vjp(jax.jit(lambda x: regression.huber_error(x, jnp.zeros(2), 0.7)), edge)
    np.testing.assert_allclose(value, 0.5 * 0.7**2, rtol=1e-5)
    np.testing.assert_allclose(pull(jnp.ones(2))[0], 0.7, rtol=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_minima_are_the_quantile_and_the_expectile(share):
    data = np.random.default_rng(1).exponential(size=2001)

    def minimum(loss):
        total = jax.jit(lambda x: loss(x, jnp.asarray(data, jnp.float32)).sum())
        return optimize.minimize_scalar(lambda x: float(total(jnp.full(2001, x, jnp.float32))), bounds=(0, 5), method="bounded").x

    quantile = minimum(lambda p, t: regression.quantile_huber_error(p, t, share, 1e-3))
    assert quantile == pytest.approx(np.quantile(data, share), abs=0.02)
    expectile = minimum(lambda p, t: regression.expectile_error(p, t, share))
    above, below = np.maximum(data - expectile, 0).sum(), np.maximum(expectile - data, 0).sum()
    assert share * above == pytest.approx((1 - share) * below, rel=5e-3)


def test_distance_of_rows_is_that_of_what_counts():
    first, second = (np.random.default_rng(i).normal(size=(3, 4, 2)).astype(np.float32) for i in range(2))
    mask = np.zeros((3, 4, 2), np.float32)
    mask[0], mask[1, :2, 0] = 1, 1
    other, weight = jnp.asarray(np.where(mask > 0, second, np.nan)), jnp.asarray(mask)
    found, pull = jax.vjp(lambda x: regression.pseudo_huber_distance(x, other, weight, 0.1), jnp.asarray(first))
    for row in range(3):
        square = [(a - b) ** 2 for a, b, m in zip(first[row].flat, second[row].flat, mask[row].flat, strict=True) if m]
        assert found[row] == pytest.approx(np.sqrt(np.mean(square or [0]) + 0.01) - 0.1, rel=1e-5)
    slope = np.asarray(pull(jnp.ones(3))[0])
    np.testing.assert_allclose(slope[0], (first - second)[0] / 8 / (np.asarray(found)[0] + 0.1), rtol=1e-4)
    assert not slope[mask == 0].any()
