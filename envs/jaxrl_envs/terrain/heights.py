"""Heights of the ground at any point, in JAX."""

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxrl.types import Array
from jaxrl_envs.terrain.generate import Terrain

Points = Array | NDArray[np.float32]


def _cell(terrain: Terrain, at: Points, axis: int) -> tuple[Array, Array]:
    """Index of the cell along an axis of `heights`, and where in it (0 to 1), of world coordinates; the nearest on the field."""
    cells = terrain.heights.shape[axis] - 1
    # From the middle, not from the edge: float32 has more digits there.
    whole = jnp.floor(at / terrain.resolution + 0.5 * (cells % 2))
    part = at / terrain.resolution + 0.5 * (cells % 2) - whole
    index = whole + cells // 2
    inside = jnp.clip(index, 0, cells - 1)
    return inside.astype(jnp.int32), jnp.clip(part + index - inside, 0.0, 1.0)


def height_at(terrain: Terrain, xy: Points) -> Array:
    """[...] m, the height of the ground at the world points `xy` [..., 2]; outside the field, that of its nearest edge.

    The surface is MuJoCo's: each cell is cut into two triangles, from its corner of lowest x and y to that of highest. Differentiable.
    """
    row, up = _cell(terrain, xy[..., 1], 0)
    column, right = _cell(terrain, xy[..., 0], 1)
    heights = jnp.asarray(terrain.heights)
    first, last = heights[row, column], heights[row + 1, column + 1]
    corner = jnp.where(right > up, heights[row, column + 1], heights[row + 1, column])
    # Down the longer way to the third corner, then along the shorter to the far end of the cut.
    return first + jnp.maximum(right, up) * (corner - first) + jnp.minimum(right, up) * (last - corner)


def inward(terrain: Terrain, xy: Points) -> Array:
    """[...] m from the nearest edge of the field, negative outside, of the world points `xy` [..., 2]."""
    along_y, along_x = (terrain.resolution * (size - 1) / 2 for size in terrain.heights.shape)
    return jnp.minimum(along_x - jnp.abs(xy[..., 0]), along_y - jnp.abs(xy[..., 1]))


def scan_points(forward: float = 0.8, sideways: float = 0.5, spacing: float = 0.1) -> NDArray[np.float32]:
    """[points, 2] m, a rectangle centred at the robot that reaches as far as told to either side, row after row from behind."""
    x, y = (spacing * np.arange(-round(reach / spacing), round(reach / spacing) + 1) for reach in (forward, sideways))
    return np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)


def height_scan(terrain: Terrain, position: Array, yaw: Array, points: Points, limit: float = 1.0) -> Array:
    """[points] m, the ground's height below the points minus that of the base, cut off at -limit and limit.

    `position` [3] is the base's in the world, `yaw` [] rad its heading, `points` [points, 2] lie in its horizontal frame. Rudin et al.
    2022, https://arxiv.org/abs/2109.11978.
    """
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    x, y = points[:, 0], points[:, 1]
    world = position[None, :2] + jnp.stack([cos * x - sin * y, sin * x + cos * y], -1)
    return jnp.clip(height_at(terrain, world) - position[2], -limit, limit)
