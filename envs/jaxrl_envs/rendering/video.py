"""Frames of a video."""

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from jaxrl_envs.rendering import renderer


def frames(
    model: mujoco.MjModel,
    pose: NDArray[np.floating] | Mapping[str, Any],
    width: int = 640,
    height: int = 480,
    camera: str | None = None,
) -> NDArray[np.uint8]:
    """Pictures of the joint positions `pose` [N, nq], or of fields of MjData by name, uint8 [N, height, width, 3].

    From a free camera if none is named.

    Raises:
        ValueError: `pose` has another shape, or the model has no such camera.
        RuntimeError: there is no OpenGL; the message says what to install.
    """
    placed = renderer.rows(pose if isinstance(pose, Mapping) else {"qpos": pose}, model)
    view = renderer.camera(model, camera)
    out = np.empty((len(next(iter(placed.values()))), height, width, 3), np.uint8)
    drawing = renderer.Renderer(model, width, height, renderer.VIDEO)
    try:
        drawing.draw(placed, {}, [view], [out])
    finally:
        drawing.close()
    return out
