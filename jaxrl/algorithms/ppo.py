"""Proximal policy optimisation (Schulman et al. 2017, https://arxiv.org/abs/1707.06347).

With generalised advantages that bootstrap truncations from the true final observation, clipped values, and a learning rate that follows
the KL divergence between updates (Rudin et al. 2022, https://arxiv.org/abs/2109.11978).

Each minibatch holds some steps of every world, chosen anew in each epoch: a shuffle along time alone, so that worlds never leave the
device they live on, and the minibatches do not depend on the number of devices.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.networks.actor_critic import ActorCritic
from jaxrl.ops import running_statistics
from jaxrl.ops.paths import overlay
from jaxrl.ops.returns import generalized_advantage
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.specs import transition_spec
from jaxrl.types import (
    Algorithm,
    Array,
    ArraySpec,
    EnvSpec,
    Key,
    Metrics,
    Observation,
    Params,
    Policy,
    PolicySpec,
    PyTree,
    TrainState,
    Transition,
)


@dataclass(frozen=True)
class Config:
    """`target_kl` None keeps the learning rate fixed. `value_clip` None does not clip values; `max_gradient_norm` 0 not the gradient."""

    learning_rate: float = 3e-4
    target_kl: float | None = None
    learning_rate_bounds: tuple[float, float] = (1e-5, 1e-2)
    num_epochs: int = 4
    num_minibatches: int = 4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_clip: float | None = 0.2
    value_weight: float = 1.0
    entropy_weight: float = 0.0
    max_gradient_norm: float = 1.0
    normalise_observations: bool = True
    normalise_advantages: bool = True
    reward_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("num_epochs", "num_minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must lie between 0 and 1")


class Extra(NamedTuple):
    """What follows the divergence."""

    learning_rate: Array  # []


class Behaviour(NamedTuple):
    """What acting needs."""

    actor: Params
    statistics: RunningStatistics


class _Sample(NamedTuple):
    """One step as the losses take it, [T, B, ...]."""

    transition: Transition
    advantage: Array
    returns: Array
    value: Array


# Networks: what they are shown.


def _normalise(config: Config, statistics: RunningStatistics, observation: Observation) -> Observation:
    return running_statistics.normalise(statistics, observation) if config.normalise_observations else observation


# Losses


def _actor_loss(config: Config, networks: ActorCritic, params: Params, sample: _Sample, key: Key) -> tuple[Array, Metrics]:
    taken, distribution = sample.transition, networks.distribution
    parameters = networks.actor.apply(params, taken.observation)
    old = {"mean": taken.extras["mean"], "log_std": taken.extras["log_std"]}
    ratio = jnp.exp(distribution.log_prob(parameters, taken.extras["x"]) - taken.extras["log_prob"])
    clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    surrogate = jnp.minimum(ratio * sample.advantage, clipped * sample.advantage).mean()
    entropy = distribution.entropy(parameters, key).mean()
    metrics = {
        "loss/policy": -surrogate,
        "entropy": entropy,
        "kl": distribution.kl(old, parameters).mean(),
        "clip_fraction": (jnp.abs(ratio - 1.0) > config.clip).astype(jnp.float32).mean(),
        "std": jnp.exp(parameters["log_std"]).mean(),
    }
    return -surrogate - config.entropy_weight * entropy, metrics


def _critic_loss(config: Config, networks: ActorCritic, params: Params, sample: _Sample) -> tuple[Array, Metrics]:
    value = networks.critic.apply(params, sample.transition.observation)
    error = jnp.square(value - sample.returns)
    if config.value_clip is not None:
        near = sample.value + jnp.clip(value - sample.value, -config.value_clip, config.value_clip)
        error = jnp.maximum(error, jnp.square(near - sample.returns))
    loss = 0.5 * error.mean()
    return config.value_weight * loss, {"loss/value": loss}


# Update


def _samples(config: Config, networks: ActorCritic, state: TrainState, batch: Transition) -> _Sample:
    """Values by the critic as it is, on observations normalised as they were when the actions were chosen."""
    batch = batch._replace(
        observation=_normalise(config, state.statistics, batch.observation),
        next_observation=_normalise(config, state.statistics, batch.next_observation),
    )
    value = networks.critic.apply(state.params["critic"], batch.observation)
    next_value = networks.critic.apply(state.params["critic"], batch.next_observation)
    reward = batch.reward * config.reward_scale
    advantage, returns = generalized_advantage(reward, batch.discount, batch.truncation, value, next_value, config.gamma, config.gae_lambda)
    if config.normalise_advantages:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    return _Sample(batch._replace(next_observation={}), advantage, returns, value)


def _minibatches(config: Config, samples: _Sample, key: Key) -> _Sample:
    """[num_minibatches, steps, B, ...], each world's steps in an order of its own."""
    length = samples.value.shape[0]
    if length % config.num_minibatches:
        raise ValueError(
            f"unroll_length is {length}, no multiple of num_minibatches, {config.num_minibatches}; "
            "each minibatch takes an equal share of the steps of every world"
        )
    order = jnp.argsort(jax.random.uniform(key, samples.value.shape), axis=0)
    world = jnp.arange(order.shape[1])[None, :]
    return jax.tree.map(lambda x: x[order, world].reshape(config.num_minibatches, -1, *x.shape[1:]), samples)


def _adapt(config: Config, learning_rate: Array, kl: Array) -> Array:
    """Slower above twice the wanted divergence, faster below half of it."""
    if config.target_kl is None:
        return learning_rate
    slower = jnp.where(kl > 2.0 * config.target_kl, learning_rate / 1.5, learning_rate)
    faster = jnp.where((kl < 0.5 * config.target_kl) & (kl > 0.0), slower * 1.5, slower)
    return jnp.clip(faster, *config.learning_rate_bounds)


# Act


def _policies(config: Config, spec: EnvSpec, networks: ActorCritic) -> tuple[Policy, Policy]:
    """The one that draws its actions, and the one that takes the mode."""
    distribution = networks.distribution
    public = {name: part for name, part in spec.observation.items() if not name.startswith("privileged/")}
    shown = PolicySpec(public, spec.action, rate=1.0 / spec.dt if spec.dt else 0.0)
    per_action = ArraySpec(spec.action.shape, names=spec.action.names)
    kept = {"x": per_action, "mean": per_action, "log_std": per_action, "log_prob": ArraySpec(())}

    def parameters_of(params: Behaviour, observation: Observation) -> dict[str, Array]:
        return networks.actor.apply(params.actor, _normalise(config, params.statistics, observation))

    def explore(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        parameters = parameters_of(params, observation)
        x = jax.vmap(distribution.sample)(parameters, key)
        extras = parameters | {"x": x, "log_prob": distribution.log_prob(parameters, x)}
        return distribution.to_action(x)[:, None], carry, extras

    def act(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        mode = distribution.mode(parameters_of(params, observation))
        return distribution.to_action(mode)[:, None], carry, {}

    return Policy(shown._replace(extras=kept), lambda size: (), explore), Policy(shown, lambda size: (), act)


def _behaviour(state: TrainState) -> Behaviour:
    return Behaviour(state.params["actor"], state.statistics)


def ppo(config: Config, spec: EnvSpec, networks: ActorCritic) -> Algorithm:
    """PPO for an environment of `spec`, from batches `[T, B]` whose T is a multiple of `num_minibatches`.

    `pretrained` of `init` is a parameter tree that may lack any part.

    Raises:
        ValueError: the actions are not continuous; at `init`, `pretrained` does not fit; at the first update, T does not divide.
    """
    if not spec.action.dtype.startswith("float"):
        raise ValueError(f"ppo needs continuous actions, but those of {spec.name} are {spec.action.dtype}")
    clip = optax.clip_by_global_norm(config.max_gradient_norm) if config.max_gradient_norm else optax.identity()
    optimizer = optax.chain(clip, optax.scale_by_adam(eps=1e-5))
    explore, policy = _policies(config, spec, networks)

    def init(key: Key, pretrained: Params | None = None) -> TrainState:
        actor, critic = jax.random.split(key)
        params = overlay({"actor": networks.actor.init(actor), "critic": networks.critic.init(critic)}, pretrained or {})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen={},
            statistics=running_statistics.init(spec.observation),
            opt_state=optimizer.init(params),
            extra=Extra(jnp.asarray(config.learning_rate, jnp.float32)),
        )

    def loss(params: Params, sample: _Sample, key: Key) -> tuple[Array, Metrics]:
        actor, actor_metrics = _actor_loss(config, networks, params["actor"], sample, key)
        critic, critic_metrics = _critic_loss(config, networks, params["critic"], sample)
        return actor + critic, actor_metrics | critic_metrics

    def gradient_step(carry: tuple, now: tuple[_Sample, Key]) -> tuple[tuple, Metrics]:
        params, opt_state, learning_rate = carry
        gradients, metrics = jax.grad(loss, has_aux=True)(params, *now)
        learning_rate = _adapt(config, learning_rate, metrics["kl"])
        steps, opt_state = optimizer.update(gradients, opt_state, params)
        params = jax.tree.map(lambda p, s: p - learning_rate * s, params, steps)
        return (params, opt_state, learning_rate), metrics | {"gradient_norm": optax.tree.norm(gradients)}

    def update(state: TrainState, batch: Transition, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        samples = _samples(config, networks, state, batch)

        def epoch(carry: tuple, epoch_key: Key) -> tuple[tuple, Metrics]:
            shuffle, losses = jax.random.split(epoch_key)
            keys = jax.random.split(losses, config.num_minibatches)
            return jax.lax.scan(gradient_step, carry, (_minibatches(config, samples, shuffle), keys))

        carry = (state.params, state.opt_state, state.extra.learning_rate)
        carry, metrics = jax.lax.scan(epoch, carry, jax.random.split(key, config.num_epochs))
        params, opt_state, learning_rate = carry
        explained = 1.0 - (samples.returns - samples.value).var() / (samples.returns.var() + 1e-8)
        metrics = jax.tree.map(jnp.mean, metrics) | {
            "learning_rate": learning_rate,
            "value/explained_variance": explained,
            "reward": batch.reward.mean(),
        }
        new = state._replace(
            step=state.step + 1,
            params=params,
            statistics=running_statistics.update(state.statistics, batch.observation),
            opt_state=opt_state,
            extra=Extra(learning_rate),
        )
        return new, metrics, ()

    def deployable(state: TrainState) -> Behaviour:
        """Without the statistics of what the policy does not see."""
        statistics = state.statistics
        seen = {name: statistics.mean[name] for name in policy.spec.observation if name in statistics.mean}
        spread = {name: statistics.variance[name] for name in seen}
        return Behaviour(state.params["actor"], statistics._replace(mean=seen, variance=spread))

    batch_spec = transition_spec(spec, explore.spec.extras)
    return Algorithm(init, update, explore, policy, _behaviour, deployable, batch_spec)
