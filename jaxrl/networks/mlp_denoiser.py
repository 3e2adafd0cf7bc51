"""A denoiser for states: residual blocks over a chunk as one vector (Hansen-Estruch et al. 2023, https://arxiv.org/abs/2304.10573,
appendix), scaled and shifted by time and observation (FiLM, Perez et al. 2018, https://arxiv.org/abs/1709.07871)."""

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks import _denoising
from jaxrl.networks._observation import beside, encoder
from jaxrl.networks.interface import Denoiser
from jaxrl.networks.vision.pooling import Vision
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec


@dataclass(frozen=True)
class Config:
    """`depth` counts residual blocks, each with a hidden layer four times as wide as `width`.

    `time_scale` times the time in [0, 1] is what the sinusoid of `time_size` takes.
    """

    width: int = 256
    depth: int = 4
    dropout: float = 0.0  # of what each block reads
    time_size: int = 64
    time_scale: float = 100.0
    vision: Vision | None = field(default_factory=Vision)  # how pictures are looked at; None looks at states alone

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, but must be at least 0 and below 1")
        _denoising.check_sinusoid(self.time_size, "time_size")


class _Blocks(nn.Module):
    config: Config
    outputs: int

    @nn.compact
    def __call__(self, noisy: Any, time: Any, condition: Any, drop: bool) -> Any:
        """[B, horizon * action_dim], [B], [B, N] to what the first is."""
        config = self.config
        wave = _denoising.sinusoid(time * config.time_scale, config.time_size)
        hidden = _denoising.mish(nn.Dense(2 * config.time_size, name="time_hidden")(wave))
        step = nn.Dense(config.time_size, name="time_output")(hidden)
        x = nn.Dense(config.width, name="embed")(jnp.concatenate([noisy, step, condition], -1))
        seen = nn.Dense(config.width, name="condition_hidden")(condition)
        both = _denoising.mish(jnp.concatenate([step, seen], -1))
        both = _denoising.mish(nn.Dense(config.width, name="condition_output")(both))
        for i in range(config.depth):
            film = nn.Dense(2 * config.width, name=f"film_{i}")(both)
            y = nn.LayerNorm(name=f"norm_{i}")(x) * (1.0 + film[..., : config.width]) + film[..., config.width :]
            y = nn.Dropout(config.dropout, deterministic=not drop, name=f"dropout_{i}")(y)
            y = nn.Dense(4 * config.width, name=f"wide_{i}")(y)
            x = x + nn.Dense(config.width, name=f"narrow_{i}")(_denoising.mish(y))
        return nn.Dense(self.outputs, name="output")(nn.LayerNorm(name="norm")(x))


def mlp_denoiser(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> Denoiser:
    """What all steps of a history show, side by side, is the condition.

    It is far cheaper than a U-Net and has no notion of which step comes after which: for short chunks of few numbers.

    Raises:
        ValueError: actions are no vectors, or the observation cannot be encoded.
    """
    horizon, action_dim = _denoising.chunk_shape(output_shape, "mlp_denoiser")
    seen = encoder(observation, "mlp_denoiser", config.vision)
    size = seen.steps * seen.size
    module = _Blocks(config, horizon * action_dim)

    def init(key: Key) -> tuple[Params, PyTree]:
        of_encoder, of_blocks = jax.random.split(key)
        encoder_params, statistics = seen.network.init(of_encoder)
        blank = jnp.zeros((1, horizon * action_dim)), jnp.zeros(1), jnp.zeros((1, size))
        return beside(encoder_params, blocks=module.init(of_blocks, *blank, drop=False)["params"]), statistics

    def encode(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        features, statistics = seen.network.apply(params.get("encoder", {}), statistics, x, key, train)
        return features.reshape(len(features), size), statistics

    def denoise(params: Params, noisy: Array, time: Array, condition: Array, key: Key | None = None, train: bool = False) -> Array:
        del train
        flat, rngs = noisy.reshape(len(noisy), -1), None if key is None else {"dropout": key}
        output: Any = module.apply({"params": params["blocks"]}, flat, time, condition, key is not None, rngs=rngs)
        return output.reshape(noisy.shape)

    return Denoiser(init, encode, denoise)
