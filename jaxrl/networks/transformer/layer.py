"""What one set of weights does in a layer: everything but the attention, which may be that of several sets (`experts`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

_ACTIVATIONS = {"gelu": nn.gelu, "silu": nn.silu}


@dataclass(frozen=True)
class Size:
    """`depth` layers of `width`; `heads` queries share `kv_heads` keys and values of `head_dim`, and a gated MLP has `mlp` hidden units.

    `activation` makes it a GeGLU ("gelu", its approximation by tanh) or a SwiGLU ("silu", Shazeer 2020, https://arxiv.org/abs/2002.05202).
    `longest` is the base of the rotary positions. Scales of norms are learnt as they are, or `centred`: as what is added to 1. A norm may
    instead follow a condition of so many numbers (adaRMS, pi0.5, https://arxiv.org/abs/2504.16054); 0 is none.
    """

    width: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    activation: Literal["gelu", "silu"]
    centred: bool
    epsilon: float
    longest: float
    condition: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "kv_heads", "head_dim", "mlp"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads is {self.heads}, but must be a multiple of kv_heads, {self.kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}, but must be even: rotary positions turn pairs of coordinates")
        if self.condition < 0:
            raise ValueError(f"condition is {self.condition}, but must be at least 0")


class Norm(nn.Module):
    """x over the root of its mean square (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467), worked out in float32.

    Returns it with the gate of what is added to the residual stream, None where there is no condition. With one, [B, 1 or T, condition], a
    linear layer says scale, shift and gate, in this order; it begins at 0, so that whatever the gate stands in front of adds nothing.
    """

    size: Size

    @nn.compact
    def __call__(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
        wide = x.astype(jnp.float32)
        wide = wide / jnp.sqrt(jnp.square(wide).mean(-1, keepdims=True) + self.size.epsilon)
        if not self.size.condition:
            begun = nn.initializers.zeros if self.size.centred else nn.initializers.ones
            scale = self.param("scale", begun, (self.size.width,)).astype(jnp.float32)
            return (wide * (float(self.size.centred) + scale)[None, None]).astype(x.dtype), None
        modulation = nn.Dense(3 * self.size.width, kernel_init=nn.initializers.zeros, dtype=jnp.float32, name="modulation")(condition)
        scale, shift, gate = jnp.split(modulation, 3, -1)
        return (wide * (1 + scale) + shift).astype(x.dtype), gate.astype(x.dtype)


def _added(x: Any, y: Any, gate: Any) -> Any:
    return x + (y if gate is None else y * gate)


class Dense(nn.Module):
    """x [..., n] times a kernel [n, outputs], in `dtype`.

    In its place may stand a base and its factors (`ops.low_rank`), or whole numbers and their scale (`ops.int8`): times each, then.
    """

    outputs: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = x.astype(self.dtype)
        kernel: Any = self.get_variable("params", "kernel")
        if isinstance(kernel, Mapping) and "int8" in kernel:
            product = jnp.matmul(x, kernel["int8"].astype(self.dtype), preferred_element_type=jnp.float32)
            return (product * kernel["scale"].reshape((1,) * (x.ndim - 1) + (-1,))).astype(self.dtype)
        if isinstance(kernel, Mapping):
            base, a, b = (kernel[name].astype(self.dtype) for name in ("base", "a", "b"))
            return x @ base + (x @ a) @ b
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.outputs))
        return x @ kernel.astype(self.dtype)


class Share(nn.Module):
    """`before` and `after` the attention of a layer, on tokens [B, T, width]. Computes in `dtype`."""

    size: Size
    dtype: Any

    def setup(self) -> None:
        size = self.size
        dense = lambda outputs: Dense(outputs, self.dtype)  # noqa: E731
        self.attention_norm, self.mlp_norm = Norm(size), Norm(size)
        self.query = dense(size.heads * size.head_dim)
        self.key, self.value = dense(size.kv_heads * size.head_dim), dense(size.kv_heads * size.head_dim)
        self.output, self.gate, self.up, self.down = dense(size.width), dense(size.mlp), dense(size.mlp), dense(size.width)

    def before(self, x: Any, condition: Any = None) -> tuple[Any, Any, Any, Any]:
        """Queries, keys and values, each [B, T, heads of it, head_dim] and not yet turned, and the gate of what the attention adds."""
        y, gate = self.attention_norm(x, condition)
        split = lambda z: z.reshape(*z.shape[:2], -1, self.size.head_dim)  # noqa: E731
        return split(self.query(y)), split(self.key(y)), split(self.value(y)), gate

    def after(self, x: Any, mixed: Any, gate: Any, condition: Any = None) -> Any:
        """x and what it gets from the attention, `mixed` [B, T, heads, head_dim], and from the MLP."""
        x = _added(x, self.output(mixed.reshape(*mixed.shape[:2], -1)), gate)
        y, gate = self.mlp_norm(x, condition)
        return _added(x, self.down(_ACTIVATIONS[self.size.activation](self.gate(y)) * self.up(y)), gate)

    def __call__(self, x: Any, condition: Any = None) -> Any:
        """Each token for itself: what `init` runs."""
        query, _, _, gate = self.before(x, condition)
        return self.after(x, query, gate, condition)
