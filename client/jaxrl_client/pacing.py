"""A fixed rate without drift: tick k is due at start + k * period on the monotonic clock, whatever the ticks before it took.

A tick that is missed is left out and counted, not made up for: two commands at once would be a motion at twice its speed.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_SPUN = 2e-4  # seconds before a tick is due in which it is waited for without sleeping: a sleep ends that late


class Pace(NamedTuple):
    """Where a loop is."""

    start: float
    period: float
    ticks: int  # the number of the next one
    missed: int


class Timing(NamedTuple):
    """What a loop achieved, in seconds; `late` of its ticks."""

    p50: float
    p90: float
    p99: float
    p999: float
    worst: float
    ticks: int
    missed: int


def paced(start: float, period: float) -> Pace:
    """A loop whose first tick is due at `start`; raises ValueError."""
    if not 0 < period < math.inf:
        raise ValueError(f"period is {period} s, expected a positive number")
    return Pace(start, period, 0, 0)


def due(pace: Pace) -> float:
    """When the next tick is due."""
    return pace.start + pace.ticks * pace.period


def ticked(pace: Pace, now: float) -> Pace:
    """After a tick, at `now`: the next is the first that is due after it."""
    following = max(pace.ticks + 1, math.ceil((now - pace.start) / pace.period))
    return pace._replace(ticks=following, missed=pace.missed + following - pace.ticks - 1)


def wait(until: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> float:
    """Returns at `until`, and says by how much it is late."""
    left = until - clock()
    if left > _SPUN:
        sleep(left - _SPUN)
    while (now := clock()) < until:
        pass
    return now - until


def timing(late: list[float], missed: int) -> Timing:
    """Quantiles of what `wait` returned."""
    p50, p90, p99, p999 = (float(value) for value in np.quantile(late or [math.nan], (0.5, 0.9, 0.99, 0.999)))
    return Timing(p50, p90, p99, p999, max(late, default=math.nan), len(late), missed)
