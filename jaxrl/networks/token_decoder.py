"""A causal transformer over tokens behind those of an observation (as pi0-FAST, Pertsch et al. 2025, https://arxiv.org/abs/2501.09747)."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks import _blocks
from jaxrl.networks._observation import beside
from jaxrl.networks._tokens import groups
from jaxrl.networks.interface import TokenDecoder
from jaxrl.networks.vision.pooling import Vision
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec


@dataclass(frozen=True)
class Config:
    """`layers` pre-norm blocks of `width`; `dropout` while training. Without `vision` it sees states alone."""

    width: int = 256
    layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    vision: Vision | None = None

    def __post_init__(self) -> None:
        self.size()

    def size(self) -> _blocks.Size:
        """Raises ValueError where the numbers do not fit."""
        return _blocks.Size(self.width, self.layers, self.heads, self.dropout)


class _Decoder(nn.Module):
    """The tokens of an observation see each other, and nothing of the sequence; those of the sequence see them and what is before them."""

    config: Config
    length: int  # of a sequence
    vocabulary: int

    def setup(self) -> None:
        width = self.config.width
        # The last row stands before the first token.
        self.embedding = self.param("embedding", _blocks.NORMAL, (self.vocabulary + 1, width))
        self.positions = self.param("positions", _blocks.NORMAL, (self.length, width))
        self.blocks = [_blocks.Block(self.config.size(), name=f"block_{i}") for i in range(self.config.layers)]
        self.norm = _blocks.norm("norm")
        self.output = _blocks.dense(self.vocabulary, "output")
        self.dropout = nn.Dropout(self.config.dropout, name="dropout")

    def _through(self, x: Any, mask: Any, memory: Any, drop: bool) -> tuple[Any, list[Any]]:
        """`memory(i, keys, values)` of each block; what these have made is returned too."""
        made = []
        for i, block in enumerate(self.blocks):
            looked_at: list[Any] = []

            def remember(keys: Any, values: Any, i: int = i, looked_at: list[Any] = looked_at) -> Any:
                looked_at[:] = memory(i, keys, values)
                return looked_at[0]

            x = block(x, mask, drop, remember)
            made.append(looked_at[1])
        return x, made

    @nn.compact
    def prefix(self, features: tuple[Any, ...], drop: bool) -> list[Any]:
        """Keys and values of each block [B, P, heads, width / heads], of the groups [B, steps, n] of an observation."""
        width = self.config.width
        x = jnp.concatenate([_blocks.dense(width, f"group_{i}", _blocks.EVEN)(part) for i, part in enumerate(features)], 1)
        places = self.param("places", _blocks.NORMAL, (x.shape[1], width))
        x = self.dropout(x + places[None], not drop)
        everything = jnp.ones((x.shape[1], x.shape[1]), bool)
        return self._through(x, everything, lambda i, keys, values: ((keys, values), (keys, values)), drop)[1]

    def _head(self, x: Any) -> Any:
        return self.output(self.norm(x))

    def sequence(self, tokens: Any, condition: list[Any], drop: bool) -> Any:
        """Logits [B, L, V] of all tokens [B, L]."""
        before = jnp.concatenate([jnp.full_like(tokens[:, :1], self.vocabulary), tokens[:, :-1]], 1)
        x = self.dropout(self.embedding[before] + self.positions[None, : tokens.shape[1]], not drop)
        length, seen = tokens.shape[1], condition[0][0].shape[1]
        mask = jnp.concatenate([jnp.ones((length, seen), bool), jnp.tril(jnp.ones((length, length), bool))], 1)

        def behind(i: int, keys: Any, values: Any) -> Any:
            return tuple(jnp.concatenate(pair, 1) for pair in zip(condition[i], (keys, values), strict=True)), ()

        return self._head(self._through(x, mask, behind, drop)[0])

    def one(self, token: Any, cache: dict[str, Any], condition: list[Any]) -> tuple[Any, dict[str, Any]]:
        """Logits [B, V] of the token behind `token` [B]."""
        place = cache["place"]
        own = self.embedding[jnp.where(place == 0, self.vocabulary, token)]
        x = (own + self.positions[place][None])[:, None]
        seen = condition[0][0].shape[1]
        mask = jnp.concatenate([jnp.ones(seen, bool), jnp.arange(self.length) <= place])[None]

        def behind(i: int, keys: Any, values: Any) -> Any:
            kept = tuple(
                jax.lax.dynamic_update_slice_in_dim(old, new, place, 1) for old, new in zip(cache["read"][i], (keys, values), strict=True)
            )
            return tuple(jnp.concatenate(pair, 1) for pair in zip(condition[i], kept, strict=True)), kept

        x, read = self._through(x, mask, behind, False)
        return self._head(x)[:, 0], {"place": place + 1, "read": read}

    def everything(self, features: tuple[Any, ...], tokens: Any) -> Any:
        return self.sequence(tokens, self.prefix(features, False), False)


def token_decoder(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> TokenDecoder:
    """Of sequences of up to `output_shape[0]` tokens, out of `output_shape[1]`.

    Of each step of a history one token of its pictures and one of each state, which see each other; then the sequence. The condition is
    what its tokens look at of these, so an observation is read once.

    Raises:
        ValueError: the output is to have another number of axes, there is nothing to see, it is not what an encoder takes, or histories
            differ.
    """
    if len(output_shape) != 2:
        raise ValueError(f"token_decoder makes sequences [length, vocabulary], but the output is to have the shape {output_shape}")
    length, vocabulary = output_shape
    seen = groups(observation, "token_decoder", config.vision)
    module = _Decoder(config, length, vocabulary)

    def init(key: Key) -> tuple[Params, PyTree]:
        of_encoder, own = jax.random.split(key)
        params, statistics = seen.network.init(of_encoder)
        blank = tuple(jnp.zeros((1, seen.steps, size)) for size in seen.sizes)
        tokens = jnp.zeros((1, length), jnp.int32)
        return beside(params, transformer=module.init(own, blank, tokens, method="everything")["params"]), statistics

    def run(method: str, params: Params, *arguments: Any, key: Key | None = None) -> Any:
        rngs = None if key is None else {"dropout": key}
        return module.apply({"params": params["transformer"]}, *arguments, method=method, rngs=rngs)

    def encode(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Any, PyTree]:
        of_encoder, own = (None, None) if key is None else jax.random.split(key)
        features, statistics = seen.network.apply(params.get("encoder", {}), statistics, x, of_encoder, train)
        drop = train and own is not None
        return run("prefix", params, features, drop, key=own if drop else None), statistics

    def logits(params: Params, tokens: Array, condition: Any, key: Key | None = None, train: bool = False) -> Array:
        drop = train and key is not None
        output: Array = run("sequence", params, tokens, condition, drop, key=key if drop else None)
        return output

    def begin(params: Params, condition: Any) -> PyTree:
        del params
        blank = [tuple(jnp.zeros((x.shape[0], length, *x.shape[2:]), x.dtype) for x in pair) for pair in condition]
        return {"place": jnp.zeros((), jnp.int32), "read": blank}

    def step(params: Params, token: Array, cache: PyTree, condition: Any) -> tuple[Array, PyTree]:
        output: tuple[Array, PyTree] = run("one", params, token, cache, condition)
        return output

    return TokenDecoder(init, encode, logits, begin, step)
