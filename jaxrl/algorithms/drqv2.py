"""DrQ-v2: control from pixels (Yarats et al. 2021, https://arxiv.org/abs/2107.09645, algorithm 1).

Deterministic policy gradients on images that are shifted at random, an encoder that learns with the critics alone, n-step returns (the
replay's), and exploration noise that fades by a schedule.

A batch is `[updates, batch]`: one step of critics and encoder, and one of the actor, for each of the updates.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import optimizers
from jaxrl.distributions import ensemble
from jaxrl.networks.pixel_actor_q import PixelActorQ
from jaxrl.ops import running_statistics
from jaxrl.ops.action_range import action_range
from jaxrl.ops.augmentation import shift_images
from jaxrl.ops.paths import overlay
from jaxrl.ops.replayed import Sample, samples
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.schedules import linear
from jaxrl.ops.specs import policy_spec, replayed_spec
from jaxrl.types import Algorithm, Array, EnvSpec, Key, Metrics, Observation, Params, Policy, PyTree, Replayed, TrainState


@dataclass(frozen=True)
class Config:
    """`pad` is the largest shift of an image, in pixels.

    The standard deviation of the noise goes evenly from the first of `noise_std` to the second over the first `noise_updates` batches; in
    the losses it is cut at `noise_clip`. Noise is in units of the action range, which is [-1, 1].

    Flat observations are normalised, images are not.
    """

    optimizer: optimizers.Config = field(default_factory=lambda: optimizers.Config(learning_rate=1e-4))
    gamma: float = 0.99
    tau: float = 0.01
    pad: int = 4
    noise_std: tuple[float, float] = (1.0, 0.1)
    noise_updates: int = 100_000
    noise_clip: float = 0.3
    value: ensemble.How = "minimum"
    normalise_observations: bool = True
    action_bound: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}, but must lie between 0 and 1")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau is {self.tau}, but must be above 0 and at most 1")
        for name in ("pad", "noise_clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")
        if self.noise_updates < 1:
            raise ValueError(f"noise_updates is {self.noise_updates}, but must be at least 1")
        if min(self.noise_std) < 0 or self.action_bound <= 0:
            raise ValueError(f"noise_std and action_bound must be positive, but are {self.noise_std} and {self.action_bound}")


class Extra(NamedTuple):
    target: Params  # of the critics; the encoder has none


class Behaviour(NamedTuple):
    """What acting needs."""

    encoder: Params
    actor: Params
    normaliser: RunningStatistics
    std: Array  # [] of the noise


def _both(networks: PixelActorQ, params: Params, observation: Observation) -> Observation:
    """What actor and critics are shown of an observation."""
    return networks.encoder.apply(params, {}, observation)[0]


def _noisy(config: Config, mean: Array, std: Array, key: Key) -> Array:
    """Actions in [-1, 1] about tanh of the mean (section 3.1, with the clip of equation 3)."""
    noise = jnp.clip(std * jax.random.normal(key, mean.shape), -config.noise_clip, config.noise_clip)
    return jnp.clip(jnp.tanh(mean) + noise, -1.0, 1.0)


# Losses


def _critic_loss(
    config: Config, networks: PixelActorQ, params: Params, state: TrainState, sample: Sample, std: Array, key: Key
) -> tuple[Array, tuple]:
    """Of critics and encoder (equation 2); returns what the encoder makes of the observations, metrics and the size of errors [B] too."""
    now = _both(networks, params["encoder"], sample.observation)
    later = jax.lax.stop_gradient(_both(networks, params["encoder"], sample.next_observation))
    mean = networks.actor.apply(state.params["actor"], {}, later)[0]["mean"]
    action = _noisy(config, mean, std, key)
    outputs, _ = networks.critic.apply(state.extra.target, {}, (later, action))
    target = ensemble.target(networks.returns, outputs, config.value, sample.reward, sample.discount)
    output, _ = networks.critic.apply(params["critic"], {}, (now, sample.action))
    losses = jax.vmap(networks.returns.loss, (0, None))(output, target)
    value = networks.returns.mean(output)
    expected = sample.reward + sample.discount * ensemble.expected(networks.returns, outputs, config.value)
    error = jnp.abs(value - expected[None]).mean(0)
    metrics = {"loss/critic": losses.mean(), "value": value.mean(), "value/error": error.mean()}
    return (losses * sample.weight[None]).mean(1).sum(), (jax.lax.stop_gradient(now), metrics, error)


def _actor_loss(
    config: Config, networks: PixelActorQ, params: Params, critic: Params, seen: Observation, std: Array, key: Key
) -> tuple[Array, Metrics]:
    """What the critics expect of the actor's own actions, negative (equation 4); no gradient goes into the encoder."""
    action = _noisy(config, networks.actor.apply(params, {}, seen)[0]["mean"], std, key)
    outputs, _ = networks.critic.apply(critic, {}, (seen, action))
    loss = -ensemble.expected(networks.returns, outputs, config.value).mean()
    return loss, {"loss/policy": loss}


# Act


def _normalise(config: Config, normaliser: RunningStatistics, observation: Observation) -> Observation:
    return running_statistics.normalise(normaliser, observation) if config.normalise_observations else observation


def _policies(config: Config, spec: EnvSpec, networks: PixelActorQ) -> tuple[Policy, Policy]:
    """The one that adds noise to its actions, and the one that does not."""
    to_action = action_range(spec.action, config.action_bound).to_action

    def answer(params: Behaviour, observation: Observation) -> Array:
        seen = _both(networks, params.encoder, _normalise(config, params.normaliser, observation))
        return jnp.tanh(networks.actor.apply(params.actor, {}, seen)[0]["mean"])

    def explore(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        action = answer(params, observation)
        noise = jax.vmap(lambda k: jax.random.normal(k, action.shape[1:]))(key)
        return to_action(jnp.clip(action + params.std * noise, -1.0, 1.0))[:, None], carry, {}

    def act(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        return to_action(answer(params, observation))[:, None], carry, {}

    shown = policy_spec(spec)
    return Policy(shown, lambda size: (), explore), Policy(shown, lambda size: (), act)


def drqv2(config: Config, spec: EnvSpec, networks: PixelActorQ) -> Algorithm:
    """DrQ-v2 for an environment of `spec`, from `Replayed` steps `[updates, batch]`.

    Its feedback is `{"priority": [updates, batch]}`, how far the critics are from their target. `pretrained` of `init` is a parameter tree
    that may lack any part.

    Raises:
        ValueError: the actions are not continuous vectors, or the networks keep batch statistics; at `init`, `pretrained` does not fit.
    """
    to_unit = action_range(spec.action, config.action_bound).to_unit
    tx = optimizers.optimizer(config.optimizer)
    explore, policy = _policies(config, spec, networks)

    def init(key: Key, pretrained: Params | None = None) -> TrainState:
        keys = jax.random.split(key, 3)
        made = {name: getattr(networks, name).init(k) for name, k in zip(("encoder", "actor", "critic"), keys, strict=True)}
        if any(jax.tree.leaves(statistics) for _, statistics in made.values()):
            raise ValueError("drqv2 takes networks without batch statistics; choose another torso")
        params = overlay({name: part for name, (part, _) in made.items()}, pretrained or {})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen={},
            statistics=running_statistics.init(spec.observation),
            opt_state={"seeing": tx.init({n: params[n] for n in ("encoder", "critic")}), "actor": tx.init(params["actor"])},
            extra=Extra(jax.tree.map(jnp.copy, params["critic"])),  # a copy: both buffers may be donated
        )

    def std_of(state: TrainState) -> Array:
        return linear(state.step, *config.noise_std, config.noise_updates)

    def one(state: TrainState, now: tuple[Sample, Key]) -> tuple[TrainState, tuple[Metrics, Array]]:
        sample, key = now
        first, second, blur, act = jax.random.split(key, 4)
        sample = sample._replace(
            observation=shift_images(sample.observation, first, config.pad),
            next_observation=shift_images(sample.next_observation, second, config.pad),
        )
        std, params = std_of(state), state.params
        seeing = {name: params[name] for name in ("encoder", "critic")}
        differentiate: Any = jax.grad(_critic_loss, argnums=2, has_aux=True)
        gradient, (seen, metrics, error) = differentiate(config, networks, seeing, state, sample, std, blur)
        steps, seeing_state = tx.update(gradient, state.opt_state["seeing"], seeing)
        params = params | optax.apply_updates(seeing, steps)
        params = params | {"critic": networks.critic.project(params["critic"])}
        differentiate = jax.grad(_actor_loss, argnums=2, has_aux=True)
        of_actor, actor_metrics = differentiate(config, networks, params["actor"], params["critic"], seen, std, act)
        steps, actor_state = tx.update(of_actor, state.opt_state["actor"], params["actor"])
        params = params | {"actor": networks.actor.project(optax.apply_updates(params["actor"], steps))}
        extra = Extra(optax.incremental_update(params["critic"], state.extra.target, config.tau))
        metrics |= actor_metrics | {"gradient_norm/critic": optax.tree.norm(gradient), "gradient_norm/actor": optax.tree.norm(of_actor)}
        new = state._replace(params=params, opt_state={"seeing": seeing_state, "actor": actor_state}, extra=extra)
        return new, (metrics, error)

    def update(state: TrainState, batch: Replayed, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        normaliser = running_statistics.update(state.statistics, batch.observation)
        state = state._replace(statistics=normaliser)
        parts = samples(batch, config.gamma, lambda x: _normalise(config, normaliser, x), to_unit)
        state, (metrics, errors) = jax.lax.scan(one, state, (parts, jax.random.split(key, batch.steps.shape[0])))
        metrics = jax.tree.map(jnp.mean, metrics) | {"noise_std": std_of(state), "reward": batch.reward[..., 0].mean()}
        return state._replace(step=state.step + 1), metrics, {"priority": errors}

    def deployable(state: TrainState) -> Behaviour:
        shown = running_statistics.seen(state.statistics, policy.spec.observation)
        return Behaviour(state.params["encoder"], state.params["actor"], shown, jnp.zeros(()))

    def behaviour(state: TrainState) -> Behaviour:
        return deployable(state)._replace(std=std_of(state))

    return Algorithm(init, update, explore, policy, behaviour, deployable, replayed_spec(spec, {}))
