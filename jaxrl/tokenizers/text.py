"""Tokenizers of language models, by the path of their file, and instructions as the tokens that models of the pi0 family are told.

A file `.model` is one of sentencepiece, as PaliGemma's, and a file `.json` one of the package `tokenizers`. Both packages come with
`pip install "jaxrl[vla]"`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxrl.ops.suggestion import suggestion

_BEGINS, _ENDS = ("<bos>", "<s>", "<|begin_of_text|>"), ("<eos>", "</s>", "<|end_of_text|>", "<|endoftext|>")


class Text(NamedTuple):
    """Functions on the host."""

    size: int  # number of tokens
    bos: int  # begins a text
    eos: int  # ends it
    encode: Callable[[str], list[int]]  # without these two
    decode: Callable[[Sequence[int]], str]


def load(path: str | Path) -> Text:
    """The tokenizer of a file.

    Raises:
        ValueError: there is no such file, it is of another kind, or it has no tokens that begin and end a text.
        ImportError: the package that reads it is not installed.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such tokenizer, a file .model of sentencepiece or .json of tokenizers")
    readers = {".model": _sentencepiece, ".json": _tokenizers}
    if Path(path).suffix not in readers:
        raise ValueError(f"{path}: a tokenizer is a file .model of sentencepiece or .json of tokenizers")
    found = readers[Path(path).suffix](str(path))
    if min(found.bos, found.eos) < 0:
        raise ValueError(f"{path}: has no tokens that begin and end a text, such as <bos> and <eos>; train it with them")
    return found


def _missing(name: str) -> ImportError:
    return ImportError(f'this tokenizer is read with {name}: pip install "jaxrl[vla]"', name=name)


def _sentencepiece(path: str) -> Text:
    try:
        import sentencepiece
    except ImportError as error:
        raise _missing("sentencepiece") from error
    try:
        model = sentencepiece.SentencePieceProcessor(model_file=path)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: is no model of sentencepiece ({error})") from error
    return Text(model.vocab_size(), model.bos_id(), model.eos_id(), model.encode, lambda ids: model.decode(list(map(int, ids))))


def _tokenizers(path: str) -> Text:
    try:
        import tokenizers
    except ImportError as error:
        raise _missing("tokenizers") from error
    try:
        model = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # what the package raises has no other type
        raise ValueError(f"{path}: is no tokenizer of the package tokenizers ({error})") from error

    def special(names: Sequence[str]) -> int:
        return next((found for found in map(model.token_to_id, names) if found is not None), -1)

    def encode(text: str) -> list[int]:
        return list(model.encode(text, add_special_tokens=False).ids)

    def decode(ids: Sequence[int]) -> str:
        return str(model.decode(list(map(int, ids)), skip_special_tokens=True))

    return Text(model.get_vocab_size(), special(_BEGINS), special(_ENDS), encode, decode)


def continued(tokenizer: Text, before: str, text: str) -> list[int]:
    """The tokens of `text` where it stands behind `before`.

    Raises:
        ValueError: a token reaches from the one into the other.
    """
    first, both = tokenizer.encode(before), tokenizer.encode(before + text)
    if both[: len(first)] != first:
        raise ValueError(f"this tokenizer has a token that joins {before!r} and {text!r}; take one that parts words, numbers and signs")
    return both[len(first) :]


# Instructions


class Form(NamedTuple):
    """How a model is told what to do. What follows the instruction, such as a state, is not part of it."""

    before: str
    after: str  # tokens of its own, which begins the answer
    lower: bool


FORMS = {"pi0": Form("", "\n", False), "pi05": Form("Task: ", "", False), "pi0_fast": Form("Task: ", "", True)}


def words(tokenizer: Text, text: str, form: str = "pi0") -> list[int]:
    """All tokens of an instruction, the first of which begins a text; underscores and ends of lines are spaces.

    Raises:
        ValueError: there is no such form.
    """
    if form not in FORMS:
        raise ValueError(f"there is no form {form!r} of instructions; {suggestion(form, list(FORMS))}")
    before, after, lower = FORMS[form]
    cleaned = text.strip().replace("_", " ").replace("\n", " ")
    cleaned = cleaned.lower() if lower else cleaned
    return [tokenizer.bos, *tokenizer.encode(before + cleaned), *(tokenizer.encode(after) if after else [])]


def instructions(path: str, form: str = "pi0") -> Callable[[str], list[int]]:
    """`words` of a tokenizer's file: what `tokens` of a data source names by its path, which pads, refuses and counts."""
    tokenizer = load(path)
    words(tokenizer, "", form)
    return lambda text: words(tokenizer, text, form)
