"""What is known of a stream of rows after one pass in fixed memory: moments, extremes and a uniform sample, and how two of it become one.

The sample keeps the rows whose priority is lowest, and a row's priority is a hash of its identity (bottom-k sampling: Cohen and Kaplan,
2007). So the sample of a union is the lowest of the two samples: the same rows however the stream was cut, ordered or shared out. Up to
`size` rows it is the whole, and quantiles are exact.
"""

import hashlib
import math
from functools import reduce
from typing import NamedTuple

import numpy as np

from jaxrl_data.splitmix import GOLDEN, mixed

ROWS = 2**18  # that a sample keeps, where rows are not so wide that this would be more than BYTES
BYTES = 2**26
BLOCK = 2**18  # values that are gathered before anything is computed from them
_LAST = np.uint64(2**64 - 1)


class Sketch(NamedTuple):
    """Of `total` rows [total, D]. Up to twice `size` rows are held between two thinnings."""

    size: int
    total: int
    mean: np.ndarray  # [D] float64
    squares: np.ndarray  # [D] float64, sum of squared distances from the mean
    low: np.ndarray  # [D] float64
    high: np.ndarray  # [D] float64
    priorities: tuple[np.ndarray, ...]  # uint64, per block of held rows
    rows: tuple[np.ndarray, ...]  # [_, D]
    bound: np.uint64  # no row of a higher priority is wanted any more


def empty(width: int, size: int | None = None) -> Sketch:
    """Of no rows of `width` values. `size` must be the same in all that are merged; by default it follows from the width."""
    size = size or max(1, min(ROWS, BYTES // (8 * max(width, 1))))
    nothing = np.zeros(width)
    return Sketch(size, 0, nothing, nothing, np.full(width, np.inf), np.full(width, -np.inf), (), (), _LAST)


def seed(identity: str) -> int:
    """64 bits of what names an episode and the data it is of: the same on every machine."""
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "little")


def priorities(seeds: np.ndarray, places: np.ndarray) -> np.ndarray:
    """uint64 [N], of rows by the seeds of their episodes and their places in those."""
    return mixed(seeds + (places.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN))


def add(sketch: Sketch, rows: np.ndarray, priority: np.ndarray) -> Sketch:
    """With the rows [N, D] and their priorities [N]. Values that are not finite are the caller's to find: they stay in `low` and `high`."""
    if not len(rows):
        return sketch
    columns = np.ascontiguousarray(rows.T, np.float64)
    mean = columns.mean(axis=1)
    centred = columns - mean[:, None]
    wanted = priority <= sketch.bound
    block = Sketch(
        size=sketch.size,
        total=len(rows),
        mean=mean,
        squares=np.einsum("dn,dn->d", centred, centred),
        low=columns.min(axis=1),
        high=columns.max(axis=1),
        priorities=(priority[wanted],) if wanted.any() else (),
        rows=(rows[wanted],) if wanted.any() else (),
        bound=sketch.bound,
    )
    return merge(sketch, block)


def merge(one: Sketch, other: Sketch) -> Sketch:
    """Of the rows of both, which must not share any.

    The sample, the extremes and the count do not depend on the order of merging; the moments do by their last digits (Chan, Golub and
    LeVeque, 1979). Raises ValueError: widths or sizes differ, or a row is in both.
    """
    if (one.size, one.mean.shape) != (other.size, other.mean.shape):
        raise ValueError(
            f"sketches of {one.mean.shape[0]} and {other.mean.shape[0]} dimensions, {one.size} and {other.size} rows do not merge"
        )
    total = one.total + other.total
    share = other.total / total if total else 0.0
    delta = other.mean - one.mean
    both = Sketch(
        size=one.size,
        total=total,
        mean=one.mean + delta * share,
        squares=one.squares + other.squares + delta * delta * (one.total * share),
        low=np.minimum(one.low, other.low),
        high=np.maximum(one.high, other.high),
        priorities=one.priorities + other.priorities,
        rows=one.rows + other.rows,
        bound=min(one.bound, other.bound),
    )
    return thinned(both) if sum(map(len, both.priorities)) > 2 * both.size else both


def thinned(sketch: Sketch) -> Sketch:
    """The same with no more than `size` rows, by priority: what is equal is equal bit by bit. Raises ValueError if a row is in it twice."""
    if not sketch.priorities:
        return sketch
    priority, rows = np.concatenate(sketch.priorities), np.concatenate(sketch.rows)
    order = np.argsort(priority, kind="stable")
    ordered = priority[order]
    if (ordered[1:] == ordered[:-1]).any():
        raise ValueError(
            "rows were counted twice: an episode was read twice, or in two of the parts that are merged; give each to one part"
        )
    chosen = order[: sketch.size]
    bound = ordered[sketch.size - 1] if len(order) >= sketch.size else _LAST
    return sketch._replace(priorities=(priority[chosen],), rows=(rows[chosen],), bound=min(bound, sketch.bound))


def merge_all(sketches: list[Sketch]) -> Sketch:
    """Of at least one."""
    return reduce(merge, sketches)


def sample(sketch: Sketch) -> np.ndarray:
    """Uniformly drawn rows [kept, D] without repetition: all of them where there are no more than `size`."""
    return thinned(sketch).rows[0] if sketch.rows else np.zeros((0, len(sketch.mean)))


class Gathered:
    """A sketch that takes in a few rows at a time: they wait until there are enough of them to be worth the calls."""

    def __init__(self, width: int, size: int | None = None) -> None:
        self._sketch, self._rows, self._priorities, self._waiting = empty(width, size), [], [], 0  # type: ignore[var-annotated]

    def add(self, rows: np.ndarray, priority: np.ndarray) -> None:
        """Takes in [N, D] and [N]."""
        self._rows.append(rows)
        self._priorities.append(priority)
        self._waiting += rows.size
        if self._waiting >= BLOCK:
            self.whole()

    def whole(self) -> Sketch:
        """Of all rows so far."""
        if self._rows:
            self._sketch = add(self._sketch, np.concatenate(self._rows), np.concatenate(self._priorities))
            self._rows, self._priorities, self._waiting = [], [], 0
        return self._sketch


def deviation(sketch: Sketch) -> np.ndarray:
    """Standard deviation [D] of the rows (not of what they were drawn from); exactly 0 where all are equal."""
    spread = np.sqrt(sketch.squares / max(sketch.total, 1))
    return np.where(sketch.low == sketch.high, 0.0, spread)


def quantiles(sketch: Sketch, at: tuple[float, ...]) -> np.ndarray:
    """float64 [len(at), D]; `rank_error` bounds how far off they may be."""
    rows = sample(sketch)
    if not len(rows):
        raise ValueError("no rows: there are no quantiles")
    columns = np.ascontiguousarray(rows.T)
    columns.sort(axis=1)  # NumPy sorts several times faster than it selects, as its own quantiles do
    place = np.array(at) * (columns.shape[1] - 1)
    below = np.floor(place).astype(np.int64)
    low, high = (columns[:, np.minimum(index, columns.shape[1] - 1)].astype(np.float64) for index in (below, below + 1))
    return (low + (high - low) * (place - below)).T


def rank_error(at: float, kept: int, count: int, risk: float = 1e-6) -> float:
    """How far, as a share of all rows, the true rank of the quantile `at` may lie from `at`; further with a probability of `risk` at most.

    Zero where all rows were kept. Otherwise the number of kept rows below a rank is hypergeometric, which is no wider than binomial
    (Hoeffding, 1963, theorem 4), and Chernoff's bound exp(-kept KL(at, at + error)) is solved for the error on either side. One row more is
    allowed for, because quantiles are interpolated.
    """
    if kept >= count:
        return 0.0
    need = math.log(2 / risk) / kept
    return max(_solve(at, 1 - at, need), _solve(1 - at, at, need)) + 1 / kept


def _solve(at: float, room: float, need: float) -> float:
    """The error in [0, room] at which the divergence between Bernoulli distributions of `at` and `at + error` is `need`."""
    low, high = 0.0, room
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(at, at + middle) < need else (low, middle)
    return high


def _divergence(one: float, other: float) -> float:
    if other in (0.0, 1.0):
        return 0.0 if one == other else math.inf
    first = one * math.log(one / other) if one else 0.0
    return first + ((1 - one) * math.log((1 - one) / (1 - other)) if one < 1 else 0.0)
