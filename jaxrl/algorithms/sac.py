"""Soft actor-critic with an automatic temperature (Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905, algorithm 1).

Its descendants are configs: REDQ (`subset` of a large ensemble, `policy_delay`; https://arxiv.org/abs/2101.05982), DroQ (dropout in the
critics; https://arxiv.org/abs/2110.02034), DrQ (images, shifted by up to `pad`; https://arxiv.org/abs/2004.13649), RLPD (a mixture of
sources; https://arxiv.org/abs/2302.02948), SimBa and SimbaV2 (networks; https://arxiv.org/abs/2410.09754,
https://arxiv.org/abs/2502.15280), CrossQ (`tau` 1, `joint`; https://arxiv.org/abs/1902.05605), XQC, FastSAC and FlashSAC (networks,
categorical returns, large batches from many worlds).

A batch is `[updates, batch]`: one step of the critics for each of the updates, and one of actor and temperature every `policy_delay`.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import optimizers
from jaxrl.distributions import ensemble
from jaxrl.distributions.tanh_normal import tanh_normal
from jaxrl.networks.actor_q import ActorQ, Behaviour, Statistics, behaviour, number_of_critics
from jaxrl.networks.pixel_actor_q import PixelActorQ, joined
from jaxrl.ops import running_statistics
from jaxrl.ops.action_range import action_range
from jaxrl.ops.augmentation import shift_sample
from jaxrl.ops.noise import repeated
from jaxrl.ops.paths import overlay
from jaxrl.ops.replayed import Sample, actor_critic_updates, samples
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.specs import policy_spec, replayed_spec
from jaxrl.optimizers import Descent
from jaxrl.types import Algorithm, Array, EnvSpec, Key, Metrics, Observation, Params, Policy, PyTree, Replayed, TrainState

_SQUASHED = tanh_normal()


@dataclass(frozen=True)
class Config:
    """`target_entropy` is in nats per dimension of the action, which lies in [-1, 1]; a temperature learning rate of 0 makes it idle.

    `tau` 1 has no target critic. `subset` critics, drawn anew for each update, make the target; 0 is all. `target_value` and
    `policy_value` say what several critics expect: the least of them, or their mean. `joint` shows each critic the two ends of a step in
    one pass, so that batch statistics are those of both. `action_bound` is where actions end that the environment does not bound.
    `longest_repeat` is the number of steps for which exploration noise may be held (`ops.noise.repeated`). `pad` is the largest shift of an
    image, in pixels.
    """

    actor_optimizer: optimizers.Config = field(default_factory=optimizers.Config)
    critic_optimizer: optimizers.Config = field(default_factory=optimizers.Config)
    temperature_learning_rate: float = 3e-4
    initial_temperature: float = 1.0
    target_entropy: float = -1.0
    entropy_in_target: bool = True
    gamma: float = 0.99
    tau: float = 0.005
    policy_delay: int = 1
    subset: int = 0
    target_value: ensemble.How = "minimum"
    policy_value: ensemble.How = "minimum"
    joint: bool = False
    normalise_observations: bool = False
    action_bound: float = 1.0
    longest_repeat: int = 1
    pad: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}, but must lie between 0 and 1")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau is {self.tau}, but must be above 0 and at most 1, where there is no target critic")
        for name in ("policy_delay", "longest_repeat"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("initial_temperature", "action_bound"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be above 0")
        for name in ("temperature_learning_rate", "subset", "pad"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")


class Extra(NamedTuple):
    """The target critic; both empty where there is none."""

    target: Params
    statistics: PyTree


# Losses


def _draw(networks: ActorQ, params: Params, statistics: PyTree, observation: Observation, key: Key) -> tuple[Array, Array]:
    """Actions in [-1, 1] and their log-probabilities, by the actor's running statistics."""
    parameters, _ = networks.actor.apply(params, statistics, observation)
    x = _SQUASHED.sample(parameters, key)
    return jnp.tanh(x), _SQUASHED.log_prob(parameters, x)


def _both(now: PyTree, later: PyTree) -> PyTree:
    """The rows of the two ends of a step below each other."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), now, later)


class _Critics(NamedTuple):
    """What the critics say of one update's steps."""

    output: Array  # [E, B, size] of the action that was taken
    statistics: PyTree
    later: Array  # [E, B, size] of the action after it; no gradient goes through
    later_statistics: PyTree  # of the target critic


def _criticise(config: Config, networks: ActorQ, params: Params, state: TrainState, sample: Sample, action: Array, key: Key) -> _Critics:
    """Both ends of the steps, `action` [B, A] being the one at the end."""
    now, later = (sample.observation, sample.action), (sample.next_observation, action)
    critic, extra, known = networks.critic.apply, state.extra, state.statistics.critic
    online, other = jax.random.split(key)
    size = action.shape[0]
    if config.joint:
        outputs, statistics = critic(params, known, _both(now, later), online, train=True)
        output, after = outputs[:, :size], outputs[:, size:]
        later_statistics = extra.statistics
        if config.tau < 1:
            outputs, later_statistics = critic(extra.target, extra.statistics, _both(now, later), other, train=True)
            after = outputs[:, size:]
    else:
        output, statistics = critic(params, known, now, online, train=True)
        target, its_own = (extra.target, extra.statistics) if config.tau < 1 else (params, statistics)
        after, its_own = critic(target, its_own, later, other, train=True)
        later_statistics = its_own if config.tau < 1 else extra.statistics
    return _Critics(output, statistics, jax.lax.stop_gradient(after), later_statistics)


def _critic_loss(config: Config, networks: ActorQ, params: Params, state: TrainState, sample: Sample, key: Key) -> tuple[Array, tuple]:
    """Of the soft Bellman residual (equation 5); returns the critics' statistics, metrics and the size of each step's error [B] too."""
    act, choose, drop = jax.random.split(key, 3)
    actor = networks.tied(state.params["actor"], state.params["critic"])
    action, log_prob = _draw(networks, actor, state.statistics.actor, sample.next_observation, act)
    critics = _criticise(config, networks, params, state, sample, action, drop)
    reward = sample.reward
    if config.entropy_in_target:
        reward = reward - sample.discount * jnp.exp(state.params["log_temperature"]) * log_prob
    later = critics.later
    if config.subset:
        later = later[jax.random.choice(choose, later.shape[0], (config.subset,), replace=False)]
    target = ensemble.target(networks.returns, later, config.target_value, reward, sample.discount)
    losses = jax.vmap(networks.returns.loss, (0, None))(critics.output, target)
    value = networks.returns.mean(critics.output)
    expected = reward + sample.discount * ensemble.expected(networks.returns, later, config.target_value)
    error = jnp.abs(value - expected[None]).mean(0)
    metrics = {"loss/critic": losses.mean(), "value": value.mean(), "value/spread": value.std(0).mean(), "value/error": error.mean()}
    return (losses * sample.weight[None]).mean(1).sum(), (critics.statistics, critics.later_statistics, metrics, error)


def _actor_loss(config: Config, networks: ActorQ, params: Params, state: TrainState, sample: Sample, key: Key) -> tuple[Array, tuple]:
    """The divergence from the exponential of the value (equation 7); returns the actor's statistics and log-probabilities [B] too."""
    act, drop = jax.random.split(key)
    rows = _both(sample.observation, sample.next_observation) if config.joint else sample.observation
    parameters, statistics = networks.actor.apply(networks.tied(params, state.params["critic"]), state.statistics.actor, rows, train=True)
    parameters = jax.tree.map(lambda x: x[: sample.weight.shape[0]], parameters)
    x = _SQUASHED.sample(parameters, act)
    log_prob = _SQUASHED.log_prob(parameters, x)
    outputs, _ = networks.critic.apply(state.params["critic"], state.statistics.critic, (sample.observation, jnp.tanh(x)), drop)
    value = ensemble.expected(networks.returns, outputs, config.policy_value)
    loss = (jnp.exp(state.params["log_temperature"]) * log_prob - value).mean()
    metrics = {"loss/policy": loss, "entropy": -log_prob.mean(), "std": jnp.exp(parameters["log_std"]).mean()}
    return loss, (statistics, metrics, log_prob)


# Act


def _normalise(config: Config, normaliser: RunningStatistics, observation: Observation) -> Observation:
    return running_statistics.normalise(normaliser, observation) if config.normalise_observations else observation


def _policies(config: Config, spec: EnvSpec, networks: ActorQ) -> tuple[Policy, Policy]:
    """The one that draws its actions, and the one that takes the mode."""
    to_action = action_range(spec.action, config.action_bound).to_action
    noise = repeated(int(spec.action.shape[0]), config.longest_repeat)

    def answer(params: Behaviour, observation: Observation) -> dict[str, Array]:
        return networks.actor.apply(params.actor, params.statistics, _normalise(config, params.normaliser, observation))[0]

    def explore(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        parameters = answer(params, observation)
        drawn, carry = noise.draw(carry, key)
        return to_action(jnp.tanh(parameters["mean"] + jnp.exp(parameters["log_std"]) * drawn))[:, None], carry, {}

    def act(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        return to_action(jnp.tanh(answer(params, observation)["mean"]))[:, None], carry, {}

    shown = policy_spec(spec)
    return Policy(shown, noise.init, explore), Policy(shown, lambda size: (), act)


def sac(config: Config, spec: EnvSpec, networks: ActorQ | PixelActorQ) -> Algorithm:
    """SAC for an environment of `spec`, from `Replayed` steps `[updates, batch]` whose updates are a multiple of `policy_delay`.

    Its feedback is `{"priority": [updates, batch]}`, how far the critics are from their target. `pretrained` of `init` is a parameter tree
    that may lack any part.

    Raises:
        ValueError: the actions are not continuous vectors, the actor sees what is privileged or is deterministic, `subset` is more than
            the critics there are, or there is no image to shift; at `init`, `pretrained` does not fit; at the first update, the updates do
            not divide.
    """
    if isinstance(networks, PixelActorQ):
        networks = joined(networks)
    elif config.pad:
        raise ValueError(f"pad is {config.pad}, but sac's networks see no images; take jaxrl.networks.pixel_actor_q, or set it to 0")
    critics = number_of_critics(networks, spec, "sac", stochastic=True)
    if config.subset > critics:
        raise ValueError(f"subset is {config.subset}, but there are {critics} critics; lower it or enlarge the networks' ensemble")
    to_unit = action_range(spec.action, config.action_bound).to_unit
    descents = {
        "actor": Descent(optimizers.optimizer(config.actor_optimizer), networks.actor.project),
        "critic": Descent(optimizers.optimizer(config.critic_optimizer), networks.critic.project),
        "log_temperature": Descent(optax.adam(config.temperature_learning_rate)),
    }
    target_entropy = config.target_entropy * int(spec.action.shape[0])
    explore, policy = _policies(config, spec, networks)

    def init(key: Key, pretrained: Params | None = None) -> TrainState:
        actor_key, critic_key = jax.random.split(key)
        (actor, actor_statistics), (critic, critic_statistics) = networks.actor.init(actor_key), networks.critic.init(critic_key)
        temperature = jnp.asarray(jnp.log(config.initial_temperature), jnp.float32)
        params = overlay({"actor": actor, "critic": critic, "log_temperature": temperature}, pretrained or {})
        copies = jax.tree.map(jnp.copy, (params["critic"], critic_statistics)) if config.tau < 1 else ({}, {})  # buffers may be donated
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen={},
            statistics=Statistics(running_statistics.init(spec.observation), actor_statistics, critic_statistics),
            opt_state={name: tx.init(params[name]) for name, (tx, _) in descents.items()},
            extra=Extra(*copies),
        )

    def critic_step(state: TrainState, now: tuple[Sample, Key]) -> tuple[TrainState, tuple[Metrics, Array]]:
        differentiate = jax.grad(_critic_loss, argnums=2, has_aux=True)
        gradient, (known, target_statistics, metrics, error) = differentiate(config, networks, state.params["critic"], state, *now)
        state = optimizers.descend(descents, state, "critic", gradient)
        extra = state.extra
        if config.tau < 1:
            extra = Extra(optax.incremental_update(state.params["critic"], extra.target, config.tau), target_statistics)
        state = state._replace(statistics=state.statistics._replace(critic=known), extra=extra)
        return state, (metrics | {"gradient_norm/critic": optax.tree.norm(gradient)}, error)

    def actor_step(state: TrainState, sample: Sample, key: Key) -> tuple[TrainState, Metrics]:
        differentiate = jax.grad(_actor_loss, argnums=2, has_aux=True)
        gradient, (known, metrics, log_prob) = differentiate(config, networks, state.params["actor"], state, sample, key)
        state = optimizers.descend(descents, state, "actor", gradient)
        state = state._replace(statistics=state.statistics._replace(actor=known))
        temperature = jnp.exp(state.params["log_temperature"])
        # Of log_temperature * (entropy - target), as most implementations have it in place of equation 18: as steep at any temperature.
        state = optimizers.descend(descents, state, "log_temperature", -log_prob.mean() - target_entropy)
        return state, metrics | {"temperature": temperature, "gradient_norm/actor": optax.tree.norm(gradient)}

    def update(state: TrainState, batch: Replayed, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        normaliser = running_statistics.update(state.statistics.normaliser, batch.observation)
        state = state._replace(statistics=state.statistics._replace(normaliser=normaliser))
        parts = samples(batch, config.gamma, lambda x: _normalise(config, normaliser, x), to_unit)
        if config.pad:
            move, key = jax.random.split(key)
            parts = jax.vmap(shift_sample, (0, 0, None))(parts, jax.random.split(move, batch.steps.shape[0]), config.pad)
        state, metrics, errors = actor_critic_updates(critic_step, actor_step, config.policy_delay, state, parts, key)
        metrics |= {"reward": batch.reward[..., 0].mean()}
        return state._replace(step=state.step + 1), metrics, {"priority": errors}

    def acting(state: TrainState) -> Behaviour:
        return behaviour(networks, policy.spec, state)

    return Algorithm(init, update, explore, policy, acting, acting, replayed_spec(spec, {}))
