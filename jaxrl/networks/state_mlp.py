"""Multi-layer perceptron from the states of an observation to an array of any shape, such as an action chunk."""

import math
from dataclasses import dataclass

from jaxrl.networks._observation import encoder
from jaxrl.networks.mlp import mlp
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec, StatefulNetwork


@dataclass(frozen=True)
class Config:
    """`final_scale` is that of the last kernel; 1 suits outputs of unit variance."""

    hidden: tuple[int, ...] = (256, 256)
    activation: str = "elu"
    final_scale: float = 1.0


def state_mlp(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> StatefulNetwork:
    """Every `state/<group>`, each [B, n] or, of all steps of a history, [B, history, n], side by side, to `[B, *output_shape]`.

    Raises:
        ValueError: there is no state group, or one is no vector.
    """
    seen = encoder(observation, "state_mlp")
    network = mlp(seen.steps * seen.size, config.hidden, math.prod(output_shape), config.activation, config.final_scale)

    def init(key: Key) -> tuple[Params, PyTree]:
        return network.init(key), {}

    def apply(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        features, _ = seen.network.apply({}, {}, x)
        output = network.apply(params, features.reshape(*features.shape[:-2], -1), key, train)
        return output.reshape(*output.shape[:-1], *output_shape), statistics

    return StatefulNetwork(init, apply)
