"""Actions to come, in order of their steps, and how a new chunk of them meets those that are there.

Steps are those that were executed, not those that went by: while a robot waits for its first chunk, or holds because it has none, no step
is counted. So a chunk goes on where the robot is, the first one after a start begins with its first action, and no estimate of a latency is
needed to line chunks up.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Merge(enum.Enum):
    """What becomes of the steps that both the queue and a new chunk speak of."""

    REPLACE = "replace"  # the new chunk's
    AVERAGE = "average"  # a weighted mean of both
    ENSEMBLE = "ensemble"  # a mean of all chunks that spoke of the step, the oldest counting most: ACT's temporal ensemble
    APPEND = "append"  # the old chunk's
    REAL_TIME = "real_time"  # the new chunk's, which was told of those in flight and goes on from them


class Verdict(enum.Enum):
    """What became of a chunk."""

    USED = "used"
    OLD = "answers a request that is not newer than the one in use"
    OTHER_EPOCH = "was asked for before a reset"
    PASSED = "all of its steps have been executed"


@dataclass(frozen=True)
class Config:
    """How chunks are merged."""

    merge: Merge = Merge.REPLACE
    old_weight: float = 0.3  # of AVERAGE
    decay: float = 0.01  # of ENSEMBLE: weights are exp(-decay * i), the oldest chunk's i is 0
    blended: tuple[bool, ...] = ()  # which entries of an action are averaged, all by default; a gripper's is better taken of the newest

    def __post_init__(self) -> None:
        if not 0 <= self.old_weight <= 1:
            raise ValueError(f"old_weight is {self.old_weight}, expected 0 to 1")
        if not 0 <= self.decay < float("inf"):
            raise ValueError(f"decay is {self.decay}, expected 0 or more")


class Chunk(NamedTuple):
    """An answer of a policy."""

    request: int
    epoch: int
    step: int  # of its first action
    captured: float  # when the oldest part of the observation was seen, by this computer's monotonic clock
    actions: np.ndarray  # [H, D]


class Queue(NamedTuple):
    """The actions of steps `step` and on."""

    epoch: int
    step: int
    actions: np.ndarray  # [N, D]
    captured: np.ndarray  # [N], of the oldest chunk that had a part in the action
    chunks: np.ndarray  # [N], how many had
    newest: int  # the request whose answer was used last; 0 for none


def empty(epoch: int, size: int) -> Queue:
    """A queue at the beginning of an episode, of actions [size]."""
    return Queue(epoch, 0, np.zeros((0, size)), np.zeros(0), np.zeros(0, np.int64), 0)


def merger(config: Config) -> Callable[[Queue, Chunk], tuple[Queue, Verdict]]:
    """How a chunk meets a queue; the queue is as it was where the verdict is not USED."""

    def merge(queue: Queue, chunk: Chunk) -> tuple[Queue, Verdict]:
        if chunk.epoch != queue.epoch:
            return queue, Verdict.OTHER_EPOCH
        if chunk.request <= queue.newest:
            return queue, Verdict.OLD
        passed = queue.step - chunk.step
        if passed < 0 or passed >= len(chunk.actions):
            return queue, Verdict.PASSED
        new = np.array(chunk.actions[passed:], np.float64)
        both = min(len(new), len(queue.actions))
        captured, chunks = np.full(len(new), chunk.captured), np.ones(len(new), np.int64)
        if config.merge == Merge.APPEND:
            kept = (queue.actions, queue.captured, queue.chunks)
            new, captured, chunks = (np.concatenate((old, fresh[both:])) for old, fresh in zip(kept, (new, captured, chunks), strict=True))
        elif config.merge in (Merge.AVERAGE, Merge.ENSEMBLE):
            share = _old_share(config, queue.chunks[:both])[:, None]
            mean = share * queue.actions[:both] + (1 - share) * new[:both]
            new[:both] = np.where(np.array(config.blended or True), mean, new[:both])
            captured[:both] = np.minimum(captured[:both], queue.captured[:both])
            chunks[:both] += queue.chunks[:both]
        return queue._replace(actions=new, captured=captured, chunks=chunks, newest=chunk.request), Verdict.USED

    return merge


def _old_share(config: Config, chunks: np.ndarray) -> np.ndarray:
    if config.merge == Merge.AVERAGE:
        return np.full(len(chunks), config.old_weight)
    weights = np.exp(-config.decay * np.arange(chunks.max(initial=0) + 1))
    return np.cumsum(weights)[chunks - 1] / np.cumsum(weights)[chunks] if len(chunks) else np.zeros(0)


def pop(queue: Queue) -> tuple[Queue, np.ndarray, float]:
    """The next action and when what it was decided by was seen; the queue must not be empty."""
    rest = queue._replace(step=queue.step + 1, actions=queue.actions[1:], captured=queue.captured[1:], chunks=queue.chunks[1:])
    return rest, queue.actions[0], float(queue.captured[0])


def prefix(queue: Queue, horizon: int) -> tuple[np.ndarray, int]:
    """The chunk in flight as a policy is told of it, [horizon, D], and how many of these actions are known: behind them the last is held.

    Zeros would be a pose, the mean one of the data, and the policy would go on from there.
    """
    known = min(len(queue.actions), horizon)
    if not known:
        return np.zeros((horizon, queue.actions.shape[1])), 0
    return queue.actions[np.minimum(np.arange(horizon), known - 1)], known
