"""PaliGemma (Beyer et al. 2024, https://arxiv.org/abs/2407.07726): SigLIP's patches as tokens in front of Gemma's; what pi0 begins with."""

from dataclasses import dataclass, field, replace

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks.transformer import gemma
from jaxrl.networks.transformer.interface import SeeingModel
from jaxrl.networks.vision import vit
from jaxrl.types import Array, Key, Params


@dataclass(frozen=True)
class Config:
    """`vision` is a transformer without pooling; a linear layer makes its patches as wide as the tokens of the `text`.

    What computes the text in bfloat16 computes the patches in it, too.
    """

    vision: vit.Config = field(default_factory=lambda: vit.SIZES["siglip_so400m14"])
    text: gemma.Config = field(default_factory=gemma.Config)

    def __post_init__(self) -> None:
        if self.vision.family != "siglip":
            raise ValueError(f"vision is of the family {self.vision.family!r}, but PaliGemma sees with siglip")


SIZES = {"debug": Config(vit.SIZES["siglip_debug"], gemma.SIZES["debug"]), "3b_224": Config()}


def paligemma(config: Config) -> SeeingModel:
    """Parameters are {"vision": those of the backbone, "projector": ..., "text": those of `gemma`}.

    Raises:
        ValueError: as `gemma` does.
    """
    computing = config.text.computing
    backbone, text = vit.vit(replace(config.vision, bfloat16=computing.dtype == "bfloat16")), gemma.gemma(config.text)
    projector = nn.Dense(config.text.width, kernel_init=nn.initializers.normal(0.02), dtype=jnp.dtype(computing.dtype))

    def init(key: Key) -> Params:
        of_vision, of_projector, of_text = jax.random.split(key, 3)
        projected = projector.init(of_projector, jnp.zeros((1, config.vision.width)))["params"]
        return {"vision": backbone.network.init(of_vision)[0], "projector": dict(projected), "text": text.init(of_text)}

    def see(params: Params, pictures: Array) -> Array:
        features, _ = backbone.network.apply(params["vision"], {}, pictures)
        patches = features.map.reshape(len(pictures), -1, config.vision.width)
        return projector.apply({"params": params["projector"]}, patches)  # type: ignore[return-value]

    return SeeingModel(init, see, text)
