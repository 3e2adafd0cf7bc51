"""Multi-layer perceptron from the state groups of an observation to an array of any shape, such as an action chunk."""

import math
from dataclasses import dataclass

from jaxrl.networks._groups import concatenate, groups, width
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
    names = groups(observation, "state_mlp")
    network = mlp(width(observation, names), config.hidden, math.prod(output_shape), config.activation, config.final_scale)

    def apply(params: Params, x: Observation, key: Key | None = None, train: bool = False) -> Array:
        output = network.apply(params, concatenate(x, names), key, train)
        return output.reshape(*output.shape[:-1], *output_shape)

    return Network(network.init, apply)
