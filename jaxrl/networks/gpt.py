"""The transformer of VQ-BeT (Lee et al. 2024, https://arxiv.org/abs/2403.03181, section 3.3; minGPT): observations and queries, in turn."""

import math
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks import _blocks
from jaxrl.networks._observation import beside
from jaxrl.networks._tokens import groups
from jaxrl.networks.vision.pooling import Vision
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec, StatefulNetwork


@dataclass(frozen=True)
class Config:
    """`layers` causal pre-norm blocks of `width`, as published; `dropout` while training. Without `vision` it sees states alone."""

    width: int = 512
    layers: int = 8
    heads: int = 8
    dropout: float = 0.1
    vision: Vision | None = None

    def __post_init__(self) -> None:
        self.size()

    def size(self) -> _blocks.Size:
        """Raises ValueError where the numbers do not fit."""
        return _blocks.Size(self.width, self.layers, self.heads, self.dropout)


class _GPT(nn.Module):
    config: Config
    queries: int
    output_size: int

    @nn.compact
    def __call__(self, features: tuple[Any, ...], drop: bool) -> Any:
        """Of groups [B, steps, n] to [B, queries, output_size]."""
        width = self.config.width
        query = self.param("query", nn.initializers.normal(1.0), (width,))
        seen = [_blocks.dense(width, f"group_{i}", _blocks.EVEN)(x) for i, x in enumerate(features)]
        asked = jnp.broadcast_to(query[None, None], seen[0].shape)
        tokens = jnp.stack([*seen, asked], 2)  # of each step its groups, then the query
        tokens = tokens.reshape(tokens.shape[0], -1, width)
        tokens = jnp.concatenate([tokens, jnp.broadcast_to(query[None, None], (len(tokens), self.queries - 1, width))], 1)
        length = tokens.shape[1]
        places = self.param("positions", _blocks.NORMAL, (length, width))
        x = _blocks.dense(width, "input")(tokens) + places[None]
        x = nn.Dropout(self.config.dropout, deterministic=not drop, name="dropout")(x)
        past = jnp.tril(jnp.ones((length, length), bool))
        for i in range(self.config.layers):
            x = _blocks.Block(self.config.size(), name=f"block_{i}")(x, past, drop)
        x = _blocks.norm("norm")(x[:, -self.queries :])  # that of the present step, and those behind it
        return _blocks.dense(self.output_size, "output", _blocks.EVEN)(_blocks.dense(width, "features", bias=False)(x))


def gpt(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> StatefulNetwork:
    """What all steps of a history show, [B, history, ...], to [B, *output_shape].

    Of each step one token of its pictures and one of each state, then a query; behind the present step further queries, one for each entry
    of the output's first axis but the first. All queries are one learnt vector, which their places tell apart.

    Raises:
        ValueError: there is nothing to see, it is not what an encoder takes, or histories differ.
    """
    seen = groups(observation, "gpt", config.vision)
    queries = output_shape[0] if len(output_shape) > 1 else 1
    module = _GPT(config, queries, math.prod(output_shape) // queries)

    def init(key: Key) -> tuple[Params, PyTree]:
        of_encoder, own = jax.random.split(key)
        params, statistics = seen.network.init(of_encoder)
        blank = tuple(jnp.zeros((1, seen.steps, size)) for size in seen.sizes)
        return beside(params, transformer=module.init(own, blank, drop=False)["params"]), statistics

    def apply(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        of_encoder, own = (None, None) if key is None else jax.random.split(key)
        features, statistics = seen.network.apply(params.get("encoder", {}), statistics, x, of_encoder, train)
        axes = features[0].shape[:-2]
        rows = tuple(part.reshape(-1, *part.shape[-2:]) for part in features)
        rngs = {"dropout": own} if train and own is not None else None
        output: Any = module.apply({"params": params["transformer"]}, rows, drop=rngs is not None, rngs=rngs)
        return output.reshape(*axes, *output_shape), statistics

    return StatefulNetwork(init, apply)
