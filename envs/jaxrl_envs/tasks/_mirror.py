"""A robot on legs in a mirror: left is right. Everything follows from the names of its parts and the axes of its joints."""

from collections.abc import Callable, Sequence

import mujoco
import numpy as np

from jaxrl.types import Mirror, Reflection
from jaxrl_envs.tasks._legged import Robot

VECTOR = (1.0, -1.0, 1.0)  # of a position or velocity: forward, left, up
AXIAL = (-1.0, 1.0, -1.0)  # of a rate of rotation
_SIDES = (("left", "right"), ("FL", "FR"), ("RL", "RR"))


def _other(name: str) -> str:
    """The part's name on the other side; its own where it has no side."""
    for left, right in _SIDES:
        for one, other in ((left, right), (right, left)):
            if name.startswith(one):
                return other + name.removeprefix(one)
    return name


def _swapped(names: Sequence[str], sign: Callable[[str, str], float]) -> Reflection:
    """Of one number for each part; `sign` is that of a part and its other."""
    return Reflection(tuple(names.index(_other(name)) for name in names), tuple(sign(name, _other(name)) for name in names))


def _straight(signs: Sequence[float]) -> Reflection:
    return Reflection(tuple(range(len(signs))), tuple(signs))


def mirror(robot: Robot) -> Mirror:
    """The plane of symmetry is upright and holds the forward axis; the gait of one side is half a period behind the other's.

    Raises:
        ValueError: two joints that face each other do not turn about axes that are mirror images of each other.
    """
    model, data = robot.model, mujoco.MjData(robot.model)
    data.qpos[: model.nq] = np.concatenate([robot.place, [1.0, 0.0, 0.0, 0.0], robot.home])
    mujoco.mj_kinematics(model, data)

    def turns(joint: str, other: str) -> float:
        axis, image = data.xaxis[model.joint(other).id], np.array(AXIAL) * data.xaxis[model.joint(joint).id]
        along = float(axis @ image)
        if abs(abs(along) - 1.0) > 1e-3:
            raise ValueError(f"{joint} turns about {image} in the mirror, but {other} about {axis}: the robot is not symmetric")
        return float(np.sign(along))

    joints, parts, feet = _swapped(robot.joints, turns), _swapped(robot.joints, lambda *_: 1.0), _swapped(robot.feet, lambda *_: 1.0)
    return Mirror(
        observation={
            "state/gyroscope": _straight(AXIAL),
            "state/gravity": _straight(VECTOR),
            "state/command": _straight((1.0, -1.0, -1.0)),
            "state/joint_position": joints,
            "state/joint_velocity": joints,
            "state/last_action": joints,
            "state/gait": _straight((-1.0, -1.0)),
            "privileged/velocity": _straight(VECTOR),
            "privileged/rate": _straight(AXIAL),
            "privileged/height": _straight((1.0,)),
            "privileged/contact": feet,
            "privileged/foot_height": feet,
            "privileged/joint_position": joints,
            "privileged/parameters": _straight((1.0, 1.0, *VECTOR, 1.0)),
            "privileged/motor_strength": parts,
        },
        action=joints,
    )
