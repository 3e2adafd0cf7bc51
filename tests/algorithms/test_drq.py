"""SAC from images (DrQ): who trains the encoder, and that images move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import optimizers
from jaxrl.algorithms import sac
from tests.algorithms.off_policy import EYE, SPEC, networks, pictures, pixel_networks

KEY = jax.random.key(0)


def made(critic_rate=0.1, **changes):
    fields = {"actor_optimizer": optimizers.Config("sgd", 0.1), "critic_optimizer": optimizers.Config("sgd", critic_rate), "tau": 0.25}
    return sac.sac(sac.Config(**fields | changes), EYE, pixel_networks())


def encoder_of(params):
    return jax.tree.leaves(params["encoder"])


@pytest.mark.parametrize("critic_rate", [1e-30, 0.1])
def test_critics_train_the_encoder_and_the_actor_sees_through_it(critic_rate):
    algorithm = made(critic_rate)
    state = algorithm.init(KEY)
    after, _, _ = jax.jit(algorithm.update)(state, pictures(KEY), KEY)
    old, new, target = (encoder_of(p) for p in (state.params["critic"], after.params["critic"], after.extra.target))
    moved = any(np.abs(a - b).max() > 1e-20 for a, b in zip(old, new, strict=True))
    assert moved == (critic_rate > 1e-30)
    assert any((a != b).any() for a, b in zip(*(jax.tree.leaves(s.params["actor"]) for s in (state, after)), strict=True))
    assert "encoder" not in after.params["actor"]
    for a, b, m in zip(old, new, target, strict=True):
        np.testing.assert_allclose(m, 0.75 * a + 0.25 * b, rtol=1e-4, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, algorithm.behaviour(after).actor["encoder"], after.params["critic"]["encoder"])


def test_what_is_seen_changes_what_is_done():
    algorithm = made()
    behaviour = algorithm.deployable(algorithm.init(KEY))
    observation = jax.tree.map(lambda x: x[0], pictures(KEY).observation)
    act = lambda shown: algorithm.policy.act(behaviour, shown, (), jax.random.split(KEY, 8))[0]  # noqa: E731
    other = observation | {"image/eye": 255 - observation["image/eye"]}
    assert np.abs(act(observation) - act(other)).max() > 1e-4


def test_images_are_shifted_and_the_rest_is_not():
    still, moving = (jax.jit(made(pad=pad).update) for pad in (0, 4))
    state = made().init(KEY)
    even = pictures(KEY)
    even = even._replace(
        observation=even.observation | {"image/eye": jnp.full_like(even.observation["image/eye"], 9)},
        next_observation=even.next_observation | {"image/eye": jnp.full_like(even.next_observation["image/eye"], 9)},
    )
    value = lambda update, batch: float(update(state, batch, KEY)[1]["value"])  # noqa: E731
    assert value(still, even) == pytest.approx(value(moving, even), rel=1e-5)  # an image of one colour looks alike wherever it is
    assert value(still, pictures(KEY)) != pytest.approx(value(moving, pictures(KEY)), rel=1e-5)


def test_a_shift_without_images_is_refused():
    with pytest.raises(ValueError, match="pad is 4, but sac's networks see no images"):
        sac.sac(sac.Config(pad=4), SPEC, networks())
