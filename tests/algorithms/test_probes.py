"""Every algorithm that learns by acting against the probe environments, and the probes against deliberate faults."""

import functools
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import optimizers
from jaxrl.algorithms import dqn, drqv2, ppo, reinforce, sac, td3
from jaxrl.curricula.static import fixed
from jaxrl.evaluation.play import play
from jaxrl.networks import q_network
from jaxrl.networks._torsos import Torso
from jaxrl.networks.actor_critic import ActorCritic, actor_critic
from jaxrl.networks.actor_critic import Config as Networks
from jaxrl.networks.actor_q import ActorQ, actor_q
from jaxrl.networks.actor_q import Config as OffPolicy
from jaxrl.networks.pixel_actor_q import Config as Pixels
from jaxrl.networks.pixel_actor_q import pixel_actor_q
from jaxrl.networks.recurrent_actor_critic import Config as Recurrent
from jaxrl.networks.recurrent_actor_critic import recurrent_actor_critic
from jaxrl.ops import running_statistics
from jaxrl.replay.replay import Config as Replay
from jaxrl.replay.replay import replay
from jaxrl.rollout.rollout import Config as Rollout
from jaxrl.rollout.rollout import rollout
from jaxrl.types import Algorithm, Array, EnvSpec, Key, Observation, Params, PyTree, Source, TrainState, Transition
from tests.conformance import factories
from tests.probes import PROBES, STATES, Numbers, guess, observe, pictured, probe_env, recall_env, with_pictures

GAMMA = 0.5
UNROLL = 8
WORLDS = 32
LEVELS = 5  # of discrete guesses: the ends, the middle and what lies between, which the probes ask for


class Probed(NamedTuple):
    """How to probe an algorithm: made for the probe's spec, its value of an observation [B], and the updates it needs.

    `feed` makes of a collector of unrolls `[UNROLL, WORLDS]` what the algorithm learns from: a replay, for one that takes `Replayed` steps.
    With `levels` the probe's actions are discrete.
    """

    make: Callable[[EnvSpec], Algorithm]
    value: Callable[[TrainState, Observation], Array]
    updates: int
    feed: Callable[[Source], Source] = lambda collector: collector
    levels: int = 0
    pictures: bool = False  # whether observations hold images too


def replayed(collector: Source) -> Source:
    """Steps drawn from a memory of what the collector has done."""
    return replay(Replay(capacity=1024 * WORLDS, batch_size=256, num_updates=8, initial_steps=2 * UNROLL * WORLDS), collector, WORLDS)


_NETWORKS = Networks(actor_hidden=(16,), critic_hidden=(16,), distribution="tanh_normal", initial_std=0.5)


def _ppo(spec: EnvSpec) -> Algorithm:
    config = ppo.Config(learning_rate=1e-2, gamma=GAMMA, value_clip=None, num_minibatches=2)
    return ppo.ppo(config, spec, actor_critic(_NETWORKS, spec))


def _reinforce(spec: EnvSpec) -> Algorithm:
    config = reinforce.Config(optimizers.Config(learning_rate=1e-2, max_gradient_norm=1.0), gamma=GAMMA)
    return reinforce.reinforce(config, spec, actor_critic(_NETWORKS, spec))


_Q_NETWORK = q_network.Config(Torso(width=32, depth=1), dueling=True)


def _dqn(spec: EnvSpec) -> Algorithm:
    config = dqn.Config(optimizers.Config(learning_rate=3e-3), gamma=GAMMA, target_period=20, epsilon_end=0.5, epsilon_updates=50)
    return dqn.dqn(config, spec, q_network.q_network(_Q_NETWORK, spec))


def _dqn_value(state: TrainState, observation: Observation) -> Array:
    networks = q_network.q_network(_Q_NETWORK, probe_env(PROBES["value"].numbers, LEVELS).spec)
    return networks.returns.mean(networks.critic.apply(state.params["critic"], state.statistics.critic, observation)[0])[0].max(-1)


def _ppo_value(state: TrainState, observation: Observation) -> Array:
    networks = actor_critic(_NETWORKS, probe_env(PROBES["value"].numbers).spec)
    return networks.critic.apply(state.params["critic"], running_statistics.normalise(state.statistics, observation))


# By name; the part behind a space tells several of one algorithm apart.
ALGORITHMS = {
    "ppo": Probed(_ppo, _ppo_value, 80),
    "ppo discrete": Probed(_ppo, _ppo_value, 80, levels=LEVELS),
    "reinforce": Probed(_reinforce, _ppo_value, 400),
    "reinforce discrete": Probed(_reinforce, _ppo_value, 400, levels=LEVELS),
    "dqn": Probed(_dqn, _dqn_value, 150, replayed, LEVELS),
}


def _off_policy_networks(spec: EnvSpec, deterministic: bool) -> ActorQ:
    torso = Torso(width=32, depth=1)
    return actor_q(OffPolicy(torso, torso, deterministic=deterministic), spec)


def _sac(spec: EnvSpec) -> Algorithm:
    rate = optimizers.Config(learning_rate=3e-3)
    config = sac.Config(rate, rate, 0.0, 1e-3, entropy_in_target=False, gamma=GAMMA, tau=0.05)
    return sac.sac(config, spec, _off_policy_networks(spec, False))


def _td3(spec: EnvSpec) -> Algorithm:
    rate = optimizers.Config(learning_rate=3e-3)
    config = td3.Config(rate, rate, gamma=GAMMA, tau=0.05, target_noise=0.05, exploration_std=(0.1, 0.6))
    return td3.td3(config, spec, _off_policy_networks(spec, True))


def _off_policy_value(deterministic: bool) -> Callable[[TrainState, Observation], Array]:
    """What the critics expect of the mode of the policy."""

    def value(state: TrainState, observation: Observation) -> Array:
        networks = _off_policy_networks(probe_env(PROBES["value"].numbers).spec, deterministic)
        mode = networks.actor.apply(state.params["actor"], {}, observation)[0]["mean"]
        return networks.critic.apply(state.params["critic"], {}, (observation, jnp.tanh(mode)))[0][..., 0].mean(0)

    return value


_PIXELS = Pixels(((8, 3, 2),), 8, OffPolicy(Torso(width=32, depth=1), Torso(width=32, depth=1), deterministic=True))


def _drqv2(spec: EnvSpec) -> Algorithm:
    rate = optimizers.Config(learning_rate=3e-3)
    config = drqv2.Config(rate, gamma=GAMMA, tau=0.05, pad=1, noise_std=(0.5, 0.1), noise_updates=100, noise_clip=0.05)
    return drqv2.drqv2(config, spec, pixel_actor_q(_PIXELS, spec))


def _drqv2_value(state: TrainState, observation: Observation) -> Array:
    networks = pixel_actor_q(_PIXELS, with_pictures(probe_env(PROBES["value"].numbers)).spec)
    shown = running_statistics.normalise(state.statistics, observation)
    seen, _ = networks.encoder.apply(state.params["encoder"], {}, shown)
    mode = jnp.tanh(networks.actor.apply(state.params["actor"], {}, seen)[0]["mean"])
    return networks.critic.apply(state.params["critic"], {}, (seen, mode))[0][..., 0].mean(0)


ALGORITHMS |= {
    "sac": Probed(_sac, _off_policy_value(False), 250, replayed),
    "td3": Probed(_td3, _off_policy_value(True), 150, replayed),
    "drqv2": Probed(_drqv2, _drqv2_value, 150, replayed, pictures=True),
}


def reset_observation(batch: Transition) -> Transition:
    start = observe(jnp.int32(0))
    start = pictured(start) if "image/which" in batch.next_observation else start

    def where_cut(first: Array, true: Array) -> Array:
        cut = batch.truncation.reshape(*batch.truncation.shape, *(1,) * first.ndim) > 0
        return jnp.where(cut, jnp.broadcast_to(first, true.shape), true)

    return batch._replace(next_observation=jax.tree.map(where_cut, start, batch.next_observation))


def _rolled(batch: Any) -> Any:
    """Every step with what belongs to the one before it in another world."""
    return jax.tree.map(lambda x: jnp.roll(x, (1, 1), (0, 1)), batch)


def _cut(batch: Transition) -> Transition:
    """Every end of an episode as one that is bootstrapped; an end it stays, or a memory would run on into the next episode."""
    return batch._replace(discount=jnp.ones_like(batch.discount), truncation=jnp.maximum(batch.truncation, 1.0 - batch.discount))


# What a faulty collector or algorithm would learn from, and the probe that has to notice.
FAULTS: dict[str, tuple[str, Callable[[Transition], Transition]]] = {
    "none": ("value", lambda batch: batch),
    "bootstraps a termination": ("value", _cut),
    "does not discount": ("discounting", lambda batch: batch._replace(discount=batch.discount / GAMMA)),
    "mixes worlds or steps": ("credit", lambda batch: batch._replace(reward=_rolled(batch.reward))),
    "forgets which action it took": ("policy", lambda batch: batch._replace(action=_rolled(batch.action), extras=_rolled(batch.extras))),
    "takes a truncation for a termination": ("truncation", lambda batch: batch._replace(discount=batch.discount * (1 - batch.truncation))),
    "bootstraps from the observation after the reset": ("truncation", reset_observation),
    "takes a termination for a truncation": ("termination", _cut),
}


def spoiled(collector: Source, fault: Array) -> Source:
    """`collector` with the fault of that index: whatever stands behind it, a replay too, is handed what it spoils."""

    def advance(state: PyTree, behaviour: Params, key: Key) -> tuple[PyTree, Transition]:
        state, batch = collector.next(state, behaviour, key)
        return state, jax.lax.switch(fault, [spoil for _, spoil in FAULTS.values()], batch)

    return collector._replace(next=advance)


@functools.cache
def program(name: str) -> Callable[[Numbers, int], tuple[Array, Array]]:
    """(numbers of a probe, index of a fault) -> values and actions of both states, [2]; compiled once for all of them."""
    probed = ALGORITHMS[name]

    @jax.jit
    def train(table: Numbers, fault: Array) -> tuple[Array, Array]:
        env = probe_env(table, probed.levels)
        env = with_pictures(env) if probed.pictures else env
        algorithm = probed.make(env.spec)
        numbers = Rollout(num_worlds=WORLDS, unroll_length=UNROLL, pool_size=32, stagger=False)
        source = probed.feed(spoiled(rollout(numbers, env, fixed(env.sample), algorithm.explore), fault))
        init, begin, run = jax.random.split(jax.random.key(0), 3)

        def body(carry, key):
            state, source_state = carry
            act, learn = jax.random.split(key)
            source_state, batch = source.next(source_state, algorithm.behaviour(state), act)
            state, _, feedback = algorithm.update(state, batch, learn)
            return (state, source.observe(source_state, feedback)), None

        state = algorithm.init(init)
        carry = state, source.init(begin, algorithm.behaviour(state))
        (state, _), _ = jax.lax.scan(body, carry, jax.random.split(run, probed.updates))
        observation = observe(jnp.arange(STATES))
        observation = pictured(observation) if probed.pictures else observation
        keys = jax.random.split(run, STATES)
        chunk, _, _ = algorithm.policy.act(algorithm.deployable(state), observation, algorithm.policy.init(STATES), keys)
        return probed.value(state, observation), guess(chunk[:, 0], probed.levels)

    return lambda table, fault: train(table, jnp.int32(fault))


def complaint(name: str, probe: str, fault: str = "none") -> str:
    """What is wrong with the algorithm, "" if nothing is."""
    wanted = PROBES[probe]
    values, actions = (np.asarray(x) for x in program(name)(wanted.numbers, list(FAULTS).index(fault)))
    expected = np.array(wanted.value(GAMMA))
    values, actions = values[: len(expected)], actions[: len(wanted.action)]
    if (np.abs(values - expected) > 0.15).any():
        known = [text for text, value in wanted.faults.items() if abs(values[-1] - value(GAMMA)) < 0.35]
        guess = f"; it {known[0]}" if known else ""
        return f"{name} fails the probe `{probe}`: values {values.round(2)}, expected {expected}{guess}"
    if (np.abs(actions - wanted.action) > 0.15).any():
        return f"{name} fails the probe `{probe}`: actions {actions.round(2)}, expected {wanted.action}"
    return ""


def acting() -> list[str]:
    """The algorithms whose factory takes the spec of an environment; what wraps another one is none."""
    taken = {name.rpartition(".")[2]: typing.get_type_hints(factory) for name, factory in factories(Algorithm).items()}
    return [name for name, hints in taken.items() if EnvSpec in hints.values() and hints.get("algorithm") is not Algorithm]


@pytest.mark.parametrize("name", acting())
def test_every_algorithm_that_acts_is_probed(name):
    assert name in {probed.partition(" ")[0] for probed in ALGORITHMS}, f"say in ALGORITHMS of {__file__} how to probe {name}"


# A replay mends some faults of its collector, and mixes others with what older policies did: its own tests are in tests/replay.
FED_BY_ROLLOUTS = [name for name, probed in ALGORITHMS.items() if probed.feed is Probed._field_defaults["feed"]]
TOLD_BY_ANOTHER = ("value", "credit", "policy")  # whoever fails one of these fails `policy and value` too, which names the fault less well


def _probing(name: str, probe: str) -> Any:
    """Those with a replay take long to compile, and are asked the questions that others imply by `make test-all` alone."""
    slow = name not in FED_BY_ROLLOUTS and probe in TOLD_BY_ANOTHER
    return pytest.param(name, probe, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("name", "probe"), [_probing(name, probe) for name in ALGORITHMS for probe in PROBES])
def test_probe(name, probe):
    fault = complaint(name, probe)
    assert not fault, fault


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "none"])
@pytest.mark.parametrize("name", FED_BY_ROLLOUTS)
def test_deliberate_fault_is_noticed_and_named(name, fault):
    probe, _ = FAULTS[fault]
    told = complaint(name, probe, fault)
    assert f"fails the probe `{probe}`" in told
    if fault in PROBES[probe].faults:
        assert told.endswith(f"; it {fault}")


def test_a_fault_shows_only_where_it_matters():
    assert not complaint("ppo", "value", "does not discount")
    assert not complaint("ppo", "termination", "takes a truncation for a termination")
    assert not complaint("ppo", "discounting", "bootstraps from the observation after the reset")


# Memory

RECALL = recall_env(5)
REMEMBERING: dict[str, tuple[Callable[[ActorCritic], Algorithm], int]] = {  # with the updates that it needs
    "ppo": (
        lambda networks: ppo.ppo(ppo.Config(learning_rate=1e-2, gamma=0.9, value_clip=None, num_minibatches=2), RECALL.spec, networks),
        60,
    ),
    "reinforce": (
        lambda networks: reinforce.reinforce(
            reinforce.Config(optimizers.Config(learning_rate=1e-2, max_gradient_norm=1.0), gamma=0.9), RECALL.spec, networks
        ),
        300,
    ),
}


def missed(algorithm: Algorithm, updates: int) -> float:
    """By how much squared a trained policy misses the cue at the end of an episode. An unroll holds one and a half of them."""
    source = rollout(Rollout(num_worlds=64, unroll_length=UNROLL, pool_size=16), RECALL, fixed(RECALL.sample), algorithm.explore)

    @jax.jit
    def train(key):
        init, begin, run = jax.random.split(key, 3)

        def body(carry, key):
            state, source_state = carry
            act, learn = jax.random.split(key)
            source_state, batch = source.next(source_state, algorithm.behaviour(state), act)
            return (algorithm.update(state, batch, learn)[0], source_state), None

        state = algorithm.init(init)
        carry = state, source.init(begin, algorithm.behaviour(state))
        return jax.lax.scan(body, carry, jax.random.split(run, updates))[0][0]

    state = train(jax.random.key(0))
    played = play(RECALL, algorithm.policy)(algorithm.deployable(state), jnp.zeros(64), jax.random.key(1))
    return float(played.kept["miss"].sum(0).mean())


def taking_networks() -> list[str]:
    """The algorithms whose networks may have a memory."""
    found = factories(Algorithm)
    return [name.rpartition(".")[2] for name, factory in found.items() if ActorCritic in typing.get_type_hints(factory).values()]


@pytest.mark.parametrize("memory", ["gru", "window", None])
@pytest.mark.parametrize("name", taking_networks())
def test_a_memory_recalls_what_nothing_else_can(name, memory):
    assert name in REMEMBERING, f"{name} takes networks that may have a memory: say in REMEMBERING of {__file__} how to probe it"
    if memory is None:
        networks = actor_critic(_NETWORKS, RECALL.spec)
    else:
        networks = recurrent_actor_critic(Recurrent(memory, 8, actor_hidden=(16,), critic_hidden=(16,), initial_std=0.5), RECALL.spec)
    make, updates = REMEMBERING[name]
    found = missed(make(networks), updates)
    if memory is None:
        assert found > 0.2, "the probe can be passed without a memory"
    else:
        assert found < 0.05
