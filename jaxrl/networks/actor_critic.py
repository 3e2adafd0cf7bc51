"""Actor and critic over flat observations, as on-policy methods take them."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxrl.distributions.distribution import Distribution
from jaxrl.distributions.normal import normal
from jaxrl.distributions.tanh_normal import tanh_normal
from jaxrl.networks._groups import concatenate, groups, width
from jaxrl.networks._normal_head import check_std, normal_head
from jaxrl.networks._recurrent import as_recurrent
from jaxrl.networks.mlp import mlp
from jaxrl.types import Array, EnvSpec, Key, Network, Observation, Params, PolicySpec, RecurrentNetwork

DISTRIBUTIONS = {"normal": normal, "tanh_normal": tanh_normal}


class ActorCritic(NamedTuple):
    """`actor` maps an observation to the parameters of `distribution`, `{"mean", "log_std"}`, both [..., A]; `critic` to a value [...]."""

    actor: Network | RecurrentNetwork
    critic: Network | RecurrentNetwork
    distribution: Distribution


class RecurrentActorCritic(NamedTuple):
    """An ActorCritic whose parts all have the form of networks with a memory."""

    actor: RecurrentNetwork
    critic: RecurrentNetwork
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
        check_std(self.initial_std, self.minimum_std)


def actor_critic(config: Config, spec: EnvSpec | PolicySpec) -> ActorCritic:
    """Two separate MLPs. The actor sees every `state/<group>`; the critic also every `privileged/<group>`, unless told not to.

    Raises:
        ValueError: there is no state group, or a group or the action is not a vector.
    """
    observation = spec.observation
    public = groups(observation, "actor_critic")
    whole = groups(observation, "actor_critic", ("state", "privileged")) if config.privileged_critic else public
    head = normal_head(spec.action, "actor_critic", config.standard_deviation, config.initial_std, config.minimum_std)
    torso = mlp(width(observation, public), config.actor_hidden, head.input_size, config.activation, final_scale=0.01)
    value = mlp(width(observation, whole), config.critic_hidden, 1, config.activation)

    def init_actor(key: Key) -> Params:
        return {"torso": torso.init(key)} | head.init()

    def apply_actor(params: Params, x: Observation, key: Key | None = None, train: bool = False) -> dict[str, Array]:
        return head.apply(params, torso.apply(params["torso"], concatenate(x, public), key, train))

    def apply_critic(params: Params, x: Observation, key: Key | None = None, train: bool = False) -> Array:
        return value.apply(params, concatenate(x, whole), key, train)[..., 0]

    return ActorCritic(Network(init_actor, apply_actor), Network(value.init, apply_critic), DISTRIBUTIONS[config.distribution]())


def with_memory(networks: ActorCritic) -> RecurrentActorCritic:
    """The same in the form of networks with a memory; the carry of one that has none is ()."""
    return RecurrentActorCritic(as_recurrent(networks.actor), as_recurrent(networks.critic), networks.distribution)
