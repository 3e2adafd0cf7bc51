import jax.numpy as jnp
import numpy as np

from jaxrl.ops.padding import held


def test_held_against_a_loop():
    draws = np.random.default_rng(0)
    x, mask = draws.normal(size=(5, 2, 6, 3)), draws.integers(0, 2, (5, 2, 6, 3))
    expected = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        before = [t for t in range(place[2] + 1) if mask[place[0], place[1], t, place[3]]]
        expected[place] = x[place[0], place[1], before[-1], place[3]] if before else 0.0
    found = held(jnp.asarray(np.where(mask, x, np.nan), jnp.float32), jnp.asarray(mask, jnp.float32))
    np.testing.assert_array_equal(found, expected.astype(np.float32))
