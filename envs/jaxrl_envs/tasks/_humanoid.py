"""The humanoid with 29 joints: its model and its names."""

import mujoco

from jaxrl_envs import robots
from jaxrl_envs.tasks import _legged

SIDES = ("left", "right")
_LEG = ("hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll")
_ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_roll", "wrist_pitch", "wrist_yaw")
JOINTS = (
    *(f"{side}_{joint}" for side in SIDES for joint in _LEG),
    *(f"waist_{axis}" for axis in ("yaw", "roll", "pitch")),
    *(f"{side}_{joint}" for side in SIDES for joint in _ARM),
)
_PADS = ("heel_outer", "heel_inner", "toe_outer", "toe_inner")


def model(physics_dt: float = 0.005) -> mujoco.MjModel:
    """The compiled robot on its floor."""
    compiled = mujoco.MjModel.from_xml_string(robots.xml("humanoid"))
    compiled.opt.timestep = physics_dt
    return compiled


def robot(model: mujoco.MjModel) -> _legged.Robot:
    """The constants of a compiled model."""
    return _legged.robot(model, "knees_bent", "torso", JOINTS, SIDES, _PADS)
