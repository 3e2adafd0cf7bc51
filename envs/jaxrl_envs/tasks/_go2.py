"""The Unitree Go2: its model and its names."""

import mujoco

from jaxrl_envs import robots
from jaxrl_envs.tasks import _legged

LEGS = ("FL", "FR", "RL", "RR")
JOINTS = tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("abduction", "thigh", "calf"))
BASE = "base"


def spec() -> mujoco.MjSpec:
    """The robot on its floor, before it is compiled."""
    return mujoco.MjSpec.from_string(robots.xml("go2"))


def model(physics_dt: float = 0.005) -> mujoco.MjModel:
    """The compiled robot on its floor."""
    return compiled(spec(), physics_dt)


def compiled(changed: mujoco.MjSpec, physics_dt: float) -> mujoco.MjModel:
    """A model of the robot, with time steps of `physics_dt` s."""
    changed.option.timestep = physics_dt
    return changed.compile()


def robot(model: mujoco.MjModel) -> _legged.Robot:
    """The constants of a compiled model."""
    return _legged.robot(model, "home", BASE, JOINTS, LEGS, foot_radius=float(model.geom("FL_foot").size[0]))
