"""Actor and critic over flat observations, as on-policy methods take them, and how these act with any actor and critic."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.distributions.distribution import Distribution
from jaxrl.networks._action_head import action_head, check_std
from jaxrl.networks._groups import concatenate, groups, width
from jaxrl.networks._recurrent import as_recurrent
from jaxrl.networks.mlp import mlp
from jaxrl.ops import running_statistics
from jaxrl.ops.paths import flatten_names, map_with_path
from jaxrl.ops.running_statistics import RunningStatistics
from jaxrl.ops.specs import check_continuous, check_discrete, policy_spec
from jaxrl.types import (
    Array,
    ArraySpec,
    EnvSpec,
    Key,
    Network,
    Observation,
    Params,
    Policy,
    PolicySpec,
    PyTree,
    RecurrentNetwork,
    Transition,
)


class ActorCritic(NamedTuple):
    """`actor` maps an observation to the parameters of `distribution`, [..., A] each; `critic` to a value [...].

    They are `{"mean", "log_std"}`, or of a discrete action the `{"logits"}` of its choices.
    """

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
    """`standard_deviation`: one free number per action dimension ("parameter") or an output of the network ("output").

    Of a discrete action the distribution is the categorical one, whatever `distribution` and what follows say.
    """

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
        ValueError: there is no state group, a group is not a vector, or the action neither discrete nor a vector of floats.
    """
    observation = spec.observation
    public = groups(observation, "actor_critic")
    whole = groups(observation, "actor_critic", ("state", "privileged")) if config.privileged_critic else public
    of_action = (config.distribution, config.standard_deviation, config.initial_std, config.minimum_std)
    head = action_head(spec.action, "actor_critic", *of_action)
    torso = mlp(width(observation, public), config.actor_hidden, head.input_size, config.activation, final_scale=0.01)
    value = mlp(width(observation, whole), config.critic_hidden, 1, config.activation)

    def init_actor(key: Key) -> Params:
        return {"torso": torso.init(key)} | head.init()

    def apply_actor(params: Params, x: Observation, key: Key | None = None, train: bool = False) -> dict[str, Array]:
        return head.apply(params, torso.apply(params["torso"], concatenate(x, public), key, train))

    def apply_critic(params: Params, x: Observation, key: Key | None = None, train: bool = False) -> Array:
        return value.apply(params, concatenate(x, whole), key, train)[..., 0]

    return ActorCritic(Network(init_actor, apply_actor), Network(value.init, apply_critic), head.distribution)


def with_memory(networks: ActorCritic) -> RecurrentActorCritic:
    """The same in the form of networks with a memory; the carry of one that has none is ()."""
    return RecurrentActorCritic(as_recurrent(networks.actor), as_recurrent(networks.critic), networks.distribution)


# Networks of either kind in use: how they act, and what the critic says along an unroll.


class Behaviour(NamedTuple):
    """What acting needs."""

    actor: Params
    statistics: RunningStatistics
    critic: Params = ()  # of one with a memory, which has to see every step


class Unroll(NamedTuple):
    """What a batch of transitions [T, B] says of its episodes, and of the carries it began with."""

    begins: Array  # [T, B] bool: an episode begins here, and not with the first step
    carry: PyTree  # before the first step, [1, B, ...], of the networks with a memory


def first_carry(networks: RecurrentActorCritic, size: int) -> dict[str, PyTree]:
    """The carries before an episode's first step, [size, ...], of the networks that have one."""
    carries = {"actor": networks.actor.carry(size), "critic": networks.critic.carry(size)}
    return {name: carry for name, carry in carries.items() if jax.tree.leaves(carry)}


def along(network: RecurrentNetwork, params: Params, observation: Observation, carry: PyTree, begins: Array) -> tuple[Any, PyTree]:
    """Outputs along an unroll, and the carry after each step; `carry` [1, B, ...] is that before the first."""
    carries = network.unroll(params, observation, jax.tree.map(lambda x: x[0], carry), begins)
    return network.apply(params, observation, carries), carries


def unroll_of(networks: RecurrentActorCritic, batch: Transition) -> Unroll:
    """Read from a batch that the exploring policy of `policies` has collected."""
    ended = (batch.discount == 0) | (batch.truncation > 0)
    begins = jnp.concatenate([jnp.zeros_like(ended[:1]), ended[:-1]])
    carry = map_with_path(lambda name, _: batch.extras[f"carry/{name}"][:1], jax.eval_shape(lambda: first_carry(networks, 1)))
    return Unroll(begins, carry)


def values(networks: RecurrentActorCritic, params: Params, batch: Transition, unroll: Unroll) -> tuple[Array, Array]:
    """The critic's values [T, B] of the observations and of the true next ones, by what is remembered of the steps before each."""
    critic = networks.critic
    value, carries = along(critic, params, batch.observation, unroll.carry.get("critic", ()), unroll.begins)
    # Where an episode ends, the next observation belongs to that episode still.
    return value, critic.apply(params, batch.next_observation, critic.remember(params, batch.next_observation, carries))


def policies(spec: EnvSpec, networks: RecurrentActorCritic, normalise: bool, who: str) -> tuple[Policy, Policy]:
    """The one that draws its actions, and the one that takes the mode; both act with a `Behaviour`.

    Each carries what the networks remember that it needs. The one that draws keeps `x`, the parameters of the distribution, `log_prob`
    and the carries.

    Raises:
        ValueError: the distribution is not over such actions; `who` is the algorithm that asks.
    """
    distribution = networks.distribution
    (check_discrete if distribution.discrete else check_continuous)(spec.action, f"{who} with these networks", spec.name)
    shown = policy_spec(spec)
    kept = {"x": ArraySpec(spec.action.shape, spec.action.dtype, names=spec.action.names), "log_prob": ArraySpec(())}
    carries = flatten_names(jax.eval_shape(lambda: {"carry": first_carry(networks, 1)}))
    kept |= {name: ArraySpec(x.shape[1:], str(x.dtype)) for name, x in carries.items()}
    kept |= distribution.parameters(spec.action)

    def answer(params: Behaviour, observation: Observation, carry: PyTree) -> tuple[dict[str, Array], PyTree]:
        seen = running_statistics.normalise(params.statistics, observation) if normalise else observation
        later = {name: getattr(networks, name).remember(getattr(params, name), seen, carry[name]) for name in carry}
        return networks.actor.apply(params.actor, seen, later.get("actor", ())), later

    def explore(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        parameters, later = answer(params, observation, carry)
        x = jax.vmap(distribution.sample)(parameters, key)
        extras = parameters | {"x": x, "log_prob": distribution.log_prob(parameters, x)} | flatten_names({"carry": carry})
        return distribution.to_action(x)[:, None], later, extras

    def act(params: Behaviour, observation: Observation, carry: PyTree, key: Key, context: PyTree = None) -> tuple:
        parameters, later = answer(params, observation, carry)
        return distribution.to_action(distribution.mode(parameters))[:, None], later, {}

    def own_carry(size: int) -> PyTree:
        return {name: carry for name, carry in first_carry(networks, size).items() if name == "actor"}

    exploring = Policy(shown._replace(extras=kept), lambda size: first_carry(networks, size), explore)
    return exploring, Policy(shown, own_carry, act)


def behaviour(networks: RecurrentActorCritic, params: Params, statistics: RunningStatistics) -> Behaviour:
    """Of an algorithm whose parameters are `{"actor", "critic"}`, for exploring."""
    return Behaviour(params["actor"], statistics, params["critic"] if "critic" in first_carry(networks, 1) else ())


def deployable(spec: PolicySpec, params: Params, statistics: RunningStatistics) -> Behaviour:
    """Of the same, for the policy of `spec` that takes the mode."""
    return Behaviour(params["actor"], running_statistics.seen(statistics, spec.observation))
