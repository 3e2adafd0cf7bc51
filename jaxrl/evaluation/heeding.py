"""Whether a policy does what it is told: its error on recorded episodes under their own instructions, and under those of others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrl.evaluation.open_loop import Episode, Replayed
from jaxrl.evaluation.statistics import difference_interval
from jaxrl.types import INSTRUCTION


def told_otherwise(episodes: Sequence[Episode]) -> list[Episode] | None:
    """The episodes, each under the instruction of the next one that has another at its beginning; None where all have the same, or none."""
    words = [one.observation[INSTRUCTION][0].tobytes() if INSTRUCTION in one.observation else b"" for one in episodes]
    if len(set(words)) < 2:
        return None
    found = []
    for number, one in enumerate(episodes):
        after = [(number + i) % len(episodes) for i in range(1, len(episodes))]
        other = episodes[next(i for i in after if words[i] != words[number])].observation[INSTRUCTION][0]
        shown = np.broadcast_to(other, one.observation[INSTRUCTION].shape)
        found.append(one._replace(observation={**one.observation, INSTRUCTION: shown}))
    return found


def heeding(own: Sequence[Replayed], other: Sequence[Replayed]) -> dict[str, Any]:
    """Of episodes replayed under their `own` and under `other` instructions, as plain JSON.

    `difference` is by how much the mean error, relative to the range of what was demonstrated, is larger under the other ones, with a 95 %
    interval over episodes; `own` and `other` are those errors.

    Raises:
        ValueError: no action of these episodes varies.
    """
    width = np.ptp(np.concatenate([one.demonstrated[one.counts] for one in own]), axis=0)
    varies = width > 1e-6
    if not varies.any():
        raise ValueError("heeding: no action of these episodes varies, so no error is relative to anything")

    def by_episode(replayed: Sequence[Replayed]) -> np.ndarray:
        apart = [np.abs(one.predicted - one.demonstrated)[one.counts][:, varies] / width[varies] for one in replayed if one.counts.any()]
        return np.array([rows.mean() for rows in apart])

    first, second = by_episode(own), by_episode(other)
    interval = difference_interval(second, first)
    return {"own": float(first.mean()), "other": float(second.mean()), "difference": interval.to_json(), "episodes": len(first)}
