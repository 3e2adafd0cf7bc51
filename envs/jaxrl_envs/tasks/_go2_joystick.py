"""What the joystick tasks of the Go2 share on any ground: its numbers and its gait, a trot. See `_joystick`."""

from dataclasses import dataclass, field

import mujoco
import numpy as np

from jaxrl_envs.tasks import _go2, _joystick
from jaxrl_envs.tasks._joystick import Walker

_LEG_PHASE = np.array([0.0, 0.5, 0.5, 0.0], np.float32)  # diagonal legs swing together


@dataclass(frozen=True)
class Rewards:
    """Weights of the reward terms, per second. Terms that measure a fault have negative weights."""

    track_velocity: float = 2.0
    track_yaw: float = 1.0
    vertical_velocity: float = -1.0
    roll_pitch_rate: float = -0.05
    tilt: float = -4.0
    torque: float = -1e-4
    action_rate: float = -0.01
    pose: float = -0.1
    gait: float = 1.0
    clearance: float = -10.0
    slip: float = -0.05
    stand_still: float = -0.3
    joint_limit: float = -1.0
    alive: float = 1.0  # staying up must pay more than the faults of early training cost
    fall: float = -50.0  # once: it lasts one step


@dataclass(frozen=True)
class Joystick(_joystick.Joystick):
    """The numbers of the Go2's joystick tasks."""

    rewards: Rewards = field(default_factory=Rewards)
    action_scale: float = 0.3  # rad of target per unit of action
    forward: tuple[float, float] = (-0.6, 1.0)  # m/s
    lateral: tuple[float, float] = (-0.4, 0.4)  # m/s
    yaw: tuple[float, float] = (-1.0, 1.0)  # rad/s
    gait_period: float = 0.5  # s
    swing_share: float = 0.5
    fall_tilt: float = 60.0  # degrees
    fall_height: float = 0.15  # m


def walker(config: Joystick, model: mujoco.MjModel) -> Walker:
    """The robot of a compiled model as the task takes it."""
    robot = _go2.robot(model)
    return Walker(
        robot=robot,
        action_scale=np.full(len(robot.joints), config.action_scale, np.float32),
        leg_phase=_LEG_PHASE,
        pose_weights=np.ones(len(robot.joints), np.float32),
        start_joints=lambda draws: (0.8 + 0.4 * draws) * robot.home,
        start_speed=0.3,
    )
