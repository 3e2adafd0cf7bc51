"""Windows of steps by seconds relative to now, clamped at the ends of an episode and marked there."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

TOLERANCE = 1e-4  # s, between a time that is asked for and the nearest step


class Window(NamedTuple):
    """Which rows of an episode a column shows."""

    rows: np.ndarray  # int64 [n], inside the episode
    is_pad: np.ndarray  # bool [n], where the row was clamped: nothing is there at that time


def offsets(seconds: Sequence[float], rate: float, tolerance: float = TOLERANCE) -> np.ndarray:
    """Steps relative to now, int64 [n].

    Raises:
        ValueError: the rate is not known, or a time is further from every step than the tolerance [s].
    """
    if rate <= 0:
        raise ValueError("the rate of the data set is not known, so that seconds are no number of steps; ask for steps")
    times = np.asarray(seconds, np.float64)
    steps = np.rint(times * rate)
    off = np.abs(steps / rate - times)
    if (off > tolerance).any():
        worst = int(np.argmax(off))
        raise ValueError(
            f"{times[worst]:g} s is {off[worst]:g} s from the nearest step at {rate:g} steps per second, more than {tolerance:g} s; "
            f"use a multiple of {1 / rate:g} s, such as {steps[worst] / rate:g}"
        )
    return steps.astype(np.int64)


def window(step: int, length: int, relative: np.ndarray) -> Window:
    """The rows of one column around `step` of an episode of `length` steps. Raises ValueError where the step is not in it."""
    if not 0 <= step < length:
        raise ValueError(f"step {step} is not in an episode of {length} steps")
    rows = step + relative
    inside = np.clip(rows, 0, length - 1)
    return Window(inside, rows != inside)


def windows(
    step: int, length: int, delta_timestamps: Mapping[str, Sequence[float]], rate: float, tolerance: float = TOLERANCE
) -> dict[str, Window]:
    """One window per column, by name. Raises as `offsets`, with the name of the column, and as `window`."""
    found = {}
    for name, seconds in delta_timestamps.items():
        try:
            found[name] = window(step, length, offsets(seconds, rate, tolerance))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return found
