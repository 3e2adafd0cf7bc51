"""Actor and critic over flat observations, as on-policy methods take them."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.distributions.distribution import Distribution
from jaxrl.distributions.normal import normal
from jaxrl.distributions.tanh_normal import tanh_normal
from jaxrl.networks._groups import concatenate, groups, width
from jaxrl.networks.mlp import mlp
from jaxrl.types import Array, EnvSpec, Key, Network, Observation, Params, PolicySpec

DISTRIBUTIONS = {"normal": normal, "tanh_normal": tanh_normal}


class ActorCritic(NamedTuple):
    """`actor` maps an observation to the parameters of `distribution`, `{"mean", "log_std"}`, both [..., A]; `critic` to a value [...]."""

    actor: Network
    critic: Network
    distribution: Distribution


@dataclass(frozen=True)
class Config:
    """`standard_deviation`: one free number per action dimension ("parameter") or an output of the network ("output")."""

    actor_hidden: tuple[int, ...] = (128, 128)
    critic_hidden: tuple[int, ...] = (128, 128)
    activation: str = "tanh"
    distribution: Literal["normal", "tanh_normal"] = "normal"
    standard_deviation: Literal["parameter", "output"] = "parameter"
    initial_std: float = 1.0
    minimum_std: float = 1e-3
    privileged_critic: bool = True

    def __post_init__(self) -> None:
        if self.initial_std <= self.minimum_std:
            raise ValueError(f"initial_std is {self.initial_std}, but must be above minimum_std, {self.minimum_std}")


def actor_critic(config: Config, spec: EnvSpec | PolicySpec) -> ActorCritic:
    """Two separate MLPs. The actor sees every `state/<group>`; the critic also every `privileged/<group>`, unless told not to.

    Raises:
        ValueError: there is no state group, or a group or the action is not a vector.
    """
    observation, action = spec.observation, spec.action
    if len(action.shape) != 1:
        raise ValueError(f"actor_critic needs actions that are vectors, but theirs has the shape {action.shape}")
    action_size = int(action.shape[0])
    public = groups(observation, "actor_critic")
    whole = groups(observation, "actor_critic", ("state", "privileged")) if config.privileged_critic else public
    from_output = config.standard_deviation == "output"
    head = action_size * (2 if from_output else 1)
    torso = mlp(width(observation, public), config.actor_hidden, head, config.activation, final_scale=0.01)
    value = mlp(width(observation, whole), config.critic_hidden, 1, config.activation)
    # softplus(offset) + minimum_std == initial_std
    offset = jnp.log(jnp.expm1(config.initial_std - config.minimum_std))

    def init_actor(key: Key) -> Params:
        return {"torso": torso.init(key)} | ({} if from_output else {"std": jnp.full(action_size, offset, jnp.float32)})

    def apply_actor(params: Params, x: Observation, key: Key | None = None, train: bool = False) -> dict[str, Array]:
        output = torso.apply(params["torso"], concatenate(x, public), key, train)
        if from_output:
            mean, raw = jnp.split(output, 2, -1)
            raw = raw + offset
        else:
            mean = output
            raw = jnp.broadcast_to(params["std"], mean.shape)
        return {"mean": mean, "log_std": jnp.log(jax.nn.softplus(raw) + config.minimum_std)}

    def apply_critic(params: Params, x: Observation, key: Key | None = None, train: bool = False) -> Array:
        return value.apply(params, concatenate(x, whole), key, train)[..., 0]

    return ActorCritic(Network(init_actor, apply_actor), Network(value.init, apply_critic), DISTRIBUTIONS[config.distribution]())
