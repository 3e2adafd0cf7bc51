"""How long the policy takes to answer: what decides when to ask.

The estimate is a high quantile of the last answers, so it comes down again by itself: among 20 or more, one slow answer does not count
at all, and nothing counts for longer than the window. The first answer of a connection is apart: it waits for a compiler or a cache, and
is the estimate only as long as there is no other.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Config:
    """How answers are measured."""

    initial: float = 0.2  # seconds, before any was
    window: int = 50  # answers
    quantile: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.initial < math.inf or self.window < 1 or not 0 < self.quantile <= 1:
            raise ValueError(f"{self}: expected a positive initial, a window from 1 and a quantile above 0 and at most 1")


class Latency(NamedTuple):
    """The last answers, and the first of this connection."""

    cold: float | None = None
    warm: tuple[float, ...] = ()


def observed(config: Config, latency: Latency, seconds: float) -> Latency:
    """With one more answer, or with a deadline that passed without one."""
    if latency.cold is None:
        return latency._replace(cold=seconds)
    return latency._replace(warm=(*latency.warm, seconds)[-config.window :])


def reconnected(latency: Latency) -> Latency:
    """The next answer is a first one again; what is known of the others stays."""
    return latency._replace(cold=None)


def estimate(config: Config, latency: Latency) -> float:
    """Seconds within which the next answer is expected."""
    if not latency.warm:
        return config.initial if latency.cold is None else latency.cold
    return sorted(latency.warm)[max(math.ceil(config.quantile * len(latency.warm)) - 1, 0)]
