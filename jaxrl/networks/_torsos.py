"""What lies between input and output layer of the networks of off-policy methods, by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxrl.networks._layers import BatchRenorm, Scaler, normed, orthogonal, unit, unit_kernels
from jaxrl.networks.mlp import ACTIVATIONS
from jaxrl.ops.paths import flatten_names, map_with_path
from jaxrl.ops.suggestion import suggestion
from jaxrl.types import Params


@dataclass(frozen=True)
class Torso:
    """`kind` is one of `TORSOS`; `depth` counts its layers, or its residual blocks. `activation` is for "mlp" and "crossq".

    The rest is for "mlp" alone. `dropout` is the share of features that are left out of each layer while learning (DroQ,
    https://arxiv.org/abs/2110.02034). Each layer has `narrowing` times fewer features than the one before it.
    """

    kind: str = "mlp"
    width: int = 256
    depth: int = 2
    activation: str = "relu"
    layer_norm: bool = False
    dropout: float = 0.0
    narrowing: int = 1

    def __post_init__(self) -> None:
        if self.kind not in TORSOS:
            raise ValueError(f"there is no torso {self.kind!r}; {suggestion(self.kind, list(TORSOS))}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is unknown; there are {', '.join(ACTIVATIONS)}")
        for name in ("width", "depth", "narrowing"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, but must be at least 0 and below 1")
        if self.kind != "mlp" and (self.layer_norm or self.dropout or self.narrowing > 1):
            raise ValueError(f"layer_norm, dropout and narrowing are for the torso 'mlp', but this is {self.kind!r}; leave them out")
        if self.kind not in ("mlp", "crossq") and self.activation != "relu":
            raise ValueError(f"the torso {self.kind!r} has relu inside, but activation is {self.activation!r}; leave it out")
        if self.width // self.narrowing ** (self.depth - 1) < 1:
            raise ValueError(f"nothing is left of a width of {self.width} after {self.depth} layers, each {self.narrowing} times narrower")


class _MLP(nn.Module):
    torso: Torso

    @nn.compact
    def __call__(self, x: Any, train: bool, drop: bool) -> Any:
        for i in range(self.torso.depth):
            x = nn.Dense(self.torso.width // self.torso.narrowing**i, kernel_init=orthogonal(), name=f"hidden_{i}")(x)
            if self.torso.dropout:
                x = nn.Dropout(self.torso.dropout, deterministic=not drop, name=f"dropout_{i}")(x)
            if self.torso.layer_norm:
                x = nn.LayerNorm(name=f"norm_{i}")(x)
            x = ACTIVATIONS[self.torso.activation](x)
        return x


class _Simba(nn.Module):
    """Residual blocks with their normalisation in front (Lee et al. 2024, https://arxiv.org/abs/2410.09754, section 4)."""

    torso: Torso

    @nn.compact
    def __call__(self, x: Any, train: bool, drop: bool) -> Any:
        width, he = self.torso.width, nn.initializers.he_normal()
        x = nn.Dense(width, kernel_init=orthogonal(1.0), name="embed")(x)
        for i in range(self.torso.depth):
            y = nn.LayerNorm(name=f"norm_{i}")(x)
            y = nn.relu(nn.Dense(4 * width, kernel_init=he, name=f"wide_{i}")(y))
            x = x + nn.Dense(width, kernel_init=he, name=f"narrow_{i}")(y)
        return nn.LayerNorm(name="norm")(x)


class _SimbaV2(nn.Module):
    """Features and weights on unit spheres (Lee et al. 2025, https://arxiv.org/abs/2502.15280, section 4), see `unit_kernels`.

    The input is lengthened by a constant before it is normalised, so that its length is not lost.
    """

    torso: Torso
    shift: float = 3.0

    @nn.compact
    def __call__(self, x: Any, train: bool, drop: bool) -> Any:
        width = self.torso.width

        def dense(size: int, name: str) -> nn.Module:
            return nn.Dense(size, use_bias=False, kernel_init=orthogonal(1.0), name=name)

        begin = math.sqrt(2.0 / width)
        x = unit(jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), self.shift, x.dtype)], -1))
        x = unit(Scaler(begin, begin, name="embed_scaler")(dense(width, "embed")(x)))
        for i in range(self.torso.depth):
            y = Scaler(begin / 2, begin / 2, name=f"scaler_{i}")(dense(4 * width, f"wide_{i}")(x))  # 2 is the root of the expansion
            y = unit(dense(width, f"narrow_{i}")(nn.relu(y) + 1e-8))
            x = unit(x + Scaler(1.0 / (self.torso.depth + 1), 1.0 / math.sqrt(width), name=f"step_{i}")(y - x))
        return Scaler(begin, begin, name="head_scaler")(dense(width, "head")(x))


class _Bro(nn.Module):
    """BroNet (Nauman et al. 2024, https://arxiv.org/abs/2405.16158, section 3)."""

    torso: Torso

    @nn.compact
    def __call__(self, x: Any, train: bool, drop: bool) -> Any:
        def layer(x: Any, name: str) -> Any:
            return nn.LayerNorm(name=f"norm_{name}")(nn.Dense(self.torso.width, kernel_init=orthogonal(), name=name)(x))

        x = nn.relu(layer(x, "embed"))
        for i in range(self.torso.depth):
            x = x + layer(nn.relu(layer(x, f"first_{i}")), f"second_{i}")
        return x


class _CrossQ(nn.Module):
    """Layers with batch renormalisation in front of each and of all (Bhatt et al. 2024, https://arxiv.org/abs/1902.05605, section 4)."""

    torso: Torso

    @nn.compact
    def __call__(self, x: Any, train: bool, drop: bool) -> Any:
        x = BatchRenorm(name="norm")(x, train)
        for i in range(self.torso.depth):
            x = ACTIVATIONS[self.torso.activation](nn.Dense(self.torso.width, kernel_init=orthogonal(), name=f"hidden_{i}")(x))
            x = BatchRenorm(name=f"norm_{i}")(x, train)
        return x


class _XQC(nn.Module):
    """Batch normalisation and weights of unit norm (Palenicek et al. 2025, https://arxiv.org/abs/2509.25174); see `_xqc_project`."""

    torso: Torso

    @nn.compact
    def __call__(self, x: Any, train: bool, drop: bool) -> Any:
        x = normed(0.99, "norm", train)(x)
        for i in range(self.torso.depth):
            x = nn.Dense(self.torso.width, use_bias=False, kernel_init=orthogonal(), name=f"hidden_{i}")(x)
            x = nn.relu(normed(0.99, f"norm_{i}", train)(x))
        return x


class _Flash(nn.Module):
    """Batch-normalised inverted residual blocks of FlashSAC; `_flash_project` keeps its weights."""

    torso: Torso

    @nn.compact
    def __call__(self, x: Any, train: bool, drop: bool) -> Any:
        width = self.torso.width

        def layer(x: Any, size: int, name: str) -> Any:
            x = nn.Dense(size, use_bias=False, kernel_init=orthogonal(1.0), name=name)(x)
            return nn.relu(normed(0.99, f"norm_{name}", train)(x))

        x = nn.Dense(width, use_bias=False, kernel_init=orthogonal(1.0), name="embed")(normed(0.99, "norm", train)(x))
        for i in range(self.torso.depth):
            x = x + layer(layer(x, 4 * width, f"wide_{i}"), width, f"narrow_{i}")
        return nn.RMSNorm(name="norm_out")(x)


def _flash_project(params: Params) -> Params:
    """Kernels as `unit_kernels` leaves them; scale and bias [..., d] of a norm together as long as a vector of ones."""
    leaves = flatten_names(params)

    def one(path: str, x: Any) -> Any:
        layer, _, name = path.rpartition("/")
        if "norm" not in layer or name not in ("scale", "bias"):
            return x
        both = [leaves[f"{layer}/{n}"] for n in ("scale", "bias") if f"{layer}/{n}" in leaves]
        length = jnp.sqrt(sum(jnp.square(leaf).sum(-1, keepdims=True) for leaf in both))
        return x * math.sqrt(x.shape[-1]) / jnp.maximum(length, 1e-8)

    return map_with_path(one, unit_kernels(params))


def _xqc_project(params: Params) -> Params:
    """Kernels as `unit_kernels` leaves them, but that of the output."""
    return {name: unit_kernels(part) if name == "torso" else part for name, part in params.items()}


class _Kind(NamedTuple):
    module: Callable[..., nn.Module]
    project: Callable[[Params], Params] = lambda params: params


TORSOS: dict[str, _Kind] = {
    "mlp": _Kind(_MLP),
    "simba": _Kind(_Simba),
    "simba_v2": _Kind(_SimbaV2, unit_kernels),
    "bro": _Kind(_Bro),
    "crossq": _Kind(_CrossQ),
    "xqc": _Kind(_XQC, _xqc_project),
    "flash": _Kind(_Flash, _flash_project),
}
