"""A decoder of text: a table of tokens, layers, and what they say of the next token."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks.transformer.experts import Computing, experts
from jaxrl.networks.transformer.interface import Cache, LanguageModel
from jaxrl.networks.transformer.layer import Size
from jaxrl.types import Array, Key, Params


def language(size: Size, vocabulary: int, tied: bool, scale: float, computing: Computing) -> LanguageModel:
    """`vocabulary` tokens, whose rows of the table are multiplied by `scale`; `tied`, the table says how likely each is, too.

    The table begins so that what a tied one says is about as large as 1.

    Raises:
        ValueError: there is no token.
    """
    if vocabulary < 1:
        raise ValueError(f"vocabulary is {vocabulary}, but must be at least 1; a set of weights without one is for `experts`")
    body = experts({"language": size}, computing)
    dtype = jnp.dtype(computing.dtype)

    def init(key: Key) -> Params:
        of_table, of_head, of_body = jax.random.split(key, 3)
        params = body.init(of_body)["language"]
        params["embedding"] = jax.random.normal(of_table, (vocabulary, size.width)) * size.width**-0.5
        if not tied:
            params["head"] = {"kernel": nn.initializers.lecun_normal()(of_head, (size.width, vocabulary), jnp.float32)}
        return params

    def embed(params: Params, ids: Array) -> Array:
        rows = jnp.take(params["embedding"], ids, 0)  # NaN where there is no such token
        return (rows.astype(jnp.float32) * scale).astype(dtype)

    def apply(params: Params, x: Array, mask: Array, places: Array, cache: Cache | None = None) -> Array:
        return body.apply({"language": params}, {"language": x}, mask, places, cache=cache)["language"]

    def extend(params: Params, x: Array, mask: Array, places: Array, cache: Cache, place: Array | int) -> tuple[Array, Cache]:
        tokens, cache = body.extend({"language": params}, {"language": x}, mask, places, cache, place)
        return tokens["language"], cache

    def logits(params: Params, x: Array) -> Array:
        table = params["embedding"].T if tied else params["head"]["kernel"]
        return jnp.matmul(x, table.astype(x.dtype), preferred_element_type=jnp.float32)

    return LanguageModel(init, embed, apply, body.blank, extend, logits)
