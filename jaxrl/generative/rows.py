"""Rows of a batch that know nothing of each other: noise from the key of each, and steps of each that are known before it is sampled."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Key

Denoise = Callable[[Array, Array], Array]  # (noisy [B, H, A], time [B]) -> what a network says of it [B, H, A]


class Known(NamedTuple):
    """Steps that have to come out as they are, whatever the others become."""

    chunk: Array  # [B, H, A]; where nothing is known it may hold anything
    mask: Array  # [B, H, 1] bool, what is known


def numbered(key: Key, i: Array | int) -> Key:
    """Draw i of each row, [B]."""
    return jax.vmap(lambda k: jax.random.fold_in(k, i))(key)


def normal(key: Key, shape: tuple[int, ...]) -> Array:
    """Standard normal [B, *shape], from one key for each row."""
    return jax.vmap(lambda k: jax.random.normal(k, shape))(key)


def prefix(context: Mapping[str, Array] | None, horizon: int) -> Known | None:
    """What is known of a chunk that follows one in flight: the first `prefix_length` [B] steps of `prefix` [B, H, A].

    `inference_delay` says how many of these will have been executed when the chunk is there, which makes no difference here.
    """
    if context is None:
        return None
    mask = jnp.arange(horizon)[None, :] < context["prefix_length"][:, None]
    return Known(context["prefix"], mask[..., None])


def hold(known: Known | None, noisy: Array, level: Callable[[Array], Array]) -> Array:
    """`noisy` with the known steps in their place, `level(chunk)` of them: at the noise that all of it has."""
    return noisy if known is None else jnp.where(known.mask, level(known.chunk), noisy)
