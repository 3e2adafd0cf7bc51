"""TD3's equations against numpy, and what its configs change."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import optimizers
from jaxrl.algorithms import td3
from jaxrl.types import ArraySpec
from tests.algorithms.off_policy import GAMMA, SPEC, batch, critics, dense, first, networks, returns

KEY = jax.random.key(0)
PLAIN = optimizers.Config("sgd", 0.01)
CONFIG: dict[str, Any] = {"actor_optimizer": PLAIN, "critic_optimizer": PLAIN, "gamma": GAMMA, "tau": 0.25, "policy_delay": 1}


def made(**changes: Any) -> Any:
    return td3.td3(td3.Config(**CONFIG | changes), SPEC, networks(deterministic=True))


def test_the_first_steps_against_numpy():
    """Blurred target of the least critic (equations 10 and 15), the actor's loss, and target networks."""
    algorithm, whole = made(target_noise=0.4, target_noise_clip=0.3), batch(KEY, 1)
    state, now = algorithm.init(KEY), first(whole)
    state = state._replace(extra=jax.tree.map(lambda x: x + 0.1, state.extra))
    after, metrics, feedback = jax.jit(algorithm.update)(state, whole, KEY)

    blur = 0.4 * np.asarray(jax.random.normal(jax.random.split(jax.random.split(KEY, 1)[0], 3)[0], (8, 2)))
    action = np.clip(np.tanh(dense(state.extra.actor, now.next_observation["state/a"])) + np.clip(blur, -0.3, 0.3), -1, 1)
    later = critics(state.extra.critic, now.next_observation, action).min(0)
    target = returns(now) + now.discount * GAMMA**now.steps * later
    error = critics(state.params["critic"], now.observation, now.action / 2.0) - target
    np.testing.assert_allclose(metrics["loss/critic"], (0.5 * error**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(feedback["priority"][0], np.abs(error).mean(0), rtol=1e-4)
    bias = state.params["critic"]["output"]["bias"][:, 0]
    np.testing.assert_allclose(
        after.params["critic"]["output"]["bias"][:, 0], bias - 0.01 * (error * now.weight).mean(1), rtol=1e-4, atol=1e-6
    )
    own = np.tanh(dense(state.params["actor"], now.observation["state/a"]))
    np.testing.assert_allclose(metrics["loss/policy"], -critics(after.params["critic"], now.observation, own).mean(), rtol=1e-4)
    for part, moved in after.extra._asdict().items():
        trees = getattr(state.extra, part), after.params[part], moved
        jax.tree.map(lambda old, new, m: np.testing.assert_allclose(m, 0.75 * old + 0.25 * new, rtol=1e-4, atol=1e-6), *trees)


def test_without_a_target_actor_the_actor_itself_aims():
    algorithm = made(target_actor=False)
    assert algorithm.init(KEY).extra.actor == {}


def test_exploration_differs_between_worlds_and_stays_within_bounds():
    algorithm = made(exploration_std=(0.0, 0.8))
    behaviour = algorithm.behaviour(algorithm.init(KEY))
    observation, carry, actions = {"state/a": jnp.ones((64, 3))}, algorithm.explore.init(64), []
    for i in range(20):
        chunk, carry, _ = algorithm.explore.act(behaviour, observation, carry, jax.random.split(jax.random.key(i), 64))
        actions.append(chunk[:, 0])
    spread = np.stack(actions).std(0).mean(-1)
    assert spread.min() < 0.3 < 0.7 < spread.max() and np.abs(actions).max() <= 2.0
    mode, _, _ = algorithm.policy.act(algorithm.deployable(algorithm.init(KEY)), observation, (), jax.random.split(KEY, 64))
    assert (mode == mode[:1]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"exploration_std": (0.4, 0.1)}, "exploration_std is .*, but must be two numbers that ascend"),
        ({"target_noise": -0.1}, "target_noise is -0.1, but must not be negative"),
        ({"tau": 2.0}, "tau is 2.0, but must be above 0 and at most 1"),
    ],
)
def test_impossible_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        td3.Config(**fields)


def test_discrete_actions_are_refused():
    discrete = SPEC._replace(action=ArraySpec((), "int32", low=0, high=3))
    with pytest.raises(ValueError, match="td3 needs continuous actions"):
        td3.td3(td3.Config(), discrete, networks(deterministic=True))
