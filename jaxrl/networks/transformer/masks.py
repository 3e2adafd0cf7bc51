"""Who sees whom, and where tokens stand, from two vectors: which tokens count and which begin a block (big_vision, PaliGemma).

Of a prefix that is encoded once and a suffix behind it, the suffix has the last rows of what is worked out for both together.
"""

import jax.numpy as jnp

from jaxrl.types import Array


def block_mask(valid: Array, starts: Array) -> Array:
    """[B, T, T] bool, queries before keys, of `valid` and `starts`, both [B, T].

    A token sees its own block and all blocks before it, of these the valid ones; one that is not valid sees nothing. `starts` is set where
    a token begins a block: nowhere for a prefix that sees itself whole, everywhere for text that is written from left to right.
    """
    block = jnp.cumsum(starts.astype(jnp.int32), -1)
    counts = valid.astype(bool)
    return (block[:, None, :] <= block[:, :, None]) & counts[:, None, :] & counts[:, :, None]


def places(valid: Array) -> Array:
    """[B, T] int32 of `valid` [B, T]: how many valid tokens stand in front of each valid one, so that padding takes no room."""
    return jnp.cumsum(valid.astype(jnp.int32), -1) - 1


def written_mask(valid: Array, place: Array | int, length: int = 1) -> Array:
    """[B, length, S] bool, of slots that are written from left to right: token i, in slot `place` + i, sees that one and those before it.

    Of these the `valid` ones, [B, S]. `place` is where the first token goes.
    """
    slots, own = jnp.arange(valid.shape[-1]), jnp.asarray(place) + jnp.arange(length)
    return valid.astype(bool)[:, None, :] & (slots[None, :] <= own[:, None])[None]
