"""The words that tell the task: one of several, and as token ids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from jaxrl.types import ArraySpec
from jaxrl_data.transforms.interface import Sample, Spec
from jaxrl_data.transforms.keys import CUT, INSTRUCTION, trained

Encode = Callable[[str], Sequence[int]]
NO_TOKEN = -1


def _several(names: Any) -> tuple[str, ...]:
    """The keys of instructions: "observation/task/instruction", "observation/task/instruction_2", ..."""
    return tuple(sorted(key for key in names if key == INSTRUCTION or key.startswith(f"{INSTRUCTION}_")))


@dataclass(frozen=True)
class ChooseInstruction:
    """One of an episode's instructions, each that is not empty as likely as any other. A robot has one, and keeps the first."""

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        keys = _several(sample)
        if not keys:
            return sample
        texts = [sample[key] for key in keys if sample[key]] or [""]
        index = int(random.integers(len(texts))) if trained(sample) else 0
        return {**{key: value for key, value in sample.items() if key not in keys}, INSTRUCTION: texts[index]}

    def inverse(self, sample: Sample) -> Sample:
        return sample

    def spec(self, before: Spec) -> Spec:
        keys = _several(before)
        if not keys:
            return before
        return {**{key: value for key, value in before.items() if key not in keys}, INSTRUCTION: before[keys[0]]}


def byte_ids() -> Encode:
    """The UTF-8 bytes of a text, each plus 1: no file, no vocabulary, 257 ids."""
    return lambda text: [byte + 1 for byte in text.encode()]


def tokenizers_file(path: str) -> Encode:
    """Of a tokenizer.json, by the library `tokenizers`. Raises ImportError that says what to install."""
    try:
        from tokenizers import Tokenizer  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ImportError(f"{path} is read by the library tokenizers, which is not installed: pip install tokenizers") from error
    read = Tokenizer.from_file(path)
    return lambda text: list(read.encode(text).ids)


def sentencepiece_file(path: str) -> Encode:
    """Of a SentencePiece model. Raises ImportError that says what to install."""
    try:
        from sentencepiece import SentencePieceProcessor  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ImportError(f"{path} is read by the library sentencepiece, which is not installed: pip install sentencepiece") from error
    read = SentencePieceProcessor(model_file=path)
    return lambda text: list(read.encode(text))


@cache
def _encoder(path: str, arguments: tuple[str, ...]) -> Encode:
    module, _, name = path.rpartition(".")
    try:
        factory = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"Tokenise: there is no {path}; write module.function, such as {__name__}.byte_ids") from error
    try:
        encode: Encode = factory(*arguments)
        encode("")
    except TypeError as error:
        raise ValueError(f"Tokenise: {path} with the arguments {arguments} makes no ids of a text: {error}") from error
    return encode


@dataclass(frozen=True)
class Tokenise:
    """The instruction as int32 [length], -1 where there is no token. One with more tokens is refused, or with `cut` cut off and counted.

    `path` names a function, module.function, that is called with `arguments` and returns what makes ids of a text. A sample without an
    instruction has an empty one.
    """

    path: str = "jaxrl_data.transforms.instruction.byte_ids"
    arguments: tuple[str, ...] = ()
    length: int = 64
    cut: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"Tokenise: length is {self.length}, but counts at least 1 token")

    def check(self) -> None:
        """Raises ValueError, or what opening its file raises, where `path` and `arguments` make no ids of a text."""
        _encoder(self.path, self.arguments)

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        text = sample.get(INSTRUCTION, "")
        if not isinstance(text, str):
            return sample
        found = _encoder(self.path, self.arguments)(text)
        over = len(found) > self.length
        if over and not self.cut:
            raise ValueError(
                f"{text!r} has {len(found)} tokens, but there is room for {self.length}; raise tokens.length or set tokens.cut"
            )
        ids = np.full(self.length, NO_TOKEN, np.int32)
        ids[: len(found)] = found[: self.length]
        return {**sample, INSTRUCTION: ids} | ({CUT: text} if over else {})

    def inverse(self, sample: Sample) -> Sample:
        return sample

    def spec(self, before: Spec) -> Spec:
        return {**before, INSTRUCTION: ArraySpec((self.length,), "int32")}
