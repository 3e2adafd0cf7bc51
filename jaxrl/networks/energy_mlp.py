"""The energy of a chunk by a multi-layer perceptron of it and the observation beside each other (Florence et al. 2021,
https://arxiv.org/abs/2109.00137; Chi et al. 2023, https://arxiv.org/abs/2303.04137, as a baseline)."""

import math
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks._observation import beside, encoder
from jaxrl.networks.interface import Energy
from jaxrl.networks.mlp import ACTIVATIONS
from jaxrl.networks.vision.pooling import Vision
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec


@dataclass(frozen=True)
class Config:
    """`dropout` is the share of features that are left out of each hidden layer while learning. Without `vision` there are states alone."""

    hidden: tuple[int, ...] = (1024, 1024, 1024, 1024)
    activation: str = "relu"
    dropout: float = 0.1
    vision: Vision | None = None

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden is {self.hidden}, but there must be at least one layer, and none without units")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is unknown; there are {', '.join(ACTIVATIONS)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, but must be at least 0 and below 1")


class _Rest(nn.Module):
    """What follows the first layer."""

    config: Config

    @nn.compact
    def __call__(self, x: Any, drop: bool) -> Any:
        activate = ACTIVATIONS[self.config.activation]
        for i, width in enumerate(self.config.hidden):
            if i:
                x = nn.Dense(width, kernel_init=nn.initializers.he_normal(), name=f"hidden_{i}")(x)
            x = nn.Dropout(self.config.dropout, name=f"dropout_{i}")(activate(x), not drop)
        return nn.Dense(1, name="output")(x)[..., 0]


def energy_mlp(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> Energy:
    """What all steps of a history show, side by side, and chunks of `output_shape`.

    Of the first layer, the part that reads the observation is the condition: it is computed once for all chunks.

    Raises:
        ValueError: there is nothing to see, it is not what an encoder takes, or histories differ.
    """
    seen = encoder(observation, "energy_mlp", config.vision)
    sizes = {"observation": seen.steps * seen.size, "chunk": math.prod(output_shape)}
    first = nn.initializers.normal((2.0 / sum(sizes.values())) ** 0.5)
    layers: dict[str, Any] = {
        "observation": nn.Dense(config.hidden[0], kernel_init=first),
        "chunk": nn.Dense(config.hidden[0], kernel_init=first, use_bias=False),
    }
    rest = _Rest(config)

    def init(key: Key) -> tuple[Params, PyTree]:
        of_encoder, of_rest, *of_layers = jax.random.split(key, 2 + len(layers))
        params, statistics = seen.network.init(of_encoder)
        made = {name: layer.init(k, jnp.zeros(sizes[name]))["params"] for (name, layer), k in zip(layers.items(), of_layers, strict=True)}
        made["rest"] = rest.init(of_rest, jnp.zeros(config.hidden[0]), drop=False)["params"]
        return beside(params, **made), statistics

    def encode(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        features, statistics = seen.network.apply(params.get("encoder", {}), statistics, x, key, train)
        flat = features.reshape(*features.shape[:-2], -1)
        return layers["observation"].apply({"params": params["observation"]}, flat), statistics

    def energy(params: Params, chunks: Array, condition: Array, key: Key | None = None, train: bool = False) -> Array:
        rngs = {"dropout": key} if train and key is not None else None
        flat = chunks.reshape(*chunks.shape[:-2], -1)
        x = layers["chunk"].apply({"params": params["chunk"]}, flat) + condition[..., None, :]
        output: Any = rest.apply({"params": params["rest"]}, x, drop=rngs is not None, rngs=rngs)
        return output

    return Energy(init, encode, energy)
