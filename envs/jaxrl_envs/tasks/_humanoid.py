"""The humanoid with 29 joints: its model, its numbers, and what a physics state says about it."""

from typing import NamedTuple

import jax.numpy as jnp
import jaxlie
import mujoco
import numpy as np

from jaxrl.types import Array
from jaxrl_envs import robots
from jaxrl_envs.physics import PhysicsState

SIDES = ("left", "right")
_LEG = ("hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll")
_ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_roll", "wrist_pitch", "wrist_yaw")
JOINTS = (
    *(f"{side}_{joint}" for side in SIDES for joint in _LEG),
    *(f"waist_{axis}" for axis in ("yaw", "roll", "pitch")),
    *(f"{side}_{joint}" for side in SIDES for joint in _ARM),
)
TORSO = "torso"
START = "knees_bent"  # keyframe
_SPOTS = ("heel_outer", "heel_inner", "toe_outer", "toe_inner")


def model(physics_dt: float = 0.005) -> mujoco.MjModel:
    """The compiled robot on its floor."""
    compiled = mujoco.MjModel.from_xml_string(robots.xml("humanoid"))
    compiled.opt.timestep = physics_dt
    return compiled


class Robot(NamedTuple):
    """The compiled robot and its constants, float32."""

    model: mujoco.MjModel
    torso: int  # body
    place: np.ndarray  # [3] m of the pelvis at the start
    home: np.ndarray  # [29] rad, standing
    target_range: np.ndarray  # [29, 2] rad
    joint_range: np.ndarray  # [29, 2] rad
    gain: np.ndarray  # [29] N m/rad
    torque_limit: np.ndarray  # [29] N m
    contact_at: np.ndarray  # [2, 4] addresses in sensordata of each foot's spots, and the next three of each foot
    position_at: np.ndarray  # [2, 3]
    velocity_at: np.ndarray  # [2, 3]
    normal_at: np.ndarray  # [2, 3]


def robot(model: mujoco.MjModel) -> Robot:
    """The constants of a compiled model."""

    def address(name: str) -> np.ndarray:
        """Of one sensor in sensordata, [dim]."""
        sensor = model.sensor(name)
        return np.arange(int(sensor.adr[0]), int(sensor.adr[0] + sensor.dim[0]))

    start = model.key(START).qpos.astype(np.float32)
    return Robot(
        model=model,
        torso=model.body(TORSO).id,
        place=start[:3],
        home=start[7:],
        target_range=model.actuator_ctrlrange.astype(np.float32),
        joint_range=model.jnt_range[1:].astype(np.float32),
        gain=model.actuator_gainprm[:, 0].astype(np.float32),
        torque_limit=model.actuator_forcerange[:, 1].astype(np.float32),
        contact_at=np.stack([np.concatenate([address(f"{side}_{spot}_contact") for spot in _SPOTS]) for side in SIDES]),
        position_at=np.stack([address(f"{side}_position") for side in SIDES]),
        velocity_at=np.stack([address(f"{side}_velocity") for side in SIDES]),
        normal_at=np.stack([address(f"{side}_normal") for side in SIDES]),
    )


class Reading(NamedTuple):
    """What a physics state says: the motion of the pelvis in its own frame, the rest in the world's."""

    velocity: Array  # [3] m/s
    rate: Array  # [3] rad/s
    gravity: Array  # [3] unit vector
    joints: Array  # [29] rad
    joint_rates: Array  # [29] rad/s
    contact: Array  # [2] 0 or 1
    foot_height: Array  # [2] m, of the soles
    foot_velocity: Array  # [2, 3] m/s
    foot_tilt: Array  # [2] sine of the angle between sole and ground, squared
    height: Array  # [] m


def read(robot: Robot, state: PhysicsState) -> Reading:
    """The reading of one state."""
    into_base = jaxlie.SO3(state.qpos[3:7]).inverse()
    sensors = state.sensordata
    return Reading(
        velocity=into_base @ state.qvel[:3],
        rate=state.qvel[3:6],
        gravity=into_base @ jnp.array([0.0, 0.0, -1.0]),
        joints=state.qpos[7:],
        joint_rates=state.qvel[6:],
        contact=(sensors[robot.contact_at] > 0).any(-1).astype(jnp.float32),
        foot_height=sensors[robot.position_at][:, 2],
        foot_velocity=sensors[robot.velocity_at],
        foot_tilt=jnp.square(sensors[robot.normal_at][:, :2]).sum(-1),
        height=state.qpos[2],
    )


def torque(robot: Robot, reading: Reading, held: Array, gain: Array, strength: Array) -> Array:
    """[29] N m of the motors that hold the joint targets `held` [29] rad, with factors on their gains and limits [29]."""
    limit = robot.torque_limit * strength
    return jnp.clip(gain * robot.gain * (held - reading.joints), -limit, limit)
