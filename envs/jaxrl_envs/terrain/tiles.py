"""One tile of each kind: heights at its vertices, 0 along its edge, so that any two tiles fit, and flat around its centre.

A robot starts at the centre. Names say what it meets on its way out: `stairs_up` leads from the ground of a pit up to the edge.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Heights = NDArray[np.float64]


class Grid(NamedTuple):
    """The vertices of one tile, its edges included, and the shapes' numbers."""

    side: int  # vertices
    resolution: float  # m
    platform: float  # m, side of the flat square in the middle
    slope: float  # rise over run
    noise: float  # m, half-width
    noise_spacing: float  # m
    stair_height: float  # m
    stair_depth: Interval  # m
    obstacle_height: float  # m
    obstacle_size: Interval  # m
    obstacles: int
    gap: float  # m
    gap_depth: float  # m


def _distance(grid: Grid) -> Heights:
    """[side, side] m from the middle platform's border, along the axis that is farther off; negative on the platform."""
    offset = np.abs(np.arange(grid.side) - (grid.side - 1) / 2) * grid.resolution
    return np.maximum(offset[:, None], offset[None, :]) - grid.platform / 2


def _clear(grid: Grid, heights: Heights) -> Heights:
    """`heights` with a platform at 0."""
    return np.where(_distance(grid) > 1e-6, heights, 0.0)


def _flat(grid: Grid, generator: np.random.Generator) -> Heights:
    return np.zeros((grid.side, grid.side))


def _slope_down(grid: Grid, generator: np.random.Generator) -> Heights:
    distance = np.maximum(_distance(grid), 0.0)
    return grid.slope * (distance.max() - distance)


def _slope_up(grid: Grid, generator: np.random.Generator) -> Heights:
    return -_slope_down(grid, generator)


def _rough(grid: Grid, generator: np.random.Generator) -> Heights:
    """Uniform noise at coarse points, linear between them."""
    extent = (grid.side - 1) * grid.resolution
    coarse = np.linspace(0.0, extent, max(2, round(extent / grid.noise_spacing) + 1))
    noise = generator.uniform(-grid.noise, grid.noise, (coarse.size, coarse.size))
    at = np.arange(grid.side) * grid.resolution
    rows = np.stack([np.interp(at, coarse, row) for row in noise])
    return _clear(grid, np.stack([np.interp(at, coarse, column) for column in rows.T], axis=1))


def _stairs_down(grid: Grid, generator: np.random.Generator) -> Heights:
    """Steps of whole cells, as many as fit; what is left over is a rim at height 0."""
    depth = max(1, round(generator.uniform(*grid.stair_depth) / grid.resolution)) * grid.resolution
    distance = _distance(grid)
    steps = np.floor(distance.max() / depth + 1e-6)
    taken = np.ceil(np.maximum(distance, 0.0) / depth - 1e-6)
    return grid.stair_height * (steps - np.minimum(taken, steps))


def _stairs_up(grid: Grid, generator: np.random.Generator) -> Heights:
    return -_stairs_down(grid, generator)


def _obstacles(grid: Grid, generator: np.random.Generator) -> Heights:
    """Rectangles raised or sunk by all or half of the obstacles' height, over each other."""
    heights = np.zeros((grid.side, grid.side))
    for _ in range(grid.obstacles):
        cells = np.round(generator.uniform(*grid.obstacle_size, 2) / grid.resolution).astype(int)
        row, column = generator.integers(1, grid.side, 2)  # what reaches beyond the edge is cut off
        height = grid.obstacle_height * generator.choice((-1.0, -0.5, 0.5, 1.0))
        heights[row : row + cells[0] + 1, column : column + cells[1] + 1] = height
    return _clear(grid, heights)


def _gap(grid: Grid, generator: np.random.Generator) -> Heights:
    """A trench around the platform."""
    distance = _distance(grid)
    return np.where((distance > 1e-6) & (distance < grid.gap - 1e-6), -grid.gap_depth, 0.0)


KINDS: dict[str, Callable[[Grid, np.random.Generator], Heights]] = {
    "flat": _flat,
    "slope_up": _slope_up,
    "slope_down": _slope_down,
    "rough": _rough,
    "stairs_up": _stairs_up,
    "stairs_down": _stairs_down,
    "obstacles": _obstacles,
    "gap": _gap,
}


def tile(kind: str, grid: Grid, generator: np.random.Generator) -> Heights:
    """[side, side] m, rows along y and columns along x."""
    heights = KINDS[kind](grid, generator)
    heights[[0, -1], :] = 0.0
    heights[:, [0, -1]] = 0.0
    return heights
