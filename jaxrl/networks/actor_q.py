"""Actor and action-value critics over flat observations, as off-policy methods take them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.distributions.categorical_return import categorical_return
from jaxrl.distributions.quantile_return import quantile_return
from jaxrl.distributions.return_distribution import ReturnDistribution
from jaxrl.distributions.scalar_return import scalar_return
from jaxrl.networks._groups import concatenate, groups, width
from jaxrl.networks._stateful import headed, several
from jaxrl.networks._torsos import Torso
from jaxrl.ops import running_statistics
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.specs import check_continuous, policy_spec
from jaxrl.types import Array, EnvSpec, Key, Observation, Params, PolicySpec, PyTree, Spec, StatefulNetwork, TrainState


def _untied(actor: Params, critic: Params) -> Params:
    del critic
    return actor


class ActorQ(NamedTuple):
    """`actor` maps an observation to `{"mean", "log_std"}`, both [..., A], before the squashing to [-1, 1]; some to the mean alone.

    `critic` maps (observation, action [..., A] in [-1, 1]) to the outputs of an ensemble, [E, ..., size], which `returns` reads.
    """

    actor: StatefulNetwork
    critic: StatefulNetwork
    returns: ReturnDistribution
    tied: Callable[[Params, Params], Params] = _untied
    # (actor's parameters, critics') -> the actor's with what it uses of the critics' but does not train


@dataclass(frozen=True)
class Returns:
    """What critics tell of a return: its mean, `bins` probabilities between `low` and `high`, or `bins` quantiles."""

    kind: Literal["scalar", "categorical", "quantile"] = "scalar"
    bins: int = 101
    low: float = -5.0
    high: float = 5.0

    def __post_init__(self) -> None:
        return_distribution(self)


def return_distribution(config: Returns) -> ReturnDistribution:
    """The one that the config names."""
    if config.kind == "categorical":
        return categorical_return(config.bins, config.low, config.high)
    return scalar_return() if config.kind == "scalar" else quantile_return(config.bins)


@dataclass(frozen=True)
class Config:
    """`ensemble` critics; scales are those of the last kernels.

    The logarithm of the standard deviation is squashed into `log_std_bounds`. A deterministic actor has none.
    """

    actor: Torso = field(default_factory=Torso)
    critic: Torso = field(default_factory=Torso)
    ensemble: int = 2
    returns: Returns = field(default_factory=Returns)
    deterministic: bool = False
    log_std_bounds: tuple[float, float] = (-5.0, 2.0)
    actor_scale: float = 0.01
    critic_scale: float = 1.0
    privileged_critic: bool = True

    def __post_init__(self) -> None:
        if self.ensemble < 1:
            raise ValueError(f"ensemble is {self.ensemble}, but must be at least 1")
        if self.log_std_bounds[0] >= self.log_std_bounds[1]:
            raise ValueError(f"log_std_bounds are {self.log_std_bounds}, but must ascend")
        for name in ("actor_scale", "critic_scale"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")


def actor_q(config: Config, spec: EnvSpec | PolicySpec) -> ActorQ:
    """The actor sees every `state/<group>`; the critics also every `privileged/<group>`, unless told not to.

    Raises:
        ValueError: there is no state group, or a group or the action is not a vector.
    """
    observation, action = spec.observation, spec.action
    check_continuous(action, "actor_q", "this environment")
    size = int(action.shape[0])
    public = groups(observation, "actor_q")
    whole = groups(observation, "actor_q", ("state", "privileged")) if config.privileged_critic else public
    returns = return_distribution(config.returns)
    torso = headed(config.actor, width(observation, public), size if config.deterministic else 2 * size, config.actor_scale)
    critics = several(headed(config.critic, width(observation, whole) + size, returns.size, config.critic_scale), config.ensemble)
    low, high = config.log_std_bounds

    def act(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[dict, PyTree]:
        output, statistics = torso.apply(params, statistics, concatenate(x, public), key, train)
        if config.deterministic:
            return {"mean": output}, statistics
        mean, raw = jnp.split(output, 2, -1)
        return {"mean": mean, "log_std": low + (high - low) * 0.5 * (jnp.tanh(raw) + 1.0)}, statistics

    def criticise(params: Params, statistics: PyTree, x: Any, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        seen, taken = x
        return critics.apply(params, statistics, jnp.concatenate([concatenate(seen, whole), taken], -1), key, train)

    return ActorQ(torso._replace(apply=act), critics._replace(apply=criticise), returns)


def state_value(config: Config, spec: EnvSpec | PolicySpec) -> StatefulNetwork:
    """Maps an observation to the value [..., 1] of being there, with a torso as the critics have, which sees the same.

    Raises:
        ValueError: there is no state group, or a group is not a vector.
    """
    shown = ("state", "privileged") if config.privileged_critic else ("state",)
    names = groups(spec.observation, "actor_q", shown)
    network = headed(config.critic, width(spec.observation, names), 1, config.critic_scale)

    def apply(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        return network.apply(params, statistics, concatenate(x, names), key, train)

    return network._replace(apply=apply)


class Statistics(NamedTuple):
    """Of the observations, and of the networks themselves: what a `TrainState` keeps for an `ActorQ`."""

    normaliser: RunningStatistics
    actor: PyTree
    critic: PyTree


class Behaviour(NamedTuple):
    """What acting needs."""

    actor: Params
    statistics: PyTree  # of the actor
    normaliser: RunningStatistics


def behaviour(networks: ActorQ, policy: PolicySpec, state: TrainState) -> Behaviour:
    """Without what the policy does not see."""
    actor = networks.tied(state.params["actor"], state.params["critic"])
    return Behaviour(actor, state.statistics.actor, running_statistics.seen(state.statistics.normaliser, policy.observation))


def number_of_critics(networks: ActorQ, spec: EnvSpec, who: str, stochastic: bool = False) -> int:
    """E, having looked whether such networks fit an environment of `spec`; `who` is the algorithm that asks.

    Raises:
        ValueError: the actions are not continuous, the actor reads what a deployed policy does not see, or is deterministic where it
            should not be.
    """
    check_continuous(spec.action, who, spec.name)

    def zeros(table: Spec) -> dict[str, Array]:
        return {name: jnp.zeros((1, *part.shape), part.dtype) for name, part in table.items()}

    def call(key: Key) -> tuple[Array, dict[str, Array]]:
        shown = zeros(policy_spec(spec).observation)
        (actor, its_own), (critic, theirs) = networks.actor.init(key), networks.critic.init(key)
        told, _ = networks.actor.apply(networks.tied(actor, critic), its_own, shown)
        action = zeros({"action": spec.action})["action"]
        return networks.critic.apply(critic, theirs, (zeros(spec.observation), action))[0], told

    try:
        outputs, told = jax.eval_shape(call, jax.random.key(0))
    except KeyError as error:
        raise ValueError(f"{who}: the actor reads {error}, which a deployed policy does not see; leave it to the critic") from error
    if stochastic and "log_std" not in told:
        raise ValueError(f"{who}: the actor tells no log_std, for its networks are made with deterministic=True; set that to False")
    return int(outputs.shape[0])
