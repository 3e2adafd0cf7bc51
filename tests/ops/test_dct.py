import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import fft

from jaxrl.ops import dct


@pytest.mark.parametrize("size", [1, 2, 15, 50])
def test_against_scipy(size):
    x = np.random.default_rng(0).normal(size=(3, size, 2))
    expected = fft.dct(x, axis=1, norm="ortho")
    np.testing.assert_allclose(dct.matrix(size) @ x, expected, atol=1e-12)
    found = jax.jit(dct.dct)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(jax.jit(dct.idct)(jnp.asarray(expected, jnp.float32)), x, atol=1e-5)
