"""DrQ-v2: control from pixels (Yarats et al. 2021, https://arxiv.org/abs/2107.09645, algorithm 1).

Deterministic policy gradients on images that are shifted at random, an encoder that learns with the critics alone, n-step returns (the
replay's), and exploration noise that fades by a schedule.

A batch is `[updates, batch]`: one step of critics and encoder, and one of the actor, for each of the updates.

DrM (Xu et al. 2024, https://arxiv.org/abs/2310.19668) is the same with `dormancy`.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import optimizers
from jaxrl.distributions import ensemble
from jaxrl.losses.regression import expectile_error
from jaxrl.networks._dormancy import dormant_share
from jaxrl.networks.pixel_actor_q import PixelActorQ
from jaxrl.ops import running_statistics
from jaxrl.ops.action_range import action_range
from jaxrl.ops.augmentation import shift_sample
from jaxrl.ops.paths import map_with_path, overlay
from jaxrl.ops.replayed import Sample, samples
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.schedules import linear
from jaxrl.ops.specs import policy_spec, replayed_spec
from jaxrl.optimizers import Descent
from jaxrl.types import Algorithm, Array, EnvSpec, Key, Metrics, Observation, Params, Policy, PyTree, Replayed, TrainState


@dataclass(frozen=True)
class Dormancy:
    """What DrM makes of the share of the actor's neurons that are dormant: whose mean output is at most `threshold` of their layer's.

    Below `awake` the agent counts as awake, the first time of which begins the noise's schedule. Until then noise is the sigmoid of how far
    the share is above, over `exploration_softness`, and never less later. Targets lean on a value that is the `expectile` of
    what has been done, by up to `exploitation` once it is awake. Every `perturb_every` batches all dense layers but the
    encoder's keep 1 - `perturb_rate` times the share of themselves, within the bounds of `keep`; the rest is drawn anew, and optimizers
    begin anew.
    """

    threshold: float = 0.025
    awake: float = 0.2
    exploration_softness: float = 0.1
    exploitation: float = 0.6
    exploitation_softness: float = 0.02
    expectile: float = 0.9
    perturb_every: int = 50_000
    perturb_rate: float = 2.0
    keep: tuple[float, float] = (0.2, 0.9)

    def __post_init__(self) -> None:
        for name in ("exploration_softness", "exploitation_softness", "perturb_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"dormancy.{name} is {getattr(self, name)}, but must be above 0")
        if self.perturb_rate < 0:
            raise ValueError(f"dormancy.perturb_rate is {self.perturb_rate}, but must not be negative")
        for name in ("threshold", "awake", "exploitation", "expectile"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"dormancy.{name} is {getattr(self, name)}, but must lie between 0 and 1")
        if not 0 <= self.keep[0] <= self.keep[1] <= 1:
            raise ValueError(f"dormancy.keep is {self.keep}, but must ascend between 0 and 1")


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
    dormancy: Dormancy | None = None

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
        if not all(std >= 0 for std in self.noise_std) or not self.action_bound > 0:
            raise ValueError(f"noise_std and action_bound must be positive, but are {self.noise_std} and {self.action_bound}")


class Sleep(NamedTuple):
    """What there is to know with `dormancy`."""

    share: Array  # [] of the actor's neurons that are dormant
    awoke: Array  # [] int32, the step of that; -1 before


class Extra(NamedTuple):
    target: Params  # of the critics; the encoder has none
    sleep: Sleep | tuple[()]


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


# Dormancy


def _std(config: Config, state: TrainState) -> Array:
    """[] of the noise."""
    if config.dormancy is None:
        return linear(state.step, *config.noise_std, config.noise_updates)
    sleep, softness = state.extra.sleep, config.dormancy.exploration_softness
    by_share = jax.nn.sigmoid((sleep.share - config.dormancy.awake) / softness)
    faded = linear(state.step - sleep.awoke, *config.noise_std, config.noise_updates)
    return jnp.where(sleep.awoke < 0, by_share, jnp.maximum(by_share, faded))


def _slept(dormancy: Dormancy, networks: PixelActorQ, state: TrainState, seen: Observation) -> Sleep:
    """After a batch whose last observations the encoder turned into `seen`."""
    share = dormant_share(lambda: networks.actor.apply(state.params["actor"], {}, seen), dormancy.threshold)
    before = state.extra.sleep.awoke
    return Sleep(share, jnp.where((before < 0) & (share < dormancy.awake), state.step, before))


def _mixed(keep: Array, old: PyTree, fresh: PyTree) -> PyTree:
    """The kernels and biases of dense layers, between `old` and `fresh`; of other layers the old ones."""

    def mix(path: str, a: Array, b: Array) -> Array:
        return a if "norm" in path else keep * a + (1.0 - keep) * b

    return map_with_path(mix, old, fresh)


def _expectile_loss(
    config: Config, dormancy: Dormancy, networks: PixelActorQ, params: Params, state: TrainState, seen: Observation, action: Array
) -> Array:
    """Of the value, against what the critics expect of the actions that were taken (DrM)."""
    outputs, _ = networks.critic.apply(state.params["critic"], {}, (seen, action))
    expected = ensemble.expected(networks.returns, outputs, config.value)
    return expectile_error(networks.value.apply(params, {}, seen)[0][..., 0], expected, dormancy.expectile).mean()


def _leaning(dormancy: Dormancy, networks: PixelActorQ, state: TrainState, seen: Observation, expected: Array) -> Array:
    """[B], what to add to the critics' `expected` [B] for targets that lean on the value (DrM)."""
    by_share = jax.nn.sigmoid((dormancy.awake - state.extra.sleep.share) / dormancy.exploitation_softness)
    return dormancy.exploitation * by_share * (networks.value.apply(state.params["value"], {}, seen)[0][..., 0] - expected)


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
    ahead = ensemble.expected(networks.returns, outputs, config.value)
    reward = sample.reward
    if config.dormancy:
        reward = reward + sample.discount * _leaning(config.dormancy, networks, state, later, ahead)
    target = ensemble.target(networks.returns, outputs, config.value, reward, sample.discount)
    output, _ = networks.critic.apply(params["critic"], {}, (now, sample.action))
    losses = jax.vmap(networks.returns.loss, (0, None))(output, target)
    value = networks.returns.mean(output)
    error = jnp.abs(value - (reward + sample.discount * ahead)[None]).mean(0)
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
    tx, dormancy = optimizers.optimizer(config.optimizer), config.dormancy
    explore, policy = _policies(config, spec, networks)
    heads = ("actor", "critic", "value") if dormancy else ("actor", "critic")  # but for the encoder
    descents = {name: Descent(tx, getattr(networks, name).project) for name in ("encoder", *heads)}

    def init(key: Key, pretrained: Params | None = None) -> TrainState:
        made = {name: getattr(networks, name).init(k) for name, k in zip(descents, jax.random.split(key, len(descents)), strict=True)}
        if any(jax.tree.leaves(statistics) for _, statistics in made.values()):
            raise ValueError("drqv2 takes networks without batch statistics; choose another torso")
        params = overlay({name: part for name, (part, _) in made.items()}, pretrained or {})
        target = jax.tree.map(jnp.copy, params["critic"])  # a copy: both buffers may be donated
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen={},
            statistics=running_statistics.init(spec.observation),
            opt_state={name: tx.init(part) for name, part in params.items()},
            extra=Extra(target, Sleep(jnp.ones(()), jnp.int32(-1)) if dormancy else ()),
        )

    def one(state: TrainState, now: tuple[Sample, Key]) -> tuple[TrainState, tuple[Metrics, Array, Observation]]:
        sample, key = now
        move, blur, act = jax.random.split(key, 3)
        sample = shift_sample(sample, move, config.pad)
        std = _std(config, state)
        seeing = {name: state.params[name] for name in ("encoder", "critic")}
        differentiate: Any = jax.grad(_critic_loss, argnums=2, has_aux=True)
        gradient, (seen, metrics, error) = differentiate(config, networks, seeing, state, sample, std, blur)
        for name, part in gradient.items():
            state = optimizers.descend(descents, state, name, part)
        differentiate = jax.grad(_actor_loss, argnums=2, has_aux=True)
        of_actor, actor_metrics = differentiate(config, networks, state.params["actor"], state.params["critic"], seen, std, act)
        state = optimizers.descend(descents, state, "actor", of_actor)
        metrics |= actor_metrics | {"gradient_norm/critic": optax.tree.norm(gradient), "gradient_norm/actor": optax.tree.norm(of_actor)}
        if dormancy:
            differentiate = jax.value_and_grad(_expectile_loss, argnums=3)
            loss, of_value = differentiate(config, dormancy, networks, state.params["value"], state, seen, sample.action)
            state = optimizers.descend(descents, state, "value", of_value)
            metrics |= {"loss/value": loss}
        target = optax.incremental_update(state.params["critic"], state.extra.target, config.tau)
        return state._replace(extra=state.extra._replace(target=target)), (metrics, error, seen)

    def perturbed(dormancy: Dormancy, state: TrainState, key: Key) -> TrainState:
        keep = jnp.clip(1.0 - dormancy.perturb_rate * state.extra.sleep.share, *dormancy.keep)
        fresh = {name: getattr(networks, name).init(k)[0] for name, k in zip(heads, jax.random.split(key, len(heads)), strict=True)}

        def mixed(name: str, old: Params) -> Params:
            return descents[name].project(_mixed(keep, old, fresh[name]))

        params = state.params | {name: mixed(name, state.params[name]) for name in heads}
        opt_state = state.opt_state | {name: tx.init(params[name]) for name in heads}
        extra = state.extra._replace(target=mixed("critic", state.extra.target))
        return state._replace(params=params, opt_state=opt_state, extra=extra)

    def update(state: TrainState, batch: Replayed, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        normaliser = running_statistics.update(state.statistics, batch.observation)
        state = state._replace(statistics=normaliser)
        parts = samples(batch, config.gamma, lambda x: _normalise(config, normaliser, x), to_unit)
        state, (metrics, errors, seen) = jax.lax.scan(one, state, (parts, jax.random.split(key, batch.steps.shape[0])))
        metrics = jax.tree.map(jnp.mean, metrics) | {"noise_std": _std(config, state), "reward": batch.reward[..., 0].mean()}
        state = state._replace(step=state.step + 1)
        if dormancy:
            sleep = _slept(dormancy, networks, state, jax.tree.map(lambda x: x[-1], seen))
            state = state._replace(extra=state.extra._replace(sleep=sleep))
            again, draw = state.step % dormancy.perturb_every == 0, jax.random.fold_in(key, 1)
            state = jax.lax.cond(again, lambda: perturbed(dormancy, state, draw), lambda: state)
            metrics |= {"dormant": sleep.share}
        return state, metrics, {"priority": errors}

    def deployable(state: TrainState) -> Behaviour:
        shown = running_statistics.seen(state.statistics, policy.spec.observation)
        return Behaviour(state.params["encoder"], state.params["actor"], shown, jnp.zeros(()))

    def behaviour(state: TrainState) -> Behaviour:
        return deployable(state)._replace(std=_std(config, state))

    return Algorithm(init, update, explore, policy, behaviour, deployable, replayed_spec(spec, {}))
