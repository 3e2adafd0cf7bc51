"""Text behind a prefix that was read once, all of it or token by token: both by the same masks and places."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl.networks.transformer.interface import Cache, LanguageModel
from jaxrl.networks.transformer.masks import written_mask
from jaxrl.types import Array, Key, Params, PyTree


class Read(NamedTuple):
    """A prefix as the language model has read it."""

    cache: Cache
    valid: Array  # bool [B, P]
    last: Array  # [B, width], of the last token that counts, behind the last norm: it tells the first that is written


class Writing(NamedTuple):
    """Parts of a `TokenDecoder` whose condition is a `Read`."""

    logits: Callable[..., Array]
    begin: Callable[[Params, Read], PyTree]
    step: Callable[..., tuple[Array, PyTree]]


def last_of(x: Array, valid: Array) -> Array:
    """[B, width] of x [B, P, width]: the last row that counts."""
    place = jnp.where(valid, jnp.arange(valid.shape[1])[None], -1).max(1)
    return jnp.take_along_axis(x, place[:, None, None], 1)[:, 0]


def writing(model: LanguageModel, longest: int) -> Writing:
    """Of sequences of up to `longest` tokens; the parameters of `model` are those called "text"."""

    def seen(valid: Array, slots: int, first: Any, length: int) -> tuple[Array, Array]:
        """Mask and places of tokens that are written from `first` on, behind a prefix of which `valid` counts."""
        everything = jnp.concatenate([valid, jnp.ones((len(valid), slots), bool)], 1)
        mask = written_mask(everything, valid.shape[1] + first, length)
        return mask, valid.sum(1, dtype=jnp.int32)[:, None] + first + jnp.arange(length)[None]

    def logits(params: Params, tokens: Array, condition: Read, key: Key | None = None, train: bool = False) -> Array:
        del key, train
        own, before = params["text"], tokens.shape[1] - 1
        if tokens.shape[1] > longest:
            raise ValueError(f"a sequence has {tokens.shape[1]} tokens, but there is room for {longest}; set longest")
        x = condition.last[:, None]
        if before:
            mask, places = seen(condition.valid, before, 0, before)
            x = jnp.concatenate([x, model.apply(own, model.embed(own, tokens[:, :-1]), mask, places, condition.cache)], 1)
        return model.logits(own, x)

    def begin(params: Params, condition: Read) -> PyTree:
        del params
        widths = [(0, 0), (0, 0), (0, longest), (0, 0), (0, 0)]
        return {"written": jnp.zeros((), jnp.int32), "cache": Cache(*(jnp.pad(x, widths) for x in condition.cache))}

    def step(params: Params, token: Array, cache: PyTree, condition: Read) -> tuple[Array, PyTree]:
        # Before the first token there is none to read: what is read in its place is written over by the first one.
        own, first = params["text"], jnp.maximum(cache["written"] - 1, 0)
        mask, places = seen(condition.valid, longest, first, 1)
        place = condition.valid.shape[1] + first
        x, kept = model.extend(own, model.embed(own, token[:, None]), mask, places, cache["cache"], place)
        x = jnp.where(cache["written"] == 0, condition.last, x[:, 0])
        return model.logits(own, x), {"written": cache["written"] + 1, "cache": kept}

    return Writing(logits, begin, step)
