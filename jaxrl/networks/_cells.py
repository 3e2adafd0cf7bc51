"""Memories: what is left of the features seen so far."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxrl.types import Array, Key, Params, PyTree


class Cell(NamedTuple):
    """A carry that features [..., n] go into, one step at a time, and its content [..., output_size]."""

    init: Callable[[Key], Params]
    carry: Callable[[int], PyTree]  # batch size -> the carry before the first step, a dict of arrays [B, ...]
    remember: Callable[[Params, Array, PyTree], PyTree]  # (params, features, carry) -> carry
    content: Callable[[PyTree], Array]
    output_size: int


def gru(input_size: int, size: int) -> Cell:
    """Gated recurrent unit (Cho et al. 2014, https://arxiv.org/abs/1406.1078) of `size` units."""
    return _cell(nn.GRUCell(size), ("hidden",), input_size, size)


def lstm(input_size: int, size: int) -> Cell:
    """Long short-term memory (Hochreiter and Schmidhuber 1997) of `size` units."""
    return _cell(nn.OptimizedLSTMCell(size), ("cell", "hidden"), input_size, size)


def _cell(module: Any, names: tuple[str, ...], input_size: int, size: int) -> Cell:
    """A cell of flax, whose carry is an array or a pair of them; it reads out the last."""

    def own(carry: PyTree) -> Any:
        arrays = tuple(carry[name] for name in names)
        return arrays if len(arrays) > 1 else arrays[0]

    def carry(batch: int) -> PyTree:
        return {name: jnp.zeros((batch, size)) for name in names}

    def init(key: Key) -> Params:
        return module.init(key, own(carry(1)), jnp.zeros((1, input_size)))["params"]

    def remember(params: Params, features: Array, carry: PyTree) -> PyTree:
        later, _ = module.apply({"params": params}, own(carry), features)
        return dict(zip(names, later if len(names) > 1 else (later,), strict=True))

    return Cell(init, carry, remember, lambda carry: carry[names[-1]], size)


def window(input_size: int, size: int) -> Cell:
    """The last `size` features as they were, the newest last; filled with the first of an episode. Has no parameters."""

    def carry(batch: int) -> PyTree:
        return {"window": jnp.zeros((batch, size, input_size)), "begun": jnp.zeros((batch, 1, 1))}

    def remember(params: Params, features: Array, carry: PyTree) -> PyTree:
        newest = features[..., None, :]
        shifted = jnp.concatenate([carry["window"][..., 1:, :], newest], -2)
        later = jnp.where(carry["begun"] > 0, shifted, jnp.broadcast_to(newest, shifted.shape))
        return {"window": later, "begun": jnp.ones_like(carry["begun"])}

    def content(carry: PyTree) -> Array:
        return carry["window"].reshape(*carry["window"].shape[:-2], size * input_size)

    return Cell(lambda key: {}, carry, remember, content, size * input_size)


CELLS: dict[str, Callable[[int, int], Cell]] = {"gru": gru, "lstm": lstm, "window": window}
