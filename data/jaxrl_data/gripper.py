"""Gripper commands of one episode in one convention: 1 is open, 0 is closed, absolute."""

import numpy as np


def binarised(openness: np.ndarray, low: float = 0.05, high: float = 0.95) -> np.ndarray:
    """[T] of 0 and 1 from [T] between. What is in between becomes what it moves to: the next value that is open or closed.

    Behind the last of those nothing tells where it moves: it becomes what it is nearer to.
    """
    opened, closed = openness > high, openness < low
    known = opened | closed
    steps = np.arange(len(openness))
    following = np.minimum.accumulate(np.where(known, steps, len(openness))[::-1])[::-1]
    found = following < len(openness)
    return np.where(found, opened[np.minimum(following, len(openness) - 1)], openness >= 0.5).astype(np.float32)


def absolute(closing: np.ndarray, threshold: float = 0.1) -> np.ndarray:
    """[T] of 0 and 1 from commands [T] that close (positive), open (negative) or leave the gripper as it is.

    Before the first command it is what that command changes; without any command it is open.
    """
    command = np.where(closing > threshold, 0.0, np.where(closing < -threshold, 1.0, np.nan))
    given = ~np.isnan(command)
    if not given.any():
        return np.ones(len(closing), np.float32)
    first = int(np.argmax(given))
    last = np.maximum.accumulate(np.where(given, np.arange(len(closing)), -1))
    return np.where(last >= 0, command[np.maximum(last, 0)], 1.0 - command[first]).astype(np.float32)
