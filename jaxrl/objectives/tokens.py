"""Actions as tokens, which a decoder tells one after the other (RT-2, https://arxiv.org/abs/2307.15818; OpenVLA,
https://arxiv.org/abs/2406.09246; FAST, Pertsch et al. 2025, https://arxiv.org/abs/2501.09747).

A token is the bin of one number, or one of FAST's, which stand for a chunk altogether. The byte-pair encoding of FAST is not to be written
for a device, so batches go to the host and back, by a callback inside the loss. A transform of the data could not do it: it sees actions in
the units of the data, and a tokenizer is fitted to normalised ones. Reading tokens needs no host, so what acts is one program that can be
exported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.generative import rows
from jaxrl.losses.classification import cross_entropy
from jaxrl.networks.interface import ActingModel, TokenDecoder
from jaxrl.objectives._encoding import check_written, encoding
from jaxrl.ops import bins
from jaxrl.ops.bins import Bins
from jaxrl.ops.padding import held
from jaxrl.ops.specs import check_continuous, with_axes
from jaxrl.tokenizers import fast, text
from jaxrl.types import Array, ArraySpec, Key, Metrics, Objective, Observation, Params, PolicySpec, PyTree, Shared

DECODED = "policy/decoded"
RESERVED = 128  # tokens at the end of PaliGemma's vocabulary, which are of segments


@dataclass(frozen=True)
class Config:
    """`tokenizer` is the file of a FAST tokenizer, fitted to chunks as they are normalised here. Sequences end with a token of their own,
    and have at most `max_tokens` with it, 0 for twice as many as there are numbers. A sampler that needs but the lowest `frequencies` stops
    when it has them, and takes 0 for the others; 0 needs all.

    With `language`, the file of a text tokenizer, sequences are in the tokens of a language model of `vocabulary`, as pi0-FAST's: what the
    text `head` is, FAST's in place of the last tokens but 128, "|", and the end of a text.

    Without a tokenizer there are `bins` for each number, within `-limit` to `limit` of normalised actions, and the numbers of a chunk are
    told step by step. `temperature` 0 takes the likeliest token, others draw by the logits divided by it.
    """

    tokenizer: str = ""
    max_tokens: int = 0
    frequencies: int = 0
    language: str = ""
    vocabulary: int = 257_152
    head: str = ""
    bins: int = 256
    limit: float = 1.0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}, but must be 0, which takes the likeliest, or above")
        if self.max_tokens < 0:
            raise ValueError(f"max_tokens is {self.max_tokens}, but must be 0, for as many as there may be, or above")
        if self.frequencies < 0:
            raise ValueError(f"frequencies is {self.frequencies}, but must be 0, for all of them, or above")
        for name in ("max_tokens", "frequencies", "language"):
            if getattr(self, name) and not self.tokenizer:
                raise ValueError(f"{name}: has no effect without a tokenizer, where there is a token for each number; leave it out")
        if self.head and not self.language:
            raise ValueError("head: has no effect without language, whose tokens it is written in; leave it out")
        self.ranges()

    def ranges(self) -> Bins:
        """Raises ValueError where there are fewer than two bins, or their limit is not above 0."""
        return Bins(-self.limit, self.limit, self.bins)


class _Code(NamedTuple):
    """How chunks [B, H, A] are written as sequences of at most `length` tokens."""

    length: int
    vocabulary: int
    end: int  # the token that ends a sequence; -1 where all are as long
    kept: PyTree  # arrays that reading needs
    write: Callable[[Array, Array], tuple[Array, Array, Metrics]]  # chunk, mask -> tokens [B, L], which of them count [B, L], metrics
    read: Callable[[PyTree, Array], tuple[Array, Array]]  # (kept, tokens [B, L]) -> chunk, and which rows there are, bool [B]
    progress: Callable[[PyTree], Callable[[Array], Array]]  # kept -> a function of tokens [B] that tells how many numbers each begins
    enough: int  # numbers: a sequence that has begun more of them may stop


def _by_bins(config: Config, chunk: tuple[int, int]) -> _Code:
    ranges, length = config.ranges(), chunk[0] * chunk[1]

    def write(x: Array, mask: Array) -> tuple[Array, Array, Metrics]:
        tokens, clipped = bins.encode(ranges, jnp.where(mask > 0, x, 0.0))
        share = (jnp.asarray(clipped) & (mask > 0)).sum() / jnp.maximum((mask > 0).sum(), 1)
        return jnp.asarray(tokens).reshape(-1, length), mask.reshape(-1, length), {"clipped": share}

    def read(kept: PyTree, tokens: Array) -> tuple[Array, Array]:
        del kept
        return jnp.asarray(bins.decode(ranges, tokens.reshape(-1, *chunk))), jnp.ones(len(tokens), bool)

    return _Code(length, config.bins, -1, {}, write, read, lambda kept: jnp.zeros_like, length)


class _Spelling(NamedTuple):
    """FAST's tokens among others: number i is `first + sign * i`, between `head` and `tail`, which ends with the last token."""

    head: tuple[int, ...]
    tail: tuple[int, ...]
    first: int
    sign: int
    vocabulary: int


def _spelling(config: Config, size: int) -> _Spelling:
    """Of `size` tokens.

    Raises:
        ValueError: the language has not so many tokens, or they are what stands beside them.
    """
    if not config.language:
        return _Spelling((), (size,), 0, 1, size + 1)
    words = text.load(config.language)
    head, tail = (tuple(words.encode(part)) if part else () for part in (config.head, "|"))
    first = config.vocabulary - 1 - RESERVED
    if first - size < max(*head, *tail, words.eos):
        raise ValueError(
            f"vocabulary is {config.vocabulary}, but {size} tokens of actions, and {RESERVED} behind them, would stand in place of what "
            f"{config.language} writes around them; take that of the language model"
        )
    return _Spelling(head, (*tail, words.eos), first, -1, config.vocabulary)


def _by_fast(config: Config, chunk: tuple[int, int]) -> _Code:
    if not Path(config.tokenizer).is_file():
        raise ValueError(f"tokenizer: there is no file {config.tokenizer}; jaxrl.tokenizers.fast fits one and saves it")
    definition = fast.load(config.tokenizer)
    if (definition.horizon, definition.dims) != chunk:
        raise ValueError(
            f"tokenizer: {config.tokenizer} was fitted to chunks of {definition.horizon} steps and {definition.dims} numbers, but these "
            f"have {chunk[0]} and {chunk[1]}; fit one to them"
        )
    if config.frequencies > chunk[0]:
        raise ValueError(
            f"frequencies is {config.frequencies}, but a chunk of {chunk[0]} steps has but {chunk[0]}; set it to 0 for all of them"
        )
    tokenizer, enough = fast.fast(definition), (config.frequencies or chunk[0]) * chunk[1]
    spelt = _spelling(config, tokenizer.size)
    length, end = config.max_tokens or 2 * chunk[0] * chunk[1], spelt.tail[-1]

    def on_host(x: Any, counts: Any) -> tuple[np.ndarray, np.ndarray, Any]:
        """Tokens [B, L] with their end, how many there are with it, also where not all of them fit, and how many numbers were clipped."""
        present = np.flatnonzero(np.asarray(counts))
        found, clipped = tokenizer.encode(np.asarray(x)[present]) if len(present) else ([], 0)
        sequences, number = np.full((len(counts), length), end, np.int32), np.zeros(len(counts), np.int32)
        for row, own in zip(present, found, strict=True):
            whole = [*spelt.head, *(spelt.first + spelt.sign * token for token in own), *spelt.tail]
            sequences[row, : min(len(whole), length)], number[row] = whole[:length], len(whole)
        return sequences, number, np.int32(clipped)

    def write(x: Array, mask: Array) -> tuple[Array, Array, Metrics]:
        counts = (mask > 0).any((1, 2))
        made = tuple(jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((len(x), length), (len(x),), ()))
        sequences, number, clipped = jax.pure_callback(on_host, made, held(x, mask), counts, vmap_method="sequential")
        present = jnp.maximum(counts.sum(), 1)
        metrics = {"tokens": number.sum() / present, "cut": (number > length).sum() / present}
        metrics |= {"clipped": clipped / (present * chunk[0] * chunk[1])}
        return sequences, (jnp.arange(length)[None] < number[:, None]).astype(x.dtype), metrics

    def read(kept: PyTree, tokens: Array) -> tuple[Array, Array]:
        begun = (tokens[:, : len(spelt.head)] == jnp.asarray(spelt.head, jnp.int32)[None]).all(1)
        own = tokens[:, len(spelt.head) :]
        ended = own == spelt.tail[0]
        count = jnp.where(ended.any(1), ended.argmax(1), own.shape[1])
        numbers, whole = fast.read(definition, fast.Pieces(**kept), (own - spelt.first) * spelt.sign, count, config.frequencies)
        whole &= begun
        return jnp.where(whole[:, None, None], fast.chunks(numbers, definition.scale), 0.0), whole

    def progress(kept: PyTree) -> Callable[[Array], Array]:
        begins = fast.begun(fast.Pieces(**kept))
        return lambda token: jnp.take(begins, (token - spelt.first) * spelt.sign, mode="fill", fill_value=0)

    return _Code(length, spelt.vocabulary, end, fast.pieces(definition)._asdict(), write, read, progress, enough)


def _code(config: Config, spec: PolicySpec) -> _Code:
    return (_by_fast if config.tokenizer else _by_bins)(config, (spec.horizon, int(spec.action.shape[0])))


def output_shape(config: Config, spec: PolicySpec) -> tuple[int, ...]:
    """Of what the network has to put out for each row: tokens in a sequence, and tokens that there are."""
    code = _code(config, spec)
    return code.length, code.vocabulary


def tokens(config: Config, spec: PolicySpec, network: TokenDecoder | ActingModel, shared: str = "") -> Objective:
    """A batch holds `observation` and `action` `[B, horizon, action_dim]`, and may hold `mask` of the same shape, 0 at padding.

    The loss has an element for each token, the cross-entropy. Of bins, those of padding do not count, and what is read in their place is
    the bin of 0. FAST's tokens each tell of the whole chunk, so they all count, and a padded step is written as the last one before it.

    Tokens that make no chunk become zeros, the middle of the data, and the extra "policy/decoded" of the row is 0 in place of 1. Parameters
    go by the name `shared` where other objectives have the network too.

    Raises:
        ValueError: actions are no vectors, the tokenizer's file is not there or fits other chunks, or the network writes no such sequences.
    """
    check_continuous(spec.action, "tokens", "the policy")
    code, name = _code(config, spec), shared or "tokens"
    encode = encoding(network, name)
    check_written("tokens", network, code.length, code.vocabulary)

    def init(key: Key) -> tuple[Params, PyTree]:
        params, statistics = network.init(key)
        return {name: params}, {name: statistics, "tokens_code": code.kept}

    def loss(
        params: Params, statistics: PyTree, batch: dict[str, Any], key: Key, condition: Any = None
    ) -> tuple[Array, Array, PyTree, Metrics]:
        own, action = params[name], batch["action"]
        of_encoder, of_decoder = jax.random.split(key)
        written, counts, metrics = code.write(action, batch.get("mask", jnp.ones(action.shape)))
        if condition is None:
            condition, statistics, more = encode(params, statistics, batch, of_encoder)
            metrics = metrics | more
        logits = network.logits(own, written, condition, of_decoder, train=True)
        right = ((logits.argmax(-1) == written) & (counts > 0)).sum() / jnp.maximum((counts > 0).sum(), 1)
        return cross_entropy(logits, written), counts, statistics, metrics | {"right": right}

    def chosen(logits: Array, key: Key, i: Array) -> Array:
        """The next token of each row."""
        if not config.temperature:
            return logits.argmax(-1).astype(jnp.int32)
        return jax.vmap(jax.random.categorical)(rows.numbered(key, i), logits / config.temperature).astype(jnp.int32)

    def sample(
        params: Params, statistics: PyTree, observation: Observation, key: Key, context: Any = None
    ) -> tuple[Array, dict[str, Array]]:
        del context  # whatever is in flight
        own, size = params[name], len(key)
        condition, _ = network.encode(own, statistics[name], observation)

        begins = code.progress(statistics["tokens_code"])

        def goes_on(state: tuple[Array, Array, Array, Array, PyTree]) -> Array:
            i, _, ended, _, _ = state
            return (i < code.length) & ~ended.all()

        def one(state: tuple[Array, Array, Array, Array, PyTree]) -> tuple[Array, Array, Array, Array, PyTree]:
            i, written, ended, told, cache = state
            logits, cache = network.step(own, written[:, jnp.maximum(i - 1, 0)], cache, condition)
            token = jnp.where(ended, code.end, chosen(logits, key, i))
            told = told + begins(token)
            return i + 1, written.at[:, i].set(token), ended | (token == code.end) | (told > code.enough), told, cache

        begun = jnp.full((size, code.length), max(code.end, 0), jnp.int32)
        nothing = jnp.zeros(size, bool), jnp.zeros(size, jnp.int32), network.begin(own, condition)
        _, written, _, _, _ = jax.lax.while_loop(goes_on, one, (jnp.zeros((), jnp.int32), begun, *nothing))
        chunk, whole = code.read(statistics["tokens_code"], written)
        return chunk, {DECODED: whole.astype(jnp.float32)}

    batch_spec = with_axes(spec.observation, ("batch",), "observation/") | with_axes({"action": spec.action}, ("batch", spec.horizon))
    acting = spec._replace(extras={**spec.extras, DECODED: ArraySpec(())})
    return Objective(init, loss, sample, acting, batch_spec, Shared(name, encode) if shared else None)
