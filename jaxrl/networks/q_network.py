"""Action values of a number of choices over flat observations, as DQN takes them."""

from dataclasses import dataclass, field
from typing import NamedTuple

from jaxrl.distributions.return_distribution import ReturnDistribution
from jaxrl.networks._groups import concatenate, groups, width
from jaxrl.networks._stateful import headed, several
from jaxrl.networks._torsos import Torso
from jaxrl.networks.actor_q import Returns, return_distribution
from jaxrl.ops.specs import check_discrete, num_choices
from jaxrl.types import Array, EnvSpec, Key, Observation, Params, PolicySpec, PyTree, StatefulNetwork


class QNetwork(NamedTuple):
    """`critic` maps an observation to the outputs of an ensemble for each choice, [E, ..., A, size], which `returns` reads."""

    critic: StatefulNetwork
    returns: ReturnDistribution
    num_actions: int


@dataclass(frozen=True)
class Config:
    """`dueling` tells the value of a state apart from the advantages of its choices. `final_scale` is that of the last kernel."""

    torso: Torso = field(default_factory=Torso)
    ensemble: int = 1
    returns: Returns = field(default_factory=Returns)
    dueling: bool = False
    final_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.ensemble < 1:
            raise ValueError(f"ensemble is {self.ensemble}, but must be at least 1")
        if self.final_scale < 0:
            raise ValueError(f"final_scale is {self.final_scale}, but must not be negative")


def q_network(config: Config, spec: EnvSpec | PolicySpec) -> QNetwork:
    """Sees every `state/<group>`: it is the policy, so nothing that is privileged.

    Dueling: V + A - mean A, from one torso (Wang et al. 2016, https://arxiv.org/abs/1511.06581, equation 9).

    Raises:
        ValueError: there is no state group, a group is not a vector, or the actions are not discrete.
    """
    offers = spec.name if isinstance(spec, EnvSpec) else "this policy"
    check_discrete(spec.action, "q_network", offers)
    actions = num_choices(spec.action)
    shown = groups(spec.observation, "q_network")
    returns = return_distribution(config.returns)
    heads = actions + 1 if config.dueling else actions
    critics = several(headed(config.torso, width(spec.observation, shown), heads * returns.size, config.final_scale), config.ensemble)

    def apply(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        output, statistics = critics.apply(params, statistics, concatenate(x, shown), key, train)
        output = output.reshape(*output.shape[:-1], heads, returns.size)
        if config.dueling:
            value, advantage = output[..., :1, :], output[..., 1:, :]
            output = value + advantage - advantage.mean(-2, keepdims=True)
        return output, statistics

    return QNetwork(critics._replace(apply=apply), returns, actions)
