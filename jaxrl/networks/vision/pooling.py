"""From the features of several cameras to one vector for each step."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks._attention import Attention
from jaxrl.networks.vision import positions
from jaxrl.networks.vision.cameras import Config as CamerasConfig
from jaxrl.networks.vision.cameras import cameras
from jaxrl.networks.vision.interface import Features
from jaxrl.networks.vision.spatial_softmax import SpatialSoftmax
from jaxrl.types import Array, Key, Observation, Params, PyTree, Spec, StatefulNetwork


@dataclass(frozen=True)
class Vision:
    """What `cameras` see, of each by a `pool`, and of all by a `fusion`.

    Pools are "spatial_softmax" over `keypoints` maps, the "mean" of the map, the "class" token, and "none", which keeps the map as it is.
    `head` are layers behind the pool, each with a ReLU: what adapts a frozen backbone.

    `fusion` "concatenate" puts cameras side by side. "attention" has `heads` heads of one learnt query look at all places of all cameras,
    which `head` has brought to its last size; there nothing is pooled.

    `state_dropout` is the chance that, while training, all states of a row are 0, so that a policy learns to look.
    """

    cameras: CamerasConfig = field(default_factory=CamerasConfig)
    pool: Literal["spatial_softmax", "mean", "class", "none"] = "spatial_softmax"
    keypoints: int = 32
    head: tuple[int, ...] = (64,)
    fusion: Literal["concatenate", "attention"] = "concatenate"
    heads: int = 4
    state_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.keypoints < 1:
            raise ValueError(f"keypoints is {self.keypoints}, but must be at least 1")
        if self.head and min(self.head) < 1:
            raise ValueError(f"head is {self.head}, but every layer must have at least 1")
        if not 0 <= self.state_dropout < 1:
            raise ValueError(f"state_dropout is {self.state_dropout}, but must be at least 0 and below 1")
        if self.fusion == "attention":
            if self.pool != "none":
                raise ValueError(f"pool is {self.pool!r}, but with the fusion 'attention' nothing is pooled; set it to 'none'")
            if not self.head or self.head[-1] % 4 or self.heads < 1 or self.head[-1] % self.heads:
                raise ValueError(f"head is {self.head}, but must end in a multiple of 4 and of heads, {self.heads}")


POOLS: dict[str, Callable[[Vision, Features], Any]] = {
    "spatial_softmax": lambda config, found: SpatialSoftmax(config.keypoints, name="pool")(found.map).reshape(found.map.shape[0], -1),
    "mean": lambda config, found: found.map.mean((1, 2)),
    "class": lambda config, found: found.tokens[:, 0],
    "none": lambda config, found: found.map.reshape(found.map.shape[0], -1),
}


def _head(config: Vision, x: Any) -> Any:
    for i, size in enumerate(config.head):
        x = nn.relu(nn.Dense(size, name=f"head_{i}")(x))
    return x


class _Pooled(nn.Module):
    """Of one camera."""

    config: Vision

    @nn.compact
    def __call__(self, found: Features) -> Any:
        return _head(self.config, POOLS[self.config.pool](self.config, found))


class _Places(nn.Module):
    """Of one camera: each place of its map as a vector that says what is there, and one that says where that is."""

    config: Vision

    @nn.compact
    def __call__(self, found: Features) -> tuple[Any, Any]:
        size = self.config.head[-1]
        rows, columns = found.map.shape[1:3]
        what = _head(self.config, found.map.reshape(found.map.shape[0], rows * columns, -1))
        own = self.param("whose", nn.initializers.normal(0.02), (size,))
        where = jnp.asarray(positions.across(rows, columns, size)).reshape(-1, size) + own[None]
        return what, jnp.broadcast_to(where[None], what.shape)


class _Fused(nn.Module):
    """[N, size] of the features of all cameras [N, ...]."""

    config: Vision

    @nn.compact
    def __call__(self, found: dict[str, Features]) -> Any:
        if self.config.fusion == "concatenate":
            return jnp.concatenate([_Pooled(self.config, name=f"camera_{name}")(found[name]) for name in sorted(found)], -1)
        both = [_Places(self.config, name=f"camera_{name}")(found[name]) for name in sorted(found)]
        what, where = (jnp.concatenate(parts, 1) for parts in zip(*both, strict=True))
        query = self.param("query", nn.initializers.normal(0.02), (1, self.config.head[-1]))
        queries = jnp.broadcast_to(query[None], (what.shape[0], *query.shape))
        return Attention(self.config.heads, name="fusion")(queries, what + where, what)[:, 0]


class Look(NamedTuple):
    """`network` maps an observation [B, ...] to [B, steps, size]."""

    network: StatefulNetwork
    steps: int  # of history
    size: int


def pooled(config: Vision, observation: Spec, who: str) -> Look:
    """What the cameras of an observation see, of each of its steps. Raises ValueError as `cameras` does."""
    seen, module = cameras(config.cameras, observation, who), _Fused(config)
    if config.pool == "class" and not seen.tokens:
        raise ValueError(f"{who}: pool is 'class', but {config.cameras.kind} has no class token; take another pool")
    empty: Any = lambda *shape: jax.ShapeDtypeStruct((1, *shape, seen.size), jnp.float32)  # noqa: E731
    blank = {name: Features(empty(*grid), empty(seen.tokens)) for name, grid in seen.grids.items()}

    def init(key: Key) -> tuple[Params, PyTree]:
        below, above = jax.random.split(key)
        params, statistics = seen.network.init(below)
        own = module.lazy_init(above, blank).get("params", {})
        return params | ({"fused": dict(own)} if own else {}), statistics

    def apply(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        found, statistics = seen.network.apply(params, statistics, x, key, train)
        axes = next(iter(found.values())).map.shape[:-3]
        rows = jax.tree.map(lambda leaf: leaf.reshape(math.prod(axes), *leaf.shape[len(axes) :]), found)
        output: Any = module.apply({"params": params.get("fused", {})}, rows)
        return output.reshape(*axes, -1), statistics

    size = jax.eval_shape(lambda rows: module.init_with_output(jax.random.key(0), rows)[0], blank).shape[-1]
    return Look(StatefulNetwork(init, apply), seen.steps, size)
