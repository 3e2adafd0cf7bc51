"""A state as text behind an instruction, written on the device: "Task: lift it, State: 127 3 255;", as pi0.5 and pi0-FAST are told it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.networks.vla import _prefix
from jaxrl.ops import bins
from jaxrl.tokenizers import text
from jaxrl.types import Array, Metrics, Observation, PyTree

NUMBER = 256  # of bins
BEFORE = ", State:"
_TOLD = "Task: go"  # what stands in front of a state does not matter, so any will do


def template(after: str) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of `tables`: there are at most as many tokens as characters."""
    sizes = {"before": (len(BEFORE),), "numbers": (NUMBER, len(" 255")), "after": (len(after),)}
    return {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in sizes.items()}


def tables(path: str, after: str, vocabulary: int) -> dict[str, np.ndarray]:
    """Tokens of ", State:", of each number behind a space, and of what comes `after`; -1 behind their ends.

    Raises:
        ValueError: there is no such tokenizer, it is not that of the language, or it joins what is to be put together here.
    """
    tokenizer = text.load(path)
    if tokenizer.size > vocabulary:
        raise ValueError(
            f"tokenizer: {path} has {tokenizer.size} tokens, but the language model {vocabulary}; take the one that it learnt with"
        )
    begun = f"{_TOLD}{BEFORE}"
    parts = {"before": [text.continued(tokenizer, _TOLD, BEFORE)], "after": [text.continued(tokenizer, f"{begun} 1", after)]}
    parts["numbers"] = [text.continued(tokenizer, begun, f" {i}") for i in range(NUMBER)]
    every = " ".join(map(str, range(NUMBER)))
    whole = [*parts["before"][0], *(token for number in parts["numbers"] for token in number), *parts["after"][0]]
    if text.continued(tokenizer, _TOLD, f"{BEFORE} {every}{after}") != whole:
        raise ValueError(f"tokenizer: {path} has tokens that join numbers to what is beside them, so states cannot be written by tables")
    found = {}
    for name, shape in template(after).items():
        rows = np.full((len(parts[name]), shape.shape[-1]), -1, np.int32)
        for row, tokens in zip(rows, parts[name], strict=True):
            if len(tokens) > len(row):
                raise ValueError(f"tokenizer: {path} has more tokens than there are characters in a state's text: {tokens}")
            row[: len(tokens)] = tokens
        found[name] = rows.reshape(shape.shape)
    return found


def written(tables: dict[str, Any], prompt: Array, state: Array, limit: float) -> tuple[Array, Array]:
    """`prompt` [B, L] and behind it a state [B, n], and which of its numbers lie beyond `limit`, [B, n].

    Such a number is written as the last bin on its side, where openpi writes -1 below. Tokens are -1 in what parts leave free: places are
    counted over tokens that are there, so that nothing has to be moved together.
    """
    which, outside = bins.encode(bins.Bins(-limit, limit, NUMBER), state)
    rows, numbers = len(prompt), tables["numbers"][which].reshape(len(prompt), -1)
    of_all = lambda part: jnp.broadcast_to(part[None], (rows, len(part)))  # noqa: E731
    return jnp.concatenate([prompt, of_all(tables["before"]), numbers, of_all(tables["after"])], 1), jnp.asarray(outside)


class Words(NamedTuple):
    """What a model is told in words."""

    init: Callable[[], PyTree]  # -> statistics: the tables, read from the tokenizer's file where this runs, not where it is traced
    text: Callable[[PyTree, Observation], tuple[Array, Array]]  # (statistics, observation) -> tokens [B, T], `outside` as of `written`


def check(state: str, tokenizer: str, limit: float) -> None:
    """Raises ValueError where the fields of a config do not fit each other."""
    if tokenizer and state == "hidden":
        raise ValueError("tokenizer: has no effect where the state is 'hidden'; leave it out, or have the state as 'text'")
    if not 0 < limit < float("inf"):
        raise ValueError(f"limit is {limit}, but must be positive: states are written in bins between -limit and limit")


def words(state: str, tokenizer: str, limit: float, after: str, vocabulary: int, seen: _prefix.Layout) -> Words:
    """Of an instruction and a state, or of an instruction alone where that is hidden.

    Raises:
        ValueError: there is nothing to write a state with.
    """
    if state == "text" and not tokenizer:
        raise ValueError("tokenizer: missing; a state is told as text: name the file of the language's tokenizer, or have it 'hidden'")

    def init() -> PyTree:
        if state == "hidden":
            return {}
        return {"words": jax.pure_callback(lambda: tables(tokenizer, after, vocabulary), template(after))}

    def tokens(statistics: PyTree, x: Observation) -> tuple[Array, Array]:
        prompt, numbers = _prefix.words(x), _prefix.state(seen, x)
        return (prompt, numbers[:, :0] > 0) if state == "hidden" else written(statistics["words"], prompt, numbers, limit)

    return Words(init, tokens)


def measures(outside: Array) -> Metrics:
    """How much of the state was written as the last bin, because it lay beyond it."""
    return {"state_outside": outside.astype(jnp.float32).mean()} if outside.shape[1] else {}
