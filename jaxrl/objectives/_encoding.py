"""What an objective's network makes of an observation, once for all objectives that have the network."""

from collections.abc import Callable
from typing import Any

from jaxrl.networks.interface import ActingModel, Denoiser, TokenDecoder
from jaxrl.types import Key, Metrics, Params, PyTree

Encode = Callable[[Params, PyTree, dict[str, Any], Key], tuple[Any, PyTree, Metrics]]


def encoding(network: Denoiser | TokenDecoder | ActingModel, name: str) -> Encode:
    """(params, statistics, batch, key) -> condition, statistics, metrics, while training; `name` is where the network's are among all."""

    def encode(params: Params, statistics: PyTree, batch: dict[str, Any], key: Key) -> tuple[Any, PyTree, Metrics]:
        condition, kept = network.encode(params[name], statistics[name], batch["observation"], key, train=True)
        return condition, statistics | {name: kept}, network.measures(condition)

    return encode


def check_written(who: str, network: Denoiser | TokenDecoder | ActingModel, length: int, vocabulary: int) -> None:
    """Raises ValueError where a network that others learn with, too, does not write such sequences; `who` is the objective that asks."""
    if isinstance(network, ActingModel) and (length > network.longest or vocabulary != network.vocabulary):
        raise ValueError(
            f"{who} has sequences of {length} out of {vocabulary} tokens, but the network writes up to {network.longest} out of "
            f"{network.vocabulary}; change the one or the other"
        )
