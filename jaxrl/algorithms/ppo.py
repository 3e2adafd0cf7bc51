"""Proximal policy optimisation (Schulman et al. 2017, https://arxiv.org/abs/1707.06347).

With generalised advantages that bootstrap truncations from the true final observation, clipped values, and a learning rate that follows
the KL divergence between updates (Rudin et al. 2022, https://arxiv.org/abs/2109.11978).

Each minibatch holds some steps of every world, chosen anew in each epoch: a shuffle along time alone, so that worlds never leave the
device they live on, and the minibatches do not depend on the number of devices.

Networks with a memory are run along the unroll, from the carry that its first action was chosen with, and forget where an episode begins:
back-propagation through time, truncated to `unroll_length`. Their minibatches hold whole unrolls, of one world out of every
`num_minibatches` neighbours, so here too worlds stay where they are. The exploring policy keeps the critic's memory beside the actor's.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.networks import actor_critic
from jaxrl.networks.actor_critic import ActorCritic, Behaviour, RecurrentActorCritic, along, policies, with_memory
from jaxrl.ops import running_statistics
from jaxrl.ops.paths import overlay
from jaxrl.ops.returns import generalized_advantage
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.specs import transition_spec
from jaxrl.types import (
    Algorithm,
    Array,
    EnvSpec,
    Key,
    Metrics,
    Observation,
    Params,
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
        for name in ("learning_rate", "clip", "value_weight", "max_gradient_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")
        for name in ("target_kl", "value_clip"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be positive, or None to do without")


class Extra(NamedTuple):
    """What follows the divergence."""

    learning_rate: Array  # []


class _Sample(NamedTuple):
    """One step as the losses take it, [T, B, ...]."""

    transition: Transition
    begins: Array  # bool: an episode begins here, and not with the first step
    carry: PyTree  # before the first step, [1, B, ...], of the networks with a memory
    advantage: Array
    returns: Array
    value: Array


def _normalise(config: Config, statistics: RunningStatistics, observation: Observation) -> Observation:
    return running_statistics.normalise(statistics, observation) if config.normalise_observations else observation


# Losses


def _actor_loss(config: Config, networks: RecurrentActorCritic, params: Params, sample: _Sample, key: Key) -> tuple[Array, Metrics]:
    taken, distribution = sample.transition, networks.distribution
    parameters, _ = along(networks.actor, params, taken.observation, sample.carry.get("actor", ()), sample.begins)
    old = {name: taken.extras[name] for name in parameters}
    ratio = jnp.exp(distribution.log_prob(parameters, taken.extras["x"]) - taken.extras["log_prob"])
    clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    surrogate = jnp.minimum(ratio * sample.advantage, clipped * sample.advantage).mean()
    entropy = distribution.entropy(parameters, key).mean()
    metrics = {
        "loss/policy": -surrogate,
        "entropy": entropy,
        "kl": distribution.kl(old, parameters).mean(),
        "clip_fraction": (jnp.abs(ratio - 1.0) > config.clip).astype(jnp.float32).mean(),
    } | ({"std": jnp.exp(parameters["log_std"]).mean()} if "log_std" in parameters else {})
    return -surrogate - config.entropy_weight * entropy, metrics


def _critic_loss(config: Config, networks: RecurrentActorCritic, params: Params, sample: _Sample) -> tuple[Array, Metrics]:
    value, _ = along(networks.critic, params, sample.transition.observation, sample.carry.get("critic", ()), sample.begins)
    error = jnp.square(value - sample.returns)
    if config.value_clip is not None:
        near = sample.value + jnp.clip(value - sample.value, -config.value_clip, config.value_clip)
        error = jnp.maximum(error, jnp.square(near - sample.returns))
    loss = 0.5 * error.mean()
    return config.value_weight * loss, {"loss/value": loss}


# Update


def _samples(config: Config, networks: RecurrentActorCritic, state: TrainState, batch: Transition) -> _Sample:
    """Values by the critic as it is, on observations normalised as they were when the actions were chosen."""
    batch = batch._replace(
        observation=_normalise(config, state.statistics, batch.observation),
        next_observation=_normalise(config, state.statistics, batch.next_observation),
    )
    unroll = actor_critic.unroll_of(networks, batch)
    value, next_value = actor_critic.values(networks, state.params["critic"], batch, unroll)
    reward = batch.reward * config.reward_scale
    advantage, returns = generalized_advantage(reward, batch.discount, batch.truncation, value, next_value, config.gamma, config.gae_lambda)
    if config.normalise_advantages:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    extras = {name: x for name, x in batch.extras.items() if not name.startswith("carry/")}
    return _Sample(batch._replace(next_observation={}, extras=extras), *unroll, advantage, returns, value)


def _minibatches(config: Config, samples: _Sample, key: Key) -> _Sample:
    """[num_minibatches, ...]: some steps of every world, or where a network remembers them all steps of some worlds."""
    remembers = bool(jax.tree.leaves(samples.carry))
    axis, size = ("num_worlds", samples.value.shape[1]) if remembers else ("unroll_length", samples.value.shape[0])
    if size % config.num_minibatches:
        share = "worlds, for the networks have a memory" if remembers else "steps of every world"
        raise ValueError(
            f"{axis} is {size}, no multiple of num_minibatches, {config.num_minibatches}; "
            f"each minibatch takes an equal share of the {share}"
        )
    return (_some_worlds if remembers else _some_steps)(config, samples, key)


def _some_worlds(config: Config, samples: _Sample, key: Key) -> _Sample:
    """[num_minibatches, T, worlds, ...], one out of each group of `num_minibatches` neighbours, in an order of the group's own."""
    count = config.num_minibatches
    order = jnp.argsort(jax.random.uniform(key, (samples.value.shape[1] // count, count)), axis=1)
    pick = jax.vmap(jax.vmap(lambda worlds, place: worlds[place]), (0, None))  # over time, over groups

    def shares(x: Array) -> Array:
        return jnp.moveaxis(pick(x.reshape(x.shape[0], -1, count, *x.shape[2:]), order), 2, 0)

    return jax.tree.map(shares, samples)


def _some_steps(config: Config, samples: _Sample, key: Key) -> _Sample:
    """[num_minibatches, steps, B, ...], each world's steps in an order of its own."""
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


def ppo(config: Config, spec: EnvSpec, networks: ActorCritic) -> Algorithm:
    """PPO for an environment of `spec`, from batches `[T, B]` whose T is a multiple of `num_minibatches`; B where a network has a memory.

    `pretrained` of `init` is a parameter tree that may lack any part.

    Raises:
        ValueError: the networks are not for such actions; at `init`, `pretrained` does not fit; at the first update, T or B does not
            divide.
    """
    clip = optax.clip_by_global_norm(config.max_gradient_norm) if config.max_gradient_norm else optax.identity()
    optimizer = optax.chain(clip, optax.scale_by_adam(eps=1e-5))
    memory = with_memory(networks)
    explore, policy = policies(spec, memory, config.normalise_observations, "ppo")

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
        actor, actor_metrics = _actor_loss(config, memory, params["actor"], sample, key)
        critic, critic_metrics = _critic_loss(config, memory, params["critic"], sample)
        return actor + critic, actor_metrics | critic_metrics

    def gradient_step(carry: tuple, now: tuple[_Sample, Key]) -> tuple[tuple, Metrics]:
        params, opt_state, learning_rate = carry
        gradients, metrics = jax.grad(loss, has_aux=True)(params, *now)
        learning_rate = _adapt(config, learning_rate, metrics["kl"])
        steps, opt_state = optimizer.update(gradients, opt_state, params)
        params = jax.tree.map(lambda p, s: p - learning_rate * s, params, steps)
        return (params, opt_state, learning_rate), metrics | {"gradient_norm": optax.tree.norm(gradients)}

    def update(state: TrainState, batch: Transition, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        samples = _samples(config, memory, state, batch)

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

    def behaviour(state: TrainState) -> Behaviour:
        return actor_critic.behaviour(memory, state.params, state.statistics)

    def deployable(state: TrainState) -> Behaviour:
        return actor_critic.deployable(policy.spec, state.params, state.statistics)

    batch_spec = transition_spec(spec, explore.spec.extras)
    return Algorithm(init, update, explore, policy, behaviour, deployable, batch_spec)
