"""Values of dm_control 1.0.50, utils/rewards.py, written down once."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.tolerance import tolerance

X = (-4.0, -2.5, -1.0, -0.5, 0.2, 1.0, 1.7, 3.0, 6.0)
# With bounds (-0.5, 1.0), margin 2 and value 0.3 at the margin.
EXPECTED = {
    "gaussian": (0.0250428552, 0.3, 0.9275131560, 1.0, 1.0, 1.0, 0.8628739416, 0.3, 0.0005395204),
    "hyperbolic": (0.0752111766, 0.3, 0.8994857049, 1.0, 1.0, 1.0, 0.8177410132, 0.3, 0.0184721933),
    "long_tail": (0.1227621483, 0.3, 0.8727272727, 1.0, 1.0, 1.0, 0.7777057680, 0.3, 0.0641711230),
    "reciprocal": (0.1967213115, 0.3, 0.6315789474, 1.0, 1.0, 1.0, 0.5504587156, 0.3, 0.1463414634),
    "tanh_squared": (0.0562900774, 0.3, 0.9138084564, 1.0, 1.0, 1.0, 0.8401153277, 0.3, 0.0093901600),
    "linear": (0.0, 0.3, 0.825, 1.0, 1.0, 1.0, 0.755, 0.3, 0.0),
    "quadratic": (0.0, 0.3, 0.95625, 1.0, 1.0, 1.0, 0.91425, 0.3, 0.0),
    "cosine": (0.0, 0.3, 0.9398469276, 1.0, 1.0, 1.0, 0.8844077328, 0.3, 0.0),
}


@pytest.mark.parametrize("sigmoid", EXPECTED)
def test_values(sigmoid):
    found = tolerance(jnp.array(X), (-0.5, 1.0), margin=2.0, value_at_margin=0.3, sigmoid=sigmoid)
    np.testing.assert_allclose(found, EXPECTED[sigmoid], rtol=1e-5, atol=1e-6)


def test_without_margin_it_is_an_indicator_and_both_bounds_are_within():
    found = tolerance(jnp.array([-0.1, 0.0, 0.5, 1.0, 1.1]), (0.0, 1.0))
    np.testing.assert_array_equal(found, [0, 1, 1, 1, 0])


def test_the_defaults_are_a_gaussian_that_is_a_tenth_at_the_margin():
    np.testing.assert_allclose(tolerance(jnp.array([0.0, 5.0, -5.0]), margin=5.0), [1.0, 0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": (1.0, 0.0)}, "lower bound 1.0 is above the upper bound 0.0"),
        ({"margin": -1.0}, "margin -1.0 is negative"),
        ({"margin": 1.0, "sigmoid": "square"}, "sigmoid 'square' is unknown; there are gaussian"),
        ({"margin": 1.0, "value_at_margin": 0.0}, "value_at_margin 0.0 is out of range for the sigmoid gaussian"),
        ({"margin": 1.0, "value_at_margin": 1.0}, "value_at_margin 1.0 is out of range"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        tolerance(jnp.zeros(2), **arguments)
