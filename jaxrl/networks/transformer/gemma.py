"""Gemma (Gemma Team 2024, https://arxiv.org/abs/2403.08295): the language model of PaliGemma, and the action expert beside it in pi0."""

import math
from dataclasses import dataclass, field

from jaxrl.networks.transformer.experts import Computing
from jaxrl.networks.transformer.interface import LanguageModel
from jaxrl.networks.transformer.language import language
from jaxrl.networks.transformer.layer import Size


@dataclass(frozen=True)
class Config:
    """Gemma 2B, with the 257 152 tokens of PaliGemma (https://arxiv.org/abs/2407.07726): 1024 of them are places, 128 shapes.

    An expert without text has no `vocabulary`, 0, and may have norms that follow a `condition` of so many numbers.
    """

    width: int = 2048
    depth: int = 18
    heads: int = 8
    kv_heads: int = 1
    head_dim: int = 256
    mlp: int = 16384
    vocabulary: int = 257_152
    condition: int = 0
    computing: Computing = field(default_factory=Computing)

    def __post_init__(self) -> None:
        self.size()
        if self.vocabulary < 0:
            raise ValueError(f"vocabulary is {self.vocabulary}, but must be at least 0")

    def size(self) -> Size:
        """Raises ValueError where the numbers do not fit."""
        shape = self.width, self.depth, self.heads, self.kv_heads, self.head_dim, self.mlp
        return Size(*shape, activation="gelu", centred=True, epsilon=1e-6, longest=1e4, condition=self.condition)


SIZES = {
    "debug": Config(32, 2, 4, 1, 8, 64, 100),
    "debug_expert": Config(16, 2, 4, 1, 8, 32, 0),
    "2b": Config(),
    "300m": Config(width=1024, mlp=4096, vocabulary=0),  # pi0's expert
}


def gemma(config: Config) -> LanguageModel:
    """As text; what is no text goes to the layers as it is, without the scale of the tokens.

    Raises:
        ValueError: there is no vocabulary, or norms follow a condition: such is for `experts`.
    """
    if config.condition:
        raise ValueError(f"condition is {config.condition}, but a model of text is given none; make it part of `experts`")
    return language(config.size(), config.vocabulary, tied=True, scale=math.sqrt(config.width), computing=config.computing)
