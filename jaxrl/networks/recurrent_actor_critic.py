"""Actor and critic with a memory: recurrent cells, or a window of the last steps.

A window of past observations is a memory like any other here, rather than a wrapper of the environment: the policy that was trained keeps
it in its own carry, so a robot or an exported policy needs nothing beside `init` and `act`, and nobody has to rebuild the same window.

The critic's memory takes in what the actor's does. What is privileged goes to its head alone, as V(history, state), which stays unbiased
where the state alone tells less than what the actor remembers (Baisero and Amato 2022, https://arxiv.org/abs/2105.11674).
"""

from dataclasses import dataclass
from typing import Literal

from jaxrl.networks import actor_critic as plain
from jaxrl.networks._action_head import action_head, check_std
from jaxrl.networks._cells import CELLS
from jaxrl.networks._groups import groups, width
from jaxrl.networks._recurrent import recurrent
from jaxrl.networks.actor_critic import ActorCritic
from jaxrl.networks.mlp import ACTIVATIONS, mlp
from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Array, EnvSpec, Key, Network, Observation, Params, PolicySpec, PyTree, RecurrentNetwork


@dataclass(frozen=True)
class Config:
    """`memory` holds `memory_size` units, or steps of a window. `remembered` are the groups that it takes in, () for every `state/<group>`.

    Dense layers lie before it (`encoder_hidden`) and after it (`actor_hidden`, `critic_hidden`). Without `critic_memory` the critic is the
    MLP of `actor_critic`, for tasks whose privileged observations tell it all.
    """

    memory: Literal["gru", "lstm", "window"] = "gru"
    memory_size: int = 64
    remembered: tuple[str, ...] = ()
    critic_memory: bool = True
    encoder_hidden: tuple[int, ...] = ()
    actor_hidden: tuple[int, ...] = (64,)
    critic_hidden: tuple[int, ...] = (64,)
    activation: str = "tanh"
    distribution: Literal["normal", "tanh_normal"] = "normal"
    standard_deviation: Literal["parameter", "output"] = "parameter"
    initial_std: float = 1.0
    minimum_std: float = 1e-3
    privileged_critic: bool = True

    def __post_init__(self) -> None:
        check_std(self.initial_std, self.minimum_std)
        if self.memory_size < 1:
            raise ValueError(f"memory_size is {self.memory_size}, but must be at least 1")


def recurrent_actor_critic(config: Config, spec: EnvSpec | PolicySpec) -> ActorCritic:
    """Actor and critic, each with a memory of its own; what they are shown is as for `actor_critic`.

    Groups that are not remembered go to the heads as they are now.

    Raises:
        ValueError: there is no state group, or a remembered one is none of them; a group is not a vector, or the action neither discrete
            nor a vector of floats.
    """
    observation = spec.observation
    public = groups(observation, "recurrent_actor_critic")
    whole = groups(observation, "recurrent_actor_critic", ("state", "privileged")) if config.privileged_critic else public
    remembered = config.remembered or public
    for name in remembered:
        if name not in public:
            raise ValueError(f"recurrent_actor_critic cannot remember {name}, which is no state group; {suggestion(name, public)}")
    of_action = (config.distribution, config.standard_deviation, config.initial_std, config.minimum_std)
    head = action_head(spec.action, "recurrent_actor_critic", *of_action)
    encoder, features = _encoder(config, width(observation, remembered))
    cell = CELLS[config.memory](features, config.memory_size)

    def part(shown: tuple[str, ...], hidden: tuple[int, ...], output_size: int, final_scale: float) -> RecurrentNetwork:
        beside = tuple(name for name in shown if name not in remembered)
        answer = mlp(cell.output_size + width(observation, beside), hidden, output_size, config.activation, final_scale)
        return recurrent(encoder, cell, answer, remembered, beside)

    torso = part(public, config.actor_hidden, head.input_size, 0.01)
    value = part(whole, config.critic_hidden, 1, 1.0)

    def init_actor(key: Key) -> Params:
        return torso.init(key) | head.init()

    def apply_actor(params: Params, x: Observation, carry: PyTree) -> dict[str, Array]:
        return head.apply(params, torso.apply(params, x, carry))

    def apply_critic(params: Params, x: Observation, carry: PyTree) -> Array:
        return value.apply(params, x, carry)[..., 0]

    actor = torso._replace(init=init_actor, apply=apply_actor)
    critic = value._replace(apply=apply_critic) if config.critic_memory else _memoryless_critic(config, spec)
    return ActorCritic(actor, critic, head.distribution)


def _encoder(config: Config, input_size: int) -> tuple[Network, int]:
    """Dense layers before the memory, and the number of features that they yield; without any, what they are given."""
    if not config.encoder_hidden:
        return Network(lambda key: {}, lambda params, x, key=None, train=False: x), input_size
    *hidden, size = config.encoder_hidden
    dense = mlp(input_size, tuple(hidden), size, config.activation, final_scale=2**0.5)
    activate = ACTIVATIONS[config.activation]
    return dense._replace(apply=lambda params, x, key=None, train=False: activate(dense.apply(params, x, key, train))), size


def _memoryless_critic(config: Config, spec: EnvSpec | PolicySpec) -> Network | RecurrentNetwork:
    shared = plain.Config(critic_hidden=config.critic_hidden, activation=config.activation, privileged_critic=config.privileged_critic)
    return plain.actor_critic(shared, spec).critic
