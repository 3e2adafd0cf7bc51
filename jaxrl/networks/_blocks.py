"""Blocks of a transformer that may attend to what was computed before them (Radford et al. 2019, GPT-2)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

NORMAL = nn.initializers.normal(0.02)
# Kernels as torch begins them: even within +-1 / sqrt(inputs).
EVEN = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")

Memory = Callable[[Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Size:
    """`dropout` is that of the attention's weights, and of what each half of a block adds."""

    width: int
    layers: int
    heads: int
    dropout: float

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, which {self.heads} heads do not divide")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, but must be at least 0 and below 1")


def dense(size: int, name: str, start: Any = NORMAL, bias: bool = True) -> nn.Module:
    return nn.Dense(size, use_bias=bias, kernel_init=start, name=name)


def norm(name: str) -> nn.Module:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)


class Block(nn.Module):
    """[B, T, width] to the same; pre-norm, with an exact GELU.

    `mask` [T, S] says which of S keys each query sees. `memory` takes the keys and values [B, T, heads, width / heads] of these tokens and
    gives the S of all that is attended to; without one they are these.
    """

    size: Size

    @nn.compact
    def __call__(self, x: Any, mask: Any, drop: bool, memory: Memory | None = None) -> Any:
        width, heads = self.size.width, self.size.heads

        def dropped(y: Any, name: str) -> Any:
            return nn.Dropout(self.size.dropout, deterministic=not drop, name=name)(y)

        y = norm("attention_norm")(x)
        query, key, value = (dense(width, name)(y).reshape(*y.shape[:2], heads, width // heads) for name in ("query", "key", "value"))
        if memory is not None:
            key, value = memory(key, value)
        logits = jnp.einsum("bthd,bshd->bhts", query, key) * (width // heads) ** -0.5
        weights = dropped(nn.softmax(jnp.where(mask[None, None], logits, jnp.finfo(logits.dtype).min)), "attention_dropout")
        mixed = jnp.einsum("bhts,bshd->bthd", weights, value).reshape(x.shape)
        # What adds to the residual stream begins smaller, the more layers do; GPT-2 has it so at the end of both halves, VQ-BeT of one.
        scaled = nn.initializers.normal(0.02 / math.sqrt(2 * self.size.layers))
        x = x + dropped(dense(width, "mixed", scaled)(mixed), "mixed_dropout")
        y = nn.gelu(dense(4 * width, "hidden")(norm("hidden_norm")(x)), approximate=False)
        return x + dropped(dense(width, "output")(y), "output_dropout")
