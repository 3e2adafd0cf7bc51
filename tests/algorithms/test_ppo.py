"""PPO's equations against numpy, seen through `update` alone.

The networks are linear, so that numpy can follow them. Where each step of each world has an observation of its own, one-hot, each weight of
the critic has the gradient of one step, and Adam's first moment tells what that step has contributed.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.algorithms import ppo
from jaxrl.distributions.categorical import categorical
from jaxrl.distributions.normal import normal
from jaxrl.networks.actor_critic import ActorCritic, actor_critic
from jaxrl.networks.actor_critic import Config as Networks
from jaxrl.ops.specs import choice
from jaxrl.types import ArraySpec, EnvSpec, Network, Transition
from tests.algorithms.ppo_in_numpy import log_prob, numpy_update, numpy_value

T, B = 4, 3
STEPS = T * B
SPEC = EnvSpec("linear", {"state/x": ArraySpec((STEPS,)), "privileged/y": ArraySpec((1,))}, ArraySpec((2,)), 100, 0.0)
KEY = jax.random.key(0)
GAMMA, LAMBDA, CLIP = 0.9, 0.8, 0.2
# One step on the whole batch that moves nothing: only its gradient is looked at.
STILL = ppo.Config(
    learning_rate=0.0, num_epochs=1, num_minibatches=1, gamma=GAMMA, gae_lambda=LAMBDA, clip=CLIP, value_clip=None,
    max_gradient_norm=0.0, normalise_observations=False, normalise_advantages=False,
)  # fmt: skip


def linear() -> ActorCritic:
    def actor(params, x, key=None, train=False):
        mean = x["state/x"] @ params["weight"]
        return {"mean": mean, "log_std": jnp.broadcast_to(params["log_std"], mean.shape)}

    def critic(params, x, key=None, train=False):
        return jnp.concatenate([x["state/x"], x["privileged/y"]], -1) @ params["weight"]

    def init_actor(key):
        return {"weight": 0.3 * jax.random.normal(key, (STEPS, 2)), "log_std": jnp.array([-0.2, 0.3])}

    def init_critic(key):
        return {"weight": jax.random.normal(key, (STEPS + 1,))}

    return ActorCritic(Network(init_actor, actor), Network(init_critic, critic), normal())


@functools.cache
def learner(config=STILL, networks=None):
    """The algorithm and its update, compiled once."""
    algorithm = ppo.ppo(config, SPEC, linear() if networks is None else actor_critic(networks, SPEC))
    return algorithm, jax.jit(algorithm.update)


def begin(config=STILL, **params):
    """A fresh state, with some of the parameters replaced."""
    state = learner(config)[0].init(KEY)
    own = {part: dict(state.params[part]) for part in ("actor", "critic")}
    for name, value in params.items():
        part, leaf = name.split("_", 1)
        own[part][leaf] = jnp.broadcast_to(jnp.asarray(value, jnp.float32), own[part][leaf].shape)
    return state._replace(params=own)


def gradient(after) -> Any:
    """Of the only step since the optimizer was new: Adam's first moment is a tenth of it."""
    return jax.tree.map(lambda moment: 10 * np.asarray(moment, np.float64), optax.tree.get(after.opt_state, "mu"))


def numpy_batch(seed=0) -> Transition:
    """Random steps, some of which end an episode, under a policy that is not quite the fresh one."""
    rng = np.random.default_rng(seed)
    observation, following = ({"state/x": rng.normal(size=(T, B, STEPS)), "privileged/y": rng.normal(size=(T, B, 1))} for _ in range(2))
    actor = jax.tree.map(np.asarray, begin().params["actor"])
    mean = observation["state/x"] @ actor["weight"] + 0.3 * rng.normal(size=(T, B, 2))
    log_std = np.broadcast_to(actor["log_std"] + 0.1, mean.shape)
    x = mean + np.exp(log_std) * rng.normal(size=mean.shape)
    discount, truncation = np.ones((T, B)), np.zeros((T, B))
    truncation[1, 0] = 1  # cut
    discount[1, 1] = 0  # over
    extras = {"x": x, "mean": mean, "log_std": log_std, "log_prob": log_prob(x, mean, log_std)}
    return Transition(observation, x, rng.normal(size=(T, B)), discount, truncation, following, extras)


def on_device(batch: Transition) -> Transition:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch)


# The whole of it, from the paper


MOVING = dataclasses.replace(STILL, learning_rate=0.02, num_epochs=3)
VARIANTS = {
    "plain": {},
    "values are clipped": {"value_clip": 0.05},
    "losses are weighted": {"entropy_weight": 0.3, "value_weight": 0.5, "reward_scale": 2.0},
    "advantages are normalised": {"normalise_advantages": True},
    "gradients are clipped": {"max_gradient_norm": 0.001},
    "the learning rate follows the divergence": {"target_kl": 0.3, "learning_rate_bounds": (1e-3, 0.025)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_update_is_that_of_the_paper(variant):
    config = dataclasses.replace(MOVING, **VARIANTS[variant])
    state, batch = begin(config), numpy_batch()
    after, metrics, _ = learner(config)[1](state, on_device(batch), KEY)
    expected, told = numpy_update(config, state.params, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), after.params, expected)
    assert metrics.keys() == told.keys()
    for name, value in told.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-4, atol=1e-5, err_msg=name)
    if variant != "plain":  # or nothing was tested
        plain, _ = numpy_update(MOVING, state.params, batch)
        gaps = jax.tree.map(lambda a, b: np.abs(a - b).max(), plain, expected)
        assert max(jax.tree.leaves(gaps)) > 1e-3


# The policy


def told_apart(ratio, advantage):
    """A batch in which each step has this ratio, and this advantage where the critic says 0 and gamma is 0."""
    batch, actor = numpy_batch(), jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), begin().params["actor"])
    now = log_prob(batch.extras["x"], batch.observation["state/x"] @ actor["weight"], actor["log_std"])
    return batch._replace(reward=np.full((T, B), advantage), extras=batch.extras | {"log_prob": now - math.log(ratio)})


@pytest.mark.parametrize(
    ("ratio", "advantage", "flat"),
    [(1.3, 1.0, True), (0.7, -1.0, True), (1.3, -1.0, False), (0.7, 1.0, False), (1.1, 1.0, False), (0.9, -1.0, False)],
)
def test_gradient_is_zero_exactly_where_the_clip_holds(ratio, advantage, flat):
    config = dataclasses.replace(STILL, gamma=0.0)
    batch, state = told_apart(ratio, advantage), begin(config, critic_weight=0.0)
    after, metrics, _ = learner(config)[1](state, on_device(batch), KEY)
    found = gradient(after)["actor"]
    x, actor = batch.observation["state/x"], jax.tree.map(np.asarray, state.params["actor"])
    z = (batch.extras["x"] - x @ actor["weight"]) / np.exp(actor["log_std"])
    expected = {
        "weight": -ratio * advantage * np.einsum("tbi,tbj->ij", x, z / np.exp(actor["log_std"])) / STEPS,
        "log_std": -ratio * advantage * (z**2 - 1).mean((0, 1)),
    }
    for name, slope in expected.items():
        assert np.abs(slope).max() > 0.1
        np.testing.assert_allclose(found[name], 0 * slope if flat else slope, atol=0 if flat else 1e-5)
    assert metrics["clip_fraction"] == (abs(ratio - 1) > CLIP)


def test_a_weight_on_the_entropy_widens_the_policy_and_does_nothing_else():
    after, _, _ = learner(ADAPTIVE)[1](begin(ADAPTIVE, critic_weight=0.0), on_device(told_apart(1.0, 0.0)), KEY)
    found = gradient(after)
    np.testing.assert_allclose(found["actor"]["log_std"], -ADAPTIVE.entropy_weight, rtol=1e-6)  # the entropy's slope is 1
    np.testing.assert_array_equal(found["actor"]["weight"], 0)
    np.testing.assert_array_equal(found["critic"]["weight"], 0)


# The learning rate

TARGET, BOUNDS = 0.01, (1e-4, 1e-2)
ADAPTIVE = dataclasses.replace(
    STILL, learning_rate=1e-3, gamma=0.0, entropy_weight=0.3, target_kl=TARGET, learning_rate_bounds=BOUNDS, num_epochs=1
)


def diverged(kl):
    """Steps without advantage of a policy at this divergence from one that says 0 with deviation 1."""
    zeros, batch = np.zeros((T, B, 2)), numpy_batch()
    mean = zeros + np.array([math.sqrt(2 * kl), 0.0])
    extras = {"x": zeros, "mean": mean, "log_std": zeros, "log_prob": log_prob(zeros, mean, zeros)}
    return on_device(batch._replace(reward=np.zeros((T, B)), extras=extras))


def rate_after(config, kl, rate=1e-3):
    state = begin(config, actor_weight=0.0, actor_log_std=0.0, critic_weight=0.0)
    after, metrics, _ = learner(config)[1](state._replace(extra=ppo.Extra(jnp.float32(rate))), diverged(kl), KEY)
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-4, atol=1e-6)
    assert metrics["learning_rate"] == after.extra.learning_rate
    # The step that saw the divergence is itself taken at the new rate: Adam's first step is the rate, whatever the gradient.
    np.testing.assert_allclose(after.params["actor"]["log_std"], after.extra.learning_rate, rtol=1e-4)
    return float(after.extra.learning_rate)


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(2.02 * TARGET, 1 / 1.5), (10.0, 1 / 1.5), (1.98 * TARGET, 1), (0.51 * TARGET, 1), (0.49 * TARGET, 1.5), (1e-5, 1.5), (0.0, 1)],
)
def test_learning_rate_follows_the_divergence(kl, factor):
    np.testing.assert_allclose(rate_after(ADAPTIVE, kl), 1e-3 * factor, rtol=1e-6)


@pytest.mark.parametrize(("kl", "rate", "bound"), [(1.0, 1.4e-4, 1e-4), (1e-4, 0.7e-2, 1e-2), (1.0, 1e-4, 1e-4), (1e-4, 1e-2, 1e-2)])
def test_learning_rate_keeps_its_bounds(kl, rate, bound):
    np.testing.assert_allclose(rate_after(ADAPTIVE, kl, rate), bound, rtol=1e-6)


def test_learning_rate_follows_in_every_step():
    config = dataclasses.replace(ADAPTIVE, learning_rate=1e-6, learning_rate_bounds=(1e-9, 1.0), num_epochs=2, num_minibatches=2)
    after, _, _ = learner(config)[1](begin(config, actor_weight=0.0, actor_log_std=0.0, critic_weight=0.0), diverged(1.0), KEY)
    np.testing.assert_allclose(after.extra.learning_rate, 1e-6 * 1.5**-4, rtol=1e-6)


# Returns and minibatches: one weight of the critic per step


def one_hot(batch: Transition) -> Transition:
    which = np.eye(STEPS).reshape(T, B, STEPS)
    return batch._replace(observation={"state/x": which, "privileged/y": np.zeros((T, B, 1))})


def returns(batch: Transition):
    """The return of each step, [T, B], read off the critic's gradient, which is (value - return) / steps."""
    state = begin()
    after, _, _ = learner()[1](state, on_device(batch), KEY)
    value = np.asarray(state.params["critic"]["weight"])[:-1]
    return (value - STEPS * gradient(after)["critic"]["weight"][:-1]).reshape(T, B)


def test_a_truncation_bootstraps_from_the_next_observation_and_a_termination_does_not():
    batch = one_hot(numpy_batch())
    weight = np.asarray(begin().params["critic"]["weight"], np.float64)
    value, following = (numpy_value(weight, x) for x in (batch.observation, batch.next_observation))
    expected = batch.reward + GAMMA * following  # of the last step, and of the truncated one
    expected[1, 1] = batch.reward[1, 1]  # of the terminated one
    for t, b in ((2, 0), (2, 1), (2, 2), (1, 2), (0, 0), (0, 1), (0, 2)):
        expected[t, b] += GAMMA * LAMBDA * (expected[t + 1, b] - value[t + 1, b])
    found = returns(batch)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    moved = batch.next_observation | {"privileged/y": batch.next_observation["privileged/y"] + np.eye(T)[1][:, None, None]}
    change = (returns(batch._replace(next_observation=moved)) - found) / (GAMMA * weight[-1])
    np.testing.assert_allclose(change[1], [1, 0, 1], atol=1e-5)  # seen by all but the terminated one


def test_nothing_of_the_next_episode_leaks_into_the_last():
    batch = one_hot(numpy_batch())
    reward = batch.reward.copy()
    reward[2] += 100.0
    change = returns(batch._replace(reward=reward)) - returns(batch)
    np.testing.assert_allclose(change[:2], [[0, 0, 100 * (GAMMA * LAMBDA) ** 2], [0, 0, 100 * GAMMA * LAMBDA]], atol=1e-3)


def shares(key, epochs):
    """In which of the two minibatches of each epoch a step was used, [T, B, epochs].

    Adam's moment weighs the gradient n steps ago by 0.9^n. A step that was used twice, left out, or met with another's reward has none of
    the weights that there can be: it is -1.
    """
    config = dataclasses.replace(STILL, num_epochs=epochs, num_minibatches=2, gamma=0.0)
    batch = one_hot(numpy_batch())._replace(reward=np.random.default_rng(3).uniform(1, 2, size=(T, B)))
    after, _, _ = learner(config)[1](begin(config, critic_weight=0.0), on_device(batch), key)
    weight = (gradient(after)["critic"]["weight"][:-1].reshape(T, B) / (-batch.reward / (STEPS / 2))).round(4)
    places = np.array(list(np.ndindex(*(2,) * epochs)))
    weights = (0.9 ** (2 * np.arange(epochs)[::-1] + 1 - places)).sum(1)
    hit = np.abs(weight[..., None] - weights) < 1e-4
    return np.where(hit.any(-1, keepdims=True), places[hit.argmax(-1)], -1)


def test_each_epoch_uses_every_step_of_every_world_once():
    used = shares(KEY, epochs=2)
    assert set(np.unique(used)) == {0, 1}
    np.testing.assert_array_equal((used == 0).sum(0), T // 2)  # an equal share of every world, in every epoch
    assert (used[..., 0] != used[..., 1]).any(), "the second epoch repeats the first"
    assert (used[:, :1] != used).any(), "all worlds are in one order"
    assert (used != shares(jax.random.key(1), epochs=2)).any(), "the order does not follow the key"


def test_a_length_that_the_minibatches_do_not_divide_is_refused():
    config = dataclasses.replace(STILL, num_minibatches=3)
    with pytest.raises(ValueError, match="unroll_length is 4, no multiple of num_minibatches, 3; each minibatch takes an equal share"):
        ppo.ppo(config, SPEC, linear()).update(begin(config), on_device(numpy_batch()), KEY)


# Statistics


NORMALISING = dataclasses.replace(MOVING, normalise_observations=True)


def test_statistics_take_in_the_observations_of_the_batch():
    batch = numpy_batch()
    _, update = learner(NORMALISING)
    after, _, _ = update(begin(NORMALISING), on_device(batch), KEY)
    assert after.statistics.total == STEPS
    for name, x in batch.observation.items():
        np.testing.assert_allclose(after.statistics.mean[name], x.mean((0, 1)), atol=1e-6)
        np.testing.assert_allclose(after.statistics.variance[name], x.var((0, 1)), rtol=1e-5)
    other, _, _ = update(begin(NORMALISING), on_device(batch._replace(next_observation=numpy_batch(1).observation)), KEY)
    jax.tree.map(np.testing.assert_array_equal, other.statistics, after.statistics)


def test_an_update_normalises_by_the_statistics_that_were_acted_with():
    batch, state = numpy_batch(), begin(MOVING)
    first = learner(NORMALISING)[1](state, on_device(numpy_batch(1)), KEY)[0].statistics

    def by(statistics):
        mean, variance = jax.tree.map(np.asarray, statistics[1:])
        scaled = [
            {n: (v - mean[n]) / np.sqrt(variance[n] + 1e-6) for n, v in x.items()} for x in (batch.observation, batch.next_observation)
        ]
        return learner(MOVING)[1](state, on_device(batch._replace(observation=scaled[0], next_observation=scaled[1])), KEY)[0].params

    after, _, _ = learner(NORMALISING)[1](state._replace(statistics=first), on_device(batch), KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), after.params, by(first))
    gaps = jax.tree.map(lambda a, b: np.abs(a - b).max(), after.params, by(after.statistics))
    assert max(jax.tree.leaves(gaps)) > 1e-2  # it would show if they moved within the update


# With the networks of every config

REAL = dataclasses.replace(STILL, normalise_observations=True, normalise_advantages=True)
NETWORKS = Networks((4,), (4,), distribution="tanh_normal")


@functools.cache
def policies(networks=NETWORKS):
    """(state, observations [T, B, ...]) -> what both policies do, [STEPS, ...]."""
    algorithm, _ = learner(REAL, networks)

    @jax.jit
    def act(state, observation):
        rows, keys = jax.tree.map(lambda x: x.reshape(STEPS, -1), observation), jax.random.split(KEY, STEPS)
        return algorithm.explore.act(algorithm.behaviour(state), rows, (), keys), algorithm.policy.act(
            algorithm.deployable(state), {"state/x": rows["state/x"]}, (), keys
        )

    return act


def test_what_was_collected_just_now_has_the_ratio_one():
    algorithm, update = learner(REAL, NETWORKS)
    state, batch = algorithm.init(KEY), on_device(numpy_batch())
    (chunk, _, extras), _ = policies()(state, batch.observation)
    action, extras = jax.tree.map(lambda x: x.reshape(T, B, *x.shape[1:]), (chunk[:, 0], extras))
    _, metrics, _ = update(state, batch._replace(action=action, extras=extras), KEY)
    assert metrics["clip_fraction"] == 0
    np.testing.assert_allclose([metrics["kl"], metrics["loss/policy"]], 0, atol=1e-6)


@pytest.mark.parametrize("privileged_critic", [True, False])
def test_the_actor_sees_nothing_privileged_and_the_critic_does(privileged_critic):
    networks = dataclasses.replace(NETWORKS, privileged_critic=privileged_critic)
    algorithm, update = learner(REAL, networks)
    batch, state = on_device(numpy_batch()), algorithm.init(KEY)
    other = batch._replace(observation=batch.observation | {"privileged/y": batch.observation["privileged/y"] + 1.0})
    jax.tree.map(np.testing.assert_array_equal, *(policies(networks)(state, this.observation) for this in (batch, other)))
    # A critic whose last layer is zero says 0 of everything, so the advantages are the same: the actor learns the same, the critic not.
    critic = state.params["critic"] | {"output": jax.tree.map(jnp.zeros_like, state.params["critic"]["output"])}
    mute = state._replace(params=state.params | {"critic": critic})
    (one, told, _), (two, retold, _) = (update(mute, this, KEY) for this in (batch, other))
    assert told["loss/policy"] == retold["loss/policy"]
    jax.tree.map(np.testing.assert_array_equal, gradient(one)["actor"], gradient(two)["actor"])
    kernels = [gradient(after)["critic"]["output"]["kernel"] for after in (one, two)]
    values = [update(state, this, KEY)[1]["loss/value"] for this in (batch, other)]
    assert (np.abs(kernels[0] - kernels[1]).max() > 1e-3) == (abs(values[0] - values[1]) > 1e-3) == privileged_critic


def test_what_is_deployed_knows_nothing_privileged():
    algorithm, update = learner(REAL, NETWORKS)
    batch = on_device(numpy_batch())
    state, _, _ = update(algorithm.init(KEY), batch, KEY)
    statistics = algorithm.deployable(state).statistics
    assert set(statistics.mean) == set(statistics.variance) == {"state/x"} == set(algorithm.policy.spec.observation)
    (_, _, extras), (deployed, _, nothing) = policies()(state, batch.observation)
    assert nothing == {}
    np.testing.assert_allclose(deployed[:, 0], np.tanh(extras["mean"]), atol=1e-6)  # what is left is enough to act with


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_epochs": 0}, "num_epochs is 0, but must be at least 1"),
        ({"num_minibatches": 0}, "num_minibatches is 0, but must be at least 1"),
        ({"gamma": 1.5}, "gamma is 1.5, but must lie between 0 and 1"),
        ({"gae_lambda": -0.1}, "gae_lambda is -0.1, but must lie between 0 and 1"),
        ({"max_gradient_norm": -1.0}, "max_gradient_norm is -1.0, but must not be negative"),
        ({"value_clip": 0.0}, "value_clip is 0.0, but must be positive, or None to do without"),
    ],
)
def test_impossible_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ppo.Config(**fields)


def test_actions_that_the_networks_are_not_for_are_refused():
    with pytest.raises(ValueError, match="^ppo with these networks needs continuous .* but those of linear are discrete, one of 3 choices"):
        ppo.ppo(STILL, SPEC._replace(action=choice(3)), linear())
    with pytest.raises(ValueError, match="^ppo with these networks needs discrete actions, but those of linear are of the shape"):
        ppo.ppo(STILL, SPEC, linear()._replace(distribution=categorical()))
    with pytest.raises(ValueError, match=r"needs continuous actions, .* are of the shape \(2,\) and the type int32"):
        ppo.ppo(STILL, SPEC._replace(action=ArraySpec((2,), "int32")), linear())
