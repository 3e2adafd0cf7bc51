"""Deep Q-learning (Mnih et al. 2015, https://doi.org/10.1038/nature14236), double (van Hasselt et al. 2016,
https://arxiv.org/abs/1509.06461, equation 4).

Its descendants are configs: dueling and distributional critics are networks (https://arxiv.org/abs/1511.06581, C51
https://arxiv.org/abs/1707.06887, quantiles https://arxiv.org/abs/1710.10044), n-step returns and priorities are the replay's, and all of
them together are most of Rainbow (Hessel et al. 2018, https://arxiv.org/abs/1710.02298).

A batch is `[updates, batch]`: one gradient step for each of the updates.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import optimizers
from jaxrl.networks.q_network import QNetwork
from jaxrl.ops import running_statistics
from jaxrl.ops.paths import overlay
from jaxrl.ops.replayed import Sample, samples
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.schedules import linear
from jaxrl.ops.specs import check_discrete, num_choices, policy_spec, replayed_spec
from jaxrl.types import Algorithm, Array, EnvSpec, Key, Metrics, Observation, Params, Policy, PyTree, Replayed, TrainState


@dataclass(frozen=True)
class Config:
    """The share of random actions falls evenly from `epsilon_start` to `epsilon_end` over the first `epsilon_updates` batches.

    After every `target_period` gradient steps the target moves by the share `tau` towards the critic: 1 and a long period copy it now and
    then, a small share and 1 let it follow. Without `double` the target takes its own best action, not the critic's.
    """

    optimizer: optimizers.Config = field(default_factory=lambda: optimizers.Config(max_gradient_norm=10.0))
    gamma: float = 0.99
    double: bool = True
    tau: float = 1.0
    target_period: int = 500
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_updates: int = 1000
    normalise_observations: bool = False

    def __post_init__(self) -> None:
        for name in ("gamma", "epsilon_start", "epsilon_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must lie between 0 and 1")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau is {self.tau}, but must be above 0 and at most 1, where the target becomes a copy")
        for name in ("target_period", "epsilon_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")


class Extra(NamedTuple):
    """The target critic, and what its period is counted by."""

    target: Params
    statistics: PyTree
    gradient_steps: Array  # [] int32


class Statistics(NamedTuple):
    """Of the observations, and of the critic itself."""

    normaliser: RunningStatistics
    critic: PyTree


class Behaviour(NamedTuple):
    """What acting needs."""

    critic: Params
    statistics: PyTree  # of the critic
    normaliser: RunningStatistics
    epsilon: Array | tuple[()] = ()  # [], the share of random actions of the exploring policy


def epsilon(config: Config, step: Array) -> Array:
    """The share of random actions after `step` updates, []."""
    return linear(step, config.epsilon_start, config.epsilon_end, config.epsilon_updates)


# Loss


def _of(output: Array, action: Array) -> Array:
    """[E, B, A, size] and actions [B] to [E, B, size]."""
    return jnp.take_along_axis(output, action[None, :, None, None], 2)[:, :, 0]


def _loss(config: Config, networks: QNetwork, params: Params, state: TrainState, sample: Sample, key: Key) -> tuple[Array, tuple]:
    """Of the critics towards the mean of their targets; returns the critic's statistics, metrics and each step's priority [B] too."""
    returns, critic, known, extra = networks.returns, networks.critic.apply, state.statistics.critic, state.extra
    outputs, statistics = critic(params["critic"], known, sample.observation, key, train=True)
    later, _ = critic(extra.target, extra.statistics, sample.next_observation)
    choosing = critic(params["critic"], known, sample.next_observation)[0] if config.double else later
    best = jnp.argmax(returns.mean(choosing).mean(0), -1)
    after = _of(later, best)
    reward, discount = (jnp.broadcast_to(x[None], after.shape[:-1]) for x in (sample.reward, sample.discount))
    target = jax.lax.stop_gradient(returns.backup(after, reward, discount).mean(0))
    output = _of(outputs, sample.action)
    losses = jax.vmap(returns.loss, (0, None))(output, target)
    value = returns.mean(output).mean(0)
    error = jnp.abs(value - (sample.reward + sample.discount * returns.mean(after).mean(0)))
    metrics = {"loss/critic": losses.mean(), "value": value.mean(), "value/error": error.mean()}
    # What distributions differ by tells more of what there is to learn than what their means do (Hessel et al. 2018).
    priority = error if returns.size == 1 else losses.mean(0)
    return (losses * sample.weight[None]).mean(1).sum(), (statistics, metrics, priority)


# Act


def _normalise(config: Config, normaliser: RunningStatistics, observation: Observation) -> Observation:
    return running_statistics.normalise(normaliser, observation) if config.normalise_observations else observation


def _policies(config: Config, spec: EnvSpec, networks: QNetwork) -> tuple[Policy, Policy]:
    """The one that acts at random now and then, and the one that never does."""
    number = networks.num_actions

    def best(params: Behaviour, observation: Observation) -> Array:
        output, _ = networks.critic.apply(params.critic, params.statistics, _normalise(config, params.normaliser, observation))
        return jnp.argmax(networks.returns.mean(output).mean(0), -1).astype(jnp.int32)

    def explore(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        share: Any = params.epsilon

        def draw(key: Key) -> tuple[Array, Array]:
            whether, which = jax.random.split(key)
            return jax.random.uniform(whether) < share, jax.random.randint(which, (), 0, number)

        at_random, action = jax.vmap(draw)(key)
        return jnp.where(at_random, action, best(params, observation))[:, None], carry, {}

    def act(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        return best(params, observation)[:, None], carry, {}

    shown = policy_spec(spec)
    return Policy(shown, lambda size: (), explore), Policy(shown, lambda size: (), act)


def dqn(config: Config, spec: EnvSpec, networks: QNetwork) -> Algorithm:
    """DQN for an environment of `spec` with discrete actions, from `Replayed` steps `[updates, batch]`.

    Its feedback is `{"priority": [updates, batch]}`: how far the critic is from its target, in the mean, or of distributions the loss.
    `pretrained` of `init` is a parameter tree that may lack any part.

    Raises:
        ValueError: the actions are not discrete, or the network is for another number of them; at `init`, `pretrained` does not fit.
    """
    check_discrete(spec.action, "dqn", spec.name)
    if num_choices(spec.action) != networks.num_actions:
        raise ValueError(f"dqn: the network is for {networks.num_actions} choices, but {spec.name} has {num_choices(spec.action)}")
    optimizer = optimizers.optimizer(config.optimizer)
    explore, policy = _policies(config, spec, networks)

    def init(key: Key, pretrained: Params | None = None) -> TrainState:
        critic, statistics = networks.critic.init(key)
        params = overlay({"critic": critic}, pretrained or {})
        target, known = jax.tree.map(jnp.copy, (params["critic"], statistics))  # buffers may be donated
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen={},
            statistics=Statistics(running_statistics.init(spec.observation), statistics),
            opt_state=optimizer.init(params),
            extra=Extra(target, known, jnp.zeros((), jnp.int32)),
        )

    def follow(extra: Extra, params: Params, statistics: PyTree) -> Extra:
        """The target after one more gradient step."""
        count = extra.gradient_steps + 1
        share = jnp.where(count % config.target_period == 0, config.tau, 0.0)
        target = optax.incremental_update(params["critic"], extra.target, share)
        known = jax.tree.map(lambda new, old: jnp.where(share > 0, new, old), statistics, extra.statistics)
        return Extra(target, known, count)

    def gradient_step(state: TrainState, now: tuple[Sample, Key]) -> tuple[TrainState, tuple[Metrics, Array]]:
        differentiate = jax.grad(_loss, argnums=2, has_aux=True)
        gradient, (statistics, metrics, priority) = differentiate(config, networks, state.params, state, *now)
        steps, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = {"critic": networks.critic.project(optax.apply_updates(state.params, steps)["critic"])}
        state = state._replace(
            params=params,
            statistics=state.statistics._replace(critic=statistics),
            opt_state=opt_state,
            extra=follow(state.extra, params, statistics),
        )
        return state, (metrics | {"gradient_norm": optax.tree.norm(gradient)}, priority)

    def update(state: TrainState, batch: Replayed, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        normaliser = running_statistics.update(state.statistics.normaliser, batch.observation)
        state = state._replace(statistics=state.statistics._replace(normaliser=normaliser))
        parts = samples(batch, config.gamma, lambda x: _normalise(config, normaliser, x))
        keys = jax.random.split(key, batch.steps.shape[0])
        share = epsilon(config, state.step)
        state, (metrics, priority) = jax.lax.scan(gradient_step, state, (parts, keys))
        metrics = jax.tree.map(jnp.mean, metrics) | {"epsilon": share, "reward": batch.reward[..., 0].mean()}
        return state._replace(step=state.step + 1), metrics, {"priority": priority}

    def deployable(state: TrainState) -> Behaviour:
        shown = running_statistics.seen(state.statistics.normaliser, policy.spec.observation)
        return Behaviour(state.params["critic"], state.statistics.critic, shown)

    def behaviour(state: TrainState) -> Behaviour:
        return deployable(state)._replace(epsilon=epsilon(config, state.step))

    return Algorithm(init, update, explore, policy, behaviour, deployable, replayed_spec(spec, {}))
