"""DQN's equations against numpy, its exploration, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import optimizers
from jaxrl.algorithms import dqn
from jaxrl.networks._torsos import Torso
from jaxrl.networks.actor_q import Returns
from jaxrl.networks.q_network import Config, QNetwork, q_network
from jaxrl.ops.specs import choice
from jaxrl.types import ArraySpec, EnvSpec, Replayed

KEY = jax.random.key(0)
SPEC = EnvSpec("task", {"state/a": ArraySpec((3,)), "privileged/b": ArraySpec((1,))}, choice(4), 100, 0.02)
GAMMA, BATCH, STEPS = 0.9, 6, 3
RATE = 0.01


def networks(**changes) -> QNetwork:
    return q_network(Config(Torso("mlp", 8, 1), **changes), SPEC)


def made(network=None, **changes):
    numbers = {"optimizer": optimizers.Config("sgd", RATE), "gamma": GAMMA, "tau": 0.25, "target_period": 1} | changes
    return dqn.dqn(dqn.Config(**numbers), SPEC, network or networks())


def batch(updates: int = 1) -> Replayed:
    """One step was followed by all of three, one was cut after two, the next terminated after two; and so on."""
    random = np.random.default_rng(0)
    shape = (updates, BATCH)
    steps = np.broadcast_to([3, 2, 2, 1, 1, 3], shape).astype(np.int32)

    def seen():
        return {"state/a": random.normal(size=(*shape, 3)), "privileged/b": random.normal(size=(*shape, 1))}

    made = Replayed(
        observation=seen(),
        action=random.integers(0, 4, shape).astype(np.int32),
        reward=random.normal(size=(*shape, STEPS)) * (np.arange(STEPS) < steps[..., None]),
        steps=steps,
        discount=np.broadcast_to([1.0, 1.0, 0.0, 0.0, 1.0, 0.0], shape),
        next_observation=seen(),
        weight=random.uniform(size=shape),
        extras={},
    )
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.int32 if x.dtype == np.int32 else jnp.float32), made)


def values(params, observation) -> np.ndarray:
    """[B, A] of the only critic, in numpy."""
    params = jax.tree.map(lambda x: np.asarray(x[0]), params)
    hidden, output = params["torso"]["hidden_0"], params["output"]
    x = np.maximum(np.asarray(observation["state/a"][0]) @ hidden["kernel"] + hidden["bias"], 0)
    return x @ output["kernel"] + output["bias"]


@pytest.mark.parametrize("double", [True, False])
def test_one_update_against_numpy(double):
    """Target (equation 4, or 3 of van Hasselt et al.), priorities, weights, gradient step, and the target critic that follows."""
    algorithm, whole = made(double=double), batch()
    state = algorithm.init(KEY)
    elsewhere = jax.tree.map(lambda x: -0.5 * x + 0.1, state.extra.target)
    state = state._replace(extra=state.extra._replace(target=elsewhere))
    after, metrics, feedback = jax.jit(algorithm.update)(state, whole, KEY)

    online, target = values(state.params["critic"], whole.next_observation), values(elsewhere, whole.next_observation)
    best = (online if double else target).argmax(-1)
    assert (best != (target if double else online).argmax(-1)).any(), "the two rules must tell apart"
    rows = np.arange(BATCH)
    rewards = [sum(GAMMA**k * float(r[k]) for k in range(s)) for r, s in zip(whole.reward[0], whole.steps[0].tolist(), strict=True)]
    left = np.array([GAMMA**3, GAMMA**2, 0.0, 0.0, GAMMA, 0.0])
    wanted = rewards + left * target[rows, best]
    error = values(state.params["critic"], whole.observation)[rows, whole.action[0]] - wanted
    np.testing.assert_allclose(feedback["priority"], np.abs(error)[None], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["loss/critic"], 0.5 * np.square(error).mean(), rtol=1e-4)

    bias = np.array(state.params["critic"]["output"]["bias"][0])
    np.add.at(bias, np.asarray(whole.action[0]), -RATE * error * np.asarray(whole.weight[0]) / BATCH)
    np.testing.assert_allclose(after.params["critic"]["output"]["bias"][0], bias, rtol=1e-4, atol=1e-6)
    followed = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, elsewhere, after.params["critic"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.extra.target, followed)


def test_the_target_is_copied_once_in_its_period():
    algorithm = made(tau=1.0, target_period=3)
    state = algorithm.init(KEY)
    first = state.extra.target["output"]["bias"]
    update = jax.jit(algorithm.update)
    for count, copied in ((2, False), (4, True)):  # the third of four gradient steps copies
        state, _, _ = update(state, batch(2), KEY)
        assert state.extra.gradient_steps == count
        assert bool((state.extra.target["output"]["bias"] != first).any()) == copied
    assert (state.extra.target["output"]["bias"] != state.params["critic"]["output"]["bias"]).any()


@pytest.mark.parametrize("kind", ["categorical", "quantile"])
def test_distributions_of_returns_report_their_loss_as_priority(kind):
    algorithm = made(networks(returns=Returns(kind, 11, -3.0, 3.0), dueling=True, ensemble=2))
    state = algorithm.init(KEY)
    after, metrics, feedback = jax.jit(algorithm.update)(state, batch(2), KEY)
    assert feedback["priority"].shape == (2, BATCH) and (feedback["priority"] > 0).all()
    np.testing.assert_allclose(feedback["priority"].mean(), metrics["loss/critic"], rtol=1e-4)
    assert after.step == 1 and after.extra.gradient_steps == 2


def test_dueling_takes_the_mean_advantage_off():
    plain, dueling = networks(), networks(dueling=True)
    params, statistics = dueling.critic.init(KEY)
    x = {"state/a": jax.random.normal(KEY, (5, 3))}
    found = np.asarray(dueling.critic.apply(params, statistics, x)[0])[0, ..., 0]
    head = values(params, {"state/a": x["state/a"][None]})
    np.testing.assert_allclose(found, head[:, :1] + head[:, 1:] - head[:, 1:].mean(1, keepdims=True), rtol=1e-4, atol=1e-5)
    assert plain.critic.apply(*plain.critic.init(KEY), x)[0].shape == (1, 5, 4, 1)


def test_epsilon_falls_evenly_and_is_the_share_of_random_actions():
    config = dqn.Config(epsilon_start=0.8, epsilon_end=0.2, epsilon_updates=30)
    found = [float(dqn.epsilon(config, jnp.int32(step))) for step in (0, 10, 30, 1000)]
    np.testing.assert_allclose(found, [0.8, 0.6, 0.2, 0.2], rtol=1e-5)
    algorithm = made(epsilon_start=0.8, epsilon_end=0.2, epsilon_updates=30)
    state = algorithm.init(KEY)._replace(step=jnp.int32(10))
    rows = 20_000
    one = {name: jnp.zeros((rows, *part.shape)) for name, part in algorithm.explore.spec.observation.items()}
    keys = jax.random.split(KEY, rows)
    greedy, _, _ = algorithm.policy.act(algorithm.deployable(state), one, (), keys)
    chosen, _, _ = algorithm.explore.act(algorithm.behaviour(state), one, (), keys)
    assert chosen.dtype == jnp.int32 and chosen.shape == (rows, 1) and algorithm.deployable(state).epsilon == ()
    assert float((chosen != greedy).mean()) == pytest.approx(0.6 * 3 / 4, abs=0.015)  # one of four random ones is the same
    shares = np.bincount(np.asarray(chosen)[:, 0], minlength=4) / rows
    assert np.sort(shares) == pytest.approx([0.15, 0.15, 0.15, 0.55], abs=0.015)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gamma": 1.5}, "gamma is 1.5, but must lie between 0 and 1"),
        ({"epsilon_end": -0.1}, "epsilon_end is -0.1, but must lie between 0 and 1"),
        ({"tau": 0.0}, "tau is 0.0, but must be above 0"),
        ({"target_period": 0}, "target_period is 0, but must be at least 1"),
    ],
)
def test_impossible_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        dqn.Config(**fields)


def test_actions_that_are_not_for_it_are_refused():
    continuous = SPEC._replace(action=ArraySpec((2,)))
    with pytest.raises(ValueError, match=r"^q_network needs discrete actions, but those of task are of the shape \(2,\)"):
        q_network(Config(), continuous)
    with pytest.raises(ValueError, match="^dqn needs discrete actions, but those of task are"):
        dqn.dqn(dqn.Config(), continuous, networks())
    with pytest.raises(ValueError, match="the network is for 4 choices, but task has 5"):
        dqn.dqn(dqn.Config(), SPEC._replace(action=choice(5)), networks())
