"""Actor and critic over camera images and flat observations, as on-policy methods take them.

Each has an encoder of its own: convolutions over all images, side by side along the channels (Mnih et al. 2015,
https://doi.org/10.1038/nature14236), a dense layer, and the normalisation before tanh of Yarats et al. 2021
(https://arxiv.org/abs/2004.13649). What follows is `actor_critic`.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks._convolution import check_layers
from jaxrl.networks._groups import images
from jaxrl.networks.actor_critic import ActorCritic, actor_critic
from jaxrl.networks.actor_critic import Config as Head
from jaxrl.ops.patches import patches
from jaxrl.types import Array, ArraySpec, EnvSpec, Key, Network, Observation, Params, PolicySpec, Spec

FEATURES = "state/image_features"  # the name under which the flat networks take what the encoder makes of the images


class Layer(NamedTuple):
    """One convolution."""

    channels: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class Config:
    """`layers` are (channels, kernel, stride); `head` is what follows the encoder.

    `image_critic` False shows the critic the flat groups alone (asymmetric actor and critic, Pinto et al. 2018,
    https://arxiv.org/abs/1710.06542).
    """

    layers: tuple[tuple[int, int, int], ...] = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
    features: int = 128
    image_critic: bool = True
    head: Head = field(default_factory=Head)

    def __post_init__(self) -> None:
        check_layers(self.layers, self.features)


class _Encoder(nn.Module):
    layers: tuple[Layer, ...]
    features: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for i, layer in enumerate(self.layers):
            # Dense layers on patches are the same as convolutions. XLA's own take fifty times as long on a CPU inside a loop, where
            # training runs.
            convolve = nn.Dense(layer.channels, kernel_init=nn.initializers.orthogonal(2**0.5), name=f"conv_{i}")
            x = nn.relu(convolve(patches(x, layer.kernel, layer.stride)))
        x = x.reshape(*x.shape[:-3], -1)
        x = nn.Dense(self.features, kernel_init=nn.initializers.orthogonal(), name="features")(x)
        return jnp.tanh(nn.LayerNorm(name="norm")(x))


def _encoder(config: Config, observation: Spec, names: tuple[str, ...]) -> Network:
    """uint8 images [..., height, width, channels] of one size to [..., features]."""
    shapes = [observation[name].shape for name in names]
    height, width = int(shapes[0][0]), int(shapes[0][1])
    layers = tuple(Layer(*layer) for layer in config.layers)
    left = min(height, width)
    for layer in layers:
        left = (left - layer.kernel) // layer.stride + 1
        if left < 1:
            raise ValueError(f"conv_actor_critic: images of {height} x {width} are too small for the layers {config.layers}")
    module = _Encoder(layers, config.features)
    channels = sum(int(shape[2]) for shape in shapes)

    def init(key: Key) -> Params:
        return module.init(key, jnp.zeros((1, height, width, channels)))["params"]

    def apply(params: Params, x: Observation, key: Key | None = None, train: bool = False) -> Array:
        del key, train
        stacked = jnp.concatenate([x[name] for name in names], -1)
        output: Any = module.apply({"params": params}, stacked.astype(jnp.float32) / 255.0 - 0.5)
        return output

    return Network(init, apply)


def _behind(encoder: Network, head: Any) -> Network:
    """`head`, shown the encoder's features beside the flat groups."""

    def init(key: Key) -> Params:
        below, above = jax.random.split(key)
        return {"encoder": encoder.init(below), "head": head.init(above)}

    def apply(params: Params, x: Observation, key: Key | None = None, train: bool = False) -> Any:
        features = encoder.apply(params["encoder"], x, key, train)
        return head.apply(params["head"], x | {FEATURES: features}, key, train)

    return Network(init, apply)


def _blind_critic(config: Config, spec: EnvSpec | PolicySpec) -> Network:
    """The critic of flat groups, of which there may be privileged ones alone."""
    kinds = ("state/", "privileged/") if config.head.privileged_critic else ("state/",)
    flat = {f"state/{name}": part for name, part in spec.observation.items() if name.startswith(kinds)}
    if not flat:
        raise ValueError("conv_actor_critic: image_critic is False, but there is no flat group for the critic to see")
    critic: Any = actor_critic(config.head, spec._replace(observation=flat)).critic

    def apply(params: Params, x: Observation, key: Key | None = None, train: bool = False) -> Any:
        return critic.apply(params, {name: x[name.removeprefix("state/")] for name in flat}, key, train)

    return Network(critic.init, apply)


def conv_actor_critic(config: Config, spec: EnvSpec | PolicySpec) -> ActorCritic:
    """Two separate networks. The actor sees every `image/<camera>` and `state/<group>`; the critic also every `privileged/<group>`.

    Without images it is `actor_critic`.

    Raises:
        ValueError: there is neither an image nor a state group, images are not uint8 [height, width, channels] of one size or are
            too small for the layers, or `actor_critic` refuses the rest.
    """
    names = images(spec.observation, "conv_actor_critic")
    if not names:
        return actor_critic(config.head, spec)
    encoder = _encoder(config, spec.observation, names)
    encoded = spec._replace(observation={**spec.observation, FEATURES: ArraySpec((config.features,))})
    both = actor_critic(config.head, encoded)
    critic = _behind(encoder, both.critic) if config.image_critic else _blind_critic(config, spec)
    return ActorCritic(_behind(encoder, both.actor), critic, both.distribution)
