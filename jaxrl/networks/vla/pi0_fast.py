"""pi0-FAST (Pertsch et al. 2025, https://arxiv.org/abs/2501.09747): a PaliGemma that writes actions as tokens."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from jaxrl.networks.interface import TokenDecoder
from jaxrl.networks.transformer.experts import experts
from jaxrl.networks.transformer.paligemma import SIZES as PALIGEMMA
from jaxrl.networks.transformer.paligemma import Config as PaliGemma
from jaxrl.networks.transformer.paligemma import paligemma
from jaxrl.networks.vla import _prefix, _weights, _words
from jaxrl.networks.vla._writing import Read, last_of, writing
from jaxrl.types import Array, Key, Metrics, Observation, Params, PyTree, Spec

AFTER = ";\n"  # a state


@dataclass(frozen=True)
class Config:
    """A state is written by `tokenizer`, the file of the language's own, in bins between `-limit` and `limit` of the numbers as they are
    normalised; or it is "hidden". It has up to `state_dim` numbers. `cameras`, `weights` and `fresh` are as of `pi0`.
    """

    seeing: PaliGemma = field(default_factory=PaliGemma)
    state: Literal["text", "hidden"] = "text"
    tokenizer: str = ""
    limit: float = 1.0
    state_dim: int = 32
    cameras: tuple[str, ...] = ()
    weights: str = ""
    fresh: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.state_dim < 0:
            raise ValueError(f"state_dim is {self.state_dim}, but must be at least 0")
        _words.check(self.state, self.tokenizer, self.limit)
        _weights.check_fresh(self.weights, self.fresh)


SIZES = {"debug": Config(PALIGEMMA["debug"]), "3b": Config()}


class Condition(NamedTuple):
    read: Read
    outside: Array  # bool [B, numbers of a state]


def pi0_fast(config: Config, observation: Spec, output_shape: tuple[int, ...]) -> TokenDecoder:
    """Sees pictures `image/<camera>`, the instruction `task/instruction`, tokens, -1 where there is none, and states, of which it reads.

    `output_shape` is (length, vocabulary) of sequences in the language's own tokens. Parameters are those of `paligemma`, and tables of the
    state's text are statistics.

    Raises:
        ValueError: sequences are not of the language's tokens, the observation is not of one step of such, or there is no tokenizer for the
            state.
    """
    vocabulary = config.seeing.text.vocabulary
    if len(output_shape) != 2 or output_shape[1] != vocabulary:
        raise ValueError(
            f"pi0_fast writes sequences (length, {vocabulary}) of its language's tokens, but the output is to have the shape "
            f"{output_shape}; have the objective tokens write them, by its `language`"
        )
    seen = _prefix.layout(observation, config.cameras, config.state_dim, "pi0_fast")
    seeing = paligemma(config.seeing)
    body = experts({"text": config.seeing.text.size()}, config.seeing.text.computing)
    told = _words.words(config.state, config.tokenizer, config.limit, AFTER, vocabulary, seen)
    write = writing(seeing.text, output_shape[0])

    def init(key: Key) -> tuple[Params, PyTree]:
        return seeing.init(key), told.init()

    def encode(params: Params, statistics: PyTree, x: Observation, key: Key | None = None, train: bool = False) -> tuple[Condition, PyTree]:
        del key, train
        text, outside = told.text(statistics, x)
        prefix, valid = _prefix.tokens(seeing, config.seeing.vision.image, params, seen, x, text)
        mask, places = _prefix.whole(valid)
        after, cache = body.read(params, {"text": prefix}, mask, places)
        return Condition(Read(cache, valid, last_of(after["text"], valid)), outside), statistics

    def logits(params: Params, tokens: Array, condition: Condition, key: Key | None = None, train: bool = False) -> Array:
        return write.logits(params, tokens, condition.read, key, train)

    def begin(params: Params, condition: Condition) -> PyTree:
        return write.begin(params, condition.read)

    def step(params: Params, token: Array, cache: PyTree, condition: Condition) -> tuple[Array, PyTree]:
        return write.step(params, token, cache, condition.read)

    def measures(condition: Condition) -> Metrics:
        return _words.measures(condition.outside)

    made: Any = _weights.beginning(init, config.weights, config.fresh)
    return TokenDecoder(made, encode, logits, begin, step, measures)
