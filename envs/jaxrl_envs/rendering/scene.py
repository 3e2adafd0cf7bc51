"""What a task shows of its states."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from jaxrl_envs.rendering.video import frames

Pose = dict[str, Any]  # fields of MjData that place a model, by name: qpos, and mocap_pos and mocap_quat where it has such bodies


@dataclass(frozen=True)
class Scene:
    """The model that is drawn of a task, and how a state places it. As the `render` of an `Env` it serves videos and pixels.

    The drawn model may be another than the simulated one: a target that only the task knows of is a joint or a mocap body of it.
    """

    model: mujoco.MjModel
    pose: Callable[[Any], Pose]  # state of one world, or of N with a leading axis -> fields likewise; on numpy and inside jit
    camera: str | None = None  # of videos; None is a free one

    def __call__(self, states: Any, width: int, height: int) -> NDArray[np.uint8]:
        """Frames [N, height, width, 3] of N states as numpy, in the quality of a video."""
        return frames(self.model, self.pose(states), width, height, self.camera)


def within(render: Any, inner: Callable[[Any], Any]) -> Any:
    """The `render` of an environment around another, whose state holds that of the other as `inner` says; None where that one has none."""
    if render is None:
        return None
    if isinstance(render, Scene):
        return replace(render, pose=lambda state: render.pose(inner(state)))
    return lambda states, width, height: render(inner(states), width, height)
