"""One large height field of tiles: kinds side by side, in rows of rising difficulty."""

from jaxrl_envs.terrain.field import replace_floor
from jaxrl_envs.terrain.generate import Config, Terrain, terrain
from jaxrl_envs.terrain.heights import height_at, height_scan, inward, scan_points
from jaxrl_envs.terrain.tiles import KINDS

__all__ = ["KINDS", "Config", "Terrain", "height_at", "height_scan", "inward", "replace_floor", "scan_points", "terrain"]
