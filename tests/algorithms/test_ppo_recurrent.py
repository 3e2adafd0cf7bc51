"""PPO with networks that remember, seen through `update`: against single steps of single worlds, and against what was acted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.algorithms import ppo
from jaxrl.curricula.static import fixed
from jaxrl.networks.actor_critic import ActorCritic, actor_critic
from jaxrl.networks.actor_critic import Config as Plain
from jaxrl.networks.recurrent_actor_critic import Config as Networks
from jaxrl.networks.recurrent_actor_critic import recurrent_actor_critic
from jaxrl.ops.paths import flatten_names
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.types import ArraySpec, EnvSpec, Network, RecurrentNetwork, Transition
from tests.probes import PROBES, probe_env

T, B = 4, 2
SPEC = EnvSpec("sequences", {"state/x": ArraySpec((2,)), "privileged/y": ArraySpec((1,))}, ArraySpec((1,)), 100, 0.0)
KEY = jax.random.key(0)
# One step on the whole batch that moves nothing: only its gradient is looked at.
STILL = ppo.Config(
    learning_rate=0.0, num_epochs=1, num_minibatches=1, gamma=0.9, gae_lambda=0.8, value_clip=None,
    max_gradient_norm=0.0, normalise_observations=False, normalise_advantages=False,
)  # fmt: skip
SMALL = Networks(memory_size=3, actor_hidden=(), critic_hidden=())
ENDS = {(1, 0): (1.0, 1.0), (2, 1): (0.0, 0.0)}  # discount and truncation where an episode ends


def gradient(after):
    """Of the only step since the optimizer was new: Adam's first moment is a tenth of it."""
    return jax.tree.map(lambda moment: 10 * moment, optax.tree.get(after.opt_state, "mu"))


def random_batch(carries) -> Transition:
    """Random steps under another policy; `carries` by name are those before each step."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=(T, B, *shape)).astype(np.float32)  # noqa: E731
    observation, following = ({"state/x": draw(2), "privileged/y": draw(1)} for _ in range(2))
    discount, truncation = np.ones((T, B), np.float32), np.zeros((T, B), np.float32)
    for place, (still, cut) in ENDS.items():
        discount[place], truncation[place] = still, cut
    x, mean, log_std = draw(1), draw(1), 0.1 * draw(1)
    log_prob = (-0.5 * ((x - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)).sum(-1)
    extras = {"x": x, "mean": mean, "log_std": log_std, "log_prob": log_prob.astype(np.float32)}
    extras |= {name: draw(*spec.shape) for name, spec in carries.items()}
    return jax.tree.map(jnp.asarray, Transition(observation, x, draw(), discount, truncation, following, extras))


def stepped(network: RecurrentNetwork, params, batch: Transition, part: str):
    """Outputs of the observations and of the next ones, [T][B], each world by itself and one step after the other."""
    outputs = [[None] * B for _ in range(T)]
    following = [[None] * B for _ in range(T)]
    names = {name: name.removeprefix(f"carry/{part}/") for name in batch.extras if name.startswith(f"carry/{part}/")}
    for b in range(B):
        carry = {short: batch.extras[name][0, b : b + 1] for name, short in names.items()}
        for t in range(T):
            now, later = ({name: x[t, b : b + 1] for name, x in seen.items()} for seen in (batch.observation, batch.next_observation))
            carry = network.remember(params, now, carry)
            outputs[t][b] = jax.tree.map(lambda x: x[0], network.apply(params, now, carry))
            following[t][b] = jax.tree.map(lambda x: x[0], network.apply(params, later, network.remember(params, later, carry)))
            if (t, b) in ENDS:
                carry = network.carry(1)
    return outputs, following


@pytest.mark.parametrize("memory", ["lstm", "window"])
def test_update_is_that_of_single_steps(memory):
    networks = recurrent_actor_critic(dataclasses.replace(SMALL, memory=memory), SPEC)
    algorithm = ppo.ppo(STILL, SPEC, networks)
    state = algorithm.init(KEY)
    state = state._replace(params=jax.tree.map(lambda x: x + 0.5 * jax.random.normal(KEY, x.shape), state.params))  # heads begin near zero
    batch = random_batch({name: part for name, part in algorithm.explore.spec.extras.items() if name.startswith("carry/")})
    after, told, _ = jax.jit(algorithm.update)(state, batch, KEY)

    value, next_value = (np.array(rows) for rows in stepped(networks.critic, state.params["critic"], batch, "critic"))
    delta = batch.reward + STILL.gamma * batch.discount * next_value - value
    advantage = np.zeros((T, B))
    for t, b in np.ndindex(T, B):
        for k in range(t, T):
            advantage[t, b] += (STILL.gamma * STILL.gae_lambda) ** (k - t) * delta[k, b]
            if (k, b) in ENDS:
                break

    def loss(params):
        actor, _ = stepped(networks.actor, params["actor"], batch, "actor")
        critic, _ = stepped(networks.critic, params["critic"], batch, "critic")
        policy, error = 0.0, 0.0
        for t, b in np.ndindex(T, B):
            mean, log_std = actor[t][b]["mean"], actor[t][b]["log_std"]
            new = (-0.5 * jnp.square((batch.extras["x"][t, b] - mean) / jnp.exp(log_std)) - log_std - 0.5 * jnp.log(2 * jnp.pi)).sum()
            ratio = jnp.exp(new - batch.extras["log_prob"][t, b])
            policy -= jnp.minimum(ratio * advantage[t, b], jnp.clip(ratio, 1 - STILL.clip, 1 + STILL.clip) * advantage[t, b])
            error += jnp.square(critic[t][b] - (advantage + value)[t, b]) / 2
        return (policy + error) / (T * B), (policy / (T * B), error / (T * B))

    expected, (policy, error) = jax.jit(jax.grad(loss, has_aux=True))(state.params)
    np.testing.assert_allclose([told["loss/policy"], told["loss/value"]], [policy, error], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient(after), expected)
    for name, slope in flatten_names(expected).items():
        assert np.abs(slope).max() > 1e-3, f"nothing reaches {name}"


@pytest.mark.parametrize("critic_memory", [True, False])
def test_what_was_collected_just_now_has_the_ratio_one(critic_memory):
    env = probe_env(PROBES["truncation"].numbers)  # episodes of two steps, in unrolls of five
    networks = recurrent_actor_critic(dataclasses.replace(SMALL, critic_memory=critic_memory), env.spec)
    algorithm = ppo.ppo(dataclasses.replace(STILL, normalise_observations=True), env.spec, networks)
    source = rollout(Rollout(num_worlds=4, unroll_length=5, pool_size=4, stagger=False), env, fixed(env.sample), algorithm.explore)

    state, advance, update = algorithm.init(KEY), jax.jit(source.next), jax.jit(algorithm.update)
    behaviour = algorithm.behaviour(state)
    worlds, _ = advance(jax.jit(source.init)(KEY, behaviour), behaviour, KEY)
    _, batch = advance(worlds, behaviour, KEY)
    forgot = {name: jnp.zeros_like(x) if name.startswith("carry/") else x for name, x in batch.extras.items()}
    (_, told, _), (_, forgetful, _) = (update(state, batch._replace(extras=extras), KEY) for extras in (batch.extras, forgot))
    assert np.abs(batch.extras["carry/actor/hidden"][0]).max() > 0.01  # the second unroll begins within an episode
    np.testing.assert_allclose([told["kl"], told["clip_fraction"]], 0, atol=1e-7)
    assert forgetful["kl"] > 1e-7
    assert ("carry/critic/hidden" in batch.extras) == critic_memory
    assert (forgetful["loss/value"] != told["loss/value"]) == critic_memory


def linear() -> ActorCritic:
    """With a weight of the critic for each step of each world, and a memory that nothing comes of."""

    def critic(params, x, key=None, train=False):
        return x["state/x"] @ params

    def actor(params, x, carry):
        return {"mean": jnp.broadcast_to(params, carry["idle"].shape), "log_std": jnp.zeros_like(carry["idle"])}

    idle = RecurrentNetwork(
        init=lambda key: jnp.zeros(1),
        carry=lambda size: {"idle": jnp.zeros((size, 1))},
        remember=lambda params, x, carry: carry,
        unroll=lambda params, x, carry, begins: {"idle": jnp.broadcast_to(carry["idle"][None], (*begins.shape, 1))},
        apply=actor,
    )
    plain = actor_critic(Plain((), ()), SPEC)
    return ActorCritic(idle, Network(lambda key: jnp.zeros(2 * 6), critic), plain.distribution)


def test_each_minibatch_holds_whole_unrolls_of_one_world_in_each_group_of_neighbours():
    config, worlds = dataclasses.replace(STILL, num_minibatches=3, gamma=0.0), 6
    spec = SPEC._replace(observation={"state/x": ArraySpec((2 * worlds,))})
    algorithm = ppo.ppo(config, spec, linear())
    zeros = jnp.zeros((2, worlds, 1))
    which = {"state/x": jnp.eye(2 * worlds).reshape(2, worlds, -1)}
    extras = {"x": zeros, "mean": zeros, "log_std": zeros, "log_prob": zeros[..., 0], "carry/actor/idle": zeros}
    batch = Transition(which, zeros, zeros[..., 0] + 1, zeros[..., 0], zeros[..., 0], which, extras)
    update = jax.jit(algorithm.update)

    def shares(key):
        """The minibatch [worlds] that each world was in: Adam's moment weighs the gradient n steps ago by 0.9^n."""
        after, _, _ = update(algorithm.init(KEY), batch, key)
        weight = optax.tree.get(after.opt_state, "mu")["critic"].reshape(2, worlds) * -(2 * worlds / 3) / 0.1
        found = np.round(np.log(weight) / np.log(0.9), 3)
        np.testing.assert_array_equal(found[0], found[1])  # all steps of a world, once each
        return 2 - found[0]

    orders = [tuple(shares(jax.random.key(seed))) for seed in range(4)]
    assert all(sorted(order[:3]) == sorted(order[3:]) == [0, 1, 2] for order in orders)
    assert len(set(orders)) > 1, "the order does not follow the key"
    assert any(order[:3] != order[3:] for order in orders), "all groups are in one order"


def test_worlds_that_the_minibatches_do_not_divide_are_refused():
    algorithm = ppo.ppo(dataclasses.replace(STILL, num_minibatches=4), SPEC, recurrent_actor_critic(SMALL, SPEC))
    batch = random_batch({name: part for name, part in algorithm.explore.spec.extras.items() if name.startswith("carry/")})
    with pytest.raises(
        ValueError, match="num_worlds is 2, no multiple of num_minibatches, 4; each minibatch takes an equal share of the worlds"
    ):
        algorithm.update(algorithm.init(KEY), batch, KEY)


def test_what_is_deployed_carries_the_actors_memory_alone():
    algorithm = ppo.ppo(STILL, SPEC, recurrent_actor_critic(SMALL, SPEC))
    assert set(algorithm.explore.init(B)) == {"actor", "critic"} and set(algorithm.policy.init(B)) == {"actor"}
    state = algorithm.init(KEY)
    assert algorithm.deployable(state).critic == () and algorithm.policy.spec.extras == {}
    assert all(name.startswith("state/") for name in algorithm.explore.spec.observation)
