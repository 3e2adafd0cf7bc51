"""Tiles put together: levels of rising difficulty along x, kinds along y."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrl.ops.suggestion import suggestion
from jaxrl_envs.terrain.tiles import KINDS, Grid, Interval, tile


@dataclass(frozen=True)
class Config:
    """Numbers of a height field, in metres. What has a range goes from its first value at no difficulty to its second at full.

    A kind may be named several times. Height fields cost physics in proportion to the contacts of a foot, which touches more triangles
    the smaller they are; stairs need a few cells to each step.
    """

    kinds: tuple[str, ...] = ("slope_up", "slope_down", "rough", "stairs_up", "stairs_down", "obstacles")
    levels: int = 10
    tile_size: float = 8.0
    resolution: float = 0.1
    border: float = 4.0  # of flat ground around all tiles
    platform: float = 2.0  # side of the flat square in each tile's middle
    slope: Interval = (0.0, 0.4)  # rise over run
    noise: Interval = (0.01, 0.08)  # largest deviation of rough ground
    noise_spacing: float = 0.2
    stair_height: Interval = (0.02, 0.18)
    stair_depth: Interval = (0.3, 0.4)  # drawn for each tile, at any difficulty
    obstacle_height: Interval = (0.02, 0.2)
    obstacle_size: Interval = (0.4, 1.2)  # drawn for each obstacle, at any difficulty
    obstacles: int = 20  # in a tile
    gap: Interval = (0.1, 0.6)  # width
    gap_depth: float = 1.0

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ValueError(f"kinds: empty; name at least one of {', '.join(KINDS)}")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ValueError(f"kinds: {kind!r} is unknown; {suggestion(kind, tuple(KINDS))}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == Interval and not 0 <= value[0] <= value[1]:
                raise ValueError(f"{field.name}: expected 0 <= lowest <= highest, got {value}")
        for name in ("tile_size", "resolution", "platform", "noise_spacing", "gap_depth"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected more than 0 m, got {getattr(self, name)}")
        if self.levels < 1 or self.obstacles < 0 or self.border < 0:
            raise ValueError(f"expected levels >= 1, obstacles >= 0 and border >= 0, got {self.levels}, {self.obstacles} and {self.border}")
        if abs(self.cells * self.resolution - self.tile_size) > 1e-6 or self.cells < 4:
            raise ValueError(
                f"tile_size: expected a multiple, at least fourfold, of the resolution {self.resolution} m, got {self.tile_size} m"
            )
        room = (self.tile_size - self.platform) / 2
        if room < self.resolution:
            raise ValueError(f"platform: {self.platform} m leaves no room in a tile of {self.tile_size} m")
        for name in ("stair_depth", "gap"):
            if getattr(self, name)[1] > room:
                raise ValueError(f"{name}: up to {getattr(self, name)[1]} m do not fit between platform and edge, {room} m apart")

    @property
    def cells(self) -> int:
        """Along a tile's side."""
        return round(self.tile_size / self.resolution)


class Terrain(NamedTuple):
    """A height field, centred at the world's origin; all in metres."""

    heights: NDArray[np.float32]  # [rows along y, columns along x] at the vertices
    resolution: float
    tile_size: float
    origins: NDArray[np.float32]  # [levels, kinds, 3] the middle of each tile's ground, world
    kinds: tuple[str, ...]


def _grid(config: Config, difficulty: float) -> Grid:
    def graded(interval: Interval) -> float:
        return interval[0] + difficulty * (interval[1] - interval[0])

    return Grid(
        side=config.cells + 1,
        resolution=config.resolution,
        platform=config.platform,
        slope=graded(config.slope),
        noise=graded(config.noise),
        noise_spacing=config.noise_spacing,
        stair_height=graded(config.stair_height),
        stair_depth=config.stair_depth,
        obstacle_height=graded(config.obstacle_height),
        obstacle_size=config.obstacle_size,
        obstacles=config.obstacles,
        gap=graded(config.gap),
        gap_depth=config.gap_depth,
    )


def terrain(config: Config = Config(), seed: int = 0) -> Terrain:
    """The height field of `config`; another `seed` (at least 0) makes other tiles of the same kinds and levels, to test on.

    A tile of level l of n has a difficulty uniform in [l / n, (l + 1) / n). Rudin et al. 2022, https://arxiv.org/abs/2109.11978,
    section 3.2. numpy, a few milliseconds per tile; the same on every machine.

    Raises:
        ValueError: `seed` is negative.
    """
    if seed < 0:
        raise ValueError(f"seed: expected at least 0, got {seed}")
    cells, around = config.cells, round(config.border / config.resolution)
    shape = (len(config.kinds), config.levels)
    heights = np.zeros([n * cells + 1 + 2 * around for n in shape])
    origins = np.zeros((config.levels, len(config.kinds), 3))
    for level in range(config.levels):
        for column, kind in enumerate(config.kinds):
            generator = np.random.default_rng((seed, level, column))
            one = tile(kind, _grid(config, (level + generator.uniform()) / config.levels), generator)
            row, col = around + column * cells, around + level * cells
            heights[row : row + cells + 1, col : col + cells + 1] = one
            middle = (np.array([level, column]) + 0.5 - np.array([config.levels, len(config.kinds)]) / 2) * config.tile_size
            origins[level, column] = (*middle, one[cells // 2, cells // 2])
    return Terrain(heights.astype(np.float32), config.resolution, config.tile_size, origins.astype(np.float32), config.kinds)
