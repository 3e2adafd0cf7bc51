"""SAC's equations against numpy, and what its configs change."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl import optimizers
from jaxrl.algorithms import sac
from jaxrl.networks._torsos import Torso
from jaxrl.types import ArraySpec
from tests.algorithms.off_policy import BATCH, GAMMA, SPEC, UPDATES, batch, critics, dense, first, networks, returns

KEY = jax.random.key(0)
PLAIN = optimizers.Config("sgd", 0.01)
CONFIG: dict[str, Any] = {"actor_optimizer": PLAIN, "critic_optimizer": PLAIN, "gamma": GAMMA, "tau": 0.25, "initial_temperature": 0.3}


def made(**changes: Any) -> Any:
    return sac.sac(sac.Config(**CONFIG | changes), SPEC, networks())


def drawn(params: Any, observation: Any, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """The actor's action in [-1, 1] and its log-probability, told by scipy."""
    mean, raw = np.split(dense(params, observation["state/a"]), 2, -1)
    std = np.exp(-5.0 + 7.0 * 0.5 * (np.tanh(raw) + 1.0))
    x = mean + std * np.asarray(jax.random.normal(key, mean.shape))
    action = np.tanh(x)
    return action, (scipy.stats.norm.logpdf(x, mean, std) - np.log(1 - action**2)).sum(-1)


@pytest.mark.parametrize(("how", "bonus"), [("minimum", True), ("mean", False)])
def test_the_first_critic_step_against_numpy(how, bonus):
    """Target, weights, gradient step and target critics of one update (equations 5 and 6)."""
    algorithm, whole = made(target_value=how, entropy_in_target=bonus), batch(KEY, 1)
    state, now = algorithm.init(KEY), first(whole)
    state = state._replace(extra=state.extra._replace(target=jax.tree.map(lambda x: x + 0.1, state.extra.target)))
    after, metrics, feedback = jax.jit(algorithm.update)(state, whole, KEY)

    act = jax.random.split(jax.random.split(KEY, 1)[0], 3)[0]
    action, log_prob = drawn(state.params["actor"], now.next_observation, act)
    later = critics(state.extra.target, now.next_observation, action)
    later = later.min(0) if how == "minimum" else later.mean(0)
    target = returns(now) + now.discount * GAMMA**now.steps * (later - 0.3 * log_prob * bonus)
    error = critics(state.params["critic"], now.observation, now.action / 2.0) - target
    np.testing.assert_allclose(metrics["loss/critic"], (0.5 * error**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(feedback["priority"][0], np.abs(error).mean(0), rtol=1e-4)

    # The output layer's bias sees each error once.
    step = 0.01 * (error * now.weight).mean(1)
    bias = state.params["critic"]["output"]["bias"][:, 0]
    np.testing.assert_allclose(after.params["critic"]["output"]["bias"][:, 0], bias - step, rtol=1e-4, atol=1e-6)
    for old, new, moved in zip(
        *(jax.tree.leaves(t) for t in (state.extra.target, after.params["critic"], after.extra.target)), strict=True
    ):
        np.testing.assert_allclose(moved, 0.75 * old + 0.25 * new, rtol=1e-4, atol=1e-6)


def test_actor_and_temperature_against_numpy():
    algorithm, whole = made(temperature_learning_rate=0.1), batch(KEY, 1)
    state, now = algorithm.init(KEY), first(whole)
    after, metrics, _ = jax.jit(algorithm.update)(state, whole, KEY)
    act = jax.random.split(jax.random.fold_in(jax.random.split(KEY, 1)[0], 1))[0]
    action, log_prob = drawn(state.params["actor"], now.observation, act)
    value = critics(after.params["critic"], now.observation, action).min(0)
    np.testing.assert_allclose(metrics["loss/policy"], (0.3 * log_prob - value).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["entropy"], -log_prob.mean(), rtol=1e-4)
    # The wanted entropy is -2, one nat for each dimension; Adam's first step has the length of its rate.
    towards = np.sign(-log_prob.mean() + 2.0)
    np.testing.assert_allclose(after.params["log_temperature"], np.log(0.3) - 0.1 * towards, rtol=1e-4)


def test_a_subset_of_one_is_one_of_the_critics():
    algorithm, whole = made(subset=1), batch(KEY, 1)
    state, now = algorithm.init(KEY), first(whole)
    _, metrics, _ = jax.jit(algorithm.update)(state, whole, KEY)
    action, log_prob = drawn(state.params["actor"], now.next_observation, jax.random.split(jax.random.split(KEY, 1)[0], 3)[0])
    output = critics(state.params["critic"], now.observation, now.action / 2.0)
    losses = []
    for later in critics(state.extra.target, now.next_observation, action):
        target = returns(now) + now.discount * GAMMA**now.steps * (later - 0.3 * log_prob)
        losses.append((0.5 * (output - target) ** 2).mean())
    assert np.isclose(losses, metrics["loss/critic"], rtol=1e-4).sum() == 1


def test_the_actor_waits_for_as_many_updates_as_it_is_told():
    late = made(policy_delay=2)
    state = late.init(KEY)
    after, _, feedback = late.update(state, batch(KEY, 2), KEY)
    assert feedback["priority"].shape == (2, BATCH)
    step = np.asarray(after.params["log_temperature"] - state.params["log_temperature"])
    np.testing.assert_allclose(np.abs(step), 3e-4, rtol=1e-3)  # Adam has made one step, of its rate
    with pytest.raises(ValueError, match="hands over 3 updates at once, no multiple of policy_delay, 2"):
        late.update(state, batch(KEY, 3), KEY)


def test_crossq_keeps_no_target_and_its_statistics_see_both_ends_of_a_step():
    torso = Torso("crossq", 8, 1)
    algorithm = sac.sac(sac.Config(**CONFIG | {"tau": 1.0, "joint": True}), SPEC, networks(actor=torso, critic=torso))
    state = algorithm.init(KEY)
    assert jax.tree.leaves(state.extra) == []
    whole = batch(KEY, 1)
    after, _, _ = jax.jit(algorithm.update)(state, whole, KEY)
    now = first(whole)
    seen = np.concatenate([now.observation["state/a"], now.next_observation["state/a"]])
    mean = np.asarray(after.statistics.critic["torso"]["norm"]["mean"])  # [E, inputs]
    np.testing.assert_allclose(mean[:, :3], np.broadcast_to(0.01 * seen.mean(0), (3, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after.statistics.actor["torso"]["norm"]["mean"], 0.01 * seen.mean(0), rtol=1e-4, atol=1e-6)


def test_flash_weights_stay_on_their_spheres():
    torso = Torso("flash", 8, 1)
    config = sac.Config(**CONFIG | {"joint": True, "policy_delay": UPDATES})
    algorithm = sac.sac(config, SPEC, networks(actor=torso, critic=torso))
    after, _, _ = jax.jit(algorithm.update)(algorithm.init(KEY), batch(KEY), KEY)
    for part in ("actor", "critic"):
        layers = after.params[part]["torso"]
        np.testing.assert_allclose(jnp.linalg.norm(layers["wide_0"]["kernel"], axis=-2), 1.0, rtol=1e-5)
        norm = layers["norm_wide_0"]
        both = jnp.concatenate([norm["scale"], norm["bias"]], -1)
        np.testing.assert_allclose(jnp.linalg.norm(both, axis=-1), np.sqrt(32), rtol=1e-5)


def test_actions_end_where_the_environment_bounds_them():
    algorithm = made()
    behaviour = algorithm.behaviour(algorithm.init(KEY))
    large = behaviour._replace(actor=jax.tree.map(lambda x: 100.0 * x, behaviour.actor))
    keys = jax.random.split(KEY, 64)
    observation = {"state/a": jax.random.normal(KEY, (64, 3))}
    for policy in (algorithm.explore, algorithm.policy):
        chunk, _, _ = policy.act(large, observation, policy.init(64), keys)
        np.testing.assert_allclose(jnp.abs(chunk).max(), 2.0, rtol=1e-5)


def test_repeated_noise_is_held():
    algorithm = made(longest_repeat=16)
    behaviour = algorithm.behaviour(algorithm.init(KEY))
    observation = {"state/a": jnp.ones((128, 3))}
    carry, actions = algorithm.explore.init(128), []
    for i in range(3):
        chunk, carry, _ = algorithm.explore.act(behaviour, observation, carry, jax.random.split(jax.random.key(i), 128))
        actions.append(chunk[:, 0, 0])
    same = np.mean(np.asarray(actions[1] == actions[0]))
    assert 0.25 < same < 0.5  # 1 - 1 / sum of n^-2 up to 16: 0.37


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tau": 0.0}, "tau is 0.0, but must be above 0"),
        ({"gamma": 1.5}, "gamma is 1.5, but must lie between 0 and 1"),
        ({"policy_delay": 0}, "policy_delay is 0, but must be at least 1"),
        ({"initial_temperature": 0.0}, "initial_temperature is 0.0, but must be above 0"),
        ({"subset": -1}, "subset is -1, but must not be negative"),
    ],
)
def test_impossible_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        sac.Config(**fields)


def test_discrete_actions_are_refused():
    discrete = SPEC._replace(action=ArraySpec((), "int32", low=0, high=3))
    with pytest.raises(ValueError, match="sac needs continuous actions"):
        sac.sac(sac.Config(), discrete, networks())


def test_a_subset_of_more_critics_than_there_are_is_refused():
    with pytest.raises(ValueError, match="subset is 4, but there are 3 critics"):
        made(subset=4)
