"""Steps in a mirror."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.replay.mirrored import mirrored, reflected
from jaxrl.types import ArraySpec, Mirror, Reflection, Replayed, Source

SWAP = Reflection((1, 0, 2), (1.0, 1.0, -1.0))
MIRROR = Mirror({"state/a": SWAP}, Reflection((1, 0), (-1.0, -1.0)))
SHAPE = (2, 400)
SPEC = {"observation/state/a": ArraySpec((*SHAPE, 3)), "steps": ArraySpec(SHAPE, "int32")}


def source(spec=None):
    def advance(state, behaviour, key):
        row = jnp.broadcast_to(jnp.array([1.0, 2.0, 3.0]), (*SHAPE, 3))
        ones = jnp.ones(SHAPE)
        batch = Replayed({"state/a": row}, row[..., :2], ones[..., None], ones, ones, {"state/a": row + 1}, ones, {})
        return state, batch

    return Source(SPEC if spec is None else spec, lambda key, behaviour: (), advance)


def test_half_of_the_steps_are_seen_in_the_mirror_from_both_ends():
    _, batch = mirrored(source(), MIRROR).next((), (), jax.random.key(0))
    flipped = np.asarray(batch.observation["state/a"][..., 0] == 2.0)
    assert 0.4 < flipped.mean() < 0.6 and 0 < flipped[0].sum() < SHAPE[1]
    for array, right, left in (
        (batch.observation["state/a"], [1, 2, 3], [2, 1, -3]),
        (batch.next_observation["state/a"], [2, 3, 4], [3, 2, -4]),
        (batch.action, [1, 2], [-2, -1]),
    ):
        np.testing.assert_array_equal(array, np.where(flipped[..., None], np.array(left), np.array(right)))


def test_a_mirror_image_of_the_mirror_image_is_the_thing():
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(reflected(SWAP, reflected(SWAP, x)), x)


def test_what_has_no_mirror_image_is_refused():
    with pytest.raises(ValueError, match="the mirror image of state/b is not known; did you mean state/a"):
        mirrored(source(SPEC | {"observation/state/b": ArraySpec((*SHAPE, 3))}), MIRROR)
    with pytest.raises(ValueError, match="the source does not replay"):
        mirrored(source({"observation/state/a": ArraySpec((*SHAPE, 3))}), MIRROR)
