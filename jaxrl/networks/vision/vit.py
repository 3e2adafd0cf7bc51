"""Vision transformers (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929) as CLIP, SigLIP and DINOv2 have them."""

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks._attention import Attention
from jaxrl.networks.vision import interface
from jaxrl.networks.vision.interface import Backbone, Features
from jaxrl.ops.placement import by_rows
from jaxrl.types import Array, Key, Params, PyTree, StatefulNetwork

_ACTIVATIONS = {"clip": lambda x: x * nn.sigmoid(1.702 * x), "siglip": nn.gelu, "dinov2": lambda x: nn.gelu(x, approximate=False)}
_PICTURES = {"clip": interface.CLIP, "siglip": interface.UNIT, "dinov2": interface.IMAGENET}
_normal = nn.initializers.normal(0.02)


@dataclass(frozen=True)
class Config:
    """Pictures of `image` x `image` in patches of `patch` x `patch`, and `depth` layers of `width`.

    `family` is whose: CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020) has a class token, a norm in front of the layers and
    another activation, SigLIP (Zhai et al. 2023, https://arxiv.org/abs/2303.15343) patches alone, and DINOv2 (Oquab et al. 2024,
    https://arxiv.org/abs/2304.07193) a class token, a learnt scale behind each sub-layer, and in newer ones `registers`.

    `remat` computes layers again in the backward pass instead of keeping what they hold. Layers compute in the type that pictures come in,
    or in `bfloat16`; what they begin with, patches and positions, is added up in float32.
    """

    family: Literal["clip", "siglip", "dinov2"] = "siglip"
    image: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    registers: int = 0
    remat: bool = False
    bfloat16: bool = False

    def __post_init__(self) -> None:
        for name in ("image", "patch", "width", "depth", "heads", "mlp"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.image % self.patch:
            raise ValueError(f"image is {self.image}, but must be a multiple of patch, {self.patch}")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, but must be a multiple of heads, {self.heads}")
        if self.registers and self.family != "dinov2":
            raise ValueError(f"registers is {self.registers}, but only dinov2 has some; set it to 0")


SIZES = {
    "clip_b32": Config("clip", patch=32),
    "clip_b16": Config("clip"),
    "clip_l14": Config("clip", 224, 14, 1024, 24, 16, 4096),
    "siglip_debug": Config("siglip", 32, 8, 16, 2, 2, 32),
    "siglip_b16": Config("siglip"),
    "siglip_l16": Config("siglip", 256, 16, 1024, 24, 16, 4096),
    "siglip_so400m14": Config("siglip", 224, 14, 1152, 27, 16, 4304),
    "dinov2_s14": Config("dinov2", 224, 14, 384, 12, 6, 1536),
    "dinov2_b14": Config("dinov2", 224, 14),
    "dinov2_l14": Config("dinov2", 224, 14, 1024, 24, 16, 4096),
    "vit_debug": Config("dinov2", 32, 8, 16, 2, 2, 32, registers=1),
}


class _Layer(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Any, _: Any) -> tuple[Any, None]:
        config, x = self.config, by_rows(x)

        def added(x: Any, y: Any, name: str) -> Any:
            if config.family == "dinov2":
                y = y * self.param(name, nn.initializers.ones, (config.width,))[None, None].astype(y.dtype)
            return x + y

        y = _norm(config, x, "attention_norm")
        x = added(x, Attention(config.heads, name="attention")(y, y, y), "attention_scale")
        y = nn.Dense(config.mlp, dtype=x.dtype, name="hidden")(_norm(config, x, "mlp_norm"))
        y = _ACTIVATIONS[config.family](y)
        return added(x, nn.Dense(config.width, dtype=x.dtype, name="output")(y), "mlp_scale"), None


def _norm(config: Config, x: Any, name: str) -> Any:
    epsilon = 1e-5 if config.family == "clip" else 1e-6
    return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, dtype=x.dtype, name=name)(x)


class _ViT(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Any) -> Features:
        """[B, image, image, 3]."""
        config, batch, dtype = self.config, x.shape[0], jnp.bfloat16 if self.config.bfloat16 else x.dtype
        side = config.image // config.patch
        patches = x.reshape(batch, side, config.patch, side, config.patch, 3).swapaxes(2, 3).reshape(batch, side * side, -1)
        x = nn.Dense(config.width, use_bias=config.family != "clip", dtype=jnp.float32, name="patches")(patches)
        first = int(config.family != "siglip")
        wide = lambda rows: jnp.broadcast_to(rows[None].astype(jnp.float32), (batch, *rows.shape))  # noqa: E731
        if first:
            x = jnp.concatenate([wide(self.param("class", _normal, (1, config.width))), x], 1)
        x = x + self.param("positions", _normal, (first + side * side, config.width))[None].astype(jnp.float32)
        if config.registers:
            x = jnp.concatenate([x[:, :1], wide(self.param("registers", _normal, (config.registers, config.width))), x[:, 1:]], 1)
        x = x.astype(dtype)
        if config.family == "clip":
            x = _norm(config, x, "first_norm")
        layer = nn.remat(_Layer, prevent_cse=False) if config.remat else _Layer
        rolled = nn.scan(layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=config.depth)
        x, _ = rolled(config, name="layers")(x, None)
        x = _norm(config, x, "last_norm")
        first += config.registers
        return Features(x[:, first:].reshape(batch, side, side, config.width), x[:, :first])


def vit(config: Config) -> Backbone:
    """Behind the last norm. Parameters of layers are stacked, [depth, ...], and computed by one loop, so that all depths compile alike."""
    module = _ViT(config)

    def init(key: Key) -> tuple[Params, PyTree]:
        return dict(module.lazy_init(key, jax.ShapeDtypeStruct((1, config.image, config.image, 3), jnp.float32))["params"]), {}

    def apply(params: Params, statistics: PyTree, x: Array, key: Key | None = None, train: bool = False) -> tuple[Features, PyTree]:
        del key, train
        return module.apply({"params": params}, x), statistics  # type: ignore[return-value]

    def grid(height: int, width: int) -> tuple[int, int]:
        if (height, width) != (config.image, config.image):
            raise ValueError(f"takes {config.image} x {config.image}, not {height} x {width}")
        return config.image // config.patch, config.image // config.patch

    tokens = int(config.family != "siglip") + config.registers
    return Backbone(StatefulNetwork(init, apply), config.width, tokens, grid, *_PICTURES[config.family], config.family)
