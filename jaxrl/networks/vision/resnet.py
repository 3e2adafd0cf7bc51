"""ResNet-18 and -34 (He et al. 2016, https://arxiv.org/abs/1512.03385), as torchvision's, without pooling and classes at their end."""

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks._convolution import convolve
from jaxrl.networks.vision.interface import IMAGENET, Backbone, Features
from jaxrl.types import Array, Key, Params, PyTree, StatefulNetwork

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_EPSILON = 1e-5


@dataclass(frozen=True)
class Config:
    """`blocks` of each stage; the first has `width` channels, every other one twice those of the last at half the rows and columns.

    `norm` "batch" keeps the mean, variance, scale and bias of what was pretrained, which no gradient reaches: they are statistics. "group"
    normalises 16 channels at a time and is trained, which suits small batches and averages of weights (Diffusion Policy, Chi et al. 2023,
    https://arxiv.org/abs/2303.04137, section III).
    """

    blocks: tuple[int, ...] = BLOCKS[18]
    norm: Literal["batch", "group"] = "batch"
    width: int = 64

    def __post_init__(self) -> None:
        if not self.blocks or min(self.blocks) < 1:
            raise ValueError(f"blocks: expected at least one stage of at least one block, got {self.blocks}")
        if self.width < 1 or self.width % 16:
            raise ValueError(f"width is {self.width}, but must be a multiple of 16, the channels that are normalised together")


class _Convolution(nn.Module):
    channels: int
    size: int
    stride: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        start = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel = self.param("kernel", start, (self.size, self.size, x.shape[-1], self.channels))
        # On both sides alike: "SAME" with a stride of 2 pads the far side alone.
        return convolve(x, kernel.astype(x.dtype), self.stride, self.size // 2)


class _Norm(nn.Module):
    kind: str

    @nn.compact
    def __call__(self, x: Any) -> Any:
        size = x.shape[-1]
        wide = lambda row: row.reshape(1, 1, 1, size).astype(x.dtype)  # noqa: E731
        if self.kind == "batch":
            begin = {"scale": jnp.ones, "bias": jnp.zeros, "mean": jnp.zeros, "variance": jnp.ones}
            kept = {name: self.variable("statistics", name, start, (size,)).value for name, start in begin.items()}
            factor = kept["scale"] * jax.lax.rsqrt(kept["variance"] + _EPSILON)
            return x * wide(factor) + wide(kept["bias"] - kept["mean"] * factor)
        scale, bias = self.param("scale", nn.initializers.ones, (size,)), self.param("bias", nn.initializers.zeros, (size,))
        groups = x.astype(jnp.float32).reshape(x.shape[0], -1, size // 16, 16)
        centred = groups - groups.mean((1, 3), keepdims=True)
        normal = centred * jax.lax.rsqrt(jnp.square(centred).mean((1, 3), keepdims=True) + _EPSILON)
        return normal.reshape(x.shape).astype(x.dtype) * wide(scale) + wide(bias)


class _Block(nn.Module):
    channels: int
    stride: int
    norm: str

    @nn.compact
    def __call__(self, x: Any) -> Any:
        y = nn.relu(_Norm(self.norm, name="norm_0")(_Convolution(self.channels, 3, self.stride, name="conv_0")(x)))
        y = _Norm(self.norm, name="norm_1")(_Convolution(self.channels, 3, 1, name="conv_1")(y))
        if x.shape[-1] != self.channels:
            x = _Norm(self.norm, name="shortcut_norm")(_Convolution(self.channels, 1, self.stride, name="shortcut")(x))
        return nn.relu(x + y)


def _max_pool(x: Array) -> Array:
    """The largest of 3 x 3, every second one: columns, then rows. The gradient of XLA's own takes many times as long on a CPU."""
    for axis in (1, 2):
        length = x.shape[axis]
        padded = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(4)], constant_values=-jnp.inf)
        begins = (jax.lax.slice_in_dim(padded, i, i + 2 * ((length - 1) // 2) + 1, 2, axis) for i in range(3))
        x = jnp.maximum(jnp.maximum(next(begins), next(begins)), next(begins))
    return x


class _ResNet(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Any) -> Any:
        config = self.config
        x = nn.relu(_Norm(config.norm, name="stem_norm")(_Convolution(config.width, 7, 2, name="stem")(x)))
        x = _max_pool(x)
        for i, blocks in enumerate(config.blocks):
            for j in range(blocks):
                x = _Block(config.width * 2**i, 2 if i and not j else 1, config.norm, name=f"stage_{i}_block_{j}")(x)
        return x


def resnet(config: Config) -> Backbone:
    """Pictures of any size; four stages leave one row and column of 32."""
    module = _ResNet(config)

    def init(key: Key) -> tuple[Params, PyTree]:
        variables = module.lazy_init(key, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
        return dict(variables["params"]), dict(variables.get("statistics", {}))

    def apply(params: Params, statistics: PyTree, x: Array, key: Key | None = None, train: bool = False) -> tuple[Features, PyTree]:
        del key, train
        found: Any = module.apply({"params": params, "statistics": statistics}, x)
        return Features(found, jnp.zeros((x.shape[0], 0, found.shape[-1]), found.dtype)), statistics

    def grid(height: int, width: int) -> tuple[int, int]:
        for _ in range(len(config.blocks) + 1):  # the stem, its pool, and all stages but the first
            height, width = (height + 1) // 2, (width + 1) // 2
        return height, width

    return Backbone(StatefulNetwork(init, apply), config.width * 2 ** (len(config.blocks) - 1), 0, grid, *IMAGENET, "resnet")
