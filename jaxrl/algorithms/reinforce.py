"""REINFORCE with a learned baseline (Williams 1992, https://doi.org/10.1007/BF00992696, equation 4 with the value as the baseline).

One step along the gradient of log pi(a | s) (G - V(s)) for each batch: as simple as learning by acting gets, and what else is measured
by. G is the discounted sum of rewards to the end of the episode. Where a batch ends or an episode is cut before that, the value of the true
next observation stands for the rest.

Networks with a memory are run along the unroll, from the carry that its first action was chosen with, as in `ppo`.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import optax

from jaxrl import optimizers
from jaxrl.networks import actor_critic
from jaxrl.networks.actor_critic import ActorCritic, Behaviour, RecurrentActorCritic, Unroll, along, policies, with_memory
from jaxrl.ops import running_statistics
from jaxrl.ops.paths import overlay
from jaxrl.ops.returns import generalized_advantage
from jaxrl.ops.specs import transition_spec
from jaxrl.types import Algorithm, Array, EnvSpec, Key, Metrics, Params, PyTree, TrainState, Transition


@dataclass(frozen=True)
class Config:
    """`baseline_weight` is that of half the squared error of the value."""

    optimizer: optimizers.Config = field(default_factory=lambda: optimizers.Config(learning_rate=1e-3, max_gradient_norm=1.0))
    gamma: float = 0.99
    baseline_weight: float = 1.0
    entropy_weight: float = 0.0
    normalise_observations: bool = True
    normalise_advantages: bool = True
    reward_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}, but must lie between 0 and 1")
        for name in ("baseline_weight", "entropy_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")


def _loss(
    config: Config, networks: RecurrentActorCritic, params: Params, batch: Transition, unroll: Unroll, key: Key
) -> tuple[Array, Metrics]:
    """Whose gradient is that of the expected return, turned round, and that of the baseline's error."""
    value, next_value = actor_critic.values(networks, params["critic"], batch, unroll)
    reward = batch.reward * config.reward_scale
    known, later = jax.lax.stop_gradient((value, next_value))
    advantage, returns = generalized_advantage(reward, batch.discount, batch.truncation, known, later, config.gamma, 1.0)
    error = 0.5 * jnp.square(value - returns).mean()
    explained = 1.0 - advantage.var() / (returns.var() + 1e-8)
    if config.normalise_advantages:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    distribution = networks.distribution
    parameters, _ = along(networks.actor, params["actor"], batch.observation, unroll.carry.get("actor", ()), unroll.begins)
    policy = -(distribution.log_prob(parameters, batch.extras["x"]) * advantage).mean()
    entropy = distribution.entropy(parameters, key).mean()
    metrics = {"loss/policy": policy, "loss/value": error, "entropy": entropy, "value/explained_variance": explained}
    return policy - config.entropy_weight * entropy + config.baseline_weight * error, metrics


def reinforce(config: Config, spec: EnvSpec, networks: ActorCritic) -> Algorithm:
    """REINFORCE for an environment of `spec`, from batches `[T, B]`; actions are continuous or discrete, as the networks are.

    `pretrained` of `init` is a parameter tree that may lack any part.

    Raises:
        ValueError: the networks are not for such actions; at `init`, `pretrained` does not fit.
    """
    optimizer = optimizers.optimizer(config.optimizer)
    memory = with_memory(networks)
    explore, policy = policies(spec, memory, config.normalise_observations, "reinforce")

    def init(key: Key, pretrained: Params | None = None) -> TrainState:
        actor, critic = jax.random.split(key)
        params = overlay({"actor": networks.actor.init(actor), "critic": networks.critic.init(critic)}, pretrained or {})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen={},
            statistics=running_statistics.init(spec.observation),
            opt_state=optimizer.init(params),
            extra=(),
        )

    def update(state: TrainState, batch: Transition, key: Key) -> tuple[TrainState, Metrics, PyTree]:
        shown = batch
        if config.normalise_observations:
            now, later = (running_statistics.normalise(state.statistics, x) for x in (batch.observation, batch.next_observation))
            shown = batch._replace(observation=now, next_observation=later)
        unroll = actor_critic.unroll_of(memory, batch)
        gradient, metrics = jax.grad(_loss, argnums=2, has_aux=True)(config, memory, state.params, shown, unroll, key)
        steps, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        new = state._replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, steps),
            statistics=running_statistics.update(state.statistics, batch.observation),
            opt_state=opt_state,
        )
        return new, metrics | {"gradient_norm": optax.tree.norm(gradient), "reward": batch.reward.mean()}, ()

    def behaviour(state: TrainState) -> Behaviour:
        return actor_critic.behaviour(memory, state.params, state.statistics)

    def deployable(state: TrainState) -> Behaviour:
        return actor_critic.deployable(policy.spec, state.params, state.statistics)

    return Algorithm(init, update, explore, policy, behaviour, deployable, transition_spec(spec, explore.spec.extras))
