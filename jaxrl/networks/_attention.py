"""Attention with several heads."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp


class Attention(nn.Module):
    """Queries [B, T, size] to what `keys` and `values`, both [B, S, size], hold.

    Where `present` [B, S] is 0 nobody looks, and a query only where its row of `allowed` [T, S] is set. The softmax is one of float32,
    whatever the rest is. `dropout` is that of the weights; `start` draws the kernels, `last_start` that of the output.
    """

    heads: int
    dropout: float = 0.0
    start: Any = nn.initializers.xavier_uniform()
    last_start: Any = nn.initializers.xavier_uniform()

    @nn.compact
    def __call__(self, queries: Any, keys: Any, values: Any, present: Any = None, drop: bool = False, allowed: Any = None) -> Any:
        size = queries.shape[-1]
        parts = (("query", queries), ("key", keys), ("value", values))
        dense = {name: nn.Dense(size, kernel_init=self.start, dtype=queries.dtype, name=name)(x) for name, x in parts}
        query, key, value = (x.reshape(*x.shape[:2], self.heads, size // self.heads) for x in dense.values())
        logits = jnp.einsum("bthd,bshd->bhts", query, key, preferred_element_type=jnp.float32) * (size // self.heads) ** -0.5
        if present is not None:
            logits = jnp.where(present[:, None, None] > 0, logits, -1e30)
        if allowed is not None:
            logits = jnp.where(allowed[None, None], logits, -1e30)
        weights = nn.softmax(logits).astype(queries.dtype)
        weights = nn.Dropout(self.dropout, name="dropout")(weights, not drop)
        mixed = jnp.einsum("bhts,bshd->bthd", weights, value).reshape(queries.shape)
        return nn.Dense(size, kernel_init=self.last_start, dtype=queries.dtype, name="output")(mixed)
