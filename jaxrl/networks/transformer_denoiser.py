"""The transformer of Diffusion Policy (Chi et al. 2023, https://arxiv.org/abs/2303.04137), a decoder over observations."""

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks import _denoising
from jaxrl.networks._attention import Attention
from jaxrl.networks._observation import beside, encoder
from jaxrl.networks.interface import Denoiser
from jaxrl.networks.vision.pooling import Vision
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec


@dataclass(frozen=True)
class Config:
    """`layers` of the decoder; with `condition_layers` 0 the condition goes through an MLP, else through an encoder of as many layers.

    `time_scale` times the time in [0, 1] is what the sinusoid of the time token takes.
    """

    layers: int = 8
    heads: int = 4
    size: int = 256
    condition_layers: int = 0
    dropout: float = 0.3  # of attention, and of what each sub-layer adds
    embedding_dropout: float = 0.0
    time_scale: float = 100.0
    vision: Vision | None = field(default_factory=Vision)  # how pictures are looked at; None looks at states alone

    def __post_init__(self) -> None:
        for name, least in (("layers", 1), ("heads", 1), ("condition_layers", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least {least}")
        _denoising.check_sinusoid(self.size, "size")
        if self.size % self.heads:
            raise ValueError(f"size is {self.size}, but must be a multiple of heads, {self.heads}")
        for name in ("dropout", "embedding_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be in [0, 1)")


_normal = nn.initializers.normal(0.02)


def _dense(size: int, name: str) -> nn.Module:
    return nn.Dense(size, kernel_init=_normal, name=name)


def _norm(name: str) -> nn.Module:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)


class _Layer(nn.Module):
    """With the norm in front of each sub-layer. Without `memory`, it is one of an encoder."""

    config: Config
    drop: bool

    @nn.compact
    def __call__(self, x: Any, mask: Any = None, memory: Any = None, memory_mask: Any = None) -> Any:
        def dropped(y: Any, name: str) -> Any:
            return nn.Dropout(self.config.dropout, deterministic=not self.drop, name=name)(y)

        def attended(y: Any, memory: Any, allowed: Any, name: str) -> Any:
            attention = Attention(self.config.heads, self.config.dropout, _normal, _normal, name=f"{name}_attention")
            return dropped(attention(y, memory, memory, drop=self.drop, allowed=allowed), f"{name}_dropout")

        y = _norm("self_norm")(x)
        x = x + attended(y, y, mask, "self")
        if memory is not None:
            x = x + attended(_norm("cross_norm")(x), memory, memory_mask, "cross")
        y = nn.gelu(_dense(4 * self.config.size, "hidden")(_norm("hidden_norm")(x)), approximate=False)
        return x + dropped(_dense(self.config.size, "output")(dropped(y, "hidden_dropout")), "output_dropout")


class _Transformer(nn.Module):
    config: Config
    action_dim: int

    @nn.compact
    def __call__(self, noisy: Any, time: Any, features: Any, drop: bool) -> Any:
        """[B, H, A], [B], [B, steps, N] to [B, H, A]."""
        config, horizon = self.config, noisy.shape[1]

        def placed(x: Any, name: str) -> Any:
            table = self.param(f"{name}_positions", _normal, x.shape[1:])
            return nn.Dropout(config.embedding_dropout, deterministic=not drop, name=f"{name}_dropout")(x + table[None])

        wave = _denoising.sinusoid(time * config.time_scale, config.size)[:, None]
        memory = placed(jnp.concatenate([wave, _dense(config.size, "observation")(features)], 1), "condition")
        for i in range(config.condition_layers):
            memory = _Layer(config, drop, name=f"condition_{i}")(memory)
        if not config.condition_layers:
            memory = _denoising.mish(_dense(4 * config.size, "condition_hidden")(memory))
            memory = _dense(config.size, "condition_output")(memory)

        steps, tokens = jnp.arange(horizon)[:, None], jnp.arange(memory.shape[1])[None]
        past = steps >= jnp.arange(horizon)[None]
        seen = steps >= tokens - 1  # the time token is the first, so that of observation s is s + 1
        x = placed(_dense(config.size, "action")(noisy), "action")
        for i in range(config.layers):
            x = _Layer(config, drop, name=f"layer_{i}")(x, past, memory, seen)
        return _dense(self.action_dim, "output")(_norm("output_norm")(x))


def transformer_denoiser(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> Denoiser:
    """A step of the chunk attends to the steps before it, to the time, and to the observations up to its own place.

    Raises:
        ValueError: actions are no vectors, or the observation cannot be encoded.
    """
    horizon, action_dim = _denoising.chunk_shape(output_shape, "transformer_denoiser")
    seen = encoder(observation, "transformer_denoiser", config.vision)
    module = _Transformer(config, action_dim)

    def init(key: Key) -> tuple[Params, PyTree]:
        of_encoder, of_transformer = jax.random.split(key)
        encoder_params, statistics = seen.network.init(of_encoder)
        blank = jnp.zeros((1, horizon, action_dim)), jnp.zeros(1), jnp.zeros((1, seen.steps, seen.size))
        return beside(encoder_params, transformer=module.init(of_transformer, *blank, drop=False)["params"]), statistics

    def encode(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        return seen.network.apply(params.get("encoder", {}), statistics, x, key, train)

    def denoise(params: Params, noisy: Array, time: Array, condition: Array, key: Key | None = None, train: bool = False) -> Array:
        del train
        rngs = None if key is None else {"dropout": key}
        return module.apply({"params": params["transformer"]}, noisy, time, condition, key is not None, rngs=rngs)  # type: ignore[return-value]

    return Denoiser(init, encode, denoise)
