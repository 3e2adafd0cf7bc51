"""Episodes that are unlike the others: by their length, or by the largest or smallest value of a dimension. Fixed memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from jaxrl_data import sketch as sketches
from jaxrl_data.episode import Features
from jaxrl_data.findings import Finding, warning

Z = 10.0  # robust deviations; extremes have long tails, so few
ENOUGH = 12  # episodes; of fewer nobody knows what is usual
KEPT = 16  # most extreme episodes of a dimension
_WIDTH = 2.5631  # of q10 to q90 of a normal distribution, in deviations


@dataclass
class _Column:
    held: sketches.Gathered  # of one row per episode: [largest, -smallest], [2 D]
    most: np.ndarray  # [KEPT, 2 D]
    who: np.ndarray  # [KEPT, 2 D], their episodes


@dataclass
class Outliers:
    """Of all columns that were added; "" is the length."""

    columns: dict[str, _Column] = field(default_factory=dict)

    def add(self, name: str, rows: np.ndarray, number: int, where: str) -> None:
        """Takes in one episode's finite rows [T, D]."""
        row = np.concatenate([rows.max(axis=0), -rows.min(axis=0)]).astype(np.float64)
        if name not in self.columns:
            shape = KEPT, len(row)
            self.columns[name] = _Column(sketches.Gathered(len(row)), np.full(shape, -np.inf), np.full(shape, "", object))
        column = self.columns[name]
        column.held.add(row[None], sketches.priorities(np.array([number], np.uint64), np.zeros(1)))
        least = column.most.argmin(axis=0)
        better = np.flatnonzero(row > np.take_along_axis(column.most, least[None], axis=0)[0])
        column.most[least[better], better] = row[better]
        column.who[least[better], better] = where

    def findings(self, features: Features) -> Iterator[Finding]:
        """One per episode and column, of its worst dimension."""
        for name, column in self.columns.items():
            held = column.held.whole()
            if held.total < ENOUGH:
                continue
            low, middle, high = sketches.quantiles(held, (0.1, 0.5, 0.9))
            scale = (high - low) / _WIDTH
            with np.errstate(divide="ignore", invalid="ignore"):
                z = np.where(scale > 0, (column.most - middle) / scale, 0)
            worst: dict[str, tuple[float, int, int]] = {}
            for place, dimension in np.argwhere(z > Z):
                found = float(z[place, dimension]), int(place), int(dimension)
                worst[column.who[place, dimension]] = max(found, worst.get(column.who[place, dimension], found))
            for where, (_, place, dimension) in sorted(worst.items()):
                yield self._finding(features, name, column, where, place, dimension, float(middle[dimension]), z[place, dimension])

    def _finding(
        self, features: Features, name: str, column: _Column, where: str, place: int, dimension: int, middle: float, z: float
    ) -> Finding:
        half = column.most.shape[1] // 2
        sign = 1 if dimension < half else -1
        value = sign * column.most[place, dimension]
        if not name:
            return warning("outlier: length", where, "", f"about {sign * middle:g} steps", f"{value:g}, {z:.0f} robust deviations off")
        spec, place = features.arrays.get(name), dimension % half
        named = spec.names[place] if spec is not None and place < len(spec.names) else str(place)
        what = "largest" if sign > 0 else "smallest"
        return warning(
            "outlier: value", where, name, f"{what} {named} about {sign * middle:.4g}", f"{value:.4g}, {z:.0f} robust deviations off"
        )
