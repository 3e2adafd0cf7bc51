"""FAST (Pertsch et al. 2025, https://arxiv.org/abs/2501.09747): a chunk of actions as a few tokens.

The cosine transform of a normalised chunk along time, times `scale`, rounded; all dimensions of the lowest frequency come first. Each of
these whole numbers is a character, `chr(number - minimum)`, and byte-pair encoding merges what often comes together.

`fit` makes a `Definition`, all that there is to keep; `fast` makes functions of it. Only fitting and encoding need the package
`tokenizers` (pip install "jaxrl[vla]"). In JAX, `numbers` and `chunks` are the part before the characters, and `read` the characters:
tokens become a chunk on a device, without the host.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.files import written_whole
from jaxrl.ops import dct
from jaxrl.tokenizers import _bytes
from jaxrl.types import Array

VERSION = 1
Faults = Literal["raise", "zeros"]
Tokens = Sequence[Sequence[int]]  # of each chunk


class WrongTokens(ValueError):
    """Tokens that no chunk is encoded as."""


@dataclass(frozen=True)
class Config:
    """`vocabulary` tokens at most. A merge has to occur `min_frequency` times.

    With `words`, merges stay within what GPT-2 takes for words, as in the tokenizers that the authors released. Which numbers are letters
    is chance, so without it chunks come to a little fewer tokens.
    """

    scale: float = 10.0
    vocabulary: int = 1024
    min_frequency: int = 2
    words: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale is {self.scale}, but must be positive: a larger one keeps more digits")
        if self.vocabulary < 2 or self.min_frequency < 1:
            raise ValueError(f"vocabulary must be at least 2 and min_frequency 1, but they are {self.vocabulary} and {self.min_frequency}")


@dataclass(frozen=True)
class Definition:
    """A fitted tokenizer: JSON can hold it."""

    horizon: int
    dims: int
    scale: float
    minimum: int  # of the whole numbers that have a character
    maximum: int
    bpe: dict[str, Any]  # what the package `tokenizers` writes

    def __post_init__(self) -> None:
        whole = all(isinstance(x, int) for x in (self.horizon, self.dims, self.minimum, self.maximum))
        positive = self.horizon > 0 and self.dims > 0 and 0 < self.scale < float("inf")
        if not (whole and positive and 0 <= self.maximum - self.minimum < _bytes.CHARACTERS):
            told = {name: value for name, value in asdict(self).items() if name != "bpe"}
            raise ValueError(f"horizon, dims and scale must be positive and minimum below maximum, but they are {told}")
        _bytes.pieces(self.bpe)


class Decoded(NamedTuple):
    """Of N sequences of tokens."""

    chunks: np.ndarray  # [N, H, D] float32, normalised actions
    numbers: np.ndarray  # [N, H, D] int32, which they were made of
    known: np.ndarray  # [N] int32, how many of the H D numbers the tokens told; the others are 0
    faults: tuple[str, ...]  # what was wrong with each sequence, "" where nothing was


class Fast(NamedTuple):
    """Functions on the host."""

    size: int  # number of tokens
    encode: Callable[[np.ndarray], tuple[list[list[int]], int]]  # chunks [N, H, D] -> tokens, and how many numbers were clipped
    decode: Callable[..., Decoded]  # (tokens, faults="raise"); "zeros" has a chunk of zeros for each wrong sequence
    decode_prefix: Callable[..., Decoded]
    # (tokens, count=None, faults="raise"): of sequences that may be cut off, the first `count` numbers, None for all that are there


# In JAX


def numbers(x: Array, scale: float) -> Array:
    """Whole numbers int32 of chunks [..., H, D], of the same shape: frequency by frequency."""
    return jnp.round(dct.dct(x) * scale).astype(jnp.int32)


def chunks(numbers: Array, scale: float) -> Array:
    """The inverse, float32; each dimension is off by at most `0.5 / scale` in the root mean square over the chunk."""
    return dct.idct(numbers.astype(jnp.float32) / scale)


class Pieces(NamedTuple):
    """What each token is in bytes, as arrays, so that tokens can be read on a device."""

    data: Array  # uint8 [size, longest]
    lengths: Array  # int32 [size]; 0 where there is no such token


def pieces(definition: Definition) -> Pieces:
    """Of all tokens."""
    known = _bytes.pieces(definition.bpe)
    data = np.zeros((max(known) + 1, max(map(len, known.values()))), np.uint8)
    lengths = np.zeros(len(data), np.int32)
    for token, piece in known.items():
        data[token, : len(piece)], lengths[token] = list(piece), len(piece)
    return Pieces(jnp.asarray(data), jnp.asarray(lengths))


def begun(pieces: Pieces) -> Array:
    """int32 [size], how many numbers each token begins, the last of which the next one may end."""
    there = jnp.arange(pieces.data.shape[1])[None] < pieces.lengths[:, None]
    return (there & ((pieces.data & 0xC0) != 0x80)).sum(1, dtype=jnp.int32)


def read(definition: Definition, pieces: Pieces, tokens: Array, count: Array, frequencies: int = 0) -> tuple[Array, Array]:
    """As `decode` of `fast` reads the first `count` [B] of `tokens` [B, L]: numbers int32 [B, H, D] and which rows make them, bool [B].

    The numbers of other rows are 0. With `frequencies`, tokens need make no more than the lowest ones, and the others are 0.
    """
    whole_chunk = definition.horizon * definition.dims
    total = frequencies * definition.dims or whole_chunk
    room = whole_chunk * len(chr(definition.maximum - definition.minimum).encode())

    def one(tokens: Array, count: Array) -> tuple[Array, Array]:
        inside = jnp.arange(len(tokens)) < count
        known = (tokens >= 0) & (tokens < len(pieces.lengths)) & (pieces.lengths[tokens] > 0)
        size = jnp.where(inside & known, pieces.lengths[tokens], 0)
        ends = jnp.cumsum(size)
        offset = jnp.arange(pieces.data.shape[1])
        places = jnp.where(offset[None] < size[:, None], (ends - size)[:, None] + offset[None], room)
        data = jnp.zeros(room, jnp.int32).at[places].set(pieces.data[tokens].astype(jnp.int32), mode="drop")
        numbers, whole = _characters(data, ends[-1], total, exact=not frequencies)
        whole &= (known | ~inside).all() & (ends[-1] <= room) & (numbers <= definition.maximum - definition.minimum).all()
        numbers = jnp.pad(jnp.where(whole, numbers + definition.minimum, 0), (0, whole_chunk - total))
        return numbers.reshape(definition.horizon, definition.dims), whole

    return jax.vmap(one)(tokens, count)


def _characters(data: Array, length: Array, total: int, exact: bool) -> tuple[Array, Array]:
    """The numbers of the characters that the first `length` bytes are in UTF-8, [total], and whether these are so many, `exact` or more."""
    here = jnp.arange(len(data)) < length
    first = here & ((data & 0xC0) != 0x80)
    number = jnp.cumsum(first) - 1
    wide = jnp.where(data < 0x80, 1, jnp.where(data >> 5 == 6, 2, jnp.where(data >> 4 == 14, 3, 0)))  # bytes that it begins
    follow = [jnp.pad(data, (0, 2))[i : i + len(data)] & 0x3F for i in (1, 2)]
    double, triple = (data & 0x1F) << 6 | follow[0], (data & 0xF) << 12 | follow[0] << 6 | follow[1]
    character = jnp.where(wide == 1, data, jnp.where(wide == 2, double, triple))
    least = jnp.where(wide == 1, 0, jnp.where(wide == 2, 0x80, 0x800))  # what could be written shorter is no UTF-8
    found = jnp.zeros(total, jnp.int32).at[jnp.where(first, number, total)].set(character, mode="drop")
    bytes_each = jnp.zeros(total, jnp.int32).at[jnp.where(here & (number >= 0), number, total)].add(1, mode="drop")
    expected = jnp.zeros(total, jnp.int32).at[jnp.where(first, number, total)].set(wide, mode="drop")
    counted = first & (number < total)
    good = (number[-1] + 1 >= total) & (bytes_each == expected).all() & (~counted | (character >= least) & (wide > 0)).all()
    good &= (number[-1] + 1 == total) | (not exact)
    return found, good & ((number >= 0) | ~here).all()


# Fitting


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError('FAST is fitted and encodes with tokenizers: pip install "jaxrl[vla]"', name="tokenizers") from error
    return tokenizers


def _numbers(x: np.ndarray, scale: float) -> np.ndarray:
    """As `numbers`, in double precision."""
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(f"FAST takes chunks [N, horizon, dims], got the shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{(~np.isfinite(x)).any((1, 2)).sum()} of {len(x)} chunks are not finite; leave padded ones out")
    found = np.around(dct.matrix(x.shape[1]) @ x.astype(np.float64) * scale)
    return found.clip(-(2.0**53), 2.0**53).astype(np.int64)  # beyond that a cast would turn the sign


def _text(numbers: np.ndarray, minimum: int) -> list[str]:
    """[N, H, D] to N texts."""
    return ["".join(map(chr, row)) for row in (numbers.reshape(len(numbers), -1) - minimum).tolist()]


def fit(config: Config, x: np.ndarray) -> Definition:
    """Of chunks [N, H, D] that are normalised, to about [-1, 1]. The same chunks in any order yield the same definition.

    Raises:
        ValueError: the chunks are not finite or of another rank, or their numbers have more characters than the vocabulary tokens.
        ImportError: the package tokenizers is not installed.
    """
    whole = _numbers(x, config.scale)
    minimum, maximum = int(whole.min()), int(whole.max())
    if maximum - minimum >= _bytes.CHARACTERS:
        raise ValueError(f"numbers go from {minimum} to {maximum}, more than characters; normalise the chunks, or take a smaller scale")
    alphabet = _bytes.alphabet(maximum - minimum + 1)
    if len(alphabet) > config.vocabulary:
        raise ValueError(
            f"numbers go from {minimum} to {maximum}, which takes {len(alphabet)} tokens, but vocabulary is {config.vocabulary}; "
            f"take a larger one or a smaller scale"
        )
    library = _tokenizers()
    bpe = library.Tokenizer(library.models.BPE())
    bpe.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=config.words)
    bpe.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        min_frequency=config.min_frequency,
        show_progress=False,
        special_tokens=[],
        # That of the bytes, so that numbers which no chunk had, but which lie between those, have tokens too.
        initial_alphabet=alphabet,
        max_token_length=10_000,
    )
    bpe.train_from_iterator(_text(whole, minimum), trainer)
    return Definition(x.shape[1], x.shape[2], config.scale, minimum, maximum, json.loads(bpe.to_str()))


def compression(definition: Definition, tokens: Tokens) -> float:
    """How many numbers there are for each token."""
    return definition.horizon * definition.dims * len(tokens) / max(sum(map(len, tokens)), 1)


# Files


def save(definition: Definition, path: str | os.PathLike[str]) -> None:
    """One JSON file, all that is needed to decode."""
    with written_whole(path) as part:
        part.write_text(json.dumps({"tokenizer": "fast", "version": VERSION, **asdict(definition)}))


def load(path: str | os.PathLike[str]) -> Definition:
    """What `save` has written.

    Raises:
        ValueError: the file holds no such tokenizer, or one of another version; says which file.
    """
    try:
        fields = json.loads(Path(path).read_text())
        kind, version = fields.pop("tokenizer"), fields.pop("version")
        if (kind, version) != ("fast", VERSION):
            raise ValueError(f"it is a tokenizer {kind!r} of version {version}, and this code reads 'fast' of version {VERSION}")
        return Definition(**fields)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: is no FAST tokenizer ({error})") from error


# Functions


def fast(definition: Definition) -> Fast:
    """Encoding clips numbers to the range that was fitted, and counts them.

    Raises:
        ValueError: at `encode`, the chunks are not of the definition's shape, or not finite.
        WrongTokens: at decoding unless `faults` is "zeros", a token is unknown, or the tokens are not those of `horizon * dims` numbers
            within the range.
        ImportError: at `encode`, the package tokenizers is not installed.
    """
    shape, total = (definition.horizon, definition.dims), definition.horizon * definition.dims
    pieces = _bytes.pieces(definition.bpe)
    rows = dct.matrix(definition.horizon)

    @cache
    def bpe() -> Any:
        return _tokenizers().Tokenizer.from_str(json.dumps(definition.bpe))

    def encode(x: np.ndarray) -> tuple[list[list[int]], int]:
        if x.shape[1:] != shape:
            raise ValueError(f"this tokenizer takes chunks [N, {shape[0]}, {shape[1]}], got the shape {x.shape}")
        whole = _numbers(x, definition.scale)
        clipped = whole.clip(definition.minimum, definition.maximum)
        texts = _text(clipped, definition.minimum)
        tokens = [one.ids for one in bpe().encode_batch(texts)]
        for text, ids in zip(texts, tokens, strict=True):
            if b"".join(pieces[token] for token in ids) != text.encode():  # a tokenizer of other origin, which drops what it never saw
                raise ValueError("this tokenizer has no tokens for some of the numbers in its range; fit it anew")
        return tokens, int((clipped != whole).sum())

    def read(tokens: Sequence[int], count: int | None) -> list[int]:
        """Whole numbers, all of them where `count` is None, and else so many or fewer."""
        if unknown := [token for token in tokens if token not in pieces]:
            raise WrongTokens(f"{len(unknown)} of {len(tokens)} tokens are unknown, the first is {unknown[0]}")
        try:
            found = [ord(c) + definition.minimum for c in _bytes.text(b"".join(pieces[token] for token in tokens), whole=count is None)]
        except UnicodeDecodeError as error:
            raise WrongTokens(f"the tokens are bytes that make no characters: {error.reason}") from error
        if len(found) > total or (count is None and len(found) < total):
            raise WrongTokens(f"the tokens make {len(found)} numbers, but a chunk of {shape} has {total}")
        found = found[:count]
        if odd := [number for number in found if number > definition.maximum]:
            raise WrongTokens(f"the tokens hold the number {odd[0]}, but none in the fitted range is above {definition.maximum}")
        return found

    def decode_all(tokens: Tokens, count: int | None, faults: Faults) -> Decoded:
        whole, known = np.zeros((len(tokens), total), np.int32), np.zeros(len(tokens), np.int32)
        told = []
        for row, sequence in enumerate(tokens):
            fault = ""
            try:
                found = read(sequence, count)
                whole[row, : len(found)], known[row] = found, len(found)
            except WrongTokens as error:
                fault = str(error)
                if faults == "raise":
                    raise WrongTokens(f"sequence {row} of {len(tokens)}: {fault}") from error
            told.append(fault)
        of_chunks = whole.reshape(-1, *shape)
        return Decoded((rows.T @ (of_chunks / definition.scale)).astype(np.float32), of_chunks, known, tuple(told))

    def decode(tokens: Tokens, faults: Faults = "raise") -> Decoded:
        return decode_all(tokens, None, faults)

    def decode_prefix(tokens: Tokens, count: int | None = None, faults: Faults = "raise") -> Decoded:
        if count is not None and not 0 <= count <= total:
            raise ValueError(f"count is {count}, but a chunk of {shape} has from 0 to {total} numbers")
        return decode_all(tokens, total if count is None else count, faults)

    return Fast(max(pieces) + 1, encode, decode, decode_prefix)
