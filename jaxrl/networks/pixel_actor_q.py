"""Actor and action-value critics over camera images and flat observations, with one encoder (DrQ-v2, Yarats et al. 2021,
https://arxiv.org/abs/2107.09645, section 3.1). What follows the encoder is `actor_q`.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.distributions.return_distribution import ReturnDistribution
from jaxrl.networks._convolution import Convolution, check_layers
from jaxrl.networks._groups import images
from jaxrl.networks._torsos import Torso
from jaxrl.networks.actor_q import ActorQ, actor_q, state_value
from jaxrl.networks.actor_q import Config as Head
from jaxrl.networks.conv_actor_critic import FEATURES
from jaxrl.types import ArraySpec, EnvSpec, Key, Observation, Params, PolicySpec, PyTree, Spec, StatefulNetwork


class PixelActorQ(NamedTuple):
    """`encoder` maps an observation to one whose images are replaced by their features; `actor` and `critic` are those of an `ActorQ` that
    sees such observations, and `value` tells what it is worth to be there, [..., 1].

    The encoder learns with the critics; the actor is shown what it makes without letting a gradient through.
    """

    encoder: StatefulNetwork
    actor: StatefulNetwork
    critic: StatefulNetwork
    value: StatefulNetwork
    returns: ReturnDistribution


def _head() -> Head:
    torso = Torso(width=1024)
    return Head(torso, torso, deterministic=True, actor_scale=1.0)


@dataclass(frozen=True)
class Config:
    """`layers` are (channels, kernel, stride); actor and critics each bring what is left down to `features` numbers, for their `head`."""

    layers: tuple[tuple[int, int, int], ...] = ((32, 3, 2), (32, 3, 1), (32, 3, 1), (32, 3, 1))
    features: int = 50
    head: Head = field(default_factory=_head)

    def __post_init__(self) -> None:
        check_layers(self.layers, self.features)


class _Encoder(nn.Module):
    layers: tuple[tuple[int, int, int], ...]

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for i, (channels, size, stride) in enumerate(self.layers):
            x = nn.relu(Convolution(channels, size, stride, name=f"conv_{i}")(x))
        return x.reshape(*x.shape[:-3], -1)


class _Trunk(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(self.features, kernel_init=nn.initializers.orthogonal(), name="features")(x)
        return jnp.tanh(nn.LayerNorm(name="norm")(x))


def _encoder(config: Config, observation: Spec, names: tuple[str, ...]) -> tuple[StatefulNetwork, int]:
    """The encoder of uint8 images of one size, and how many features of them it leaves."""
    height, width = (int(length) for length in observation[names[0]].shape[:2])
    left = [height, width]
    for _, size, stride in config.layers:
        left = [(length - size) // stride + 1 for length in left]
        if min(left) < 1:
            raise ValueError(f"pixel_actor_q: images of {height} x {width} are too small for the layers {config.layers}")
    channels = sum(int(observation[name].shape[2]) for name in names)
    module = _Encoder(config.layers)

    def init(key: Key) -> tuple[Params, PyTree]:
        return module.init(key, jnp.zeros((1, height, width, channels)))["params"], {}

    def apply(
        params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False
    ) -> tuple[Observation, PyTree]:
        del key, train
        stacked = jnp.concatenate([x[name] for name in names], -1)
        features: Any = module.apply({"params": params}, stacked.astype(jnp.float32) / 255.0 - 0.5)
        return {name: part for name, part in x.items() if name not in names} | {FEATURES: features}, statistics

    return StatefulNetwork(init, apply), left[0] * left[1] * config.layers[-1][0]


def _behind(trunk: _Trunk, size: int, head: StatefulNetwork, takes_action: bool) -> StatefulNetwork:
    """`head`, shown what the trunk makes of the encoder's features [..., size]."""

    def init(key: Key) -> tuple[Params, PyTree]:
        below, above = jax.random.split(key)
        params, statistics = head.init(above)
        return {"trunk": trunk.init(below, jnp.zeros((1, size)))["params"], "head": params}, statistics

    def apply(params: Params, statistics: PyTree, x: Any, key: Key | None = None, train: bool = False) -> tuple[Any, PyTree]:
        seen, *action = x if takes_action else (x,)
        seen = seen | {FEATURES: trunk.apply({"params": params["trunk"]}, seen[FEATURES])}
        return head.apply(params["head"], statistics, (seen, *action) if takes_action else seen, key, train)

    def project(params: Params) -> Params:
        return params | {"head": head.project(params["head"])}

    return StatefulNetwork(init, apply, project)


def pixel_actor_q(config: Config, spec: EnvSpec | PolicySpec) -> PixelActorQ:
    """The actor sees every `image/<camera>` and `state/<group>`; the critics also every `privileged/<group>`, unless told not to.

    All critics share a trunk.

    Raises:
        ValueError: there is no image, images are not uint8 [height, width, channels] of one size or are too small for the layers, or
            `actor_q` refuses the rest.
    """
    names = images(spec.observation, "pixel_actor_q")
    if not names:
        offered = ", ".join(sorted(spec.observation)) or "none"
        raise ValueError(f"pixel_actor_q needs at least one image/<camera> observation; offered are {offered}. Without, take actor_q")
    encoder, size = _encoder(config, spec.observation, names)
    encoded = {name: part for name, part in spec.observation.items() if name not in names} | {FEATURES: ArraySpec((config.features,))}
    behind = spec._replace(observation=encoded)
    heads, trunk = actor_q(config.head, behind), _Trunk(config.features)
    return PixelActorQ(
        encoder=encoder,
        actor=_behind(trunk, size, heads.actor, False),
        critic=_behind(trunk, size, heads.critic, True),
        value=_behind(trunk, size, state_value(config.head, behind), False),
        returns=heads.returns,
    )


def joined(networks: PixelActorQ) -> ActorQ:
    """Critics that hold the encoder, and have a target of it too; the actor looks through it without training it (DrQ, Yarats et al. 2021,
    https://arxiv.org/abs/2004.13649).
    """

    def looking(part: StatefulNetwork, takes_action: bool) -> StatefulNetwork:
        def apply(params: Params, statistics: PyTree, x: Any, key: Key | None = None, train: bool = False) -> tuple[Any, PyTree]:
            observation, *action = x if takes_action else (x,)
            seen, _ = networks.encoder.apply(params["encoder"], {}, observation)
            return part.apply(params["own"], statistics, (seen, *action) if takes_action else seen, key, train)

        def init(key: Key) -> tuple[Params, PyTree]:
            below, above = jax.random.split(key)
            params, statistics = part.init(above)
            return {"own": params} | ({"encoder": networks.encoder.init(below)[0]} if takes_action else {}), statistics

        def project(params: Params) -> Params:
            return params | {"own": part.project(params["own"])}

        return StatefulNetwork(init, apply, project)

    def tied(actor: Params, critic: Params) -> Params:
        return actor | {"encoder": critic["encoder"]}

    return ActorQ(looking(networks.actor, False), looking(networks.critic, True), networks.returns, tied)
