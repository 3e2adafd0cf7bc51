"""A policy whose kernels are rounded to 8 bits, held against itself: both are shown the same episodes, and draw the same noise."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxrl.algorithms.supervised import Behaviour
from jaxrl.evaluation.open_loop import CONSTANT, Episode, replaying
from jaxrl.ops import int8
from jaxrl.ops.paths import merge
from jaxrl.types import Policy

LIMIT = 0.01  # of what an action may differ by, relative to the range of its dimension


class Rounded(NamedTuple):
    learnt: Behaviour  # for the same policy
    error: float  # mean absolute difference of actions, relative to the range of what was demonstrated
    before: int  # bytes
    after: int


def rounded(
    policy: Policy,
    learnt: Behaviour,
    episodes: Sequence[Episode],
    limit: float = LIMIT,
    patterns: tuple[str, ...] = (),
    bits: int = 8,
    seed: int = 0,
) -> Rounded:
    """`learnt`, what `supervised` deploys, with kernels as `ops.int8.quantised` makes them.

    Raises:
        ValueError: actions of the episodes' steps differ by more than `limit` on average, or there is nothing to round or to compare.
    """
    whole = learnt._replace(params=merge(learnt.frozen, learnt.params), frozen={})
    few = whole._replace(params=int8.quantised(whole.params, patterns, bits))
    replayed = replaying(policy, episodes, seed)
    shown = list(zip(replayed(whole), replayed(few), strict=True))
    width = np.ptp(np.concatenate([one.demonstrated[one.counts] for one, _ in shown]), axis=0)
    varies = width > CONSTANT
    if not varies.any():
        raise ValueError("int8: no action moves in these episodes, so there is no range to tell an error by; take others")
    apart = np.concatenate([np.abs(one.predicted - other.predicted)[one.counts] for one, other in shown])[:, varies] / width[varies]
    error = float(apart.mean())
    if not error <= limit:
        apart_by = f"actions differ by {error:.2%} of their range on average, which is more than the limit of {limit:.2%}"
        raise ValueError(f"int8: {apart_by}; leave more kernels as they are, or allow more")
    return Rounded(few, error, int8.size(whole), int8.size(few))
