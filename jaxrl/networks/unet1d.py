"""The U-Net over time of Diffusion Policy (Chi et al. 2023, https://arxiv.org/abs/2303.04137), whose layers are conditioned by FiLM."""

from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks import _denoising
from jaxrl.networks._convolution_1d import Convolution, Growth, uniform
from jaxrl.networks._observation import beside, encoder
from jaxrl.networks.interface import Denoiser
from jaxrl.networks.vision.pooling import Vision
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec


@dataclass(frozen=True)
class Config:
    """Each of `channels` is a level with half the steps of the one before. `groups` are those of the group normalisation.

    `time_scale` times the time in [0, 1] is what the sinusoid of `time_size` takes: the number of steps of a diffusion, so that it sees
    whole numbers.
    """

    channels: tuple[int, ...] = (512, 1024, 2048)
    kernel_size: int = 5
    groups: int = 8
    time_size: int = 128
    time_scale: float = 100.0
    vision: Vision | None = field(default_factory=Vision)  # how pictures are looked at; None looks at states alone

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1 or any(size % self.groups for size in self.channels):
            raise ValueError(f"channels are {self.channels}, but must be multiples of groups, {self.groups}, and at least one")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {self.kernel_size}, but must be odd: a step is in the middle of what it reads")
        _denoising.check_sinusoid(self.time_size, "time_size")


class _Norm(nn.Module):
    """Group normalisation of [time, B, C] over time and the channels of a group."""

    groups: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        grouped = x.reshape(*x.shape[:2], self.groups, -1)
        centred = grouped - grouped.mean((0, 3), keepdims=True)
        normal = centred * jax.lax.rsqrt(jnp.square(centred).mean((0, 3), keepdims=True) + 1e-5)
        return normal.reshape(x.shape) * scale.reshape(1, 1, -1) + bias.reshape(1, 1, -1)


def _dense(inputs: int, outputs: int, name: str) -> nn.Module:
    return nn.Dense(outputs, kernel_init=lambda key, shape, dtype: uniform(inputs)(key, shape), name=name)


class _Residual(nn.Module):
    """Two convolutions, between which the condition scales and shifts, beside a way past both."""

    config: Config
    channels: int

    @nn.compact
    def __call__(self, x: Any, condition: Any) -> Any:
        config, inputs = self.config, x.shape[-1]
        y = Convolution(self.channels, config.kernel_size, name="convolution_0")(x)
        y = _denoising.mish(_Norm(config.groups, name="norm_0")(y))
        film = _dense(condition.shape[-1], 2 * self.channels, "film")(condition)[None]
        y = y * film[..., : self.channels] + film[..., self.channels :]
        y = Convolution(self.channels, config.kernel_size, name="convolution_1")(y)
        y = _denoising.mish(_Norm(config.groups, name="norm_1")(y))
        return y + (x if inputs == self.channels else _dense(inputs, self.channels, "residual")(x))


class _UNet(nn.Module):
    config: Config
    action_dim: int

    @nn.compact
    def __call__(self, noisy: Any, time: Any, condition: Any) -> Any:
        """[B, H, A], [B], [B, N] to [B, H, A]."""
        config, levels = self.config, len(self.config.channels)
        wave = _denoising.sinusoid(time * config.time_scale, config.time_size)
        hidden = _denoising.mish(_dense(config.time_size, 4 * config.time_size, "time_hidden")(wave))
        step = _dense(4 * config.time_size, config.time_size, "time_output")(hidden)
        condition = _denoising.mish(jnp.concatenate([step, condition], -1))

        def block(x: Any, channels: int, name: str) -> Any:
            x = _Residual(config, channels, name=f"{name}_0")(x, condition)
            return _Residual(config, channels, name=f"{name}_1")(x, condition)

        x, skips = jnp.swapaxes(noisy, 0, 1), []
        for level, channels in enumerate(config.channels):
            x = block(x, channels, f"down_{level}")
            skips.append(x)
            if level < levels - 1:
                x = Convolution(channels, 3, 2, name=f"shrink_{level}")(x)
        x = block(x, config.channels[-1], "middle")
        for level in reversed(range(1, levels)):  # what the first level computes is not handed over, as in the published network
            x = block(jnp.concatenate([x, skips[level]], -1), config.channels[level - 1], f"up_{level}")
            x = Growth(name=f"grow_{level}")(x)
        x = Convolution(config.channels[0], config.kernel_size, name="final_convolution")(x)
        x = _denoising.mish(_Norm(config.groups, name="final_norm")(x))
        return jnp.swapaxes(_dense(config.channels[0], self.action_dim, "output")(x), 0, 1)


def unet1d(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> Denoiser:
    """The condition is the features of an observation's steps, one after the other.

    Raises:
        ValueError: the horizon cannot be halved from level to level, actions are no vectors, or the observation cannot be encoded.
    """
    horizon, action_dim = _denoising.chunk_shape(output_shape, "unet1d")
    parts = 2 ** (len(config.channels) - 1)
    if horizon % parts:
        raise ValueError(
            f"unet1d with {len(config.channels)} levels needs a horizon that is a multiple of {parts}, got {horizon}; "
            f"take a horizon of {-(-horizon // parts) * parts} or fewer channels"
        )
    seen = encoder(observation, "unet1d", config.vision)
    size = seen.steps * seen.size
    module = _UNet(config, action_dim)

    def init(key: Key) -> tuple[Params, PyTree]:
        of_encoder, of_unet = jax.random.split(key)
        encoder_params, statistics = seen.network.init(of_encoder)
        unet = module.init(of_unet, jnp.zeros((1, horizon, action_dim)), jnp.zeros(1), jnp.zeros((1, size)))["params"]
        return beside(encoder_params, unet=unet), statistics

    def encode(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        features, statistics = seen.network.apply(params.get("encoder", {}), statistics, x, key, train)
        return features.reshape(len(features), size), statistics

    def denoise(params: Params, noisy: Array, time: Array, condition: Array, key: Key | None = None, train: bool = False) -> Array:
        del key, train
        return module.apply({"params": params["unet"]}, noisy, time, condition)  # type: ignore[return-value]

    return Denoiser(init, encode, denoise)
