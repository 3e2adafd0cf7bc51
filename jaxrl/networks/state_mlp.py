"""Multi-layer perceptron from what is seen of an observation to an array of any shape, such as an action chunk."""

import math
from dataclasses import dataclass

from jaxrl.networks._observation import encoder, seeing
from jaxrl.networks.mlp import mlp
from jaxrl.networks.vision.pooling import Vision
from jaxrl.types import Array, Key, Network, Params, Spec, StatefulNetwork


@dataclass(frozen=True)
class Config:
    """`final_scale` is that of the last kernel; 1 suits outputs of unit variance."""

    hidden: tuple[int, ...] = (256, 256)
    activation: str = "elu"
    final_scale: float = 1.0
    vision: Vision | None = None  # how pictures are looked at; None looks at states alone


def state_mlp(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> StatefulNetwork:
    """Every `state/<group>`, each [B, n] or, of all steps of a history, [B, history, n], side by side, to `[B, *output_shape]`.

    With `vision`, every `image/<camera>` too.

    Raises:
        ValueError: the observation cannot be encoded.
    """
    seen = encoder(observation, "state_mlp", config.vision)
    network = mlp(seen.steps * seen.size, config.hidden, math.prod(output_shape), config.activation, config.final_scale)

    def apply(params: Params, features: Array, key: Key | None = None, train: bool = False) -> Array:
        output = network.apply(params, features.reshape(*features.shape[:-2], -1), key, train)
        return output.reshape(*output.shape[:-1], *output_shape)

    return seeing(seen, Network(network.init, apply))
