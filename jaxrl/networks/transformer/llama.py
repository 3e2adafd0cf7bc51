"""Decoders built as Llama (Touvron et al. 2023, https://arxiv.org/abs/2307.09288): the language models of OpenVLA and SmolVLA."""

from dataclasses import dataclass, field

from jaxrl.networks.transformer.experts import Computing
from jaxrl.networks.transformer.interface import LanguageModel
from jaxrl.networks.transformer.language import language
from jaxrl.networks.transformer.layer import Size


@dataclass(frozen=True)
class Config:
    """Llama 2 7B. `tied`, the table of tokens also says how likely each is; `longest` is the base of the rotary positions."""

    width: int = 4096
    depth: int = 32
    heads: int = 32
    kv_heads: int = 32
    head_dim: int = 128
    mlp: int = 11008
    vocabulary: int = 32_000
    tied: bool = False
    longest: float = 1e4
    epsilon: float = 1e-5
    computing: Computing = field(default_factory=Computing)

    def __post_init__(self) -> None:
        self.size()
        if self.vocabulary < 1:
            raise ValueError(f"vocabulary is {self.vocabulary}, but must be at least 1")

    def size(self) -> Size:
        """Raises ValueError where the numbers do not fit."""
        shape = self.width, self.depth, self.heads, self.kv_heads, self.head_dim, self.mlp
        return Size(*shape, activation="silu", centred=False, epsilon=self.epsilon, longest=self.longest)


SIZES = {
    "debug": Config(32, 2, 4, 2, 8, 48, 100),
    "llama2_7b": Config(),
    "smollm2_360m": Config(960, 32, 15, 5, 64, 2560, 49_152, tied=True, longest=1e5),
}


def llama(config: Config) -> LanguageModel:
    return language(config.size(), config.vocabulary, config.tied, 1.0, config.computing)
