"""Action Chunking with Transformers (Zhao et al. 2023, https://arxiv.org/abs/2304.13705, section IV and appendix C), as LeRobot's."""

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.networks._attention import Attention
from jaxrl.networks._denoising import chunk_shape
from jaxrl.networks._observation import encoder
from jaxrl.networks.interface import Autoencoder
from jaxrl.networks.vision import cameras as looking
from jaxrl.networks.vision import positions
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec


def _shared() -> looking.Config:
    return looking.Config(shared=True)


@dataclass(frozen=True)
class Config:
    """Layers are those of the encoder of observations, of the decoder and of the posterior's encoder.

    One layer of the decoder is what the original came to: its other six were computed and not used. `environment` names the states that are
    not of the robot, without "state/": they get a token of their own, which the posterior is not shown.
    """

    cameras: looking.Config = field(default_factory=_shared)
    size: int = 512
    heads: int = 8
    hidden: int = 3200
    encoder_layers: int = 4
    decoder_layers: int = 1
    posterior_layers: int = 4
    latent_size: int = 32
    dropout: float = 0.1
    environment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("heads", "hidden", "encoder_layers", "decoder_layers", "posterior_layers", "latent_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.size < 1 or self.size % 4 or self.size % self.heads:
            raise ValueError(f"size is {self.size}, but must be a multiple of 4, for sines and cosines of two directions, and of heads")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, but must be at least 0 and below 1")


_XAVIER = nn.initializers.xavier_uniform()
_PACKED = nn.initializers.variance_scaling(0.5, "fan_avg", "uniform")  # of queries, keys and values as one matrix
_LINEAR = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's own
_table = nn.initializers.normal(1.0)


def _dense(x: Any, size: int, name: str, start: Any = _LINEAR) -> Any:
    """With torch's bias, which is of the size of what its kernel draws."""
    bound = x.shape[-1] ** -0.5

    def bias(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nn.Dense(size, kernel_init=start, bias_init=bias, name=name)(x)


def _norm(x: Any, name: str) -> Any:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)(x)


class _Layer(nn.Module):
    """With the norm behind each sub-layer. With `memory` it is one of the decoder."""

    config: Config
    drop: bool
    start: Any = _XAVIER  # of all matrices but those of queries, keys and values

    @nn.compact
    def __call__(self, x: Any, where: Any, present: Any = None, memory: Any = None, memory_where: Any = None) -> Any:
        """Tokens [B, n, size]; where they are, [1, n, size], is told to queries and keys alone."""

        def dropped(y: Any, name: str) -> Any:
            return nn.Dropout(self.config.dropout, name=name)(y, not self.drop)

        def attention(name: str) -> Attention:
            return Attention(self.config.heads, self.config.dropout, _PACKED, self.start, name=name)

        y = attention("self_attention")(x + where, x + where, x, present, self.drop)
        x = _norm(x + dropped(y, "self_dropout"), "self_norm")
        if memory is not None:
            y = attention("cross_attention")(x + where, memory + memory_where, memory, None, self.drop)
            x = _norm(x + dropped(y, "cross_dropout"), "cross_norm")
        y = dropped(nn.relu(_dense(x, self.config.hidden, "hidden", self.start)), "hidden_dropout")
        y = _dense(y, self.config.size, "output", self.start)
        return _norm(x + dropped(y, "output_dropout"), "output_norm")


class _Tokens(nn.Module):
    """What is seen as tokens [B, n, size]: vectors first, then the places of each camera's map."""

    config: Config

    @nn.compact
    def __call__(self, vectors: list[Any], maps: list[Any]) -> Any:
        tokens = [_dense(x, self.config.size, name)[:, None] for name, x in vectors]
        if maps:
            places = [x.reshape(x.shape[0], -1, x.shape[-1]) for x in maps]
            tokens.append(_dense(jnp.concatenate(places, 1), self.config.size, "picture"))
        return jnp.concatenate(tokens, 1)


class _Posterior(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, state: Any, chunk: Any, mask: Any, drop: bool) -> tuple[Any, Any]:
        """[B, n] or None, [B, H, A], [B, H] to mean and log variance [B, Z]."""
        size, batch = self.config.size, chunk.shape[0]
        first = jnp.broadcast_to(self.param("class", _table, (1, size))[None], (batch, 1, size))
        tokens = [first] + ([] if state is None else [_dense(state, size, "state")[:, None]]) + [_dense(chunk, size, "action")]
        x, extra = jnp.concatenate(tokens, 1), len(tokens) - 1
        present = jnp.concatenate([jnp.ones((batch, extra)), mask], 1)
        where = jnp.asarray(positions.along(x.shape[1], size))[None]
        for i in range(self.config.posterior_layers):
            x = _Layer(self.config, drop, _LINEAR, name=f"layer_{i}")(x, where, present)
        both = _dense(x[:, 0], 2 * self.config.latent_size, "output")
        return both[:, : self.config.latent_size], both[:, self.config.latent_size :]


class _Transformer(nn.Module):
    config: Config
    grids: tuple[tuple[int, int], ...]  # rows and columns of each camera's map
    chunk: tuple[int, int]

    @nn.compact
    def __call__(self, latent: Any, tokens: Any, drop: bool) -> Any:
        """[B, Z], [B, n, size] to [B, H, A]."""
        size = self.config.size
        places = sum(rows * columns for rows, columns in self.grids)
        table = self.param("positions", _table, (1 + tokens.shape[1] - places, size))
        pictures = [jnp.asarray(positions.across(*grid, size)).reshape(-1, size) for grid in self.grids]
        where = jnp.concatenate([table, *pictures])[None]
        memory = jnp.concatenate([_dense(latent, size, "latent")[:, None], tokens], 1)
        for i in range(self.config.encoder_layers):
            memory = _Layer(self.config, drop, name=f"encoder_{i}")(memory, where)
        queries = self.param("queries", _table, (self.chunk[0], size))[None]
        x = jnp.zeros((latent.shape[0], self.chunk[0], size))
        for i in range(self.config.decoder_layers):
            x = _Layer(self.config, drop, name=f"decoder_{i}")(x, queries, None, memory, where)
        return _dense(_norm(x, "norm"), self.chunk[1], "output")


def _groups(config: Config, observation: Spec) -> tuple[Spec, Spec]:
    """The states of the robot, and those of its environment."""
    states = {name: part for name, part in observation.items() if name.startswith("state/")}
    outside = [f"state/{name}" for name in config.environment]
    if missing := [name for name in outside if name not in states]:
        raise ValueError(f"act: there is no {missing[0]}; offered are {', '.join(sorted(states)) or 'none'}")
    return {name: part for name, part in states.items() if name not in outside}, {name: states[name] for name in outside}


def act(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> Autoencoder:
    """Every `state/<group>` and `image/<camera>` of one step, [B, ...], and a latent vector to chunks [B, H, A].

    Raises:
        ValueError: actions are no vectors, there is nothing to see or a history of it, or a state or picture is not what networks take.
    """
    chunk = chunk_shape(output_shape, "act")
    robot, environment = _groups(config, observation)
    vectors = {name: encoder(part, "act") for name, part in (("state", robot), ("environment", environment)) if part}
    look = looking.cameras(config.cameras, observation, "act") if looking.names_of_cameras(config.cameras, observation, "act") else None
    if not vectors and look is None:
        raise ValueError(f"act needs a state/<group> or image/<camera> observation; offered are {', '.join(sorted(observation)) or 'none'}")
    if max([part.steps for part in vectors.values()] + ([look.steps] if look else [])) > 1:
        raise ValueError("act looks at one step; observations with a history need it to be 1")
    grids = tuple(look.grids.values()) if look else ()
    tokens, posterior_ = _Tokens(config), _Posterior(config)
    transformer = _Transformer(config, grids, chunk)

    def told(name: str, x: Observation) -> Array:
        return vectors[name].network.apply({}, {}, x)[0][:, 0]

    def robot_state(x: Observation) -> Array | None:
        return told("state", x) if "state" in vectors else None

    def init(key: Key) -> tuple[Params, PyTree]:
        keys = jax.random.split(key, 4)
        backbones, statistics = look.network.init(keys[0]) if look else ({}, {})
        blank = lambda *shape: jax.ShapeDtypeStruct((1, *shape), jnp.float32)  # noqa: E731
        seen = [(name, blank(part.size)) for name, part in vectors.items()]
        maps = [blank(*grid, look.size) for grid in grids] if look else []
        number = len(seen) + sum(int(np.prod(grid)) for grid in grids)
        state = blank(vectors["state"].size) if "state" in vectors else None
        parts = {
            "tokens": tokens.lazy_init(keys[1], seen, maps),
            "posterior": posterior_.lazy_init(keys[2], state, blank(*chunk), blank(chunk[0]), drop=False),
            "transformer": transformer.lazy_init(keys[3], blank(config.latent_size), blank(number, config.size), drop=False),
        }
        return backbones | {name: dict(part["params"]) for name, part in parts.items()}, statistics

    def encode(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        maps: list[Array] = []
        if look:
            found, statistics = look.network.apply(params, statistics, x, key, train)
            maps = [features.map[:, 0] for features in found.values()]
        seen = [(name, told(name, x)) for name in vectors]
        return tokens.apply({"params": params["tokens"]}, seen, maps), statistics  # type: ignore[return-value]

    def posterior(
        params: Params, x: Observation, chunk: Array, mask: Array, key: Key | None = None, train: bool = False
    ) -> tuple[Array, Array]:
        del train
        rngs = None if key is None else {"dropout": key}
        return posterior_.apply({"params": params["posterior"]}, robot_state(x), chunk, mask, key is not None, rngs=rngs)  # type: ignore[return-value]

    def decode(params: Params, latent: Array, condition: Array, key: Key | None = None, train: bool = False) -> Array:
        del train
        rngs = None if key is None else {"dropout": key}
        return transformer.apply({"params": params["transformer"]}, latent, condition, key is not None, rngs=rngs)  # type: ignore[return-value]

    return Autoencoder(init, encode, posterior, decode, config.latent_size)
