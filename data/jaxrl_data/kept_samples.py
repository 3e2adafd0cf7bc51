"""Samples of numbers alone, kept once they are made: to make one takes a hundred times as long as to copy it."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxrl_data.mixture import Mixture
from jaxrl_data.transforms.interface import Spec

MOST = 2**30  # bytes that a mixture's kept samples may take


def row_bytes(spec: Spec) -> int:
    """Of one sample in a batch."""
    return sum(math.prod(map(int, one.shape)) * np.dtype(one.dtype).itemsize for one in spec.values())


def kept_bytes(config: Mixture, spec: Spec, items: Sequence[int]) -> int:
    """What samples of sets of so many items take once all are made; 0 where none are kept: they have images, are too many for `MOST`, or
    differ each time that they are drawn.
    """
    drawn = bool(config.augment) or config.goal is not None or config.tokens is not None
    seen = any(name.startswith(("observation/image/", "observation/depth/")) for name in spec)
    size = row_bytes(spec) * sum(items)
    return 0 if drawn or seen or size > MOST else size


class KeptSamples:
    """Of one set, by their items. Two threads that meet at one write the same."""

    def __init__(self, spec: Spec, items: int) -> None:
        self._arrays = {name: np.empty((items, *map(int, one.shape)), one.dtype) for name, one in spec.items()}
        self._made = np.zeros(items, bool)

    def fill(self, batch: Mapping[str, np.ndarray], rows: np.ndarray, items: np.ndarray, make: Callable[[int, int], None]) -> None:
        """Rows of a batch with the samples of these items; `make` (row, item) puts one that is not there yet into its row."""
        missing = np.flatnonzero(~self._made[items])
        for place in missing.tolist():
            make(int(rows[place]), int(items[place]))
            for name, array in self._arrays.items():
                array[items[place]] = batch[name][rows[place]]
            self._made[items[place]] = True
        if len(missing) < len(items):
            for name, array in self._arrays.items():
                batch[name][rows] = array[items]
