"""A transformer over the steps of a history, of which the last one answers (BC-Transformer of robomimic, https://robomimic.github.io)."""

import math
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxrl.networks._observation import encoder, seeing
from jaxrl.networks.vision.pooling import Vision
from jaxrl.types import Array, Key, Network, Params, Spec, StatefulNetwork


@dataclass(frozen=True)
class Config:
    """`layers` pre-norm blocks of `width`, each step seeing those before it; `dropout` while training."""

    width: int = 256
    layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    vision: Vision | None = None  # how pictures are looked at; None looks at states alone

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, which {self.heads} heads do not divide")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, but must be at least 0 and below 1")


class _Transformer(nn.Module):
    config: Config
    output_size: int

    @nn.compact
    def __call__(self, x: Any, drop: bool) -> Any:
        c = self.config
        table = self.param("positions", nn.initializers.normal(0.02), (x.shape[-2], c.width))
        x = nn.Dense(c.width, name="input")(x) + jnp.expand_dims(table, range(x.ndim - 2))
        mask = nn.make_causal_mask(x[..., 0])
        for i in range(c.layers):
            y = nn.LayerNorm(epsilon=1e-5, name=f"attention_norm_{i}")(x)
            attention = nn.MultiHeadDotProductAttention(c.heads, dropout_rate=c.dropout, name=f"attention_{i}")
            x = x + nn.Dropout(c.dropout, name=f"attention_drop_{i}")(attention(y, y, mask=mask, deterministic=not drop), not drop)
            y = nn.LayerNorm(epsilon=1e-5, name=f"mlp_norm_{i}")(x)
            y = nn.Dense(c.width, name=f"mlp_out_{i}")(nn.gelu(nn.Dense(4 * c.width, name=f"mlp_in_{i}")(y), approximate=False))
            x = x + nn.Dropout(c.dropout, name=f"mlp_drop_{i}")(y, not drop)
        last = nn.LayerNorm(epsilon=1e-5, name="norm")(x[..., -1, :])
        return nn.Dense(self.output_size, name="output")(last)


def state_transformer(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> StatefulNetwork:
    """Every `state/<group>` of all steps of a history, [B, history, n], and with `vision` every `image/<camera>`, to [B, *output_shape].

    Raises:
        ValueError: the observation cannot be encoded.
    """
    seen = encoder(observation, "state_transformer", config.vision)
    module = _Transformer(config, math.prod(output_shape))

    def init(key: Key) -> Params:
        return module.init(key, jnp.zeros((1, seen.steps, seen.size)), drop=False)["params"]

    def apply(params: Params, features: Array, key: Key | None = None, train: bool = False) -> Array:
        rngs = {"dropout": key} if train and key is not None else None
        output: Any = module.apply({"params": params}, features, drop=rngs is not None, rngs=rngs)
        return output.reshape(*output.shape[:-1], *output_shape)

    return seeing(seen, Network(init, apply))
