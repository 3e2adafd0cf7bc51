"""Byte-level byte-pair encoding, as GPT-2 has it: what tokens are in bytes, so that reading them needs no package."""

import codecs
from functools import cache
from typing import Any

CHARACTERS = 0xD800  # of UTF-8 in a row: behind them are the surrogates, which stand for nothing alone


@cache
def _letters() -> dict[int, str]:
    """The letter that a vocabulary writes each byte as: the byte's own where that can be printed, or else one from 256 on."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printed]
    return {byte: chr(byte) for byte in printed} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def alphabet(characters: int) -> list[str]:
    """The letters of all bytes that the first so many characters take in UTF-8."""
    return [_letters()[byte] for byte in sorted({byte for i in range(characters) for byte in chr(i).encode()})]


def pieces(bpe: dict[str, Any]) -> dict[int, bytes]:
    """The bytes of each token. One that no bytes are written as stands for itself, as in the package `tokenizers`.

    Raises ValueError where there are no tokens, or their numbers are none.
    """
    vocabulary = bpe["model"]["vocab"]
    if not vocabulary or not all(isinstance(number, int) and number >= 0 for number in vocabulary.values()):
        raise ValueError("its vocabulary is empty, or does not number its tokens")
    of_letter = {letter: byte for byte, letter in _letters().items()}

    def piece(token: str) -> bytes:
        return bytes(of_letter[c] for c in token) if all(c in of_letter for c in token) else token.encode()

    return {number: piece(token) for token, number in vocabulary.items()}


def text(data: bytes, whole: bool) -> str:
    """In UTF-8; unless it is `whole`, a character that is cut off at the end is left out.

    Raises:
        UnicodeDecodeError: the bytes make no characters.
    """
    return codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
