"""A recurrent network over the steps of a history: what behaviour cloning with a memory learns with (BC-RNN, Mandlekar et al. 2021,
https://arxiv.org/abs/2108.03298). At each inference it reads the whole history anew, so no carry can be out of date.
"""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from jaxrl.networks._cells import CELLS
from jaxrl.networks._observation import encoder, seeing
from jaxrl.networks.mlp import mlp
from jaxrl.networks.vision.pooling import Vision
from jaxrl.types import Array, Key, Network, Params, PyTree, Spec, StatefulNetwork


@dataclass(frozen=True)
class Config:
    """`layers` cells of `memory_size` units above one another, then `hidden` layers to the output."""

    cell: Literal["gru", "lstm"] = "lstm"
    memory_size: int = 256
    layers: int = 2
    hidden: tuple[int, ...] = ()
    activation: str = "elu"
    vision: Vision | None = None  # how pictures are looked at; None looks at states alone

    def __post_init__(self) -> None:
        for name in ("memory_size", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")


def state_rnn(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> StatefulNetwork:
    """Every `state/<group>` of all steps of a history, [B, history, n], and with `vision` every `image/<camera>`, to [B, *output_shape].

    Raises:
        ValueError: the observation cannot be encoded.
    """
    seen = encoder(observation, "state_rnn", config.vision)
    sizes = (seen.size, *(config.memory_size,) * (config.layers - 1))
    cells = [CELLS[config.cell](size, config.memory_size) for size in sizes]
    head = mlp(config.memory_size, config.hidden, math.prod(output_shape), config.activation, 1.0)

    def init(key: Key) -> Params:
        keys = jax.random.split(key, config.layers + 1)
        return {f"cell_{i}": cell.init(keys[i]) for i, cell in enumerate(cells)} | {"head": head.init(keys[-1])}

    def apply(params: Params, features: Array, key: Key | None = None, train: bool = False) -> Array:
        rows = features.reshape(-1, *features.shape[-2:])

        def step(carries: list[PyTree], now: Array) -> tuple[list[PyTree], None]:
            later = []
            for i, (cell, carry) in enumerate(zip(cells, carries, strict=True)):
                later.append(cell.remember(params[f"cell_{i}"], now, carry))
                now = cell.content(later[-1])
            return later, None

        carries, _ = jax.lax.scan(step, [cell.carry(len(rows)) for cell in cells], jnp.moveaxis(rows, 1, 0))
        output = head.apply(params["head"], cells[-1].content(carries[-1]), key, train)
        return output.reshape(*features.shape[:-2], *output_shape)

    return seeing(seen, Network(init, apply))
