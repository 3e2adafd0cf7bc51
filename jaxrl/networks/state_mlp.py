"""Multi-layer perceptron from the state groups of an observation to an array of any shape, such as an action chunk."""

import math
from dataclasses import dataclass

from jaxrl.networks.actor_critic import concatenate
from jaxrl.networks.mlp import mlp
from jaxrl.types import Array, Key, Network, Observation, Params, Spec


@dataclass(frozen=True)
class Config:
    """`final_scale` is that of the last kernel; 1 suits outputs of unit variance."""

    hidden: tuple[int, ...] = (256, 256)
    activation: str = "elu"
    final_scale: float = 1.0


def state_mlp(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> Network:
    """Every `state/<group>`, each `[B, n]`, side by side, to `[B, *output_shape]`.

    Raises:
        ValueError: there is no state group, or one is not a vector.
    """
    names = tuple(sorted(name for name in observation if name.startswith("state/")))
    if not names:
        raise ValueError(f"state_mlp needs at least one state/<group> observation; offered are {', '.join(observation) or 'none'}")
    for name in names:
        if len(observation[name].shape) != 1:
            raise ValueError(f"state_mlp takes vectors, but {name} has the shape {observation[name].shape}")
    input_size = sum(int(observation[name].shape[0]) for name in names)
    network = mlp(input_size, config.hidden, math.prod(output_shape), config.activation, config.final_scale)

    def apply(params: Params, x: Observation, key: Key | None = None, train: bool = False) -> Array:
        output = network.apply(params, concatenate(x, names), key, train)
        return output.reshape(*output.shape[:-1], *output_shape)

    return Network(network.init, apply)
