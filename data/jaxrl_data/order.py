"""Which step is drawn when: a pure function of the seed and the sample's number, for any mixture of data sets.

Sample j of all samples that will ever be drawn comes from the set in whose share of [0, 1) the j-th point of a golden-ratio sequence
lies, so every batch holds the sets by their weights, as exactly as whole numbers can. It is the r-th sample of that set, r following
from j by a sum in closed form, and the sets' steps come in the order of a permutation that is computed entry by entry, another one in
each epoch. So nothing is ever shuffled in memory, the place in the data is one number, and going on at any place costs the same.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from jaxrl_data.splitmix import GOLDEN, mixed

_TURN = 2**64
_ROUNDS = 4


def hashed(*words: object) -> int:
    """64 bits of them, the same on every machine."""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=8).digest(), "little")


def permuted(index: np.ndarray, size: int, key: int) -> np.ndarray:
    """Where a permutation of 0 to `size` - 1 takes each `index` [n] int64; another `key` is another permutation.

    A Feistel network over the next even number of bits, walked on until it is back inside (Black and Rogaway 2002,
    https://doi.org/10.1007/3-540-45760-7_9).
    """
    half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = mixed(np.uint64(key % _TURN) + np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(GOLDEN))

    def once(x: np.ndarray) -> np.ndarray:
        left, right = x >> half, x & mask
        for one in keys:
            left, right = right, left ^ (mixed(right + one) & mask)
        return (left << half) | right

    x = once(np.asarray(index).astype(np.uint64))
    while (outside := x >= np.uint64(size)).any():
        x[outside] = once(x[outside])
    return x.astype(np.int64)


def _floor_sum(n: int, m: int, a: int, b: int) -> int:
    """The sum of (a i + b) // m over 0 <= i < n, in as many steps as Euclid's algorithm."""
    total = 0
    while n > 0:
        total += n * (n - 1) // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        last = a * n + b
        n, b, m, a = last // m, last % m, a, m
        if not m:
            break
    return total


class Draws(NamedTuple):
    """n samples in a row."""

    of: np.ndarray  # [n] int64, number of the set
    item: np.ndarray  # [n] int64, which of the set's items


@dataclass(frozen=True)
class Share:
    """Of one set in the mixture: how many items it has, and its weight, of which only the ratio to the others counts.

    With `parts` the set itself is a mixture: of its items, the first are those of the first part.
    """

    items: int
    weight: float
    parts: Mapping[str, "Share"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.items < 1:
            raise ValueError(f"items is {self.items}, but a set needs at least one that can be drawn")
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"weight is {self.weight}, but must be above 0 and finite; leave out a set that is not wanted")
        if self.parts and self.items != sum(part.items for part in self.parts.values()):
            raise ValueError(f"items is {self.items}, but those of its parts are {sum(part.items for part in self.parts.values())}")


class Order:
    """The draws of a mixture; made by `order`. Holds a few numbers for each set."""

    def __init__(self, shares: Mapping[str, Share], seed: int) -> None:
        self._names, self._shares, self._seed = tuple(shares), tuple(shares.values()), seed
        weights = np.array([share.weight for share in self._shares], np.float64)
        ends = np.cumsum(weights / weights.sum())
        self._bounds = [0, *(min(int(end * _TURN), _TURN - 1) for end in ends[:-1]), _TURN]
        self._start = hashed(seed, *shares)
        parts = ({f"{name}/{part}": one for part, one in share.parts.items()} for name, share in shares.items())
        self._within = [Order(those, seed) if those else None for those in parts]
        self._first = np.cumsum([0, *(share.items for share in self._shares[:-1])])

    @property
    def shares(self) -> dict[str, float]:
        """Of each set among the samples; they add up to 1."""
        total = sum(share.weight for share in self._shares)
        return {name: share.weight / total for name, share in zip(self._names, self._shares, strict=True)}

    def before(self, sample: int) -> list[int]:
        """How many of the samples 0 to `sample` - 1 come from each set."""
        return [self._before(sample, k) for k in range(len(self._names))]

    def _before(self, sample: int, k: int) -> int:
        """How many of them come from set k: the points at or above its bound, less those at or above the next."""
        low, high = (_floor_sum(sample, _TURN, GOLDEN, self._start + _TURN - bound) for bound in self._bounds[k : k + 2])
        return low - high

    def sets(self, first: int, count: int) -> np.ndarray:
        """[count] int64: the place of the set that each of the samples `first` to `first` + `count` - 1 comes from."""
        number = np.uint64(first % _TURN) + np.arange(count, dtype=np.uint64)
        points = number * np.uint64(GOLDEN) + np.uint64(self._start)
        return np.searchsorted(np.array(self._bounds[1:-1], np.uint64), points, side="right").astype(np.int64)

    def draws(self, first: int, count: int) -> Draws:
        """The samples `first` to `first` + `count` - 1."""
        of = self.sets(first, count)
        item = np.empty(count, np.int64)
        for k in np.unique(of).tolist():
            rows, within = np.flatnonzero(of == k), self._within[k]
            seen = self._before(first, k)
            if within is not None:
                drawn = within.draws(seen, len(rows))
                item[rows] = within._first[drawn.of] + drawn.item
                continue
            size = self._shares[k].items
            ranks = [divmod(seen + i, size) for i in range(len(rows))]
            epochs, places = np.array([epoch for epoch, _ in ranks], object), np.array([place for _, place in ranks], np.int64)
            for epoch in dict.fromkeys(epochs.tolist()):
                now = epochs == epoch
                item[rows[now]] = permuted(places[now], size, hashed(self._seed, self._names[k], epoch))
        return Draws(of, item)

    def epochs(self, sample: int) -> dict[str, float]:
        """How often each set has been gone through before a sample."""
        return {name: seen / share.items for name, share, seen in zip(self._names, self._shares, self.before(sample), strict=True)}


def order(shares: Mapping[str, Share], seed: int) -> Order:
    """The order in which the items of a mixture are drawn.

    Raises:
        ValueError: there is no set.
    """
    if not shares:
        raise ValueError("the mixture is empty; name at least one data set")
    return Order(shares, seed)


def weights(counts: Mapping[str, float], temperature: float = 1.0) -> dict[str, float]:
    """Weights of sets by their sizes, to the power of 1 / `temperature`: 1 by size, 2 by its square root, infinity all alike.

    Raises:
        ValueError: a count or the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, but must be above 0 (2 weighs by square roots)")
    for name, count in counts.items():
        if not count > 0:
            raise ValueError(f"{name}: its size is {count}, but must be above 0")
    largest = max(counts.values())
    powers = {name: (count / largest) ** (1.0 / temperature) for name, count in counts.items()}
    if gone := [name for name, power in powers.items() if not power]:
        raise ValueError(f"temperature is {temperature}, at which nothing would be drawn of {gone[0]}; take a higher one")
    total = sum(powers.values())
    return {name: power / total for name, power in powers.items()}


def rows_of_host(first: int, count: int, hosts: int, host: int) -> Sequence[int]:
    """The rows of a batch [count] from sample `first` on that are a host's: equal shares, one behind the other.

    Raises:
        ValueError: the hosts do not divide the batch.
    """
    if hosts < 1:
        raise ValueError(f"hosts is {hosts}, but must be at least 1")
    if count % hosts:
        raise ValueError(f"batch_size is {count}, which {hosts} hosts do not divide")
    share = count // hosts
    return range(first + host * share, first + (host + 1) * share)
