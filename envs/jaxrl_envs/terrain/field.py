"""Terrain in MuJoCo."""

import mujoco
import numpy as np

from jaxrl_envs.terrain.generate import Terrain

_BELOW = 0.5  # m of ground under the lowest point: it must stop what is pressed into it


def replace_floor(spec: mujoco.MjSpec, terrain: Terrain, geom: str = "floor") -> None:
    """Makes `geom` of `spec` this terrain, centred at the world's origin, heights in metres; its other attributes stay.

    MuJoCo collides with each triangle as with a prism of its own, so a foot has several contacts, and one that is pressed in by more than
    its radius is pushed out sideways and sticks. Feet need stiff contacts: a sphere of 22 mm pressed against a stair with 100 N goes in by
    73 mm with the contacts of `go2.xml`, by 67 mm with MuJoCo's own, and by 24 mm with solref="0.01 1" (steps of 5 ms).

    Raises:
        ValueError: there is no such geom, or it is no part of the world body.
    """
    floor = spec.geom(geom)
    if floor is None:
        raise ValueError(f"geom {geom!r}: the model has {', '.join(g.name for g in spec.worldbody.geoms if g.name) or 'none with a name'}")
    if floor.parent.name != spec.worldbody.name:
        raise ValueError(f"geom {geom!r}: expected a part of the world, got one of body {floor.parent.name!r}")
    rows, columns = terrain.heights.shape
    lowest = float(terrain.heights.min())
    span = float(terrain.heights.max()) - lowest
    half = 0.5 * terrain.resolution
    spec.add_hfield(
        name=geom,
        nrow=rows,
        ncol=columns,
        size=[(columns - 1) * half, (rows - 1) * half, max(span, 1e-3), _BELOW],  # a flat field needs a range too
        userdata=(terrain.heights.astype(np.float64) - lowest).ravel(),
    )
    floor.type = mujoco.mjtGeom.mjGEOM_HFIELD
    floor.hfieldname = geom
    floor.pos = [0.0, 0.0, lowest]
    floor.quat = [1.0, 0.0, 0.0, 0.0]
