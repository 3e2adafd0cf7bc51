"""Standing and walking on flat ground as a joystick commands, by a humanoid with 29 joints, a Unitree G1 of primitive shapes.

See `_joystick`. The ankles' gains are too low to stand on: a robot that does nothing falls within a second.
"""

from dataclasses import dataclass, field

import mujoco
import numpy as np

from jaxrl.types import Env
from jaxrl_envs.tasks import _humanoid
from jaxrl_envs.tasks._joystick import FLOOR, Joystick, Walker, joystick

_LEG_PHASE = np.array([0.0, 0.5], np.float32)

# How much a joint may leave its place in the standing pose, by the end of its name: walking needs the first, the others follow.
_POSE_WEIGHTS = {"hip_pitch": 0.02, "knee": 0.02, "ankle_pitch": 0.02, "ankle_roll": 0.1, "hip_roll": 1.0, "hip_yaw": 1.0}
_OTHERS = 0.5


@dataclass(frozen=True)
class Rewards:
    """Weights of the reward terms, per second. Terms that measure a fault have negative weights."""

    track_velocity: float = 2.0
    track_yaw: float = 1.0
    vertical_velocity: float = -0.5
    roll_pitch_rate: float = -0.05
    tilt: float = -5.0
    torque: float = -1e-5
    action_rate: float = -0.01
    pose: float = -0.5
    gait: float = 1.0
    clearance: float = -20.0
    slip: float = -0.1
    sole: float = -1.0
    stand_still: float = -0.2
    joint_limit: float = -1.0
    alive: float = 1.0  # staying up must pay more than the faults of early training cost
    fall: float = -100.0  # once: it lasts one step


@dataclass(frozen=True)
class Config(Joystick):
    """The task's numbers."""

    rewards: Rewards = field(default_factory=Rewards)
    action_scale: float = 0.25  # of a joint's torque limit, which one unit of action asks for where the joint does not give way
    largest_scale: float = 0.5  # rad of target per unit of action
    forward: tuple[float, float] = (-0.5, 0.8)  # m/s
    lateral: tuple[float, float] = (-0.3, 0.3)  # m/s
    yaw: tuple[float, float] = (-0.8, 0.8)  # rad/s
    gait_period: float = 0.7  # s
    swing_share: float = 0.4
    fall_tilt: float = 50.0  # degrees
    fall_height: float = 0.5  # m


def walker(config: Config, model: mujoco.MjModel) -> Walker:
    """The robot of a compiled model as the task takes it."""
    robot = _humanoid.robot(model)
    endings = [name.removeprefix("left_").removeprefix("right_") for name in robot.joints]
    return Walker(
        robot=robot,
        action_scale=np.minimum(config.action_scale * robot.torque_limit / robot.gain, config.largest_scale),
        leg_phase=_LEG_PHASE,
        pose_weights=np.array([_POSE_WEIGHTS.get(name, _OTHERS) for name in endings], np.float32),
        start_joints=lambda draws: 0.1 * draws + robot.home - 0.05,
        start_speed=0.2,
    )


def humanoid_joystick(config: Config = Config()) -> Env:
    """The task as an `Env`; actions are joint targets relative to the standing pose, [29], each in a unit of its own (see `walker`)."""
    return joystick("humanoid_joystick", config, walker(config, _humanoid.model(config.physics_dt)), FLOOR)
