"""DrQ-v2 on tiny images: what learns from what, and the noise's schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import optimizers
from jaxrl.algorithms import drqv2
from jaxrl.networks._torsos import Torso
from jaxrl.networks.actor_q import Config as Head
from jaxrl.networks.pixel_actor_q import Config, pixel_actor_q
from jaxrl.ops.running_statistics import normalise
from jaxrl.types import ArraySpec, EnvSpec, Replayed

KEY = jax.random.key(0)
GAMMA = 0.9
SPEC = EnvSpec(
    "eye", {"image/eye": ArraySpec((9, 9, 1), "uint8"), "state/a": ArraySpec((2,))}, ArraySpec((1,), low=-1.0, high=1.0), 100, 0.02
)
NETWORKS = pixel_actor_q(Config(((4, 3, 2),), 6, Head(Torso(width=8, depth=1), Torso(width=8, depth=1), deterministic=True)), SPEC)
PLAIN = optimizers.Config("sgd", 0.1)


def batch(updates: int = 1) -> Replayed:
    shape = (updates, 8)

    def observation(key: jax.Array) -> dict[str, jax.Array]:
        image = jax.random.randint(key, (*shape, 9, 9, 1), 0, 256).astype(jnp.uint8)
        return {"image/eye": image, "state/a": jax.random.normal(key, (*shape, 2))}

    keys = jax.random.split(KEY, 4)
    steps = jnp.full(shape, 3, jnp.int32)
    reward, action = jax.random.normal(keys[0], (*shape, 3)), jax.random.uniform(keys[1], (*shape, 1), minval=-1.0, maxval=1.0)
    return Replayed(observation(keys[2]), action, reward, steps, jnp.ones(shape), observation(keys[3]), jnp.ones(shape), {})


def made(**changes: object) -> drqv2.Algorithm:
    fields = {"optimizer": PLAIN, "gamma": GAMMA, "tau": 0.25, "pad": 0, "noise_std": (0.5, 0.1), "noise_updates": 4}
    return drqv2.drqv2(drqv2.Config(**fields | changes), SPEC, NETWORKS)


@pytest.fixture(scope="module")
def updated():
    algorithm = made()
    state = algorithm.init(KEY)
    return algorithm, state, jax.jit(algorithm.update)(state, batch(), KEY)


def test_target_and_losses_of_the_first_update(updated):
    """The equations once more, straight down (2 to 4), without shifts."""
    _, state, (after, metrics, feedback) = updated
    whole = jax.tree.map(lambda x: x[0], batch())
    blur, act = jax.random.split(jax.random.split(KEY, 1)[0], 4)[2:]
    see = lambda observation: NETWORKS.encoder.apply(state.params["encoder"], {}, normalise(after.statistics, observation))[0]  # noqa: E731
    now, later = see(whole.observation), see(whole.next_observation)

    def act_at(params, seen, key):
        noise = np.clip(0.5 * np.asarray(jax.random.normal(key, (8, 1))), -0.3, 0.3)
        return np.clip(np.tanh(NETWORKS.actor.apply(params, {}, seen)[0]["mean"]) + noise, -1, 1)

    value = lambda params, seen, action: np.asarray(NETWORKS.critic.apply(params, {}, (seen, action))[0][..., 0])  # noqa: E731
    ahead = value(state.extra.target, later, act_at(state.params["actor"], later, blur)).min(0)
    target = sum(np.asarray(whole.reward[:, k]) * GAMMA**k for k in range(3)) + GAMMA**3 * ahead
    error = value(state.params["critic"], now, whole.action) - target
    np.testing.assert_allclose(metrics["loss/critic"], (0.5 * error**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(feedback["priority"][0], np.abs(error).mean(0), rtol=1e-4)
    # The actor is shown what the encoder saw, by the critics as they have become.
    own = value(after.params["critic"], now, act_at(state.params["actor"], now, act)).min(0)
    np.testing.assert_allclose(metrics["loss/policy"], -own.mean(), rtol=1e-3, atol=1e-4)


def test_everything_learns_and_the_target_follows(updated):
    _, state, (after, _, _) = updated
    for part in ("encoder", "actor", "critic"):
        assert any((a != b).any() for a, b in zip(*(jax.tree.leaves(s.params[part]) for s in (state, after)), strict=True)), part
    old, new, moved = state.extra.target, after.params["critic"], after.extra.target
    jax.tree.map(lambda a, b, m: np.testing.assert_allclose(m, 0.75 * a + 0.25 * b, rtol=1e-4, atol=1e-6), old, new, moved)


def test_noise_fades_and_is_not_deployed(updated):
    algorithm, state, _ = updated
    later = state._replace(step=jnp.int32(9))
    assert (algorithm.behaviour(state).std, algorithm.deployable(state).std) == (0.5, 0.0)
    np.testing.assert_allclose(algorithm.behaviour(later).std, 0.1, rtol=1e-6)


def test_impossible_numbers_are_refused():
    for fields, message in (({"pad": -1}, "pad is -1"), ({"noise_updates": 0}, "noise_updates is 0"), ({"tau": 0.0}, "tau is 0.0")):
        with pytest.raises(ValueError, match=message):
            drqv2.Config(**fields)
