"""What transformers are, as pure functions over one tree of parameters."""

from collections.abc import Callable
from typing import NamedTuple

from jaxrl.types import Array, Key, Params


class Cache(NamedTuple):
    """Keys, already turned by their places, and values of what was read: S slots for each layer. Masks say which of them count."""

    keys: Array  # [depth, B, S, kv_heads, head_dim]
    values: Array  # the same


class Experts(NamedTuple):
    """Sets of weights, by name, whose tokens attend to each other; each token goes through those of its own set.

    Tokens come as {name: [B, T_name, width of name]}, which may lack some. Together, in the order of the sets, they are T tokens, of which
    `mask` [B, T, keys] bool says what each sees and `places` [B, T] where it stands. `conditions` are {name: [B, 1 or T_name, condition]},
    for sets that take one.
    """

    init: Callable[
        [Key], Params
    ]  # {name: {"layers": ..., "norm": ...}}; a set may have other entries beside these, which are not looked at
    apply: Callable[..., dict[str, Array]]
    # (params, tokens, mask, places, conditions=None, cache=None) -> tokens behind the last norm; keys are those of the cache, then the T
    read: Callable[..., tuple[dict[str, Array], Cache]]
    # (params, tokens, mask, places, conditions=None) -> tokens, and a cache of these alone, through which gradients flow; of insulated
    # sets it is what the last of the sets sees
    blank: Callable[..., Cache]  # (batch, slots) -> an empty cache
    extend: Callable[..., tuple[dict[str, Array], Cache]]
    # (params, tokens, mask, places, cache, place, conditions=None) -> tokens, and the cache with them in its slots from `place` on; keys
    # are its slots


class LanguageModel(NamedTuple):
    """One set of weights between a table of tokens and what it says of the next one."""

    init: Callable[[Key], Params]  # {"embedding": [V, width], "layers": ..., "norm": ...} and, unless tied to the table, {"head": ...}
    embed: Callable[..., Array]  # (params, ids [B, T]) -> [B, T, width], scaled as the layers expect it
    apply: Callable[..., Array]  # (params, x [B, T, width], mask, places, cache=None) -> [B, T, width], behind the last norm
    blank: Callable[..., Cache]  # (batch, slots)
    extend: Callable[..., tuple[Array, Cache]]  # (params, x, mask, places, cache, place)
    logits: Callable[..., Array]  # (params, x [..., width] behind the last norm) -> [..., V], float32; ask it of the places that are needed


class SeeingModel(NamedTuple):
    """A language model that pictures are tokens to, too."""

    init: Callable[[Key], Params]  # {"vision": ..., "projector": ..., "text": parameters of `text`}
    see: Callable[
        ..., Array
    ]  # (params, pictures [B, height, width, 3] in [-1, 1]) -> [B, patches, width], row by row, to stand among `text.embed`'s
    text: LanguageModel
