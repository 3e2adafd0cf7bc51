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
from jaxrl.ops.returns import generalized_advantage
from jaxrl.types import Algorithm, Array, ArraySpec, EnvSpec, Key, Metrics, Params, Policy, PolicySpec, PyTree, TrainState, Transition


@dataclass(frozen=True)
class Config:
    """`target_kl` None keeps the learning rate fixed. `value_clip` None does not clip values."""

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
    learning_rate: Array  # []


class Behaviour(NamedTuple):
    """What acting needs."""

    actor: Params
    statistics: running_statistics.RunningStatistics


class _Sample(NamedTuple):
    """One step as the losses take it, [T, B, ...]."""

    transition: Transition
    advantage: Array
    returns: Array
    value: Array


def ppo(config: Config, spec: EnvSpec, networks: ActorCritic) -> Algorithm:
    """PPO for an environment of `spec`, from batches `[T, B]` whose T is a multiple of `num_minibatches`.

    Raises:
        ValueError: the actions are not continuous; at the first update, T does not divide.
    """
    if not spec.action.dtype.startswith("float"):
        raise ValueError(f"ppo needs continuous actions, but those of {spec.name} are {spec.action.dtype}")
    distribution = networks.distribution
    optimizer = optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), optax.scale_by_adam(eps=1e-5))

    def normalise(statistics: running_statistics.RunningStatistics, observation: dict[str, Array]) -> dict[str, Array]:
        return running_statistics.normalise(statistics, observation) if config.normalise_observations else observation

    # losses

    def actor_loss(params: Params, sample: _Sample, key: Key) -> tuple[Array, Metrics]:
        taken = sample.transition
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

    def critic_loss(params: Params, sample: _Sample) -> tuple[Array, Metrics]:
        value = networks.critic.apply(params, sample.transition.observation)
        error = jnp.square(value - sample.returns)
        if config.value_clip is not None:
            near = sample.value + jnp.clip(value - sample.value, -config.value_clip, config.value_clip)
            error = jnp.maximum(error, jnp.square(near - sample.returns))
        loss = 0.5 * error.mean()
        return config.value_weight * loss, {"loss/value": loss}

    def loss(params: Params, sample: _Sample, key: Key) -> tuple[Array, Metrics]:
        actor, actor_metrics = actor_loss(params["actor"], sample, key)
        critic, critic_metrics = critic_loss(params["critic"], sample)
        return actor + critic, actor_metrics | critic_metrics

    # init

    def init(key: Key, pretrained: Params | None = None) -> TrainState:
        actor, critic = jax.random.split(key)
        params = {"actor": networks.actor.init(actor), "critic": networks.critic.init(critic)} | (pretrained or {})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen={},
            statistics=running_statistics.init(spec.observation),
            opt_state=optimizer.init(params),
            extra=Extra(jnp.asarray(config.learning_rate, jnp.float32)),
        )

    # update

    def advantages(state: TrainState, batch: Transition) -> _Sample:
        """Values by the critic as it is, on observations normalised as they were when the actions were chosen."""
        batch = batch._replace(
            observation=normalise(state.statistics, batch.observation),
            next_observation=normalise(state.statistics, batch.next_observation),
        )
        value = networks.critic.apply(state.params["critic"], batch.observation)
        next_value = networks.critic.apply(state.params["critic"], batch.next_observation)
        reward = batch.reward * config.reward_scale
        advantage, returns = generalized_advantage(
            reward, batch.discount, batch.truncation, value, next_value, config.gamma, config.gae_lambda
        )
        if config.normalise_advantages:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        return _Sample(batch._replace(next_observation={}), advantage, returns, value)

    def minibatches(samples: _Sample, key: Key) -> _Sample:
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

    def adapt(learning_rate: Array, kl: Array) -> Array:
        """Slower above twice the wanted divergence, faster below half of it."""
        if config.target_kl is None:
            return learning_rate
        slower = jnp.where(kl > 2.0 * config.target_kl, learning_rate / 1.5, learning_rate)
        faster = jnp.where((kl < 0.5 * config.target_kl) & (kl > 0.0), slower * 1.5, slower)
        return jnp.clip(faster, *config.learning_rate_bounds)

    def update(state: TrainState, batch: Transition, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        samples = advantages(state, batch)

        def gradient_step(carry: tuple, now: tuple[_Sample, Key]) -> tuple[tuple, Metrics]:
            params, opt_state, learning_rate = carry
            gradients, metrics = jax.grad(loss, has_aux=True)(params, *now)
            learning_rate = adapt(learning_rate, metrics["kl"])
            steps, opt_state = optimizer.update(gradients, opt_state, params)
            params = jax.tree.map(lambda p, s: p - learning_rate * s, params, steps)
            return (params, opt_state, learning_rate), metrics | {"gradient_norm": optax.tree.norm(gradients)}

        def epoch(carry: tuple, epoch_key: Key) -> tuple[tuple, Metrics]:
            shuffle, losses = jax.random.split(epoch_key)
            keys = jax.random.split(losses, config.num_minibatches)
            return jax.lax.scan(gradient_step, carry, (minibatches(samples, shuffle), keys))

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

    # act

    action_size = spec.action.shape[0]
    per_action = ArraySpec((action_size,), names=spec.action.names)
    policy_spec = PolicySpec(
        observation={name: s for name, s in spec.observation.items() if name.startswith("state/")},
        action=spec.action,
        rate=1.0 / spec.dt if spec.dt else 0.0,
    )
    extras_spec = {"x": per_action, "mean": per_action, "log_std": per_action, "log_prob": ArraySpec(())}

    def parameters_of(params: Behaviour, observation: dict[str, Array]) -> dict[str, Array]:
        return networks.actor.apply(params.actor, normalise(params.statistics, observation))

    def explore(params: Behaviour, observation: dict, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        parameters = parameters_of(params, observation)
        x = jax.vmap(distribution.sample)(parameters, key)
        extras = parameters | {"x": x, "log_prob": distribution.log_prob(parameters, x)}
        return distribution.to_action(x)[:, None], carry, extras

    def act(params: Behaviour, observation: dict, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        mode = distribution.mode(parameters_of(params, observation))
        return distribution.to_action(mode)[:, None], carry, {}

    def behaviour(state: TrainState) -> Behaviour:
        return Behaviour(state.params["actor"], state.statistics)

    def deployable(state: TrainState) -> Behaviour:
        statistics = state.statistics
        seen = {name: statistics.mean[name] for name in policy_spec.observation if name in statistics.mean}
        spread = {name: statistics.variance[name] for name in seen}
        return Behaviour(state.params["actor"], statistics._replace(mean=seen, variance=spread))

    lead = ("time", "world")
    scalars = {name: ArraySpec(lead) for name in ("reward", "discount", "truncation")}
    batch_spec = scalars | {"action": ArraySpec((*lead, *spec.action.shape), spec.action.dtype, spec.action.names)}
    batch_spec |= {f"extras/{name}": ArraySpec((*lead, *s.shape), s.dtype, s.names) for name, s in extras_spec.items()}
    batch_spec |= {
        f"{part}/{name}": ArraySpec((*lead, *s.shape), s.dtype, s.names, s.unit)
        for part in ("observation", "next_observation")
        for name, s in spec.observation.items()
    }
    return Algorithm(
        init=init,
        update=update,
        explore=Policy(policy_spec._replace(extras=extras_spec), lambda size: (), explore),
        policy=Policy(policy_spec, lambda size: (), act),
        behaviour=behaviour,
        deployable=deployable,
        batch_spec=batch_spec,
    )
