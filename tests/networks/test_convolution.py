"""Convolutions against XLA's own, with their gradients, which have forms of their own on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks._convolution import _whole, convolve

KEY = jax.random.key(0)
CASES = [  # batch, height and width, channels, kernel, stride, padding
    (2, (9, 12), 3, 3, 2, 0),
    (2, (9, 8), 3, 4, 2, 1),
    (2, (9, 8), 3, 7, 2, 3),
    (2, (5, 5), 3, 5, 5, 0),
    (2, (6, 7), 40, 3, 1, 1),
    (2, (7, 6), 40, 3, 2, 1),
    (17, (6, 7), 40, 3, 1, 1),
    (17, (7, 6), 40, 3, 2, 0),
    (2, (5, 4), 256, 3, 1, 1),
    (2, (5, 4), 256, 3, 2, 1),
    (2, (7, 7), 256, 1, 3, 0),
]


@pytest.mark.parametrize(("batch", "shape", "channels", "size", "stride", "padding"), CASES)
def test_convolution_and_its_gradients_inside_a_loop(batch, shape, channels, size, stride, padding):
    x = jax.random.normal(KEY, (2, batch, *shape, channels))
    kernel = jax.random.normal(jax.random.key(1), (size, size, channels, 4)) / (size * channels**0.5)

    def both(convolution):
        def one(x):
            value, pull = jax.vjp(lambda x, kernel: convolution(x, kernel, stride, padding), x, kernel)
            return value, pull(jnp.cos(value))

        return jax.jit(lambda x: jax.lax.map(one, x))(x)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), both(convolve), both(_whole))


def test_axes_in_front_are_free():
    x, kernel = jax.random.normal(KEY, (2, 3, 6, 5, 2)), jax.random.normal(jax.random.key(1), (3, 3, 2, 4))
    np.testing.assert_allclose(convolve(x, kernel, 1)[1], convolve(x[1], kernel, 1), atol=1e-5)
