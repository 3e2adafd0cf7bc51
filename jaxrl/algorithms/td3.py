"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477, algorithm 1).

DDPG (Lillicrap et al. 2016, https://arxiv.org/abs/1509.02971) is a config: one critic, no delay, no noise in the target. FastTD3 (Seo et
al. 2025, https://arxiv.org/abs/2505.22642) is another: categorical returns, large batches from many worlds, each world with an exploration
noise of its own, no target actor.

A batch is `[updates, batch]`: one step of the critics for each of the updates, and one of the actor every `policy_delay`.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import optimizers
from jaxrl.distributions import ensemble
from jaxrl.networks.actor_q import ActorQ, Behaviour, Statistics, behaviour, number_of_critics
from jaxrl.ops import running_statistics
from jaxrl.ops.action_range import action_range
from jaxrl.ops.noise import repeated, scaled
from jaxrl.ops.paths import overlay
from jaxrl.ops.replayed import Sample, actor_critic_updates, samples
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.specs import policy_spec, replayed_spec
from jaxrl.optimizers import Descent
from jaxrl.types import Algorithm, Array, EnvSpec, Key, Metrics, Observation, Params, Policy, PyTree, Replayed, TrainState


@dataclass(frozen=True)
class Config:
    """Noises are in units of the action range, which is [-1, 1].

    `exploration_std` are the bounds of each world's standard deviation, drawn anew for each episode. `target_noise` is smoothed over in the
    target, up to `target_noise_clip`. `longest_repeat` is the number of steps for which exploration noise may be held. `action_bound` is
    where actions end that the environment does not bound.
    """

    actor_optimizer: optimizers.Config = field(default_factory=optimizers.Config)
    critic_optimizer: optimizers.Config = field(default_factory=optimizers.Config)
    gamma: float = 0.99
    tau: float = 0.005
    policy_delay: int = 2
    target_actor: bool = True
    target_noise: float = 0.2
    target_noise_clip: float = 0.5
    target_value: ensemble.How = "minimum"
    policy_value: ensemble.How = "mean"
    exploration_std: tuple[float, float] = (0.1, 0.1)
    longest_repeat: int = 1
    normalise_observations: bool = False
    action_bound: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}, but must lie between 0 and 1")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau is {self.tau}, but must be above 0 and at most 1")
        for name in ("policy_delay", "longest_repeat"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("target_noise", "target_noise_clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")
        if not 0 <= self.exploration_std[0] <= self.exploration_std[1]:
            raise ValueError(f"exploration_std is {self.exploration_std}, but must be two numbers that ascend from 0 or more")
        if self.action_bound <= 0:
            raise ValueError(f"action_bound is {self.action_bound}, but must be above 0")


class Extra(NamedTuple):
    """The targets; `actor` is empty without one."""

    actor: Params
    critic: Params


# Losses


def _aim(config: Config, networks: ActorQ, state: TrainState, sample: Sample, key: Key) -> Array:
    """The target actor's action [B, A] at the end of each step, blurred (equation 15)."""
    params = state.extra.actor if config.target_actor else state.params["actor"]
    parameters, _ = networks.actor.apply(params, state.statistics.actor, sample.next_observation)
    action = jnp.tanh(parameters["mean"])
    blur = config.target_noise * jax.random.normal(key, action.shape)
    return jnp.clip(action + jnp.clip(blur, -config.target_noise_clip, config.target_noise_clip), -1.0, 1.0)


def _critic_loss(config: Config, networks: ActorQ, params: Params, state: TrainState, sample: Sample, key: Key) -> tuple[Array, tuple]:
    """Of the Bellman residual; returns the critics' statistics, metrics and the size of each step's error [B] too."""
    blur, drop, other = jax.random.split(key, 3)
    action = _aim(config, networks, state, sample, blur)
    known = state.statistics.critic
    later, _ = networks.critic.apply(state.extra.critic, known, (sample.next_observation, action), other)
    target = ensemble.target(networks.returns, later, config.target_value, sample.reward, sample.discount)
    output, known = networks.critic.apply(params, known, (sample.observation, sample.action), drop, train=True)
    losses = jax.vmap(networks.returns.loss, (0, None))(output, target)
    value = networks.returns.mean(output)
    expected = sample.reward + sample.discount * ensemble.expected(networks.returns, later, config.target_value)
    error = jnp.abs(value - expected[None]).mean(0)
    metrics = {"loss/critic": losses.mean(), "value": value.mean(), "value/spread": value.std(0).mean(), "value/error": error.mean()}
    return (losses * sample.weight[None]).mean(1).sum(), (known, metrics, error)


def _actor_loss(config: Config, networks: ActorQ, params: Params, state: TrainState, sample: Sample, key: Key) -> tuple[Array, tuple]:
    """What the critics expect of the actor's own actions, negative; returns the actor's statistics too."""
    parameters, known = networks.actor.apply(params, state.statistics.actor, sample.observation, train=True)
    action = jnp.tanh(parameters["mean"])
    outputs, _ = networks.critic.apply(state.params["critic"], state.statistics.critic, (sample.observation, action), key)
    loss = -ensemble.expected(networks.returns, outputs, config.policy_value).mean()
    return loss, (known, {"loss/policy": loss, "saturation": (jnp.abs(action) > 0.99).mean(dtype=jnp.float32)})


# Act


def _normalise(config: Config, normaliser: RunningStatistics, observation: Observation) -> Observation:
    return running_statistics.normalise(normaliser, observation) if config.normalise_observations else observation


def _policies(config: Config, spec: EnvSpec, networks: ActorQ) -> tuple[Policy, Policy]:
    """The one that adds noise to its actions, and the one that does not."""
    to_action = action_range(spec.action, config.action_bound).to_action
    noise = scaled(repeated(int(spec.action.shape[0]), config.longest_repeat), *config.exploration_std)

    def answer(params: Behaviour, observation: Observation) -> Array:
        shown = _normalise(config, params.normaliser, observation)
        return jnp.tanh(networks.actor.apply(params.actor, params.statistics, shown)[0]["mean"])

    def explore(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        drawn, carry = noise.draw(carry, key)
        return to_action(jnp.clip(answer(params, observation) + drawn, -1.0, 1.0))[:, None], carry, {}

    def act(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        return to_action(answer(params, observation))[:, None], carry, {}

    shown = policy_spec(spec)
    return Policy(shown, noise.init, explore), Policy(shown, lambda size: (), act)


def td3(config: Config, spec: EnvSpec, networks: ActorQ) -> Algorithm:
    """TD3 for an environment of `spec`, from `Replayed` steps `[updates, batch]` whose updates are a multiple of `policy_delay`.

    Its feedback is `{"priority": [updates, batch]}`, how far the critics are from their target. `pretrained` of `init` is a parameter tree
    that may lack any part.

    Raises:
        ValueError: the actions are not continuous vectors, or the actor sees what is privileged; at `init`, `pretrained` does not fit; at
            the first update, the updates do not divide.
    """
    number_of_critics(networks, spec, "td3")
    to_unit = action_range(spec.action, config.action_bound).to_unit
    descents = {
        "actor": Descent(optimizers.optimizer(config.actor_optimizer), networks.actor.project),
        "critic": Descent(optimizers.optimizer(config.critic_optimizer), networks.critic.project),
    }
    explore, policy = _policies(config, spec, networks)

    def init(key: Key, pretrained: Params | None = None) -> TrainState:
        actor_key, critic_key = jax.random.split(key)
        (actor, actor_statistics), (critic, critic_statistics) = networks.actor.init(actor_key), networks.critic.init(critic_key)
        params = overlay({"actor": actor, "critic": critic}, pretrained or {})
        copy = jax.tree.map(jnp.copy, params)  # both buffers may be donated
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen={},
            statistics=Statistics(running_statistics.init(spec.observation), actor_statistics, critic_statistics),
            opt_state={name: tx.init(params[name]) for name, (tx, _) in descents.items()},
            extra=Extra(copy["actor"] if config.target_actor else {}, copy["critic"]),
        )

    def critic_step(state: TrainState, now: tuple[Sample, Key]) -> tuple[TrainState, tuple[Metrics, Array]]:
        differentiate = jax.grad(_critic_loss, argnums=2, has_aux=True)
        gradient, (known, metrics, error) = differentiate(config, networks, state.params["critic"], state, *now)
        state = optimizers.descend(descents, state, "critic", gradient)
        target = optax.incremental_update(state.params["critic"], state.extra.critic, config.tau)
        state = state._replace(statistics=state.statistics._replace(critic=known), extra=state.extra._replace(critic=target))
        return state, (metrics | {"gradient_norm/critic": optax.tree.norm(gradient)}, error)

    def actor_step(state: TrainState, sample: Sample, key: Key) -> tuple[TrainState, Metrics]:
        differentiate = jax.grad(_actor_loss, argnums=2, has_aux=True)
        gradient, (known, metrics) = differentiate(config, networks, state.params["actor"], state, sample, key)
        state = optimizers.descend(descents, state, "actor", gradient)
        extra = state.extra
        if config.target_actor:
            extra = extra._replace(actor=optax.incremental_update(state.params["actor"], extra.actor, config.tau))
        state = state._replace(statistics=state.statistics._replace(actor=known), extra=extra)
        return state, metrics | {"gradient_norm/actor": optax.tree.norm(gradient)}

    def update(state: TrainState, batch: Replayed, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        normaliser = running_statistics.update(state.statistics.normaliser, batch.observation)
        state = state._replace(statistics=state.statistics._replace(normaliser=normaliser))
        parts = samples(batch, config.gamma, lambda x: _normalise(config, normaliser, x), to_unit)
        state, metrics, errors = actor_critic_updates(critic_step, actor_step, config.policy_delay, state, parts, key)
        metrics |= {"reward": batch.reward[..., 0].mean()}
        return state._replace(step=state.step + 1), metrics, {"priority": errors}

    def acting(state: TrainState) -> Behaviour:
        return behaviour(networks, policy.spec, state)

    return Algorithm(init, update, explore, policy, acting, acting, replayed_spec(spec, {}))
