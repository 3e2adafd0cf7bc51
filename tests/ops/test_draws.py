"""Named draws are one flat draw, cut in the order of the names."""

import jax
import numpy as np

from jaxrl.ops.draws import uniforms

KEY = jax.random.key(3)


def test_the_draws_are_one_flat_draw_in_the_order_of_the_names():
    found = jax.jit(lambda key: uniforms(key, speed=2, angle=1, nothing=0, key=4))(KEY)
    assert {name: draw.shape for name, draw in found.items()} == {"speed": (2,), "angle": (1,), "nothing": (0,), "key": (4,)}
    flat = jax.random.uniform(KEY, (7,))
    np.testing.assert_array_equal(np.concatenate([found[name] for name in ("speed", "angle", "nothing", "key")]), flat)


def test_the_names_are_in_the_order_they_were_given():
    assert list(uniforms(KEY, b=1, a=2, c=1)) == ["b", "a", "c"]


def test_no_names_are_no_draws():
    assert uniforms(KEY) == {}
